//! The login of one forward, as the way of a request and the probes see it.

use super::{
    AuthRefusal, AuthScheme, Concern, CredentialUnavailable, Settings, VendorHeaders, api_token,
    basic, circuit, form, inject, oauth1, oauth2, pass_through, pat,
};
use crate::{expiry::CredentialExpiry, status::StatusLayer};
use http::{StatusCode, request, response};
use std::sync::Arc;

/// What Jira's answer says about our login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthVerdict {
    /// Nothing wrong.
    Accepted,
    /// Jira took us for somebody else or nobody: the answer must not reach the vendor as a success.
    LoginFailed {
        /// What Jira said, one sentence.
        cause: String,
        /// What an administrator does about it.
        remedy: String,
    },
}

/// What the probe of a login has to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeNeed {
    /// Nothing.
    None,
    /// Whether Jira takes this secret at all.
    Untried,
    /// Whether it still does; requests go on meanwhile.
    Doubted,
    /// Whether it still does; requests wait for it.
    HeldBack,
}

/// The login of one forward. Clones share circuit and credential.
#[derive(Clone)]
pub struct UpstreamAuth {
    pub(super) mode: AuthMode,
    vendor_headers: VendorHeaders,
}

#[derive(Clone)]
pub(super) enum AuthMode {
    PassThrough(Arc<pass_through::PassThroughAuth>),
    Inject(Arc<inject::CredentialInjector>),
}

/// One prepared request on its way. Dropped unobserved (nothing came back) it says nothing about the
/// login, and lets the next request try it.
pub struct AuthAttempt(AttemptKind);

enum AttemptKind {
    PassThrough(Arc<pass_through::PassThroughAuth>),
    Inject(inject::InjectedAttempt),
}

impl UpstreamAuth {
    /// `layer` is the login layer of this forward's status. Cookies that Jira's side wants inside TLS alone are not
    /// kept; see [`new_with_tls`](Self::new_with_tls).
    pub fn new(settings: Settings, layer: Arc<StatusLayer>) -> Self {
        Self::new_with_tls(settings, layer, false)
    }

    /// Like [`new`](Self::new); `tls` is whether requests reach Jira inside TLS.
    pub fn new_with_tls(settings: Settings, layer: Arc<StatusLayer>, tls: bool) -> Self {
        let scheme: Box<dyn AuthScheme> = match settings {
            Settings::PassThrough => {
                let way = pass_through::PassThroughAuth::new(layer);
                return AuthMode::PassThrough(Arc::new(way)).into();
            }
            Settings::Basic {
                username,
                password_file,
            } => Box::new(basic::BasicScheme::new(username, password_file)),
            Settings::ApiToken {
                email,
                token_file,
                scoped,
                expires,
            } => Box::new(api_token::ApiTokenScheme::new(
                email, token_file, scoped, expires,
            )),
            Settings::Pat {
                token_file,
                expires,
            } => Box::new(pat::PatScheme::new(token_file, expires)),
            Settings::OAuth2(settings) => Box::new(oauth2::OAuth2Scheme::new(*settings)),
            Settings::OAuth1(settings) => Box::new(oauth1::OAuth1Scheme::new(*settings)),
        };
        AuthMode::Inject(Arc::new(inject::CredentialInjector::new(
            scheme, layer, tls,
        )))
        .into()
    }

    /// The same login, which lets these headers of the vendor reach Jira. In pass-through mode all do.
    pub fn with_vendor_headers(self, vendor_headers: VendorHeaders) -> Self {
        Self {
            vendor_headers,
            ..self
        }
    }

    /// As in the configuration.
    pub fn mode(&self) -> &'static str {
        match &self.mode {
            AuthMode::PassThrough(_) => "pass-through",
            AuthMode::Inject(inject) => inject.mode(),
        }
    }

    /// Whether the agent puts a credential of its own into requests.
    pub fn injects(&self) -> bool {
        matches!(self.mode, AuthMode::Inject(_))
    }

    /// When its credentials end, as far as that is known. In pass-through they are the vendor's.
    pub fn expiries(&self) -> Vec<CredentialExpiry> {
        match &self.mode {
            AuthMode::PassThrough(_) => Vec::new(),
            AuthMode::Inject(inject) => inject.expiries(),
        }
    }

    /// What is wrong with a login that Jira still takes.
    pub fn concern(&self) -> Option<Concern> {
        match &self.mode {
            AuthMode::PassThrough(_) => None,
            AuthMode::Inject(inject) => inject.concern(),
        }
    }

    /// Whether the body is a form that has to be read ahead, up to [`MAX_FORM`](super::MAX_FORM), and put into the head's
    /// extensions as a [`FormBody`](super::FormBody) before [`prepare`](Self::prepare). Never in pass-through mode.
    pub fn reads_form(&self, head: &request::Parts) -> Result<bool, AuthRefusal> {
        match &self.mode {
            AuthMode::PassThrough(_) => Ok(false),
            AuthMode::Inject(_) => form::must_be_read(head),
        }
    }

    /// The refusal of a form that turned out longer than [`MAX_FORM`](super::MAX_FORM) while it was read.
    pub fn form_too_long(&self) -> AuthRefusal {
        form::too_long()
    }

    /// What to ask Jira for with the credential, below the context path, to learn when it ends. `None`
    /// where there is nothing to ask, or while it is not time to. The answer goes to
    /// [`AuthAttempt::on_expiry_response`].
    pub fn expiry_probe_path(&self) -> Option<&'static str> {
        match &self.mode {
            AuthMode::PassThrough(_) => None,
            AuthMode::Inject(inject) => inject.expiry_probe_path(),
        }
    }

    /// Why nothing is sent, where Jira refused the credential and nothing has changed since.
    pub fn refused(&self) -> Option<CredentialUnavailable> {
        match &self.mode {
            AuthMode::PassThrough(_) => None,
            AuthMode::Inject(inject) => inject.refused(),
        }
    }

    /// Takes off what of the vendor's headers may not reach Jira and puts our identity in; what was taken off is in the
    /// head's extensions then, as [`RemovedHeaders`](super::RemovedHeaders). In pass-through mode touches nothing.
    ///
    /// A credential that can lock the account waits for the [probe](Self::prepare_probe) until Jira has
    /// accepted it once, and again after a request was refused with it, half a minute at most: several wrong
    /// passwords would lock it. Tokens, which lock nothing, are tried by all at once. Where [nobody
    /// probes](Self::enable_probing), one request at a time finds out.
    pub async fn prepare(&self, head: &mut request::Parts) -> Result<AuthAttempt, AuthRefusal> {
        match &self.mode {
            AuthMode::PassThrough(way) => Ok(AuthAttempt(AttemptKind::PassThrough(way.clone()))),
            AuthMode::Inject(inject) => {
                let attempt = inject.clone().prepare(head, &self.vendor_headers).await?;
                Ok(AuthAttempt(AttemptKind::Inject(attempt)))
            }
        }
    }

    /// Like [`prepare`](Self::prepare) for the agent's own probe of the login, which alone decides about a
    /// credential, and alone may try a refused one again, where that is harmless and its time has come. It
    /// never waits for another request. In pass-through mode there is nothing to probe with: `None`.
    pub async fn prepare_probe(
        &self,
        head: &mut request::Parts,
    ) -> Result<Option<AuthAttempt>, AuthRefusal> {
        self.prepare_own(head, circuit::CallerKind::Probe).await
    }

    /// Like [`prepare_probe`](Self::prepare_probe) for another question of the agent's own, whose answer decides
    /// nothing.
    pub async fn prepare_auxiliary(
        &self,
        head: &mut request::Parts,
    ) -> Result<Option<AuthAttempt>, AuthRefusal> {
        self.prepare_own(head, circuit::CallerKind::Auxiliary).await
    }

    async fn prepare_own(
        &self,
        head: &mut request::Parts,
        caller: circuit::CallerKind,
    ) -> Result<Option<AuthAttempt>, AuthRefusal> {
        match &self.mode {
            AuthMode::PassThrough(_) => Ok(None),
            AuthMode::Inject(inject) => {
                let attempt = inject.clone().prepare_own(head, caller).await?;
                Ok(attempt.map(|attempt| AuthAttempt(AttemptKind::Inject(attempt))))
            }
        }
    }

    /// Puts the cookies of this login's node and session into a request of our own that carries no credential: it
    /// meets the node that the others meet. None in pass-through mode.
    pub fn add_cookies(&self, head: &mut request::Parts) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.cookies.add_to(head);
        }
    }

    /// Somebody probes this login from now on: what requests meet decides no more about the credential.
    pub fn enable_probing(&self) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.enable_probing();
        }
    }

    /// Completes when the login is to be probed: a request was refused, or waits to know whether Jira takes the
    /// credential; the secret has changed; or an administrator wants it.
    pub async fn probe_requested(&self) {
        match &self.mode {
            AuthMode::PassThrough(_) => std::future::pending().await,
            AuthMode::Inject(inject) => inject.probe_requested().await,
        }
    }

    /// Has whoever probes look at the secret and the login soon.
    pub fn request_probe(&self) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.request_probe();
        }
    }

    /// Whether the probe has to find something out, however fresh the layer is.
    pub fn probe_need(&self) -> ProbeNeed {
        match &self.mode {
            AuthMode::PassThrough(_) => ProbeNeed::None,
            AuthMode::Inject(inject) => inject.probe_need(),
        }
    }

    /// Looks at the disk whether the secret is another one now; such a one is unproven, and is to be probed.
    /// With a deadline of its own.
    pub async fn reload_if_changed(&self) -> bool {
        match &self.mode {
            AuthMode::PassThrough(_) => false,
            AuthMode::Inject(inject) => inject.reload_if_changed().await,
        }
    }

    /// The probe gave nothing to judge the credential by; cause and remedy for the layer.
    pub fn probe_inconclusive(&self, cause: &str, remedy: &str) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.probe_inconclusive(cause, remedy);
        }
    }

    /// Whether a refused credential can be replaced at once, so that keeping a request for a second
    /// sending is worth it.
    pub fn can_refresh(&self) -> bool {
        match &self.mode {
            AuthMode::PassThrough(_) => false,
            AuthMode::Inject(inject) => inject.can_refresh(),
        }
    }

    /// Completes when nothing is under way that would be lost with the process.
    pub async fn wait_idle(&self) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.wait_idle().await;
        }
    }

    /// An administrator says that the credential may be tried again.
    pub fn reset(&self) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.reset();
        }
    }
}

impl From<AuthMode> for UpstreamAuth {
    fn from(mode: AuthMode) -> Self {
        Self {
            mode,
            vendor_headers: VendorHeaders::default(),
        }
    }
}

impl AuthAttempt {
    /// Whether Jira refused our credential and there is another one now, renewed just now or by
    /// somebody else meanwhile: the request may be prepared and sent anew, if nothing else forbids it.
    /// `body` may be empty. Ask before [`on_response`](Self::on_response), which then calls the refusal by that name.
    pub async fn refresh_if_rejected(&mut self, head: &response::Parts, body: &[u8]) -> bool {
        match &mut self.0 {
            AttemptKind::PassThrough(_) => false,
            AttemptKind::Inject(attempt) => attempt.refresh_if_rejected(head, body).await,
        }
    }

    /// Looks at the head of Jira's answer: strips session and credentials, opens the circuit, notices silent
    /// anonymity. In pass-through mode changes nothing and finds nothing wrong.
    pub fn on_response(self, head: &mut response::Parts) -> AuthVerdict {
        self.on_response_with_body(head, &[])
    }

    /// Takes the answer to [`UpstreamAuth::expiry_probe_path`]. It says nothing about the login: a Jira that keeps
    /// its list of tokens to itself is no reason to stop.
    pub fn on_expiry_response(self, status: StatusCode, body: &[u8]) {
        if let AttemptKind::Inject(attempt) = self.0 {
            attempt.on_expiry_response(status, body);
        }
    }

    /// Like [`on_response`](Self::on_response), for an answer whose body was read too.
    pub fn on_response_with_body(self, head: &mut response::Parts, body: &[u8]) -> AuthVerdict {
        match self.0 {
            AttemptKind::PassThrough(way) => {
                way.on_response(head);
                AuthVerdict::Accepted
            }
            AttemptKind::Inject(attempt) => attempt.on_response(head, body),
        }
    }
}

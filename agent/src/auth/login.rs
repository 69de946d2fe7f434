//! The authentication of one forward, as requests and probes use it.

use super::{
    AuthRefusal, AuthScheme, Concern, CredentialUnavailable, Settings, VendorHeaders, api_token,
    basic, circuit, form, header_fields, inject, oauth1, oauth2, pass_through, pat,
};
use crate::{expiry::CredentialExpiry, profile::ServiceProfile, status::StatusLayer};
use http::{StatusCode, request, response};
use std::sync::Arc;

/// What Jira's answer proves about our credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthVerdict {
    /// Jira did not reject it.
    Accepted,
    /// Jira identified another user or none: the answer must not reach the vendor as a success.
    LoginFailed {
        /// Why Jira rejected it, one sentence.
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
    /// Whether Jira accepts this secret at all.
    Untried,
    /// Whether it still does; requests are sent meanwhile.
    Doubted,
    /// Whether it still does; requests wait for it.
    HeldBack,
}

/// Authenticates the requests of one forward. Clones share circuit and credential.
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

/// One prepared request. Dropped without a response, it proves nothing about the credential and lets the next request
/// try it.
pub struct AuthAttempt(AttemptKind);

enum AttemptKind {
    PassThrough(Arc<pass_through::PassThroughAuth>),
    Inject(inject::InjectedAttempt),
}

impl UpstreamAuth {
    /// `layer` is the login layer of this forward's status. Cookies that are marked `Secure` are dropped; see [`new_with_tls`](Self::new_with_tls).
    pub fn new(settings: Settings, layer: Arc<StatusLayer>) -> Self {
        Self::new_with_tls(settings, layer, false)
    }

    /// Like [`new`](Self::new); `tls` is whether requests reach Jira inside TLS.
    pub fn new_with_tls(settings: Settings, layer: Arc<StatusLayer>, tls: bool) -> Self {
        Self::new_for(settings, layer, tls, ServiceProfile::jira())
    }

    /// Like [`new_with_tls`](Self::new_with_tls), for the tool of this profile.
    pub fn new_for(
        settings: Settings,
        layer: Arc<StatusLayer>,
        tls: bool,
        profile: Arc<ServiceProfile>,
    ) -> Self {
        let scheme: Box<dyn AuthScheme> = match settings {
            Settings::PassThrough => {
                let auth = pass_through::PassThroughAuth::new(layer);
                return AuthMode::PassThrough(Arc::new(auth)).into();
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
            } => {
                let profile = Arc::clone(&profile);
                Box::new(pat::PatScheme::new(token_file, expires, profile))
            }
            Settings::Header { fields, expires } => {
                let profile = Arc::clone(&profile);
                Box::new(header_fields::HeaderScheme::new(fields, expires, profile))
            }
            Settings::OAuth2(settings) => Box::new(oauth2::OAuth2Scheme::new(*settings)),
            Settings::OAuth1(settings) => Box::new(oauth1::OAuth1Scheme::new(*settings)),
        };
        AuthMode::Inject(Arc::new(inject::CredentialInjector::new(
            scheme, layer, tls, profile,
        )))
        .into()
    }

    /// Lets these headers of the vendor reach Jira. In pass-through mode all do.
    pub fn with_vendor_headers(self, vendor_headers: VendorHeaders) -> Self {
        Self {
            vendor_headers,
            ..self
        }
    }

    /// The name of the mode in the configuration.
    pub fn mode(&self) -> &'static str {
        match &self.mode {
            AuthMode::PassThrough(_) => "pass-through",
            AuthMode::Inject(inject) => inject.mode(),
        }
    }

    /// Whether the agent injects its own credential into requests.
    pub fn injects(&self) -> bool {
        matches!(self.mode, AuthMode::Inject(_))
    }

    /// When its credentials end, as far as that is known. Empty in pass-through mode.
    pub fn expiries(&self) -> Vec<CredentialExpiry> {
        match &self.mode {
            AuthMode::PassThrough(_) => Vec::new(),
            AuthMode::Inject(inject) => inject.expiries(),
        }
    }

    /// What is wrong with a credential that Jira still accepts.
    pub fn concern(&self) -> Option<Concern> {
        match &self.mode {
            AuthMode::PassThrough(_) => None,
            AuthMode::Inject(inject) => inject.concern(),
        }
    }

    /// The scopes of its OAuth token, in order, as the issuer reports them; asks it, within a bounded time. `None`: they are not
    /// known, or the credential has none.
    pub async fn granted_scopes(&self) -> Option<Vec<String>> {
        match &self.mode {
            AuthMode::PassThrough(_) => None,
            AuthMode::Inject(inject) => inject.granted_scopes().await,
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

    /// The path below the context path where Jira reports when the credential ends. `None` if there is no such path, or it
    /// is not time to ask. Pass the answer to [`AuthAttempt::on_expiry_response`].
    pub fn expiry_probe_path(&self) -> Option<&'static str> {
        match &self.mode {
            AuthMode::PassThrough(_) => None,
            AuthMode::Inject(inject) => inject.expiry_probe_path(),
        }
    }

    /// Why nothing is sent, if Jira rejected the credential and nothing has changed since.
    pub fn refused(&self) -> Option<CredentialUnavailable> {
        match &self.mode {
            AuthMode::PassThrough(_) => None,
            AuthMode::Inject(inject) => inject.refused(),
        }
    }

    /// Removes the vendor's headers that must not reach Jira and injects our credential. The removed ones are in the head's
    /// extensions then, as [`RemovedHeaders`](super::RemovedHeaders). In pass-through mode changes nothing.
    ///
    /// A credential that can lock the account waits for the [probe](Self::prepare_probe) until Jira has accepted it once,
    /// and again after Jira rejected a request with it, half a minute at most: several wrong passwords would lock the
    /// account. Tokens lock nothing, so all requests try them at once. Without [probing](Self::enable_probing), one request
    /// at a time finds out.
    pub async fn prepare(&self, head: &mut request::Parts) -> Result<AuthAttempt, AuthRefusal> {
        match &self.mode {
            AuthMode::PassThrough(auth) => Ok(AuthAttempt(AttemptKind::PassThrough(auth.clone()))),
            AuthMode::Inject(inject) => {
                let attempt = inject.clone().prepare(head, &self.vendor_headers).await?;
                Ok(AuthAttempt(AttemptKind::Inject(attempt)))
            }
        }
    }

    /// Like [`prepare`](Self::prepare) for the agent's own login probe. It alone decides about a credential, and it alone
    /// retries a rejected one, where that is harmless and its time has come. It never waits for another request. `None` in
    /// pass-through mode, and while a request of the vendor tests the credential.
    pub async fn prepare_probe(
        &self,
        head: &mut request::Parts,
    ) -> Result<Option<AuthAttempt>, AuthRefusal> {
        self.prepare_own(head, circuit::CallerKind::Probe).await
    }

    /// Like [`prepare_probe`](Self::prepare_probe) for another request of the agent, whose answer decides nothing.
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

    /// Adds the cookies of node and session to a request of the agent that carries no credential, so that it reaches the
    /// same node as the others. Adds none in pass-through mode.
    pub fn add_cookies(&self, head: &mut request::Parts) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.cookies.add_to(head);
        }
    }

    /// From now on the login is probed, and answers to other requests no longer decide about the credential.
    pub fn enable_probing(&self) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.enable_probing();
        }
    }

    /// Completes when the login is to be probed: a request was rejected or waits for the outcome, the secret has changed, or
    /// an administrator asked for it.
    pub async fn probe_requested(&self) {
        match &self.mode {
            AuthMode::PassThrough(_) => std::future::pending().await,
            AuthMode::Inject(inject) => inject.probe_requested().await,
        }
    }

    /// Requests a probe, which reads the secret first.
    pub fn request_probe(&self) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.request_probe();
        }
    }

    /// What the probe has to find out, however fresh the layer is.
    pub fn probe_need(&self) -> ProbeNeed {
        match &self.mode {
            AuthMode::PassThrough(_) => ProbeNeed::None,
            AuthMode::Inject(inject) => inject.probe_need(),
        }
    }

    /// Reads the secret from the disk, within a bounded time. True: it is another one, unproven, and to be probed.
    pub async fn reload_if_changed(&self) -> bool {
        match &self.mode {
            AuthMode::PassThrough(_) => false,
            AuthMode::Inject(inject) => inject.reload_if_changed().await,
        }
    }

    /// The probe proved nothing about the credential; cause and remedy for the layer.
    pub fn probe_inconclusive(&self, cause: &str, remedy: &str) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.probe_inconclusive(cause, remedy);
        }
    }

    /// Whether a rejected credential can be replaced at once, so that keeping a request for a second attempt pays.
    pub fn can_refresh(&self) -> bool {
        match &self.mode {
            AuthMode::PassThrough(_) => false,
            AuthMode::Inject(inject) => inject.can_refresh(),
        }
    }

    /// Completes when nothing runs that would be lost with the process, such as a refresh.
    pub async fn wait_idle(&self) {
        if let AuthMode::Inject(inject) = &self.mode {
            inject.wait_idle().await;
        }
    }

    /// Allows a rejected credential to be tried again.
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
    /// Whether Jira rejected our credential and there is another one now: the request may be prepared and sent again, if
    /// nothing else forbids it. `body` may be empty. Call it before [`on_response`](Self::on_response), which then reports the refresh.
    pub async fn refresh_if_rejected(&mut self, head: &response::Parts, body: &[u8]) -> bool {
        match &mut self.0 {
            AttemptKind::PassThrough(_) => false,
            AttemptKind::Inject(attempt) => attempt.refresh_if_rejected(head, body).await,
        }
    }

    /// Handles the head of Jira's answer: strips session and credentials, informs the circuit, notices silent anonymity.
    /// In pass-through mode changes nothing and accepts everything.
    pub fn on_response(self, head: &mut response::Parts) -> AuthVerdict {
        self.on_response_with_body(head, &[])
    }

    /// Takes the answer to [`UpstreamAuth::expiry_probe_path`]. It proves nothing about the credential: a Jira
    /// that does not list its tokens is no reason to stop.
    pub fn on_expiry_response(self, status: StatusCode, body: &[u8]) {
        if let AttemptKind::Inject(attempt) = self.0 {
            attempt.on_expiry_response(status, body);
        }
    }

    /// Like [`on_response`](Self::on_response), for an answer whose body was read too.
    pub fn on_response_with_body(self, head: &mut response::Parts, body: &[u8]) -> AuthVerdict {
        match self.0 {
            AttemptKind::PassThrough(auth) => {
                auth.on_response(head);
                AuthVerdict::Accepted
            }
            AttemptKind::Inject(attempt) => attempt.on_response(head, body),
        }
    }
}

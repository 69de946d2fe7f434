//! The injecting modes' common way: strip, ask the circuit, put the credential in; and back: read the
//! answer, tell the circuit and the status, strip.

use super::{
    Blame, Refusal, Scheme, Told, Unavailable, VendorHeaders, Verdict,
    circuit::{Admission, Asker, Change, Circuit, Outcome, Rules},
    identity::{self, BasicOff, Expected, Finding, ProvenUser, Rejection},
    strip,
    upstream_cookies::{SentCookies, UpstreamCookies},
};
use crate::{
    expiry::Expiry,
    status::{Layer, State},
    upstream::Intermediary,
};
use http::{StatusCode, header, request, response};
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

pub(super) struct Inject {
    scheme: Box<dyn Scheme>,
    layer: Arc<Layer>,
    circuit: Mutex<Circuit>,
    known: Mutex<Known>,
    /// Somebody probes the login; only what the probe meets decides.
    is_probed: AtomicBool,
    /// Wakes those who wait for a trial's outcome.
    settled: Notify,
    /// Wakes whoever probes.
    probe_wanted: Notify,
    seen: identity::Seen,
    pub(super) cookies: UpstreamCookies,
}

/// What the probe has found out about the secret that there is now.
#[derive(Default)]
struct Known {
    /// Of the secret; 0 before the first look.
    version: u64,
    /// Jira has taken or refused it.
    decided: bool,
    user: Option<ProvenUser>,
}

/// A request with our credential in it, whose outcome is owed to the circuit.
pub(super) struct Attempt {
    inject: Arc<Inject>,
    generation: u64,
    /// Of the secret behind the credential.
    version: u64,
    asker: Asker,
    trial: bool,
    cookies: SentCookies,
    below_rest: bool,
    /// Jira refused the credential: whether there is another one since, or why there is none.
    renewed: Result<bool, Unavailable>,
    /// The probe has decided about this refusal already.
    probed_since: bool,
    settled: bool,
}

/// The name to show for the user of the probe's answer, where Jira gave one beside the name that it is known by.
#[derive(Clone)]
pub(crate) struct ShownName(pub(crate) String);

impl Inject {
    pub(super) fn new(scheme: Box<dyn Scheme>, layer: Arc<Layer>, over_tls: bool) -> Self {
        Self {
            scheme,
            layer,
            circuit: Mutex::default(),
            known: Mutex::default(),
            is_probed: AtomicBool::new(false),
            settled: Notify::new(),
            probe_wanted: Notify::new(),
            seen: identity::Seen::new(""),
            cookies: UpstreamCookies::new(over_tls),
        }
    }

    pub(super) fn mode(&self) -> &'static str {
        self.scheme.mode()
    }

    pub(super) fn expiries(&self) -> Vec<Expiry> {
        self.scheme.expiries()
    }

    pub(super) fn renews(&self) -> bool {
        self.scheme.renews()
    }

    pub(super) async fn finish(&self) {
        self.scheme.settle().await;
    }

    pub(super) fn expiry_question(&self) -> Option<&'static str> {
        self.scheme.expiry_question()
    }

    pub(super) fn refused(&self) -> Option<Unavailable> {
        self.circuit().refusal()
    }

    pub(super) async fn prepare(
        self: Arc<Self>,
        head: &mut request::Parts,
        headers: &VendorHeaders,
    ) -> Result<Attempt, Refusal> {
        strip::request(head, headers)?;
        self.scheme.accept(head)?;
        let deadline = Instant::now() + TRIAL_WAIT;
        loop {
            let settled = self.settled.notified();
            tokio::pin!(settled);
            // Registered before asking, so that an outcome in between is not missed.
            settled.as_mut().enable();
            match self.clone().attempt(head, Asker::Traffic).await? {
                Some(attempt) => return Ok(attempt),
                None => {
                    self.probe_wanted.notify_one();
                    if timeout_at(deadline, settled).await.is_err() {
                        return Err(Refusal::Unavailable(still_trying()));
                    }
                }
            }
        }
    }

    pub(super) async fn prepare_own(
        self: Arc<Self>,
        head: &mut request::Parts,
        asker: Asker,
    ) -> Result<Option<Attempt>, Refusal> {
        self.attempt(head, asker).await
    }

    pub(super) fn reset(&self) {
        self.scheme.look_again();
        self.cookies.forget_all();
        self.circuit().reset();
        self.known().decided = false;
        self.layer.unknown(
            "an administrator wants the credential tried again, and Jira has not answered yet",
            TRYING,
        );
        self.settled.notify_waiters();
        self.probe_wanted.notify_one();
    }

    /// From now on only the probe decides about the credential.
    pub(super) fn be_probed(&self) {
        self.is_probed.store(true, Ordering::Relaxed);
    }

    pub(super) async fn probe_wanted(&self) {
        self.probe_wanted.notified().await;
    }

    pub(super) fn want_probe(&self) {
        self.scheme.look_again();
        self.probe_wanted.notify_one();
    }

    pub(super) fn probe_need(&self) -> super::ProbeNeed {
        if !self.known().decided {
            return super::ProbeNeed::Untried;
        }
        match (self.circuit().is_doubted(), self.scheme.locks_out()) {
            (true, true) => super::ProbeNeed::HeldBack,
            (true, false) => super::ProbeNeed::Doubted,
            (false, _) => super::ProbeNeed::None,
        }
    }

    /// Looks whether the secret is another one now. True: it is, and is unproven.
    pub(super) async fn look(&self) -> bool {
        let found = self.scheme.look().await;
        let changed = self.notice();
        if let Err(why) = found {
            self.fail(&why);
        }
        changed
    }

    /// The probe of the login gave nothing to judge the credential by.
    pub(super) fn undecided(&self, cause: &str, remedy: &str) {
        // What has been refused stays so until Jira says otherwise.
        if self.refused().is_none() && self.layer.unknown(cause, remedy) {
            tracing::warn!(
                forward = self.layer.forward(),
                cause,
                remedy,
                "the login could not be tried"
            );
        }
    }

    /// Notices another secret: what was proven of the former one counts no more.
    fn notice(&self) -> bool {
        let version = self.scheme.version();
        {
            let mut known = self.known();
            if known.version == version {
                return false;
            }
            let first = known.version == 0;
            *known = Known {
                version,
                ..Known::default()
            };
            if first && self.layer.snapshot().state != State::Failed {
                return false;
            }
        }
        self.layer.unknown(
            "the secret has changed, and Jira has not yet said whether it takes the new one",
            TRYING,
        );
        tracing::info!(
            forward = self.layer.forward(),
            "the secret of the login has changed; it is tried now"
        );
        self.settled.notify_waiters();
        self.probe_wanted.notify_one();
        true
    }

    fn rules(&self) -> Rules {
        Rules {
            locks_out: self.scheme.locks_out(),
            probed: self.is_probed.load(Ordering::Relaxed),
        }
    }

    /// `None` when another request is just finding out.
    async fn attempt(
        self: Arc<Self>,
        head: &mut request::Parts,
        asker: Asker,
    ) -> Result<Option<Attempt>, Refusal> {
        loop {
            let credential = match self.scheme.authorization(head).await {
                Ok(credential) => credential,
                Err(why) => {
                    self.notice();
                    self.fail(&why);
                    return Err(Refusal::Unavailable(why));
                }
            };
            self.notice();
            let version = self.known().version;
            let generation = credential.generation;
            let admission = self
                .circuit()
                .admit(generation, self.rules(), asker, Instant::now());
            let trial = match admission {
                Admission::Go { trial } => trial,
                Admission::Wait => return Ok(None),
                Admission::Stale => {
                    tokio::task::yield_now().await;
                    continue;
                }
                Admission::Refuse(why) => return Err(Refusal::Unavailable(why)),
            };
            let below_rest = head.uri.path().contains("/rest/");
            head.headers
                .insert(header::AUTHORIZATION, credential.authorization);
            let cookies = self.cookies.attach(head, generation, asker == Asker::Probe);
            return Ok(Some(Attempt {
                inject: self,
                generation,
                version,
                asker,
                trial,
                cookies,
                below_rest,
                renewed: Ok(false),
                probed_since: false,
                settled: false,
            }));
        }
    }

    fn settle(&self, attempt: &Attempt, outcome: Outcome) {
        let decided = attempt.asker == Asker::Probe && !matches!(outcome, Outcome::Undecided);
        let change = self.circuit().settle(
            attempt.generation,
            self.rules(),
            attempt.asker,
            attempt.trial,
            outcome,
            Instant::now(),
        );
        if decided {
            let mut known = self.known();
            if known.version == attempt.version {
                known.decided = true;
            }
        }
        match change {
            Change::None => {}
            Change::Doubted => {
                tracing::debug!(
                    forward = self.layer.forward(),
                    "Jira refused the login of one request; the login is probed"
                );
                self.probe_wanted.notify_one();
            }
            Change::Opened => {
                let why = self.circuit().refusal();
                tracing::warn!(
                    forward = self.layer.forward(),
                    cause = why.as_ref().map(|why| &*why.cause),
                    remedy = why.as_ref().map(|why| &*why.remedy),
                    "Jira rejected the credential; requests are held back until it changes (or: agent login-retry)"
                );
            }
        }
        self.settled.notify_waiters();
    }

    fn fail(&self, why: &Unavailable) {
        if self.layer.failed(State::Failed, &why.cause, &why.remedy) {
            tracing::warn!(
                forward = self.layer.forward(),
                cause = why.cause,
                remedy = why.remedy,
                "there is no credential to send requests with"
            );
        }
    }

    /// Words for the administrator, and whether a later retry does no harm.
    fn judge(&self, rejection: &Rejection, status: StatusCode) -> (Unavailable, bool) {
        let who = match self.scheme.expected_user() {
            Some(user) => format!("the password of {user}"),
            None => "the agent's credential".to_owned(),
        };
        let rejection = match rejection {
            // Some versions name `anonymous` in this answer.
            Rejection::Anonymous
                if status == StatusCode::FORBIDDEN && self.scheme.mode() == "basic" =>
            {
                &Rejection::BasicOff(BasicOff::Likely)
            }
            told => told,
        };
        let status = status.as_u16();
        let harmless = !self.scheme.locks_out();
        let (cause, remedy, retry) = match rejection {
            Rejection::Refused => (
                format!("Jira refused {who} ({status})"),
                self.scheme.remedy(),
                harmless,
            ),
            Rejection::Captcha => (
                format!("Jira demands a CAPTCHA ({status}) after too many failed logins and refuses even the right password"),
                self.scheme.remedy(),
                harmless,
            ),
            Rejection::BasicOff(BasicOff::Said) => (
                "Basic authentication is switched off on this Jira".to_owned(),
                "use mode = \"pat\" with a personal access token, or let a Jira administrator allow Basic authentication".to_owned(),
                true,
            ),
            Rejection::BasicOff(BasicOff::Likely) => (
                "Jira refused the request (403) without naming a user, as it does where Basic authentication is switched off".to_owned(),
                "use mode = \"pat\" with a personal access token, or let a Jira administrator allow Basic authentication".to_owned(),
                true,
            ),
            Rejection::Anonymous => (
                "Jira took the request for anonymous: it ignored the agent's credential".to_owned(),
                self.scheme.remedy(),
                true,
            ),
            Rejection::Other(user) => {
                let proven = self.known().user.as_ref().map(ProvenUser::shown);
                let meant = self.scheme.expected_user().map(str::to_owned).or(proven);
                (
                    format!(
                        "Jira took the request for the user {user}, not {}",
                        meant.as_deref().unwrap_or("the configured one")
                    ),
                    match self.scheme.expected_user() {
                        Some(_) => "check whether single sign-on in front of Jira replaces the login; set username to the user that is meant",
                        None => "check whether single sign-on in front of Jira replaces the login; a user that was renamed is taken as soon as the agent's own probe meets the new name",
                    }
                    .to_owned(),
                    true,
                )
            }
            Rejection::Intermediary(intermediary) => {
                let diagnosis = intermediary.diagnosis();
                // Kerberos and NTLM never look at what we send; another realm may count it.
                let looked_at = matches!(intermediary, Intermediary::LoginDemanded { challenges } if challenges.contains("Basic"));
                (
                    diagnosis.cause,
                    diagnosis.remedy.to_owned(),
                    harmless || !looked_at,
                )
            }
            Rejection::LoginPage => (
                "Jira redirects to its login page instead of answering: it does not take the agent's credential for this path".to_owned(),
                self.scheme.remedy(),
                true,
            ),
        };
        (Unavailable { cause, remedy }, retry)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Every write is a plain assignment; a panic leaves an older but whole state.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn circuit(&self) -> MutexGuard<'_, Circuit> {
        // Its transitions do not panic; were one to, an untried circuit is what remains.
        self.circuit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempt {
    pub(super) async fn renewed(&mut self, head: &response::Parts, body: &[u8]) -> bool {
        let inject = &self.inject;
        if !inject.scheme.renews() {
            return false;
        }
        let is_refused = match inject.scheme.told(head, body) {
            // The scheme's own words say what it was that Jira refused.
            Some(told) => told.blame == Blame::Token,
            None => matches!(
                self.finding(head, body),
                Finding::Rejected(Rejection::Refused | Rejection::Anonymous)
            ),
        };
        if is_refused && self.decides() {
            let proven = !self.trial || inject.circuit().was_taken();
            self.renewed = inject.scheme.renew(self.generation, proven).await;
        } else if is_refused {
            self.renewed = Ok(self.probed_otherwise().await);
        }
        self.renewed == Ok(true)
    }

    /// Has the probe find out whether Jira refuses the credential or only this request; it renews the credential
    /// where that is what is needed. True: there is another one now, which Jira takes.
    async fn probed_otherwise(&mut self) -> bool {
        let inject = self.inject.clone();
        let (why, retry) = inject.judge(&Rejection::Refused, StatusCode::UNAUTHORIZED);
        self.settle(Outcome::Rejected { why, retry });
        self.probed_since = true;
        let deadline = Instant::now() + PROBE_WAIT;
        loop {
            let settled = inject.settled.notified();
            tokio::pin!(settled);
            settled.as_mut().enable();
            let decided = inject.circuit().decided_beyond(self.generation);
            if let Some(taken) = decided {
                return taken;
            }
            if timeout_at(deadline, settled).await.is_err() {
                return false;
            }
        }
    }

    /// Whether what Jira says to this request decides about the credential.
    fn decides(&self) -> bool {
        let probed = self.inject.rules().probed;
        self.asker == Asker::Probe || (self.asker == Asker::Traffic && !probed)
    }

    /// Whether the secret is still the one that this was sent with.
    fn is_current(&self) -> bool {
        self.inject.known().version == self.version
    }

    pub(super) fn observe(mut self, head: &mut response::Parts, body: &[u8]) -> Verdict {
        let inject = self.inject.clone();
        if let Some(told) = inject.scheme.told(head, body) {
            let status = head.status;
            inject.cookies.forget_sessions(&self.cookies);
            strip::response(head);
            return self.refused(told, status);
        }
        let finding = self.finding(head, body);
        // A likely reading of a 403 counts only for a credential that Jira never took and that is
        // Basic; otherwise it is an answer like any other.
        let finding = match finding {
            Finding::Rejected(Rejection::BasicOff(BasicOff::Likely))
                if !self.trial || inject.mode() != "basic" =>
            {
                Finding::Nothing
            }
            other => other,
        };
        match &finding {
            Finding::Known(_) | Finding::Accepted => {
                inject.cookies.take(&self.cookies, &head.headers);
            }
            Finding::Rejected(Rejection::Other(_)) => inject.cookies.forget_all(),
            Finding::Rejected(_) => inject.cookies.forget_sessions(&self.cookies),
            Finding::Nothing | Finding::Unreadable => {}
        }
        let verdict = match finding {
            // Says nothing of the credential that there is now.
            Finding::Rejected(_) if self.renewed == Ok(true) => {
                self.settle(Outcome::Undecided);
                let Unavailable { cause, remedy } = renewed_since(head.status);
                Verdict::LoginFailed { cause, remedy }
            }
            Finding::Known(name) => {
                if self.is_current() {
                    match self.asker {
                        Asker::Probe => self.remember(head),
                        _ => inject.seen.prove(&inject.layer, name),
                    }
                }
                self.settle(Outcome::Accepted);
                Verdict::Fine
            }
            Finding::Accepted => {
                if self.asker == Asker::Probe && self.is_current() {
                    self.remember(head);
                }
                self.settle(Outcome::Accepted);
                Verdict::Fine
            }
            Finding::Nothing | Finding::Unreadable => {
                self.settle(Outcome::Undecided);
                Verdict::Fine
            }
            Finding::Rejected(rejection) => {
                let (mut why, retry) = inject.judge(&rejection, head.status);
                if let Err(deeper) = &self.renewed {
                    why = deeper.clone();
                }
                match &rejection {
                    // Nobody has looked at the credential.
                    Rejection::Intermediary(by)
                        if self.decides() && !matches!(by, Intermediary::LoginDemanded { .. }) =>
                    {
                        self.settle(Outcome::Undecided);
                        inject.undecided(&why.cause, &why.remedy);
                        let Unavailable { cause, remedy } = why;
                        Verdict::LoginFailed { cause, remedy }
                    }
                    _ => self.reject(why, retry),
                }
            }
        };
        strip::response(head);
        verdict
    }

    /// The user that Jira named to the probe, whom every other answer must name, too.
    fn remember(&self, head: &response::Parts) {
        let inject = &self.inject;
        let user = ProvenUser::read(&head.headers);
        let shown = head.extensions.get::<ShownName>();
        let shown = shown.map(|shown| shown.0.clone());
        let detail = match shown.or(user.as_ref().map(ProvenUser::shown)) {
            Some(name) => format!("user {name}"),
            None => "accepted; Jira names no user".to_owned(),
        };
        let former = std::mem::replace(&mut inject.known().user, user.clone());
        if former.is_some() && former != user {
            tracing::warn!(
                forward = inject.layer.forward(),
                "Jira names another user for the same credential than before, which counts from now on: {detail}"
            );
        }
        if inject.layer.proven(Some(&detail)) {
            tracing::info!(
                forward = inject.layer.forward(),
                "Jira accepts the credential: {detail}"
            );
        }
    }

    /// Fails this request; the credential too, where this one decides.
    fn reject(&mut self, why: Unavailable, retry: bool) -> Verdict {
        let Unavailable { cause, remedy } = why.clone();
        if self.decides() {
            if self.is_current() {
                self.inject.fail(&why);
            }
            self.settle(Outcome::Rejected { why, retry });
            return Verdict::LoginFailed { cause, remedy };
        }
        match self.probed_since {
            true => self.settle(Outcome::Undecided),
            false => self.settle(Outcome::Rejected { why, retry }),
        }
        Verdict::LoginFailed {
            cause,
            remedy: ONE_REQUEST.to_owned(),
        }
    }

    fn finding<'a>(&self, head: &'a response::Parts, body: &[u8]) -> Finding<'a> {
        let known = self.inject.known();
        // The probe is what tells the user.
        let proven = match self.asker {
            Asker::Probe => None,
            _ if known.version == self.version => known.user.clone(),
            _ => None,
        };
        drop(known);
        let expected = Expected {
            configured: self.inject.scheme.expected_user(),
            proven: proven.as_ref(),
        };
        match identity::read(head, body, self.below_rest, expected) {
            // Jira took this credential before, so it is most likely the request that is refused. The
            // login probe, whose answers are not compressed, finds out.
            Finding::Unreadable if !self.trial => Finding::Nothing,
            Finding::Unreadable => Finding::Rejected(Rejection::Refused),
            other => other,
        }
    }

    pub(super) fn learn(self, status: StatusCode, body: &[u8]) {
        self.inject
            .scheme
            .expiry_answer(self.generation, status, body);
    }

    /// In the scheme's own words.
    fn refused(mut self, told: Told, status: StatusCode) -> Verdict {
        let Told { mut why, blame } = told;
        if self.renewed == Ok(true) {
            // Says nothing of the credential that there is now.
            self.settle(Outcome::Undecided);
            let Unavailable { cause, remedy } = renewed_since(status);
            return Verdict::LoginFailed { cause, remedy };
        }
        if let Err(deeper) = &self.renewed {
            why = deeper.clone();
        }
        let of_this_request = match blame {
            Blame::Credential | Blame::Token => false,
            // The probe's request is one that cannot be wrong by itself.
            Blame::Signature => !self.trial && self.asker == Asker::Traffic,
            Blame::Request => true,
        };
        if of_this_request {
            let Unavailable { cause, remedy } = why;
            self.settle(Outcome::Undecided);
            return Verdict::LoginFailed { cause, remedy };
        }
        let retry = !self.inject.scheme.locks_out();
        self.reject(why, retry)
    }

    fn settle(&mut self, outcome: Outcome) {
        self.settled = true;
        self.inject.settle(self, outcome);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Where there is another credential, that one is asked with next, and who waits for the answer waits on.
        let goes_on = self.asker == Asker::Probe && self.renewed == Ok(true);
        if !self.settled && !goes_on {
            self.inject.settle(self, Outcome::Undecided);
        }
    }
}

fn renewed_since(status: http::StatusCode) -> Unavailable {
    Unavailable {
        cause: format!(
            "Jira did not take the agent's token any more ({}); it has been renewed, and this request could not be sent a second time",
            status.as_u16()
        ),
        remedy: "send the request again".to_owned(),
    }
}

fn still_trying() -> Unavailable {
    Unavailable {
        cause: format!(
            "Jira has not yet said, within {TRIAL_WAIT:?}, whether it takes the agent's login"
        ),
        remedy: "look at the jira layer: Jira answers slowly or not at all".to_owned(),
    }
}

/// How long a request waits for the outcome of the first one.
const TRIAL_WAIT: Duration = Duration::from_secs(30);
/// How long a refused request waits for the probe, which may renew the token and ask once more.
const PROBE_WAIT: Duration = Duration::from_secs(20);
const TRYING: &str = "wait a few seconds; if this stays, look at the jira layer";
/// What the login layer says of the credential is not this request's to say.
const ONE_REQUEST: &str = "see the login layer of agent status: where it is proven, Jira refuses the login for this request alone";

//! The injecting modes' common way: strip, ask the circuit, put the credential in; and back: read the
//! answer, tell the circuit and the status, strip.

use super::{
    Blame, Refusal, Scheme, Told, Unavailable, VendorHeaders, Verdict,
    circuit::{Admission, Asker, Circuit, Outcome},
    identity::{self, BasicOff, Finding, Rejection},
    strip,
    upstream_cookies::{SentCookies, UpstreamCookies},
};
use crate::{
    expiry::Expiry,
    status::{Layer, State},
};
use http::{StatusCode, header, request, response};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
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
    /// Wakes those who wait for a trial's outcome.
    settled: Notify,
    /// An administrator wants another try.
    retried: Notify,
    seen: identity::Seen,
    pub(super) cookies: UpstreamCookies,
}

/// A request with our credential in it, whose outcome is owed to the circuit.
pub(super) struct Attempt {
    inject: Arc<Inject>,
    generation: u64,
    asker: Asker,
    trial: bool,
    cookies: SentCookies,
    below_rest: bool,
    /// Jira refused the credential: whether there is another one since, or why there is none.
    renewed: Result<bool, Unavailable>,
    settled: bool,
}

impl Inject {
    pub(super) fn new(scheme: Box<dyn Scheme>, layer: Arc<Layer>, over_tls: bool) -> Self {
        Self {
            scheme,
            layer,
            circuit: Mutex::default(),
            settled: Notify::new(),
            retried: Notify::new(),
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
                    if timeout_at(deadline, settled).await.is_err() {
                        return Err(Refusal::Unavailable(still_trying()));
                    }
                }
            }
        }
    }

    pub(super) async fn prepare_probe(
        self: Arc<Self>,
        head: &mut request::Parts,
    ) -> Result<Option<Attempt>, Refusal> {
        self.attempt(head, Asker::Probe).await
    }

    pub(super) fn reset(&self) {
        self.scheme.look_again();
        self.cookies.forget_all();
        self.circuit().reset();
        self.settled.notify_waiters();
        self.retried.notify_one();
    }

    pub(super) async fn retried(&self) {
        self.retried.notified().await;
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
                    self.fail(&why);
                    return Err(Refusal::Unavailable(why));
                }
            };
            let generation = credential.generation;
            let locks_out = self.scheme.locks_out();
            let admission = self
                .circuit()
                .admit(generation, locks_out, asker, Instant::now());
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
                asker,
                trial,
                cookies,
                below_rest,
                renewed: Ok(false),
                settled: false,
            }));
        }
    }

    fn settle(&self, attempt: &Attempt, outcome: Outcome) {
        let opened =
            self.circuit()
                .settle(attempt.generation, attempt.trial, outcome, Instant::now());
        if opened {
            let why = self.circuit().refusal();
            tracing::warn!(
                forward = self.layer.forward(),
                cause = why.as_ref().map(|why| &*why.cause),
                remedy = why.as_ref().map(|why| &*why.remedy),
                "Jira rejected the credential; requests are held back until it changes (or: agent login-retry)"
            );
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
            Rejection::Other(user) => (
                format!(
                    "Jira took the request for the user {user}, not {}",
                    self.scheme.expected_user().unwrap_or("the configured one")
                ),
                "check whether single sign-on in front of Jira replaces the login; set username to the user that is meant".to_owned(),
                true,
            ),
        };
        (Unavailable { cause, remedy }, retry)
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
        if is_refused {
            let proven = !self.trial;
            self.renewed = inject.scheme.renew(self.generation, proven).await;
        }
        self.renewed == Ok(true)
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
                inject.seen.prove(&inject.layer, name);
                self.settle(Outcome::Accepted);
                Verdict::Fine
            }
            Finding::Accepted => {
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
                inject.fail(&why);
                let Unavailable { cause, remedy } = why.clone();
                self.settle(Outcome::Rejected { why, retry });
                Verdict::LoginFailed { cause, remedy }
            }
        };
        strip::response(head);
        verdict
    }

    fn finding<'a>(&self, head: &'a response::Parts, body: &[u8]) -> Finding<'a> {
        let expected = self.inject.scheme.expected_user();
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
        let Unavailable { cause, remedy } = why.clone();
        if of_this_request {
            self.settle(Outcome::Undecided);
        } else {
            self.inject.fail(&why);
            let retry = !self.inject.scheme.locks_out();
            self.settle(Outcome::Rejected { why, retry });
        }
        Verdict::LoginFailed { cause, remedy }
    }

    fn settle(&mut self, outcome: Outcome) {
        self.settled = true;
        self.inject.settle(self, outcome);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.settled {
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

//! One request with our credential in it: reads the answer, tells the circuit and the status, strips.

use super::{Inject, ShownName};
use crate::{
    auth::{
        Blame, Told, Unavailable, Verdict,
        circuit::{Asker, Outcome},
        identity::{self, BasicOff, Expected, Finding, ProvenUser, Rejection},
        lockout_guard::Sent,
        strip,
        upstream_cookies::SentCookies,
    },
    status::State,
    upstream::Intermediary,
};
use http::{StatusCode, response};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A request with our credential in it, whose outcome is owed to the circuit.
pub(in crate::auth) struct Attempt {
    pub(super) inject: Arc<Inject>,
    pub(super) generation: u64,
    /// Of the secret behind the credential.
    pub(super) version: u64,
    pub(super) asker: Asker,
    pub(super) trial: bool,
    pub(super) sent: Sent,
    pub(super) cookies: SentCookies,
    pub(super) below_rest: bool,
    /// Jira refused the credential: whether there is another one since, or why there is none.
    pub(super) renewed: Result<bool, Unavailable>,
    /// The probe has decided about this refusal already.
    pub(super) probed_since: bool,
    pub(super) settled: bool,
}

impl Attempt {
    pub(in crate::auth) async fn renewed(&mut self, head: &response::Parts, body: &[u8]) -> bool {
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

    pub(in crate::auth) fn observe(mut self, head: &mut response::Parts, body: &[u8]) -> Verdict {
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
                if self.asker == Asker::Probe && self.is_current() {
                    self.remember(head);
                }
                self.settle(Outcome::Accepted);
                if self.asker != Asker::Probe && self.is_current() {
                    inject.prove_by_request(name);
                }
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
            // First the circuit, so that no answer to an earlier request proves the layer after this.
            let is_told = self.settle(Outcome::Rejected { why, retry });
            let is_news =
                self.is_current() && self.inject.layer.failed(State::Failed, &cause, &remedy);
            if is_news && !is_told {
                tracing::warn!(
                    forward = self.inject.layer.forward(),
                    cause,
                    remedy,
                    "Jira still rejects the credential, for another reason"
                );
            }
            return Verdict::LoginFailed { cause, remedy };
        }
        match self.probed_since {
            true => self.settle(Outcome::Undecided),
            false => self.settle(Outcome::Rejected { why, retry }),
        };
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

    pub(in crate::auth) fn learn(self, status: StatusCode, body: &[u8]) {
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

    /// True: the log has told that Jira rejected the credential.
    fn settle(&mut self, outcome: Outcome) -> bool {
        self.settled = true;
        self.inject.settle(self, outcome)
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

/// How long a refused request waits for the probe, which may renew the token and ask once more.
const PROBE_WAIT: Duration = Duration::from_secs(20);
/// What the login layer says of the credential is not this request's to say.
const ONE_REQUEST: &str = "see the login layer of agent status: where it is proven, Jira refuses the login for this request alone";

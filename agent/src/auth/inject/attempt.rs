//! One request with our credential: interprets the answer, informs circuit and status, strips.

use super::{CredentialInjector, UserDisplayName};
use crate::{
    auth::{
        AuthRejection, AuthVerdict, CredentialUnavailable, RejectedPart,
        circuit::{CallerKind, CredentialOutcome},
        identity::{
            self, BasicAuthDisabled, ExpectedUser, IdentityFinding, ProvenUser, RejectionReason,
        },
        lockout_guard::AdmittedRequest,
        service_identity, strip,
        upstream_cookies::SentCookies,
    },
    status::ProofState,
    upstream::Intermediary,
};
use http::{StatusCode, response};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A request with our credential, whose outcome the circuit waits for.
pub(in crate::auth) struct InjectedAttempt {
    pub(super) inject: Arc<CredentialInjector>,
    pub(super) generation: u64,
    /// Version of the secret behind the credential.
    pub(super) version: u64,
    pub(super) caller: CallerKind,
    pub(super) trial: bool,
    pub(super) request: AdmittedRequest,
    pub(super) cookies: SentCookies,
    pub(super) below_rest: bool,
    /// After a rejection: whether there is another credential now, or why there is none.
    pub(super) refreshed: Result<bool, CredentialUnavailable>,
    /// The probe has checked this rejection already.
    pub(super) probed_since: bool,
    pub(super) recorded: bool,
}

impl InjectedAttempt {
    pub(in crate::auth) async fn refresh_if_rejected(
        &mut self,
        head: &response::Parts,
        body: &[u8],
    ) -> bool {
        let inject = &self.inject;
        if !inject.scheme.can_refresh() {
            return false;
        }
        let is_refused = match inject.scheme.classify_rejection(head, body) {
            // The scheme knows which part Jira rejected.
            Some(rejection) => rejection.rejected == RejectedPart::Token,
            None => matches!(
                self.classify(head, body),
                IdentityFinding::Rejected(RejectionReason::Refused | RejectionReason::Anonymous)
            ),
        };
        if is_refused && self.decides() {
            let proven = !self.trial || inject.circuit.lock().was_accepted();
            self.refreshed = inject.scheme.refresh(self.generation, proven).await;
        } else if is_refused {
            self.refreshed = Ok(self.await_probe_decision().await);
        }
        self.refreshed == Ok(true)
    }

    /// Waits until the probe finds whether Jira rejects the credential or only this request; it refreshes the credential
    /// if needed. True: there is another one now, which Jira accepts.
    async fn await_probe_decision(&mut self) -> bool {
        let inject = self.inject.clone();
        let (why, retry) =
            inject.describe_rejection(&RejectionReason::Refused, StatusCode::UNAUTHORIZED);
        self.record_outcome(CredentialOutcome::Rejected { why, retry });
        self.probed_since = true;
        let deadline = Instant::now() + PROBE_WAIT;
        loop {
            let changed = inject.outcome_changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let decided = inject
                .circuit
                .lock()
                .newer_credential_accepted(self.generation);
            if let Some(taken) = decided {
                return taken;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return false;
            }
        }
    }

    /// Whether Jira's answer to this request decides about the credential.
    fn decides(&self) -> bool {
        let probed = self.inject.rules().probed;
        self.caller == CallerKind::Probe || (self.caller == CallerKind::Traffic && !probed)
    }

    /// Whether the secret is still the one that this was sent with.
    fn is_current(&self) -> bool {
        self.inject.findings.lock().version == self.version
    }

    pub(in crate::auth) fn on_response(
        mut self,
        head: &mut response::Parts,
        body: &[u8],
    ) -> AuthVerdict {
        let inject = self.inject.clone();
        if let Some(rejection) = inject.scheme.classify_rejection(head, body) {
            let status = head.status;
            inject.cookies.forget_sessions(&self.cookies);
            strip::response(head, &inject.profile);
            return self.on_explained_rejection(rejection, status);
        }
        let finding = self.classify(head, body);
        // A likely reading of a 403 counts only for a Basic credential that Jira has never accepted; otherwise it is an
        // answer like any other.
        let finding = match finding {
            IdentityFinding::Rejected(RejectionReason::BasicAuthDisabled(
                BasicAuthDisabled::Likely,
            )) if !self.trial || inject.mode() != "basic" => IdentityFinding::Inconclusive,
            other @ (IdentityFinding::KnownUser(_)
            | IdentityFinding::Accepted
            | IdentityFinding::Inconclusive
            | IdentityFinding::Unreadable
            | IdentityFinding::Rejected(_)) => other,
        };
        match &finding {
            // Sessions of other tools want more than a cookie, such as a token against forged requests.
            IdentityFinding::KnownUser(_) | IdentityFinding::Accepted
                if !inject.profile.is_jira() => {}
            IdentityFinding::KnownUser(_) | IdentityFinding::Accepted => {
                inject.cookies.take(&self.cookies, &head.headers);
            }
            IdentityFinding::Rejected(RejectionReason::OtherUser(_)) => inject.cookies.forget_all(),
            IdentityFinding::Rejected(_) => inject.cookies.forget_sessions(&self.cookies),
            IdentityFinding::Inconclusive | IdentityFinding::Unreadable => {}
        }
        let verdict = match finding {
            // Proves nothing about the current credential.
            IdentityFinding::Rejected(_) if self.refreshed == Ok(true) => {
                self.record_outcome(CredentialOutcome::Undecided);
                let CredentialUnavailable { cause, remedy } = token_was_refreshed(head.status);
                AuthVerdict::LoginFailed { cause, remedy }
            }
            IdentityFinding::KnownUser(name) => {
                if self.caller == CallerKind::Probe && self.is_current() {
                    self.prove_user(head);
                }
                self.record_outcome(CredentialOutcome::Accepted);
                if self.caller != CallerKind::Probe && self.is_current() {
                    inject.prove_by_request(name);
                }
                AuthVerdict::Accepted
            }
            IdentityFinding::Accepted => {
                if self.caller == CallerKind::Probe && self.is_current() {
                    self.prove_user(head);
                }
                self.record_outcome(CredentialOutcome::Accepted);
                AuthVerdict::Accepted
            }
            IdentityFinding::Inconclusive | IdentityFinding::Unreadable => {
                self.record_outcome(CredentialOutcome::Undecided);
                AuthVerdict::Accepted
            }
            IdentityFinding::Rejected(rejection) => {
                let (mut why, retry) = inject.describe_rejection(&rejection, head.status);
                if let Err(refresh_error) = &self.refreshed {
                    why = refresh_error.clone();
                }
                service_identity::quote_message(&inject.profile, body, &mut why);
                match &rejection {
                    // Jira has not checked the credential.
                    RejectionReason::Intermediary(by)
                        if self.decides() && !matches!(by, Intermediary::LoginDemanded { .. }) =>
                    {
                        self.record_outcome(CredentialOutcome::Undecided);
                        inject.probe_inconclusive(&why.cause, &why.remedy);
                        let CredentialUnavailable { cause, remedy } = why;
                        AuthVerdict::LoginFailed { cause, remedy }
                    }
                    RejectionReason::Refused
                    | RejectionReason::Captcha
                    | RejectionReason::BasicAuthDisabled(_)
                    | RejectionReason::Anonymous
                    | RejectionReason::OtherUser(_)
                    | RejectionReason::Intermediary(_)
                    | RejectionReason::LoginPage => self.reject(why, retry),
                }
            }
        };
        strip::response(head, &inject.profile);
        verdict
    }

    /// The user that Jira named to the probe, whom every other answer must name, too.
    fn prove_user(&self, head: &response::Parts) {
        let inject = &self.inject;
        let user = match inject.profile.is_jira() {
            true => ProvenUser::read(&head.headers),
            false => service_identity::proven_user(&inject.profile, head),
        };
        let shown = head.extensions.get::<UserDisplayName>();
        let shown = shown.map(|shown| shown.0.clone());
        let detail = match shown.or(user.as_ref().map(ProvenUser::display_name)) {
            Some(name) => format!("user {name}"),
            None => "accepted; Jira names no user".to_owned(),
        };
        let previous = std::mem::replace(&mut inject.findings.lock().user, user.clone());
        if previous.is_some() && previous != user {
            tracing::warn!(
                forward = inject.layer.forward(),
                "{}{detail}",
                inject.layer.reword(
                    "Jira names another user for the same credential; from now on that user is expected: "
                )
            );
        }
        if inject.layer.proven(Some(&detail)) {
            tracing::info!(
                forward = inject.layer.forward(),
                "{}",
                inject
                    .layer
                    .reword(&format!("Jira accepts the credential: {detail}"))
            );
        }
    }

    /// Fails this request; the credential too, where this one decides.
    fn reject(&mut self, why: CredentialUnavailable, retry: bool) -> AuthVerdict {
        let CredentialUnavailable { cause, remedy } = why.clone();
        if self.decides() {
            // First the circuit, so that no answer to an earlier request proves the layer after this.
            let is_logged = self.record_outcome(CredentialOutcome::Rejected { why, retry });
            let is_new = self.is_current()
                && self
                    .inject
                    .layer
                    .failed(ProofState::Failed, &cause, &remedy);
            if is_new && !is_logged {
                tracing::warn!(
                    forward = self.inject.layer.forward(),
                    cause,
                    remedy,
                    "{}",
                    self.inject
                        .layer
                        .reword("Jira still rejects the credential, for another reason")
                );
            }
            return AuthVerdict::LoginFailed { cause, remedy };
        }
        match self.probed_since {
            true => self.record_outcome(CredentialOutcome::Undecided),
            false => self.record_outcome(CredentialOutcome::Rejected { why, retry }),
        };
        AuthVerdict::LoginFailed {
            cause,
            remedy: ONE_REQUEST.to_owned(),
        }
    }

    fn classify<'a>(&self, head: &'a response::Parts, body: &[u8]) -> IdentityFinding<'a> {
        let findings = self.inject.findings.lock();
        // The probe's answer defines the user.
        let proven = match self.caller {
            CallerKind::Probe => None,
            _ if findings.version == self.version => findings.user.clone(),
            CallerKind::Traffic | CallerKind::Auxiliary => None,
        };
        drop(findings);
        let expected = ExpectedUser {
            configured: self.inject.scheme.expected_user(),
            proven: proven.as_ref(),
        };
        let profile = &self.inject.profile;
        if !profile.is_jira() {
            let is_probe = self.caller == CallerKind::Probe;
            return service_identity::read(profile, head, is_probe, self.below_rest, expected);
        }
        match identity::read(head, body, self.below_rest, expected) {
            // Jira accepted this credential before, so it most likely rejects the request. The login probe, whose answers
            // are not compressed, finds out.
            IdentityFinding::Unreadable if !self.trial => IdentityFinding::Inconclusive,
            IdentityFinding::Unreadable => IdentityFinding::Rejected(RejectionReason::Refused),
            other @ (IdentityFinding::KnownUser(_)
            | IdentityFinding::Accepted
            | IdentityFinding::Inconclusive
            | IdentityFinding::Rejected(_)) => other,
        }
    }

    pub(in crate::auth) fn on_expiry_response(self, status: StatusCode, body: &[u8]) {
        self.inject
            .scheme
            .on_expiry_response(self.generation, status, body);
    }

    /// Handles a rejection that the scheme has explained.
    fn on_explained_rejection(
        mut self,
        rejection: AuthRejection,
        status: StatusCode,
    ) -> AuthVerdict {
        let AuthRejection {
            mut why,
            rejected: part,
        } = rejection;
        if self.refreshed == Ok(true) {
            // Proves nothing about the current credential.
            self.record_outcome(CredentialOutcome::Undecided);
            let CredentialUnavailable { cause, remedy } = token_was_refreshed(status);
            return AuthVerdict::LoginFailed { cause, remedy };
        }
        if let Err(refresh_error) = &self.refreshed {
            why = refresh_error.clone();
        }
        let is_request_only = match part {
            RejectedPart::Credential | RejectedPart::Token => false,
            // The probe's request is one that cannot be wrong by itself.
            RejectedPart::Signature => !self.trial && self.caller == CallerKind::Traffic,
            RejectedPart::Request => true,
        };
        if is_request_only {
            let CredentialUnavailable { cause, remedy } = why;
            self.record_outcome(CredentialOutcome::Undecided);
            return AuthVerdict::LoginFailed { cause, remedy };
        }
        let retry = !self.inject.scheme.locks_out();
        self.reject(why, retry)
    }

    /// True: the log has reported that Jira rejected the credential.
    fn record_outcome(&mut self, outcome: CredentialOutcome) -> bool {
        self.recorded = true;
        self.inject.record_outcome(self, outcome)
    }
}

impl Drop for InjectedAttempt {
    fn drop(&mut self) {
        // With a refreshed credential the probe is sent again, and the waiting requests keep waiting.
        let is_retried = self.caller == CallerKind::Probe && self.refreshed == Ok(true);
        if !self.recorded && !is_retried {
            self.inject
                .record_outcome(self, CredentialOutcome::Undecided);
        }
    }
}

fn token_was_refreshed(status: http::StatusCode) -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!(
            "Jira rejected the agent's token ({}); it has been refreshed, but this request could not be sent again",
            status.as_u16()
        ),
        remedy: "send the request again".to_owned(),
    }
}

/// How long a rejected request waits for the probe, which may refresh the token and be sent again.
const PROBE_WAIT: Duration = Duration::from_secs(20);
/// Remedy where only this request is rejected: the login layer shows the state of the credential.
const ONE_REQUEST: &str = "check the login layer of agent status: if it is proven, Jira rejects the credential for this request only";

//! Keeps concurrent requests from all trying a password that may have changed in Jira: Jira locks the account after three
//! wrong ones, and a rejection is known only when its answer arrives.
//!
//! While accepted answers arrive, requests are sent freely. After [`CONFIDENT`] without one, the first request is sent
//! alone and the others wait for its answer. If that takes longer than [`PATIENCE`], the agent's own probe requests a
//! resource that Jira answers fast. So at most one request and one probe send a password that is wrong by now.
//!
//! Jira does not check the password of a request with a session. An accepted answer to such a request therefore proves
//! nothing about requests without one.
//!
//! A state machine without clock or sockets; `inject` queries and informs it.

use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct LockoutGuard {
    /// When the last accepted answer came.
    last_accepted: Option<Instant>,
    /// When the last one came to a request without a session.
    password_last_accepted: Option<Instant>,
    /// When the first request was sent, while it has no answer.
    first_sent_at: Option<Instant>,
    /// When the probe was requested, while it has no answer.
    probe_requested_at: Option<Instant>,
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GuardDecision {
    /// Send it; others are sent as well.
    Send,
    /// Send it and report its outcome: others wait for that.
    SendFirst,
    /// Ask again when an outcome is recorded; after this long, request a probe.
    WaitAtMost(Duration),
}

/// A request that may be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AdmittedRequest {
    pub(super) first: bool,
    /// It carries a session of the agent's user.
    pub(super) by_session: bool,
}

impl LockoutGuard {
    pub(super) fn admit(&mut self, by_session: bool, now: Instant) -> GuardDecision {
        let last_accepted = match by_session {
            true => self.last_accepted,
            false => self.password_last_accepted,
        };
        if last_accepted.is_some_and(|at| now < at + CONFIDENT) {
            return GuardDecision::Send;
        }
        let is_probed = self
            .probe_requested_at
            .is_some_and(|at| now < at + PROBE_LIMIT);
        match self.first_sent_at {
            _ if is_probed => GuardDecision::WaitAtMost(PROBE_LIMIT),
            Some(left) => {
                GuardDecision::WaitAtMost((left + PATIENCE).saturating_duration_since(now))
            }
            None => {
                self.first_sent_at = Some(now);
                GuardDecision::SendFirst
            }
        }
    }

    /// A request waits for the probe.
    pub(super) fn request_probe(&mut self, now: Instant) {
        self.probe_requested_at.get_or_insert(now);
    }

    /// Whether a request waits for the probe.
    pub(super) fn is_probe_requested(&self, now: Instant) -> bool {
        self.probe_requested_at
            .is_some_and(|at| now < at + PROBE_LIMIT)
    }

    /// A request has its answer. `good`: it does not reject the credential.
    pub(super) fn on_answer(&mut self, request: AdmittedRequest, good: bool, now: Instant) {
        self.on_no_answer(request);
        if good {
            self.last_accepted = Some(now);
            if !request.by_session {
                self.password_last_accepted = Some(now);
            }
        }
    }

    /// A request ended without an answer.
    pub(super) fn on_no_answer(&mut self, request: AdmittedRequest) {
        if request.first {
            self.first_sent_at = None;
        }
    }

    /// The probe has ended. If it was inconclusive, requests are sent freely again: a Jira that does not answer counts no
    /// passwords.
    pub(super) fn on_probe_result(&mut self, refused: bool, now: Instant) {
        self.probe_requested_at = None;
        if !refused {
            self.last_accepted = Some(now);
            self.password_last_accepted = Some(now);
        }
    }

    /// The password is another one, or an administrator asked to retry it.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// For this long an accepted answer counts for the requests that follow.
pub(super) const CONFIDENT: Duration = Duration::from_secs(1);
/// How long others wait for the first request before they request a probe.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);
/// How long others wait for the probe.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: AdmittedRequest = AdmittedRequest {
        first: true,
        by_session: false,
    };
    const OTHER: AdmittedRequest = AdmittedRequest {
        first: false,
        by_session: false,
    };

    fn at(milliseconds: u64) -> Instant {
        static ORIGIN: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);
        *ORIGIN + Duration::from_millis(milliseconds)
    }

    #[test]
    fn after_a_second_of_silence_one_goes_first_and_its_answer_frees_the_others() {
        let mut guard = LockoutGuard::default();
        assert_eq!(guard.admit(false, at(0)), GuardDecision::SendFirst);
        assert_eq!(
            guard.admit(false, at(100)),
            GuardDecision::WaitAtMost(PATIENCE - Duration::from_millis(100))
        );
        guard.on_answer(FIRST, true, at(200));
        for _ in 0..40 {
            assert_eq!(guard.admit(false, at(1199)), GuardDecision::Send);
        }
        guard.on_answer(OTHER, true, at(1200));
        assert_eq!(guard.admit(false, at(2199)), GuardDecision::Send);
        assert_eq!(guard.admit(false, at(2200)), GuardDecision::SendFirst);
        // Given up without an answer: the next one finds out.
        guard.on_no_answer(FIRST);
        assert_eq!(guard.admit(false, at(2201)), GuardDecision::SendFirst);
        guard.on_answer(FIRST, false, at(2300));
        assert_eq!(guard.admit(false, at(2301)), GuardDecision::SendFirst);
    }

    #[test]
    fn where_the_first_takes_long_only_the_probe_frees_the_others() {
        let mut guard = LockoutGuard::default();
        assert_eq!(guard.admit(false, at(0)), GuardDecision::SendFirst);
        assert_eq!(
            guard.admit(false, at(60_000)),
            GuardDecision::WaitAtMost(Duration::ZERO)
        );
        guard.request_probe(at(60_000));
        assert!(guard.is_probe_requested(at(60_001)));
        assert_eq!(
            guard.admit(false, at(60_001)),
            GuardDecision::WaitAtMost(PROBE_LIMIT)
        );
        guard.on_probe_result(true, at(60_100));
        assert!(matches!(
            guard.admit(false, at(60_100)),
            GuardDecision::WaitAtMost(_)
        ));
        guard.request_probe(at(60_200));
        guard.on_probe_result(false, at(60_300));
        assert!(!guard.is_probe_requested(at(60_300)));
        assert_eq!(guard.admit(false, at(60_301)), GuardDecision::Send);
    }

    #[test]
    fn what_a_session_got_says_nothing_of_the_password() {
        let mut guard = LockoutGuard::default();
        let by_session = AdmittedRequest {
            first: true,
            by_session: true,
        };
        assert_eq!(guard.admit(true, at(0)), GuardDecision::SendFirst);
        guard.on_answer(by_session, true, at(100));
        assert_eq!(guard.admit(true, at(200)), GuardDecision::Send);
        assert_eq!(guard.admit(false, at(200)), GuardDecision::SendFirst);
        assert!(matches!(
            guard.admit(false, at(201)),
            GuardDecision::WaitAtMost(_)
        ));
        assert_eq!(guard.admit(true, at(201)), GuardDecision::Send);
        guard.on_answer(FIRST, true, at(300));
        assert_eq!(guard.admit(false, at(301)), GuardDecision::Send);
    }
}

//! Keeps many requests at once from trying a password that Jira may have changed: Jira locks the account after three
//! wrong ones, and a refusal is known only when it comes back.
//!
//! While good answers come, requests go as they like. After [`CONFIDENT`] without one, the first request goes alone and
//! the others wait for its answer. Where that takes longer than [`PATIENCE`], the agent's own probe asks for a resource
//! that Jira answers fast. So what was changed meanwhile is met by one request and one probe.
//!
//! A session of the agent's login answers in the place of the password, which Jira does not look at then. A good answer
//! to a request with a session is therefore no word on requests without one.
//!
//! A state machine without clock or sockets; `inject` asks it and tells it.

use std::time::Duration;
use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct LockoutGuard {
    /// When the last good answer came.
    answered: Option<Instant>,
    /// When the last one came to a request without a session.
    password_answered: Option<Instant>,
    /// When the request left that goes first, while it has no answer.
    first: Option<Instant>,
    /// Since when the probe has been wanted, while it has no answer.
    probe_wanted: Option<Instant>,
}

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Go; others do, too.
    Free,
    /// Go, and say how it ended: others wait for that.
    First,
    /// Ask again when something has changed; after so long, have the probe find out.
    After(Duration),
}

/// A request that was let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) first: bool,
    /// A session of the agent's login went with it.
    pub(super) by_session: bool,
}

impl LockoutGuard {
    pub(super) fn admit(&mut self, by_session: bool, now: Instant) -> Turn {
        let answered = match by_session {
            true => self.answered,
            false => self.password_answered,
        };
        if answered.is_some_and(|at| now < at + CONFIDENT) {
            return Turn::Free;
        }
        let is_probed = self.probe_wanted.is_some_and(|at| now < at + PROBE_LIMIT);
        match self.first {
            _ if is_probed => Turn::After(PROBE_LIMIT),
            Some(left) => Turn::After((left + PATIENCE).saturating_duration_since(now)),
            None => {
                self.first = Some(now);
                Turn::First
            }
        }
    }

    /// Somebody waits, and the probe is to find out.
    pub(super) fn want_probe(&mut self, now: Instant) {
        self.probe_wanted.get_or_insert(now);
    }

    /// Whether somebody waits for the probe.
    pub(super) fn wants_probe(&self, now: Instant) -> bool {
        self.probe_wanted.is_some_and(|at| now < at + PROBE_LIMIT)
    }

    /// A request has its answer. `good`: not the refusal of a login.
    pub(super) fn answered(&mut self, sent: Sent, good: bool, now: Instant) {
        self.unanswered(sent);
        if good {
            self.answered = Some(now);
            if !sent.by_session {
                self.password_answered = Some(now);
            }
        }
    }

    /// A request is given up without an answer.
    pub(super) fn unanswered(&mut self, sent: Sent) {
        if sent.first {
            self.first = None;
        }
    }

    /// The probe has ended. Where it found nothing out, requests go as they like again: a Jira that does not answer
    /// counts no passwords.
    pub(super) fn probed(&mut self, refused: bool, now: Instant) {
        self.probe_wanted = None;
        if !refused {
            self.answered = Some(now);
            self.password_answered = Some(now);
        }
    }

    /// Another password, or an administrator's word.
    pub(super) fn reset(&mut self) {
        *self = Self::default();
    }
}

/// For so long a good answer is one for the requests that follow.
pub(super) const CONFIDENT: Duration = Duration::from_secs(1);
/// How long others wait for the first request, before the probe is asked.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);
/// How long others wait for the probe.
const PROBE_LIMIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Sent = Sent {
        first: true,
        by_session: false,
    };
    const OTHER: Sent = Sent {
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
        assert_eq!(guard.admit(false, at(0)), Turn::First);
        assert_eq!(
            guard.admit(false, at(100)),
            Turn::After(PATIENCE - Duration::from_millis(100))
        );
        guard.answered(FIRST, true, at(200));
        for _ in 0..40 {
            assert_eq!(guard.admit(false, at(1199)), Turn::Free);
        }
        guard.answered(OTHER, true, at(1200));
        assert_eq!(guard.admit(false, at(2199)), Turn::Free);
        assert_eq!(guard.admit(false, at(2200)), Turn::First);
        // Given up without an answer: the next one finds out.
        guard.unanswered(FIRST);
        assert_eq!(guard.admit(false, at(2201)), Turn::First);
        guard.answered(FIRST, false, at(2300));
        assert_eq!(guard.admit(false, at(2301)), Turn::First);
    }

    #[test]
    fn where_the_first_takes_long_only_the_probe_frees_the_others() {
        let mut guard = LockoutGuard::default();
        assert_eq!(guard.admit(false, at(0)), Turn::First);
        assert_eq!(guard.admit(false, at(60_000)), Turn::After(Duration::ZERO));
        guard.want_probe(at(60_000));
        assert!(guard.wants_probe(at(60_001)));
        assert_eq!(guard.admit(false, at(60_001)), Turn::After(PROBE_LIMIT));
        guard.probed(true, at(60_100));
        assert!(matches!(guard.admit(false, at(60_100)), Turn::After(_)));
        guard.want_probe(at(60_200));
        guard.probed(false, at(60_300));
        assert!(!guard.wants_probe(at(60_300)));
        assert_eq!(guard.admit(false, at(60_301)), Turn::Free);
    }

    #[test]
    fn what_a_session_got_says_nothing_of_the_password() {
        let mut guard = LockoutGuard::default();
        let by_session = Sent {
            first: true,
            by_session: true,
        };
        assert_eq!(guard.admit(true, at(0)), Turn::First);
        guard.answered(by_session, true, at(100));
        assert_eq!(guard.admit(true, at(200)), Turn::Free);
        assert_eq!(guard.admit(false, at(200)), Turn::First);
        assert!(matches!(guard.admit(false, at(201)), Turn::After(_)));
        assert_eq!(guard.admit(true, at(201)), Turn::Free);
        guard.answered(FIRST, true, at(300));
        assert_eq!(guard.admit(false, at(301)), Turn::Free);
    }
}

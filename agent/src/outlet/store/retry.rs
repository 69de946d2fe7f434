//! What follows an attempt to deliver an event, and when the next one may begin. Pure: no clock, and the random number is an
//! argument.
//!
//! Two waits are told apart. An answer that concerns one event makes its lane wait, and others pass. Where the vendor's host
//! does not answer, or asks for a pause, nothing is sent for a while, and then one event at a time until one is answered: a
//! host that comes back is not met by all lanes at once.

use crate::{
    backoff::{ExponentialBackoff, jittered},
    http::EventAnswer,
    upstream::{Delivery, FailedStep, SendError},
};
use http::StatusCode;
use std::time::Duration;
use tokio::time::Instant;

/// What an attempt means for its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttemptVerdict {
    /// The vendor has accepted it.
    Accepted,
    /// The vendor's host wants it again later.
    Again,
    /// The vendor's host refuses what is in the request; another attempt is unlikely to change that.
    Refused,
    /// Nothing was sent, for a reason that is none of the event's: no attempt is counted.
    NotTried,
}

/// What an attempt means for the whole outlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostVerdict {
    /// The vendor's host takes events.
    Answers,
    /// It does not answer, or asks for a pause, perhaps of this length.
    Fails(Option<Duration>),
    /// Nothing was sent, and after this time something may be.
    HeldBack(Duration),
}

/// What the result of one attempt means for its event and for the outlet.
pub(super) fn judge(result: &Result<EventAnswer, SendError>) -> (AttemptVerdict, HostVerdict) {
    match result {
        Ok(answer) => judge_answer(*answer),
        Err(error) => judge_error(error),
    }
}

fn judge_answer(answer: EventAnswer) -> (AttemptVerdict, HostVerdict) {
    let verdict = match answer.status {
        status if status.is_success() => AttemptVerdict::Accepted,
        StatusCode::BAD_REQUEST
        | StatusCode::METHOD_NOT_ALLOWED
        | StatusCode::GONE
        | StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::UNSUPPORTED_MEDIA_TYPE
        | StatusCode::UNPROCESSABLE_ENTITY => AttemptVerdict::Refused,
        _ => AttemptVerdict::Again,
    };
    let host = match answer.status {
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => HostVerdict::Fails(answer.retry_after),
        _ => HostVerdict::Answers,
    };
    (verdict, host)
}

fn judge_error(error: &SendError) -> (AttemptVerdict, HostVerdict) {
    match error.kind {
        FailedStep::NoSession
        | FailedStep::Descriptors
        | FailedStep::PoolExhausted
        | FailedStep::HeldBack
        | FailedStep::JiraPause
        | FailedStep::RateLimit => {
            let wait = error.retry_after.unwrap_or(FIRST_WAIT);
            (
                AttemptVerdict::NotTried,
                HostVerdict::HeldBack(wait.clamp(FIRST_WAIT, LONGEST_PAUSE)),
            )
        }
        // A kept connection that the other side has closed says nothing about its host.
        FailedStep::KeptConnection => (AttemptVerdict::Again, HostVerdict::Answers),
        FailedStep::Resolve
        | FailedStep::Connect
        | FailedStep::Prohibited
        | FailedStep::Tls
        | FailedStep::ResponseTimeout
        | FailedStep::Exchange
        | FailedStep::AnswerHead
        | FailedStep::RequestBody => (AttemptVerdict::Again, HostVerdict::Fails(None)),
    }
}

/// Whether the vendor's host may have seen the event.
pub(super) fn delivery_of(result: &Result<EventAnswer, SendError>) -> Delivery {
    match result {
        Ok(_) => Delivery::Answered,
        Err(error) => error.delivery,
    }
}

/// Why an attempt failed, for `agent events`, status and audit.
pub(super) fn reason(result: &Result<EventAnswer, SendError>) -> String {
    match result {
        Ok(answer) => format!("the vendor's host answers HTTP {}", answer.status.as_u16()),
        Err(error) => error.to_string(),
    }
}

/// How long the lane of an event waits after its failed attempts, counted from 1, where the vendor's host has perhaps asked
/// for a longer wait. `random` is in 0..1.
pub(super) fn lane_wait(attempts: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    let wait = jittered(LANE_BACKOFF.after(attempts), LEAST_SHARE, random);
    wait.max(retry_after.unwrap_or_default().min(LONGEST_PAUSE))
}

/// Whether the outlet sends, and how much at once.
#[derive(Debug, Default)]
pub(super) struct HostHold {
    /// Nothing is sent before.
    until: Option<Instant>,
    /// Failures in a row.
    failures: u32,
}

impl HostHold {
    /// When the next attempt may begin, if not now.
    pub(super) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// How many attempts may run at once: one until the host has answered again, then `most`.
    pub(super) fn limit(&self, most: usize) -> usize {
        match self.failures {
            0 => most,
            _ => 1,
        }
    }

    /// An attempt has ended. `random` is in 0..1.
    pub(super) fn note(&mut self, now: Instant, verdict: HostVerdict, random: f64) {
        match verdict {
            HostVerdict::Answers => *self = Self::default(),
            HostVerdict::HeldBack(wait) => self.extend(now + wait),
            HostVerdict::Fails(asked) => {
                // Attempts that ran at once are one failure.
                if self.until(now).is_none() {
                    self.failures = self.failures.saturating_add(1);
                }
                let wait = jittered(HOST_BACKOFF.after(self.failures), LEAST_SHARE, random);
                let asked = asked.unwrap_or_default().min(LONGEST_PAUSE);
                self.extend(now + wait.max(asked));
            }
        }
    }

    /// A session has opened: the reason for the failures may be gone.
    pub(super) fn session_opened(&mut self) {
        self.until = None;
    }

    fn extend(&mut self, until: Instant) {
        self.until = Some(self.until.map_or(until, |now| now.max(until)));
    }
}

const FIRST_WAIT: Duration = Duration::from_secs(1);
/// One event that is refused again and again costs a request in five minutes.
const LANE_BACKOFF: ExponentialBackoff =
    ExponentialBackoff::new(FIRST_WAIT, Duration::from_secs(300), 2.0);
/// A host that is back gets its events within a minute.
const HOST_BACKOFF: ExponentialBackoff =
    ExponentialBackoff::new(FIRST_WAIT, Duration::from_secs(60), 2.0);
/// Many agents do not come back together.
const LEAST_SHARE: f64 = 0.5;
/// A pause that the vendor's host asks for by mistake ends, too.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry_after: Option<u64>) -> Result<EventAnswer, SendError> {
        Ok(EventAnswer {
            status: StatusCode::from_u16(status).unwrap_or_default(),
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    fn failed(kind: FailedStep, retry_after: Option<u64>) -> Result<EventAnswer, SendError> {
        Err(SendError {
            kind,
            detail: String::new(),
            delivery: Delivery::NotSent,
            retry_after: retry_after.map(Duration::from_secs),
        })
    }

    #[test]
    fn each_answer_means_something_for_the_event_and_for_the_outlet() {
        use AttemptVerdict::{Accepted, Again, NotTried, Refused};
        use HostVerdict::{Answers, Fails, HeldBack};
        let s = Duration::from_secs;
        for (result, expected) in [
            (answer(200, None), (Accepted, Answers)),
            (answer(204, None), (Accepted, Answers)),
            (answer(302, None), (Again, Answers)),
            (answer(400, None), (Refused, Answers)),
            (answer(401, None), (Again, Answers)),
            (answer(404, None), (Again, Answers)),
            (answer(410, None), (Refused, Answers)),
            (answer(422, None), (Refused, Answers)),
            (answer(429, Some(7)), (Again, Fails(Some(s(7))))),
            (answer(500, None), (Again, Answers)),
            (answer(503, None), (Again, Fails(None))),
            (failed(FailedStep::Connect, None), (Again, Fails(None))),
            (failed(FailedStep::Prohibited, None), (Again, Fails(None))),
            (failed(FailedStep::KeptConnection, None), (Again, Answers)),
            (
                failed(FailedStep::NoSession, None),
                (NotTried, HeldBack(s(1))),
            ),
            (
                failed(FailedStep::RateLimit, Some(9)),
                (NotTried, HeldBack(s(9))),
            ),
            (
                failed(FailedStep::RateLimit, Some(99_999)),
                (NotTried, HeldBack(s(3600))),
            ),
        ] {
            assert_eq!(judge(&result), expected, "{result:?}");
        }
    }

    #[test]
    fn a_lane_waits_longer_each_time_and_as_long_as_it_is_asked_to() {
        let waits: Vec<_> = [1, 2, 3, 9, 10, 40]
            .iter()
            .map(|attempts| lane_wait(*attempts, None, 1.0).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 256, 300, 300]);
        assert_eq!(lane_wait(1, None, 0.0), Duration::from_millis(500));
        let asked = |seconds| lane_wait(1, Some(Duration::from_secs(seconds)), 0.5).as_secs();
        assert_eq!((asked(30), asked(1_000_000)), (30, 3600));
    }

    #[tokio::test(start_paused = true)]
    async fn a_host_that_fails_is_tried_by_one_event_at_a_time() {
        let mut hold = HostHold::default();
        let now = Instant::now();
        assert_eq!((hold.until(now), hold.limit(16)), (None, 16));
        let after = |hold: &HostHold, now| hold.until(now).map(|until| (until - now).as_secs());
        for _ in 0..16 {
            hold.note(now, HostVerdict::Fails(None), 1.0);
        }
        assert_eq!((after(&hold, now), hold.limit(16)), (Some(1), 1));
        let later = now + Duration::from_secs(1);
        assert_eq!(hold.until(later), None);
        hold.note(later, HostVerdict::Fails(None), 1.0);
        assert_eq!(after(&hold, later), Some(2));
        hold.note(
            later,
            HostVerdict::Fails(Some(Duration::from_secs(100))),
            1.0,
        );
        assert_eq!(after(&hold, later), Some(100));
        // What was not tried changes neither the number of failures nor what is allowed at once.
        hold.session_opened();
        hold.note(later, HostVerdict::HeldBack(FIRST_WAIT), 1.0);
        assert_eq!((after(&hold, later), hold.limit(16)), (Some(1), 1));
        hold.note(later, HostVerdict::Answers, 1.0);
        assert_eq!((hold.until(later), hold.limit(16)), (None, 16));
    }
}

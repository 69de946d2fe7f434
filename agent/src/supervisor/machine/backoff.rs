//! How long the supervisor waits before each kind of attempt.

use crate::backoff::{ExponentialBackoff, jittered};
use std::time::Duration;

/// The wait before the next attempt to connect, after `attempt` failures in a row: full jitter, between zero and a ceiling
/// that doubles from 0.5 to 30 s. `jitter` is in 0..1.
pub(super) fn reconnect(attempt: u32, jitter: f64) -> Duration {
    jittered(RECONNECT.after(attempt.saturating_add(1)), 0.0, jitter)
}

/// The wait before a gateway that needs a person's action is tried again: 60 to 66 s, so that many agents do not return
/// together.
pub(super) fn slow(jitter: f64) -> Duration {
    SLOW + SLOW.mul_f64(0.1 * jitter.clamp(0.0, 1.0))
}

/// The wait before a refused forward is requested again. 50 ms at first: the port of a session that has just ended is free
/// in a moment, and a standby connection should get it before the lost one is back. Then longer, at most 15 s, because a
/// session that was cut off frees its port after about half a minute.
pub(super) fn forward(refusals: u32, jitter: f64) -> Duration {
    jittered(FORWARD.after(refusals.saturating_add(1)), 0.8, jitter)
}

const RECONNECT: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_millis(500), CEILING, 2.0);
/// The longest wait of a reconnect, except for a barred gateway.
pub(super) const CEILING: Duration = Duration::from_secs(30);
const FORWARD: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_millis(50), FORWARD_CEILING, 1.6);
/// The longest wait of a refused forward.
pub(super) const FORWARD_CEILING: Duration = Duration::from_secs(15);
/// The shortest wait where a person must act first.
pub(super) const SLOW: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reconnects_spread_over_nothing_to_a_ceiling_that_doubles_from_half_a_second_to_thirty() {
        let ceilings: Vec<u64> = (0..9)
            .map(|n| reconnect(n, 1.0).as_millis() as u64)
            .collect();
        assert_eq!(
            ceilings,
            [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]
        );
        assert_eq!(reconnect(5, 0.0), Duration::ZERO);
        assert_eq!(reconnect(u32::MAX, 1.0), CEILING);
        assert!(reconnect(3, 0.5) < reconnect(3, 0.6));
    }

    #[test]
    fn refused_forwards_begin_at_fifty_milliseconds_and_end_at_fifteen_seconds() {
        assert!(forward(0, 0.0) >= Duration::from_millis(40));
        assert!(forward(0, 1.0) <= Duration::from_millis(51));
        assert_eq!(forward(u32::MAX, 1.0), FORWARD_CEILING);
        // A port that a dead session holds for half a minute is asked for at least ten times meanwhile.
        let half_a_minute: Duration = (0..10).map(|n| forward(n, 1.0)).sum();
        assert!(half_a_minute < Duration::from_secs(35), "{half_a_minute:?}");
    }

    #[test]
    fn nothing_barred_is_tried_within_a_minute() {
        assert_eq!(slow(0.0), SLOW);
        assert!(slow(1.0) <= SLOW.mul_f64(1.1));
    }
}

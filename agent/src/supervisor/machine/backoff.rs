//! How long the supervisor waits before each kind of attempt.

use crate::backoff::{ExponentialBackoff, jittered};
use std::time::Duration;

/// The wait before a gateway is dialed again, after `failures` others in a row: full jitter between the floor and a ceiling
/// that doubles from 0.4 to 5 s. Where the last `bad_sessions` ended before they were of use, it doubles to 30 s: there, more
/// logins are of no use. `jitter` is in 0..1.
pub(super) fn reconnect(failures: u32, bad_sessions: u32, jitter: f64) -> Duration {
    let growth = match bad_sessions >= SHAKY_SESSIONS {
        true => &SHAKY_RECONNECT,
        false => &RECONNECT,
    };
    let spread = growth.after(failures.saturating_add(1)) - FLOOR;
    FLOOR + jittered(spread, 0.0, jitter)
}

/// The wait before a gateway that needs a person's action is tried again: 60 to 66 s, so that many agents do not return
/// together.
pub(super) fn slow(jitter: f64) -> Duration {
    SLOW + SLOW.mul_f64(0.1 * jitter.clamp(0.0, 1.0))
}

/// The wait that a gateway has asked for, and up to half of it more: a gateway that restarts asks all agents at once.
pub(super) fn hinted(hint: Duration, jitter: f64) -> Duration {
    let wait = hint.clamp(SHORTEST_HINT, LONGEST_HINT);
    wait + wait.mul_f64(0.5 * jitter.clamp(0.0, 1.0))
}

/// The wait before a refused forward is requested again. 50 ms at first: the port of a session that has just ended is free
/// in a moment, and a standby connection should get it before the lost one is back. Then longer, at most a second, because
/// nothing tells when another session has ended.
pub(super) fn forward(refusals: u32, jitter: f64) -> Duration {
    jittered(FORWARD.after(refusals.saturating_add(1)), 0.8, jitter)
}

/// The wait between two requests for a forward whose place is lost again and again: where the gateway grants what it does
/// not do, requests are of no use. The first time there is none.
pub(super) fn repeat(repeats: u32) -> Duration {
    match repeats {
        0 => Duration::ZERO,
        more => REPEAT.after(more),
    }
}

const RECONNECT: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_millis(400), CEILING, 2.0);
const SHAKY_RECONNECT: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_millis(400), SHAKY_CEILING, 2.0);
/// No gateway is dialed again sooner by the same connection.
pub(super) const FLOOR: Duration = Duration::from_millis(50);
/// The longest wait of a reconnect. With a dial that repeats its first packet every few seconds, a connection is back within
/// 5 s of the link.
pub(super) const CEILING: Duration = Duration::from_secs(4);
/// The longest wait where sessions end before they are of use.
pub(super) const SHAKY_CEILING: Duration = Duration::from_secs(30);
/// One session may end at once by chance.
const SHAKY_SESSIONS: u32 = 2;
const REPEAT: ExponentialBackoff = ExponentialBackoff::new(REPEAT_FLOOR, REPEAT_CEILING, 2.0);
/// The shortest wait before a place is given up a second time.
pub(super) const REPEAT_FLOOR: Duration = Duration::from_secs(4);
/// The longest.
pub(super) const REPEAT_CEILING: Duration = Duration::from_secs(60);
/// A place that was kept this long was a good one.
pub(super) const REPEATS_FORGOTTEN: Duration = Duration::from_secs(300);
const FORWARD: ExponentialBackoff =
    ExponentialBackoff::new(Duration::from_millis(50), FORWARD_CEILING, 1.6);
/// The longest wait of a refused forward.
pub(super) const FORWARD_CEILING: Duration = Duration::from_secs(1);
/// The shortest wait where a person must act first.
pub(super) const SLOW: Duration = Duration::from_secs(60);
/// A gateway's own wait is taken within these bounds: a mistake there must not keep the agent out for hours.
pub(super) const SHORTEST_HINT: Duration = Duration::from_secs(1);
pub(super) const LONGEST_HINT: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(waits: impl Iterator<Item = Duration>) -> Vec<u64> {
        waits.map(|wait| wait.as_millis() as u64).collect()
    }

    #[test]
    fn reconnects_spread_over_a_floor_to_a_ceiling_that_doubles_from_four_tenths_to_four_seconds() {
        let ceilings = milliseconds((0..6).map(|n| reconnect(n, 0, 1.0)));
        assert_eq!(ceilings, [400, 800, 1600, 3200, 4000, 4000]);
        assert_eq!(reconnect(5, 0, 0.0), FLOOR);
        assert_eq!(reconnect(u32::MAX, 1, 1.0), CEILING);
        assert!(reconnect(3, 0, 0.5) < reconnect(3, 0, 0.6));
    }

    #[test]
    fn after_sessions_of_no_use_the_ceiling_is_thirty_seconds() {
        let ceilings = milliseconds((2..9).map(|n| reconnect(n, SHAKY_SESSIONS, 1.0)));
        let expected = [1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000];
        assert_eq!(ceilings, expected);
    }

    #[test]
    fn refused_forwards_begin_at_fifty_milliseconds_and_end_at_one_second() {
        assert!(forward(0, 0.0) >= Duration::from_millis(40));
        assert!(forward(0, 1.0) <= Duration::from_millis(51));
        assert_eq!(forward(u32::MAX, 1.0), FORWARD_CEILING);
    }

    #[test]
    fn a_place_is_given_up_at_once_and_then_after_four_seconds_to_a_minute() {
        let waits: Vec<u64> = (0..7).map(|n| repeat(n).as_secs()).collect();
        assert_eq!(waits, [0, 4, 8, 16, 32, 60, 60]);
    }

    #[test]
    fn nothing_barred_is_tried_within_a_minute() {
        assert_eq!(slow(0.0), SLOW);
        assert!(slow(1.0) <= SLOW.mul_f64(1.1));
    }

    #[test]
    fn a_hint_is_kept_within_bounds_and_spread_upwards() {
        let hint = Duration::from_secs(60);
        assert_eq!(hinted(hint, 0.0), hint);
        assert_eq!(hinted(hint, 1.0), hint.mul_f64(1.5));
        assert_eq!(hinted(Duration::ZERO, 0.0), SHORTEST_HINT);
        assert_eq!(hinted(Duration::MAX, 0.0), LONGEST_HINT);
    }
}

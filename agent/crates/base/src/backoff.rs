//! How long to wait after failures in a row, for connections, credentials and probes alike. The one place that knows the
//! crate `backoff`. Pure: no clock, and the random number is an argument.

use backoff::{ExponentialBackoffBuilder, backoff::Backoff};
use std::time::Duration;

/// Waits that grow by a constant factor with each failure.
#[derive(Clone, Copy, Debug)]
pub struct ExponentialBackoff {
    first: Duration,
    longest: Duration,
    factor: f64,
}

impl ExponentialBackoff {
    /// Multiplies the wait by `factor`, at least 1, from `first` up to `longest`.
    pub const fn new(first: Duration, longest: Duration, factor: f64) -> Self {
        Self {
            first,
            longest,
            factor,
        }
    }

    /// The wait after this many failures in a row, counted from 1. Without the crate's own jitter, which draws from the
    /// system.
    pub fn after(&self, failures: u32) -> Duration {
        let mut intervals = ExponentialBackoffBuilder::new()
            .with_initial_interval(self.first)
            .with_max_interval(self.longest)
            .with_multiplier(self.factor)
            .with_randomization_factor(0.0)
            .with_max_elapsed_time(None)
            .build();
        for _ in 1..failures.min(MAX_STEPS) {
            intervals.next_backoff();
        }
        // The crate adds a nanosecond.
        let wait = intervals.next_backoff();
        wait.map_or(self.longest, |wait| wait.min(self.longest))
    }
}

/// Spreads a wait over `least` (a share in 0..=1) to the whole of it, so that many agents do not come back together.
/// `random` is in 0..1.
pub fn jittered(wait: Duration, least: f64, random: f64) -> Duration {
    wait.mul_f64(least + (1.0 - least) * random.clamp(0.0, 1.0))
}

/// Past this many failures the wait grows no more: each user of it has reached its longest one long before.
const MAX_STEPS: u32 = 21;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_by_the_factor_up_to_the_longest() {
        let backoff =
            ExponentialBackoff::new(Duration::from_secs(15), Duration::from_secs(300), 2.0);
        let waits: Vec<u64> = (0..8).map(|n| backoff.after(n).as_secs()).collect();
        assert_eq!(waits, [15, 15, 30, 60, 120, 240, 300, 300]);
        assert_eq!(backoff.after(u32::MAX), Duration::from_secs(300));
    }

    #[test]
    fn jitter_stays_between_the_least_share_and_the_whole() {
        let wait = Duration::from_secs(10);
        assert_eq!(jittered(wait, 0.8, 0.0), Duration::from_secs(8));
        assert_eq!(jittered(wait, 0.0, 0.5), Duration::from_secs(5));
        assert_eq!(jittered(wait, 0.8, 2.0), wait);
    }
}

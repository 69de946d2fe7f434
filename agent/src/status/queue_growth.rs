//! When a queue of events is full, if it keeps growing as in the last minutes.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How full a queue was in the last minutes. Add a sample every [`SAMPLE_INTERVAL`](Self::SAMPLE_INTERVAL).
#[derive(Debug, Default)]
pub struct QueueGrowth {
    /// The oldest first, at most [`MAX_SAMPLES`].
    samples: VecDeque<QueueSample>,
}

#[derive(Clone, Copy, Debug)]
struct QueueSample {
    at: Instant,
    events: u64,
    bytes: u64,
}

impl QueueGrowth {
    /// Between two samples.
    pub const SAMPLE_INTERVAL: Duration = Duration::from_secs(15);

    /// Adds what the queue holds at `at`.
    pub fn note(&mut self, at: Instant, events: u64, bytes: u64) {
        if self.samples.len() >= MAX_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back(QueueSample { at, events, bytes });
    }

    /// How long until one of the two bounds is reached; `None` if the queue does not grow, or takes longer than a day, or
    /// was watched for less than a minute.
    pub fn full_in(&self, max_events: u64, max_bytes: u64) -> Option<Duration> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        // It may have grown, and shrink since.
        let middle = self.samples.get(self.samples.len() / 2)?;
        let watched = last.at.saturating_duration_since(first.at);
        if watched < SHORTEST {
            return None;
        }
        let left = |of: fn(&QueueSample) -> u64, bound: u64| {
            if of(last) <= of(middle) {
                return None;
            }
            let grown = of(last).checked_sub(of(first)).filter(|grown| *grown > 0)?;
            let room = bound.saturating_sub(of(last)) as f64;
            let seconds = room * watched.as_secs_f64() / grown as f64;
            // A large number of seconds is no duration.
            (seconds < LONGEST.as_secs_f64()).then(|| Duration::from_secs_f64(seconds))
        };
        let bounds = [
            left(|sample| sample.events, max_events),
            left(|sample| sample.bytes, max_bytes),
        ];
        bounds.into_iter().flatten().min()
    }
}

/// Ten minutes.
const MAX_SAMPLES: usize = 41;
/// A burst of a few seconds says nothing about the next hours.
const SHORTEST: Duration = Duration::from_secs(60);
/// Beyond a day it is a guess, and there is time.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

#[cfg(test)]
mod tests {
    use super::*;

    const MAX_BYTES: u64 = 1 << 20;
    const MAX_EVENTS: u64 = 1000;

    /// A queue that holds these events of 100 bytes each, one sample after another.
    fn watched(events: impl IntoIterator<Item = u64>) -> Option<Duration> {
        let begun = Instant::now();
        let mut growth = QueueGrowth::default();
        for (number, events) in events.into_iter().enumerate() {
            let at = begun + QueueGrowth::SAMPLE_INTERVAL * u32::try_from(number).unwrap_or(0);
            growth.note(at, events, events * 100);
        }
        growth.full_in(MAX_EVENTS, MAX_BYTES)
    }

    #[test]
    fn a_queue_that_grows_steadily_is_full_when_the_first_bound_is_reached() {
        // One event a second, and 900 to go.
        let full = watched((0..=4).map(|n| 40 + n * 15));
        assert_eq!(full, Some(Duration::from_secs(900)));
        let mut growth = QueueGrowth::default();
        let begun = Instant::now();
        growth.note(begun, 1, 0);
        growth.note(begun + SHORTEST, 2, MAX_BYTES / 2);
        assert_eq!(growth.full_in(MAX_EVENTS, MAX_BYTES), None, "{growth:?}");
        growth.note(begun + SHORTEST * 2, 2, MAX_BYTES / 2 + 1024);
        let full = growth.full_in(MAX_EVENTS, MAX_BYTES);
        assert!(full.is_some_and(|full| full < SHORTEST * 2), "{full:?}");
    }

    #[test]
    fn what_does_not_grow_or_was_watched_for_seconds_has_no_end() {
        assert_eq!(watched([]), None);
        assert_eq!(watched([5, 5, 5, 5, 5, 5]), None);
        assert_eq!(watched([900, 800, 700, 600, 500]), None);
        assert_eq!(watched([0, 400, 800]), None, "half a minute");
        assert_eq!(watched([0, 900, 950, 700, 400, 300]), None, "it shrinks");
        assert_eq!(watched([500; 60]), None);
        // One event in ten minutes, and 499 to go.
        let slow = (0..40).map(|n| 500 + n / 30);
        assert_eq!(watched(slow), None);
    }

    #[test]
    fn only_the_last_ten_minutes_count() {
        let burst_then_slow = (0..=100u64).map(|n| if n < 50 { n * 10 } else { 500 + n - 50 });
        // 15 events more each 225 s, 450 to go.
        let full = watched(burst_then_slow).map(|full| full.as_secs());
        assert_eq!(full, Some(450 * 15));
    }

    #[test]
    fn a_full_queue_is_full_now() {
        assert_eq!(watched([600, 700, 800, 900, 1000]), Some(Duration::ZERO));
    }
}

//! How long something usually takes, from the last hundred or so durations.

use std::time::Duration;

/// A histogram whose weights decay with each new duration.
#[derive(Debug)]
pub(super) struct UsualDuration {
    weights: [f32; BUCKETS],
}

impl Default for UsualDuration {
    fn default() -> Self {
        Self {
            weights: [0.0; BUCKETS],
        }
    }
}

impl UsualDuration {
    /// Takes one more duration into account.
    pub(super) fn add(&mut self, took: Duration) {
        for weight in &mut self.weights {
            *weight *= DECAY;
        }
        if let Some(weight) = self.weights.get_mut(bucket(took)) {
            *weight += 1.0;
        }
    }

    /// The duration that this share of them does not exceed, to within a factor of √2; `None` before the first.
    pub(super) fn quantile(&self, share: f32) -> Option<Duration> {
        let total: f32 = self.weights.iter().sum();
        if total <= 0.0 {
            return None;
        }
        let mut below = 0.0;
        for (index, weight) in self.weights.iter().enumerate() {
            below += weight;
            if below >= share * total {
                return Some(upper_edge(index));
            }
        }
        Some(upper_edge(BUCKETS - 1))
    }
}

fn bucket(took: Duration) -> usize {
    let milliseconds = took.as_secs_f64() * 1000.0;
    if milliseconds <= 1.0 {
        return 0;
    }
    ((2.0 * milliseconds.log2()).ceil() as usize).min(BUCKETS - 1)
}

fn upper_edge(index: usize) -> Duration {
    Duration::from_secs_f64(2f64.powf(index as f64 / 2.0) / 1000.0)
}

/// From 1 ms to three minutes, two for each doubling.
const BUCKETS: usize = 36;
/// After 50 durations an old one counts a third of a new one.
const DECAY: f32 = 0.98;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn is_about(found: Duration, wanted: Duration) -> bool {
        found >= wanted && found <= wanted.mul_f64(1.5)
    }

    #[test]
    fn what_is_usual_follows_what_happens() {
        let mut usual = UsualDuration::default();
        assert_eq!(usual.quantile(0.9), None);
        for _ in 0..200 {
            usual.add(Duration::from_millis(20));
        }
        assert!(is_about(
            usual.quantile(0.9).unwrap(),
            Duration::from_millis(20)
        ));
        // One slow request in fifty changes nothing.
        usual.add(Duration::from_secs(30));
        assert!(usual.quantile(0.9).unwrap() < Duration::from_millis(40));
        for _ in 0..200 {
            usual.add(Duration::from_secs(2));
        }
        assert!(is_about(
            usual.quantile(0.5).unwrap(),
            Duration::from_secs(2)
        ));
    }

    #[test]
    fn the_shortest_and_the_longest_have_a_place() {
        let mut usual = UsualDuration::default();
        usual.add(Duration::ZERO);
        assert_eq!(usual.quantile(0.5), Some(Duration::from_millis(1)));
        let mut usual = UsualDuration::default();
        usual.add(Duration::from_secs(u64::from(u32::MAX)));
        assert!(usual.quantile(0.5).unwrap() > Duration::from_secs(180));
    }
}

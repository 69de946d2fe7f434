//! The gate's marks. On a slow link a fixed mark puts seconds of queue before a small request, so the marks follow the
//! measured rate at which the kernel takes bytes.

use super::TransportLimits;
use std::time::Duration;
use tokio::time::Instant;

/// Measures the rate while there is a backlog, and derives the marks from it.
pub(super) struct Pacing {
    max_mark: usize,
    low_of_high: f64,
    high: usize,
    rate: Option<f64>,
    since: Instant,
    busy: Duration,
    bytes: usize,
}

impl Pacing {
    pub(super) fn new(limits: &TransportLimits, now: Instant) -> Self {
        let max_mark = limits.high_mark.max(1);
        Self {
            max_mark,
            low_of_high: (limits.low_mark as f64 / max_mark as f64).min(1.0),
            // Until the rate is known: on a slow link the first burst would fill minutes of queue.
            high: MIN_MARK.min(max_mark),
            rate: None,
            since: now,
            busy: Duration::ZERO,
            bytes: 0,
        }
    }

    /// Above this many bytes writers wait.
    pub(super) fn high(&self) -> usize {
        self.high
    }

    /// At this many bytes they are admitted again.
    pub(super) fn low(&self) -> usize {
        (self.high as f64 * self.low_of_high) as usize
    }

    /// The backlog is no longer empty: starts the measurement.
    pub(super) fn begin(&mut self, now: Instant) {
        self.since = now;
    }

    /// The kernel took `n` bytes of a backlog.
    pub(super) fn taken(&mut self, n: usize, now: Instant) {
        self.busy += now.saturating_duration_since(self.since);
        self.since = now;
        self.bytes += n;
        if self.busy < SAMPLE {
            return;
        }
        let seen = self.bytes as f64 / self.busy.as_secs_f64();
        // One long wait shows that a link has become slow.
        let rate = match self.rate {
            Some(rate) if self.busy < LONG_SAMPLE => (rate + seen) / 2.0,
            _ => seen,
        };
        self.rate = Some(rate);
        self.high = ((rate * TARGET_DELAY.as_secs_f64()) as usize)
            .clamp(MIN_MARK.min(self.max_mark), self.max_mark);
        (self.busy, self.bytes) = (Duration::ZERO, 0);
    }
}

/// Long enough that filling an empty socket buffer is not measured as a fast link.
const SAMPLE: Duration = Duration::from_millis(100);
/// A sample this long replaces the average.
const LONG_SAMPLE: Duration = Duration::from_secs(1);
/// Acceptable queueing delay of a small request.
const TARGET_DELAY: Duration = Duration::from_millis(50);
/// Below this the channels and the writer task wake each other for every packet.
const MIN_MARK: usize = 128 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn after(rate: usize, seconds: u64) -> Pacing {
        let start = Instant::now();
        let mut pacing = Pacing::new(&TransportLimits::default(), start);
        pacing.begin(start);
        for tick in 1..=seconds * 100 {
            pacing.taken(rate / 100, start + Duration::from_millis(10 * tick));
        }
        pacing
    }

    #[test]
    fn a_fast_link_keeps_the_configured_marks() {
        let pacing = after(100 << 20, 3);
        assert_eq!((pacing.high(), pacing.low()), (256 << 10, 128 << 10));
    }

    #[test]
    fn a_slow_link_queues_about_50_ms_and_never_less_than_128_kib() {
        let pacing = after(4 << 20, 3);
        assert!(
            (190 << 10..220 << 10).contains(&pacing.high()),
            "{}",
            pacing.high()
        );
        assert_eq!(pacing.low(), pacing.high() / 2);
        assert_eq!(after(100 << 10, 3).high(), 128 << 10);
    }

    #[test]
    fn one_gulp_of_an_empty_socket_buffer_is_no_measure() {
        let start = Instant::now();
        let mut pacing = after(1 << 20, 3);
        pacing.begin(start);
        pacing.taken(4 << 20, start + Duration::from_micros(50));
        assert_eq!(pacing.high(), 128 << 10);
    }

    #[test]
    fn a_link_that_recovers_gets_its_marks_back() {
        let start = Instant::now();
        let mut pacing = after(1 << 20, 3);
        pacing.begin(start);
        for tick in 1..200 {
            pacing.taken(1 << 20, start + Duration::from_millis(10 * tick));
        }
        assert_eq!(pacing.high(), 256 << 10);
    }

    #[test]
    fn before_the_rate_is_known_the_queue_is_that_of_a_slow_link() {
        let pacing = Pacing::new(&TransportLimits::default(), Instant::now());
        assert_eq!(pacing.high(), 128 << 10);
    }

    #[test]
    fn a_link_that_becomes_slow_is_known_by_its_first_long_wait() {
        let start = Instant::now();
        let mut pacing = after(100 << 20, 3);
        pacing.begin(start);
        pacing.taken(64 << 10, start + Duration::from_secs(8));
        assert_eq!(pacing.high(), 128 << 10);
    }

    #[test]
    fn a_configured_mark_below_the_least_one_stands() {
        let limits = TransportLimits {
            high_mark: 4096,
            low_mark: 1024,
            ..TransportLimits::default()
        };
        let pacing = Pacing::new(&limits, Instant::now());
        assert_eq!((pacing.high(), pacing.low()), (4096, 1024));
    }
}

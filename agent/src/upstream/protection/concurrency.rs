//! How many requests Jira gets at once: fewer while its answers take several times the usual, more again when they do
//! not. And how long a request would wait for its turn.
//!
//! No clock and no sockets.

use super::usual::UsualDuration;
use std::time::Duration;
use tokio::time::Instant;

/// The number of requests at once, between a floor and a ceiling: reduced by a factor, raised by a step, once a second.
#[derive(Debug)]
pub(super) struct ConcurrencyLimit {
    floor: f32,
    ceiling: f32,
    limit: f32,
    /// What answers took before they became slow. A slowness that stays becomes the usual within half a minute.
    usual: Option<Duration>,
    window: UsualDuration,
    window_began: Instant,
    /// Most requests at once in this window.
    most: usize,
}

impl ConcurrencyLimit {
    pub(super) fn new(ceiling: usize, now: Instant) -> Self {
        let floor = (ceiling / FLOOR_SHARE).max(LEAST_FLOOR).min(ceiling);
        Self {
            floor: floor as f32,
            ceiling: ceiling as f32,
            limit: ceiling as f32,
            usual: None,
            window: UsualDuration::default(),
            window_began: now,
            most: 0,
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// So many requests are with Jira now.
    pub(super) fn in_use(&mut self, count: usize) {
        self.most = self.most.max(count);
    }

    /// An answer took this long to begin.
    pub(super) fn answered(&mut self, took: Duration) {
        self.window.add(took);
    }

    /// Ends the window if it is over. `waits`: for how long the requests that are not answered yet have waited.
    pub(super) fn observe(&mut self, now: Instant, waits: &[Duration]) {
        let lasted = now.saturating_duration_since(self.window_began);
        if lasted < WINDOW {
            return;
        }
        self.window_began = now;
        let most = std::mem::take(&mut self.most) as f32;
        let mut window = std::mem::take(&mut self.window);
        let slow = self.slow_from();
        // What waits for longer than that already is slow, however it ends.
        for wait in waits.iter().filter(|wait| **wait > slow) {
            window.add(*wait);
        }
        let Some(median) = window.quantile(0.5) else {
            // Nothing to learn: back to the ceiling within 16 windows.
            let windows = (lasted.as_secs_f32() / WINDOW.as_secs_f32()).min(16.0);
            self.limit = (self.limit + windows * self.ceiling / 16.0).min(self.ceiling);
            return;
        };
        if median > slow && most * 2.0 >= self.limit {
            self.limit = (self.limit * REDUCTION).max(self.floor);
        } else if median <= slow {
            self.limit = (self.limit + (self.limit / 4.0).max(1.0)).min(self.ceiling);
        }
        self.usual = Some(match self.usual {
            None => median,
            Some(usual) if median < usual => usual.mul_f64(0.7) + median.mul_f64(0.3),
            Some(usual) => usual.mul_f64(0.95) + median.mul_f64(0.05),
        });
    }

    /// Answers that take longer are slow.
    fn slow_from(&self) -> Duration {
        match self.usual {
            Some(usual) => (usual * SLOW_TIMES).max(NEVER_SLOW),
            // Nothing is slow before something is known.
            None => Duration::MAX,
        }
    }
}

/// What a queued request can expect.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueueForecast {
    /// Requests that may be with Jira at once.
    pub(super) limit: usize,
    /// Requests that are with Jira now.
    pub(super) in_use: usize,
    /// Requests among them whose answer Jira has not begun.
    pub(super) unanswered: usize,
    /// For how long the one has been there that came first, of those without an answer.
    pub(super) oldest: Duration,
    /// Since when none of them has ended.
    pub(super) since_end: Duration,
    /// For how long one usually is there; `None` where none has ended yet.
    pub(super) usual: Option<Duration>,
}

impl QueueForecast {
    /// Whether a request with `ahead` others before it can get its turn within `left`. `waited` is for how long it has
    /// been in the queue.
    pub(super) fn can_serve(&self, ahead: usize, waited: Duration, left: Duration) -> bool {
        let usual = self.usual.unwrap_or(UNKNOWN_USUAL);
        // Of several that Jira works on, one would have ended long since. Those that wait for the vendor, who takes no answer
        // or sends no body, end by their own limits and say nothing about Jira.
        let stalled = self.unanswered >= SEVERAL
            && self.unanswered * 2 >= self.in_use
            && self.since_end >= (usual * STALLED_TIMES).max(DECIDED_AFTER)
            && (waited >= DECIDED_AFTER || self.since_end >= DECIDED_AFTER * 2);
        if stalled {
            return false;
        }
        // What lasts longer than usual will last about as long again.
        let first = match usual.checked_sub(self.oldest) {
            Some(rest) => rest,
            None => self.oldest,
        };
        let service = usual.max(self.oldest / 2);
        let limit = self.limit.max(1) as f64;
        let rest = service.mul_f64(ahead as f64 / limit);
        first + rest <= left
    }
}

/// One window per second: what Jira feels and what it answers lie within it.
const WINDOW: Duration = Duration::from_secs(1);
/// The floor is this part of the ceiling, so that a Jira that recovers is not starved.
const FLOOR_SHARE: usize = 8;
const LEAST_FLOOR: usize = 4;
/// Of the limit remains after a slow window.
const REDUCTION: f32 = 0.7;
/// Of the usual.
const SLOW_TIMES: u32 = 3;
/// Where answers take less than this, none is slow: three times 2 ms is noise.
const NEVER_SLOW: Duration = Duration::from_millis(250);
/// A request is refused within about this time if its turn will not come.
const DECIDED_AFTER: Duration = Duration::from_secs(1);
/// Of the usual, without an end of any of several.
const STALLED_TIMES: u32 = 5;
/// Fewer may all have met a slow path.
const SEVERAL: usize = 4;
/// Before the first request has ended.
const UNKNOWN_USUAL: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(limit: &mut ConcurrencyLimit, now: &mut Instant, count: usize, took: Duration) {
        for _ in 0..count {
            *now += WINDOW;
            limit.in_use(64);
            for _ in 0..20 {
                limit.answered(took);
            }
            limit.observe(*now, &[]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_falls_while_jira_slows_to_a_floor_and_rises_again_to_the_ceiling() {
        let mut now = Instant::now();
        let mut limit = ConcurrencyLimit::new(64, now);
        windows(&mut limit, &mut now, 20, Duration::from_millis(100));
        assert_eq!(limit.limit(), 64);
        windows(&mut limit, &mut now, 3, Duration::from_secs(3));
        assert!(limit.limit() < 32, "{}", limit.limit());
        windows(&mut limit, &mut now, 3, Duration::from_secs(3));
        assert_eq!(limit.limit(), 8);
        windows(&mut limit, &mut now, 15, Duration::from_millis(100));
        assert_eq!(limit.limit(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slowness_that_stays_becomes_the_usual() {
        let mut now = Instant::now();
        let mut limit = ConcurrencyLimit::new(64, now);
        windows(&mut limit, &mut now, 20, Duration::from_millis(100));
        windows(&mut limit, &mut now, 60, Duration::from_secs(3));
        assert_eq!(limit.limit(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_wait_count_before_they_end() {
        let mut now = Instant::now();
        let mut limit = ConcurrencyLimit::new(64, now);
        windows(&mut limit, &mut now, 20, Duration::from_millis(20));
        for second in 1..=8 {
            now += WINDOW;
            limit.in_use(64);
            limit.observe(now, &[Duration::from_secs(second); 64]);
        }
        assert_eq!(limit.limit(), 8);
        // Idle, it is back within 16 seconds.
        now += WINDOW * 16;
        limit.observe(now, &[]);
        assert_eq!(limit.limit(), 64);
    }

    #[tokio::test(start_paused = true)]
    async fn few_slow_requests_and_a_fast_jira_change_nothing() {
        let mut now = Instant::now();
        let mut limit = ConcurrencyLimit::new(64, now);
        windows(&mut limit, &mut now, 20, Duration::from_millis(2));
        // Ten times the usual, and still fast.
        windows(&mut limit, &mut now, 20, Duration::from_millis(20));
        assert_eq!(limit.limit(), 64);
        // Slow, but hardly used.
        now += WINDOW;
        limit.in_use(3);
        limit.answered(Duration::from_secs(20));
        limit.observe(now, &[]);
        assert_eq!(limit.limit(), 64);
        assert_eq!(ConcurrencyLimit::new(1, now).limit(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_slow_before_the_first_answer() {
        let mut now = Instant::now();
        let mut limit = ConcurrencyLimit::new(256, now);
        for second in 1..=30 {
            now += WINDOW;
            limit.in_use(200);
            limit.observe(now, &[Duration::from_secs(second); 200]);
        }
        assert_eq!(limit.limit(), 256);
    }

    const LEFT: Duration = Duration::from_secs(10);

    fn forecast(oldest: Duration, since_end: Duration, usual: Duration) -> QueueForecast {
        QueueForecast {
            limit: 64,
            in_use: 64,
            unanswered: 64,
            oldest,
            since_end,
            usual: Some(usual),
        }
    }

    #[test]
    fn a_queue_that_moves_is_waited_for() {
        let quick = Duration::from_millis(20);
        let moving = forecast(quick, quick, quick);
        assert!(moving.can_serve(1000, Duration::ZERO, LEFT));
        // A second each, 64 at once: the 640th waits for ten.
        let second = Duration::from_secs(1);
        let slow = forecast(second / 2, second / 10, second);
        assert!(slow.can_serve(500, Duration::ZERO, LEFT));
        assert!(!slow.can_serve(700, Duration::ZERO, LEFT));
        assert!(!slow.can_serve(500, Duration::from_secs(5), LEFT / 2));
    }

    #[test]
    fn a_queue_that_does_not_move_is_answered_within_a_second() {
        let quick = Duration::from_millis(20);
        let stuck = |since| forecast(since, since, quick);
        let millis = Duration::from_millis;
        assert!(stuck(millis(900)).can_serve(0, millis(900), LEFT));
        assert!(!stuck(millis(1000)).can_serve(0, millis(1000), LEFT));
        // Who comes later learns it at once.
        assert!(!stuck(millis(2000)).can_serve(0, Duration::ZERO, LEFT));
        // Ten seconds each are usual: nothing is stuck, but there is no turn in time.
        let ten = Duration::from_secs(10);
        let usual = forecast(Duration::ZERO, Duration::from_secs(2), ten);
        assert!(usual.can_serve(0, Duration::ZERO, ten));
        assert!(!usual.can_serve(1, Duration::ZERO, ten));
    }

    #[test]
    fn a_small_pool_with_a_slow_request_is_waited_for_as_long_as_that_can_help() {
        let quick = Duration::from_millis(20);
        let small = |oldest| QueueForecast {
            limit: 1,
            in_use: 1,
            unanswered: 1,
            ..forecast(oldest, oldest, quick)
        };
        let three = Duration::from_secs(3);
        assert!(small(three).can_serve(0, three, LEFT - three));
        let six = Duration::from_secs(6);
        assert!(!small(six).can_serve(0, six, LEFT - six));
    }

    #[test]
    fn answers_that_the_vendor_does_not_take_stall_no_queue() {
        let quick = Duration::from_millis(5);
        let minute = Duration::from_secs(60);
        let unread = QueueForecast {
            unanswered: 4,
            oldest: quick,
            ..forecast(minute, minute, quick)
        };
        assert!(unread.can_serve(0, Duration::from_secs(5), LEFT));
        assert!(!forecast(minute, minute, quick).can_serve(0, Duration::from_secs(5), LEFT));
    }
}

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
        let is_answered = window.quantile(0.5).is_some();
        if !is_answered {
            // What waits for longer than that already is slow, however it ends. Beside answers it proves nothing: a few slow
            // searches wait in many windows, and each quick answer counts once.
            for wait in waits.iter().filter(|wait| **wait > slow) {
                window.add(*wait);
            }
        }
        let (Some(median), Some(quick)) = (window.quantile(0.5), window.quantile(QUICK_SHARE))
        else {
            // Nothing to learn: back to the ceiling within 16 windows.
            let windows = (lasted.as_secs_f32() / WINDOW.as_secs_f32()).min(16.0);
            self.limit = (self.limit + windows * self.ceiling / 16.0).min(self.ceiling);
            return;
        };
        if quick > slow && most * 2.0 >= self.limit {
            self.limit = (self.limit * REDUCTION).max(self.floor);
        } else if quick <= slow {
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
pub(super) struct QueueForecast<'a> {
    /// Requests that may be with Jira at once.
    pub(super) limit: usize,
    /// Requests that are with Jira now.
    pub(super) in_use: usize,
    /// For how long Jira has let each of them wait whose answer it has not begun.
    pub(super) waits: &'a [Duration],
    /// Since when none of them has ended.
    pub(super) since_end: Duration,
    /// For how long one usually is there; `None` where none has ended yet.
    pub(super) usual: Option<Duration>,
}

impl QueueForecast<'_> {
    /// Whether a request with `ahead` others before it can get its turn within `left`. `waited` is for how long it has
    /// been in the queue.
    pub(super) fn can_serve(&self, ahead: usize, waited: Duration, left: Duration) -> bool {
        let usual = self.usual.unwrap_or(UNKNOWN_USUAL);
        // Of several that Jira works on, one would have ended long since. Those that wait for the vendor, who takes no answer
        // or sends no body, end by their own limits and say nothing about Jira.
        let stalled = self.waits.len() >= SEVERAL
            && self.waits.len() * 2 >= self.in_use
            && self.since_end >= (usual * STALLED_TIMES).max(DECIDED_AFTER)
            && (waited >= DECIDED_AFTER || self.since_end >= DECIDED_AFTER * 2);
        if stalled {
            return false;
        }
        // What lasts longer than usual will last about as long again. One slow request among quick ones holds nothing up.
        let answering = self.in_use.saturating_sub(self.waits.len());
        let begun = std::iter::repeat_n(Duration::ZERO, answering);
        let waits = self.waits.iter().copied().chain(begun);
        let rests = waits
            .clone()
            .map(|wait| usual.checked_sub(wait).unwrap_or(wait));
        let first = rests.min().unwrap_or(usual);
        let ends = waits.map(|wait| 1.0 / usual.max(wait / 2).as_secs_f64().max(SHORTEST));
        // While the limit falls, more than the limit are with Jira.
        let used = self.in_use.max(1) as f64;
        let per_second = ends.sum::<f64>() * (self.limit.max(1) as f64 / used).min(1.0);
        let ahead = ahead + self.in_use.saturating_sub(self.limit);
        let rest = Duration::try_from_secs_f64(ahead as f64 / per_second.max(SHORTEST));
        first.saturating_add(rest.unwrap_or(Duration::MAX)) <= left
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
/// If this part of the answers is quick, Jira is not slow, but some of its paths are.
const QUICK_SHARE: f32 = 0.25;
/// Where answers take less than this, none is slow: three times 2 ms is noise.
const NEVER_SLOW: Duration = Duration::from_millis(250);
/// Until it is decided that a turn will not come. The vendor has the answer within a second: the next look at the queue and
/// the way back take time too.
const DECIDED_AFTER: Duration = Duration::from_millis(750);
/// Of the usual, without an end of any of several.
const STALLED_TIMES: u32 = 5;
/// Fewer may all have met a slow path.
const SEVERAL: usize = 4;
/// Seconds; keeps a usual time of zero from a division by zero.
const SHORTEST: f64 = 0.001;
/// Before the first request has ended; five times this is no more than [`DECIDED_AFTER`].
const UNKNOWN_USUAL: Duration = Duration::from_millis(150);

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
    async fn slow_paths_beside_quick_ones_change_nothing() {
        let mut now = Instant::now();
        let mut limit = ConcurrencyLimit::new(64, now);
        windows(&mut limit, &mut now, 20, Duration::from_millis(20));
        for _ in 0..60 {
            now += WINDOW;
            limit.in_use(64);
            limit.answered(Duration::from_millis(20));
            limit.answered(Duration::from_secs(20));
            limit.answered(Duration::from_secs(20));
            limit.observe(now, &[Duration::from_secs(20); 60]);
        }
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

    fn forecast(waits: &[Duration], since_end: Duration, usual: Duration) -> QueueForecast<'_> {
        QueueForecast {
            limit: waits.len(),
            in_use: waits.len(),
            waits,
            since_end,
            usual: Some(usual),
        }
    }

    #[test]
    fn a_queue_that_moves_is_waited_for() {
        let quick = Duration::from_millis(20);
        let waits = [quick; 64];
        let moving = forecast(&waits, quick, quick);
        assert!(moving.can_serve(1000, Duration::ZERO, LEFT));
        // A second each, 64 at once: the 640th waits for ten.
        let second = Duration::from_secs(1);
        let waits = [second / 2; 64];
        let slow = forecast(&waits, second / 10, second);
        assert!(slow.can_serve(500, Duration::ZERO, LEFT));
        assert!(!slow.can_serve(700, Duration::ZERO, LEFT));
        assert!(!slow.can_serve(500, Duration::from_secs(5), LEFT / 2));
    }

    #[test]
    fn a_queue_that_does_not_move_is_answered_within_a_second() {
        let quick = Duration::from_millis(20);
        let can_serve =
            |since, waited| forecast(&[since; 64], since, quick).can_serve(0, waited, LEFT);
        let millis = Duration::from_millis;
        assert!(can_serve(millis(700), millis(700)));
        assert!(!can_serve(millis(750), millis(750)));
        // Also where none has ended yet.
        let waits = [millis(750); 64];
        let mut first = forecast(&waits, millis(750), quick);
        first.usual = None;
        assert!(!first.can_serve(0, millis(750), LEFT));
        // A later request learns it at once.
        assert!(!can_serve(millis(1500), Duration::ZERO));
        // Ten seconds each are usual: nothing is stuck, but there is no turn in time.
        let ten = Duration::from_secs(10);
        let waits = [Duration::ZERO; 64];
        let usual = forecast(&waits, Duration::from_secs(2), ten);
        assert!(usual.can_serve(0, Duration::ZERO, ten));
        assert!(!usual.can_serve(1, Duration::ZERO, ten));
    }

    #[test]
    fn a_small_pool_with_a_slow_request_is_waited_for_as_long_as_that_can_help() {
        let quick = Duration::from_millis(20);
        let can_serve =
            |age| forecast(&[age], age, quick).can_serve(0, age, LEFT.saturating_sub(age));
        assert!(can_serve(Duration::from_secs(3)));
        assert!(!can_serve(Duration::from_secs(6)));
    }

    #[test]
    fn one_slow_request_among_quick_ones_delays_only_its_own_slot() {
        let quick = Duration::from_millis(20);
        let mut waits = [Duration::ZERO; 8];
        waits[3] = Duration::from_secs(60);
        let one = forecast(&waits, quick, quick);
        assert!(one.can_serve(1000, Duration::ZERO, LEFT));
        assert!(!one.can_serve(4000, Duration::ZERO, LEFT));
    }

    #[test]
    fn those_above_a_lower_limit_end_before_the_first_in_the_queue() {
        let second = Duration::from_secs(1);
        let waits = [second / 2; 64];
        let falling = |limit| QueueForecast {
            limit,
            ..forecast(&waits, second / 10, second)
        };
        assert!(falling(16).can_serve(0, Duration::ZERO, LEFT));
        // 60 of them first, four in a second.
        assert!(!falling(4).can_serve(0, Duration::ZERO, LEFT));
    }

    #[test]
    fn answers_that_the_vendor_does_not_take_stall_no_queue() {
        let quick = Duration::from_millis(5);
        let minute = Duration::from_secs(60);
        let unread = QueueForecast {
            waits: &[quick; 4],
            ..forecast(&[minute; 64], minute, quick)
        };
        assert!(unread.can_serve(0, Duration::from_secs(5), LEFT));
        let hung = [minute; 64];
        let stalled = forecast(&hung, minute, quick);
        assert!(!stalled.can_serve(0, Duration::from_secs(5), LEFT));
    }
}

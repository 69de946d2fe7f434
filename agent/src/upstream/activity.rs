//! Whether bytes still move, and fast enough: the one clock behind the stall limits of uploads, answers, channels and
//! `tcp://` connections.
//!
//! A body that moves has no deadline. One that stands still meets the stall limit, which one lazily re-armed timer checks
//! instead of one that is reset with each frame. One that drips meets the minimum rate, counted over the time in which the
//! vendor was the one to act, so that a slow Jira breaks no transfer.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};
use std::time::Duration;
use tokio::time::Instant;

/// When something last moved, what is expected to move, and how many bytes the vendor moved while it was awaited.
#[derive(Default)]
pub struct ActivityClock {
    origin: OnceLock<Instant>,
    /// Milliseconds since `origin`.
    moved: AtomicU64,
    waiting: AtomicU8,
    stalled: AtomicBool,
    /// Bytes that the vendor sent or took.
    bytes: AtomicU64,
    /// Milliseconds for which the vendor was awaited, without the present wait.
    waited: AtomicU64,
    /// Milliseconds since `origin` at which the present wait for the vendor began.
    vendor_since: AtomicU64,
}

/// Something that is expected to move.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum ExpectedFlow {
    /// The vendor's body, of which Jira's side would take more.
    Upload = 1,
    /// An answer that is sent to the vendor.
    Download = 2,
    /// Bytes that the channel has not taken.
    Write = 4,
    /// A part of an answer that an HTTP/2 stream's window has not let through.
    Window = 8,
    /// Jira is to take more of a request, or to answer it.
    Jira = 16,
    /// A `tcp://` connection: bytes in either direction.
    Tunnel = 32,
}

/// How long a body may stand still, and how slow it may be on average.
#[derive(Clone, Copy, Debug)]
pub struct StallLimits {
    /// How long nothing may move.
    pub stall: Duration,
    /// Least bytes per second, on average over five stall limits in which the vendor was awaited; 0 is no limit.
    pub rate: u64,
}

impl StallLimits {
    /// Only a stall limit: bytes may move as slowly as they like.
    pub fn without_rate(stall: Duration) -> Self {
        Self { stall, rate: 0 }
    }
}

/// Why a body is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StallReason {
    /// Nothing moved for the stall limit.
    Stalled,
    /// The vendor moved fewer bytes than the minimum rate requires.
    BelowMinRate,
}

impl ActivityClock {
    /// Expects `flow` to move from now on.
    pub fn begin(&self, flow: ExpectedFlow) {
        let now = self.now();
        self.moved.store(now, Ordering::Relaxed);
        // Whoever sees the flow expected sees the time above.
        let before = self.waiting.fetch_or(flow as u8, Ordering::Release);
        if before & VENDOR_FLOWS == 0 && flow as u8 & VENDOR_FLOWS != 0 {
            self.vendor_since.store(now, Ordering::Relaxed);
        }
    }

    /// Expects nothing of `flow` any more.
    pub fn end(&self, flow: ExpectedFlow) {
        let before = self.waiting.fetch_and(!(flow as u8), Ordering::Relaxed);
        if before & VENDOR_FLOWS != 0 && before & !(flow as u8) & VENDOR_FLOWS == 0 {
            let since = self.vendor_since.load(Ordering::Relaxed);
            let waited = self.now().saturating_sub(since);
            self.waited.fetch_add(waited, Ordering::Relaxed);
        }
    }

    /// Something has moved just now.
    pub fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    /// For how long something that is expected to move has not; `None` while nothing is expected.
    pub(super) fn waited(&self) -> Option<Duration> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return None;
        }
        let moved = self.moved.load(Ordering::Relaxed);
        Some(Duration::from_millis(self.now().saturating_sub(moved)))
    }

    /// The vendor has sent or taken this many bytes.
    pub fn vendor_moved(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Whether [`ActivityClock::too_slow`] has completed.
    pub fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Completes when something is expected to move and nothing has for the stall limit, or when the vendor has moved fewer
    /// bytes than the minimum rate requires while it was awaited.
    pub async fn too_slow(&self, limits: StallLimits) -> StallReason {
        let limit = limits.stall;
        let mut checked = (0, 0);
        loop {
            let waiting = self.waiting.load(Ordering::Acquire) != 0;
            let moved = self.moved.load(Ordering::Relaxed);
            let still = Duration::from_millis(self.now().saturating_sub(moved));
            let verdict = if waiting && still >= limit {
                Some(StallReason::Stalled)
            } else {
                self.is_below_min_rate(limits, &mut checked)
                    .then_some(StallReason::BelowMinRate)
            };
            if let Some(verdict) = verdict {
                self.stalled.store(true, Ordering::Relaxed);
                return verdict;
            }
            // While nothing is expected, a wait that begins right now is noticed in time after one limit.
            let next = if waiting { limit - still } else { limit };
            tokio::time::sleep(next.max(SHORTEST)).await;
        }
    }

    /// Compares how long the vendor was awaited, and how much it moved, since `checked`.
    fn is_below_min_rate(&self, limits: StallLimits, checked: &mut (u64, u64)) -> bool {
        let mut waited = self.waited.load(Ordering::Relaxed);
        if self.waiting.load(Ordering::Relaxed) & VENDOR_FLOWS != 0 {
            let since = self.vendor_since.load(Ordering::Relaxed);
            waited += self.now().saturating_sub(since);
        }
        let bytes = self.bytes.load(Ordering::Relaxed);
        let (waited_before, bytes_before) = *checked;
        let time = Duration::from_millis(waited - waited_before.min(waited));
        if time < limits.stall * RATE_STALLS {
            return false;
        }
        *checked = (waited, bytes);
        let least = limits.rate.saturating_mul(time.as_secs());
        bytes - bytes_before < least
    }

    fn now(&self) -> u64 {
        let origin = self.origin.get_or_init(Instant::now);
        u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// While one of these is awaited, the vendor is the one to act.
const VENDOR_FLOWS: u8 =
    ExpectedFlow::Upload as u8 | ExpectedFlow::Write as u8 | ExpectedFlow::Window as u8;
/// Stall limits over which the rate is averaged: a pause that the stall limit allows must not look like a drip.
const RATE_STALLS: u32 = 5;
/// Keeps a limit of zero, or rounding to milliseconds, from becoming a busy loop.
const SHORTEST: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::Arc;
    use tokio::time::{advance, timeout};

    const LIMIT: Duration = Duration::from_secs(10);

    fn limits(rate: u64) -> StallLimits {
        StallLimits { stall: LIMIT, rate }
    }

    #[tokio::test(start_paused = true)]
    async fn what_moves_never_stalls_and_what_stands_still_does() {
        let activity = Arc::new(ActivityClock::default());
        activity.begin(ExpectedFlow::Upload);
        let watch = tokio::spawn({
            let activity = activity.clone();
            async move { activity.too_slow(limits(50)).await }
        });
        for _ in 0..50 {
            advance(LIMIT - Duration::from_secs(1)).await;
            activity.moved();
            activity.vendor_moved(500);
            tokio::task::yield_now().await;
        }
        assert!(!watch.is_finished());
        let stopped = Instant::now();
        assert_eq!(watch.await.unwrap(), StallReason::Stalled);
        assert!(stopped.elapsed() >= LIMIT && stopped.elapsed() < LIMIT + Duration::from_secs(1));
        assert!(activity.has_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_expected_means_no_stall() {
        let activity = ActivityClock::default();
        assert!(
            timeout(LIMIT * 5, activity.too_slow(limits(50)))
                .await
                .is_err()
        );
        activity.begin(ExpectedFlow::Download);
        activity.end(ExpectedFlow::Download);
        assert!(
            timeout(LIMIT * 5, activity.too_slow(limits(50)))
                .await
                .is_err()
        );
    }

    /// Moves `bytes` each nine seconds, one second before it would stall, until it is broken off.
    async fn dripping(bytes: usize, flow: ExpectedFlow) -> Option<Duration> {
        let activity = Arc::new(ActivityClock::default());
        let began = Instant::now();
        activity.begin(flow);
        let watch = tokio::spawn({
            let activity = activity.clone();
            async move { activity.too_slow(limits(50)).await }
        });
        for _ in 0..100 {
            advance(LIMIT - Duration::from_secs(1)).await;
            activity.moved();
            activity.vendor_moved(bytes);
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            if watch.is_finished() {
                assert_eq!(watch.await.unwrap(), StallReason::BelowMinRate);
                return Some(began.elapsed());
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn what_drips_is_broken_off_and_what_is_merely_slow_is_not() {
        for flow in [
            ExpectedFlow::Upload,
            ExpectedFlow::Write,
            ExpectedFlow::Window,
        ] {
            let ended = dripping(1, flow).await.unwrap();
            assert!(ended >= LIMIT * 5 && ended <= LIMIT * 7, "{ended:?}");
            // 450 bytes in nine seconds are 50 a second.
            assert_eq!(dripping(460, flow).await, None);
        }
        assert_eq!(
            dripping(1, ExpectedFlow::Download).await,
            None,
            "Jira's own pace"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_time_in_which_the_vendor_was_waited_for_counts() {
        let activity = Arc::new(ActivityClock::default());
        let watch = tokio::spawn({
            let activity = activity.clone();
            async move { activity.too_slow(limits(50)).await }
        });
        activity.begin(ExpectedFlow::Download);
        for _ in 0..100 {
            activity.begin(ExpectedFlow::Window);
            advance(Duration::from_millis(100)).await;
            activity.end(ExpectedFlow::Window);
            activity.vendor_moved(10);
            advance(LIMIT - Duration::from_secs(1)).await;
            activity.moved();
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
        }
        assert!(!watch.is_finished());
        watch.abort();
    }
}

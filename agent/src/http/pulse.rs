//! Whether a body on its way still moves.
//!
//! There is no deadline for a body that moves. For one that does not there is the stall limit, seen
//! by one lazily re-armed timer instead of one that is reset with each frame.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};
use std::time::Duration;
use tokio::time::Instant;

/// When something last moved, and what is expected to move.
#[derive(Default)]
pub(super) struct Pulse {
    origin: OnceLock<Instant>,
    /// Milliseconds since `origin`.
    moved: AtomicU64,
    waiting: AtomicU8,
    stalled: AtomicBool,
}

/// Something that is expected to move.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Flow {
    /// The vendor's body; Jira's side would take more of it.
    Upload = 1,
    /// Jira's answer on its way to the vendor.
    Download = 2,
    /// Bytes that the channel has not taken.
    Write = 4,
}

impl Pulse {
    /// From now on `flow` is expected to move.
    pub(super) fn begin(&self, flow: Flow) {
        self.moved();
        self.waiting.fetch_or(flow as u8, Ordering::Relaxed);
    }

    /// `flow` has ended or waits for nothing.
    pub(super) fn end(&self, flow: Flow) {
        self.waiting.fetch_and(!(flow as u8), Ordering::Relaxed);
    }

    /// Something moved just now.
    pub(super) fn moved(&self) {
        self.moved.store(self.now(), Ordering::Relaxed);
    }

    /// Whether [`Pulse::stalled`] has come to its end.
    pub(super) fn has_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    /// Ends when something is expected to move and nothing has for `limit`.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            let moved = self.moved.load(Ordering::Relaxed);
            let still = Duration::from_millis(self.now().saturating_sub(moved));
            let waiting = self.waiting.load(Ordering::Relaxed) != 0;
            if waiting && still >= limit {
                self.stalled.store(true, Ordering::Relaxed);
                return;
            }
            // While nothing is expected, a wait that begins right now is seen in time after one limit.
            let next = if waiting { limit - still } else { limit };
            tokio::time::sleep(next.max(SHORTEST)).await;
        }
    }

    fn now(&self) -> u64 {
        let origin = self.origin.get_or_init(Instant::now);
        u64::try_from(origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Keeps a limit of zero, or rounding to milliseconds, from becoming a busy loop.
const SHORTEST: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::Arc;
    use tokio::time::{advance, timeout};

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn what_moves_never_stalls_and_what_stands_still_does() {
        let pulse = Arc::new(Pulse::default());
        pulse.begin(Flow::Upload);
        let watch = tokio::spawn({
            let pulse = pulse.clone();
            async move { pulse.stalled(LIMIT).await }
        });
        for _ in 0..50 {
            advance(LIMIT - Duration::from_secs(1)).await;
            pulse.moved();
            tokio::task::yield_now().await;
        }
        assert!(!watch.is_finished());
        let stopped = Instant::now();
        watch.await.unwrap();
        assert!(stopped.elapsed() >= LIMIT && stopped.elapsed() < LIMIT + Duration::from_secs(1));
        assert!(pulse.has_stalled());
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_expected_means_no_stall() {
        let pulse = Pulse::default();
        assert!(timeout(LIMIT * 5, pulse.stalled(LIMIT)).await.is_err());
        pulse.begin(Flow::Download);
        pulse.end(Flow::Download);
        assert!(timeout(LIMIT * 5, pulse.stalled(LIMIT)).await.is_err());
    }
}

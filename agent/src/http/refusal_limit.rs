//! How many requests of one forward may be refused with an answer and an audit line each.
use parking_lot::Mutex;
use tokio::time::Instant;

/// A token bucket that holds the refusals of one minute and refills at that rate. Allowed requests take no token.
pub(super) struct RefusalLimit {
    per_minute: u32,
    bucket: Mutex<TokenBucket>,
}

struct TokenBucket {
    left: f64,
    filled: Instant,
}

impl RefusalLimit {
    pub(super) fn new(per_minute: u32) -> Self {
        Self {
            per_minute,
            bucket: Mutex::new(TokenBucket {
                left: f64::from(per_minute),
                filled: Instant::now(),
            }),
        }
    }

    pub(super) fn per_minute(&self) -> u32 {
        self.per_minute
    }

    /// Whether one more request may be refused with a line of its own.
    pub(super) fn take(&self) -> bool {
        let most = f64::from(self.per_minute);
        // Two numbers, changed together: a panic leaves nothing half done.
        let mut bucket = self.bucket.lock();
        let now = Instant::now();
        let since = now.saturating_duration_since(bucket.filled);
        bucket.filled = now;
        bucket.left = most.min(bucket.left + since.as_secs_f64() * most / 60.0);
        let may = bucket.left >= 1.0;
        if may {
            bucket.left -= 1.0;
        }
        may
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn a_minute_holds_so_many_and_they_come_back_at_that_rate() {
        let limit = RefusalLimit::new(60);
        assert_eq!((0..100).filter(|_| limit.take()).count(), 60);
        tokio::time::advance(Duration::from_millis(10_500)).await;
        assert_eq!((0..100).filter(|_| limit.take()).count(), 10);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!((0..100).filter(|_| limit.take()).count(), 60);
    }
}

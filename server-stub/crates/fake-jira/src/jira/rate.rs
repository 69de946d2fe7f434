//! Data Center's rate limit: one token bucket per user, shown in the headers of every response to a
//! logged-in user, enforced only if enabled.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue};
use serde::{Deserialize, Serialize};

/// Limits of one user's bucket.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimit {
    /// Whether an empty bucket gives 429.
    pub enforce: bool,
    /// `X-RateLimit-Limit`: the bucket's size, requests.
    pub limit: u64,
    /// `X-RateLimit-FillRate`: requests added per interval.
    pub fill_rate: u64,
    /// Value of the header `X-RateLimit-Interval-Seconds`.
    pub interval_seconds: u64,
    /// `Retry-After` of a 429, seconds, instead of the time until the next token. A real sample is
    /// 9223372036854775807.
    pub retry_after: Option<u64>,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self {
            enforce: false,
            limit: 50,
            fill_rate: 50,
            interval_seconds: 60,
            retry_after: None,
        }
    }
}

/// The buckets of all users.
#[derive(Default)]
pub(super) struct RateBuckets(HashMap<String, TokenBucket>);

struct TokenBucket {
    tokens: u64,
    refilled_at: Instant,
}

/// The result of taking a token from a user's bucket.
pub(super) struct RateDecision {
    remaining: u64,
    /// Seconds to wait; 0 if a token was available.
    retry_after: u64,
    pub(super) refused: bool,
}

impl RateBuckets {
    /// Takes one token of `user`, a user of the directory, whose size bounds the map.
    pub(super) fn take(&mut self, user: &str, limit: &RateLimit, now: Instant) -> RateDecision {
        let interval = Duration::from_secs(limit.interval_seconds.max(1));
        let bucket = self.0.entry(user.to_owned()).or_insert(TokenBucket {
            tokens: limit.limit,
            refilled_at: now,
        });
        while now.duration_since(bucket.refilled_at) >= interval {
            bucket.tokens = bucket.tokens.saturating_add(limit.fill_rate);
            bucket.refilled_at += interval;
            if bucket.tokens >= limit.limit {
                bucket.refilled_at = now;
            }
        }
        bucket.tokens = bucket.tokens.min(limit.limit);
        let refused = limit.enforce && bucket.tokens == 0;
        let until_filled = interval.saturating_sub(now.duration_since(bucket.refilled_at));
        bucket.tokens = bucket.tokens.saturating_sub(1);
        RateDecision {
            remaining: bucket.tokens,
            retry_after: match (refused, limit.retry_after) {
                (false, _) => 0,
                (true, Some(seconds)) => seconds,
                (true, None) => until_filled.as_secs() + 1,
            },
            refused,
        }
    }
}

impl RateDecision {
    pub(super) fn add_headers(&self, limit: &RateLimit, headers: &mut HeaderMap) {
        headers.insert("x-ratelimit-limit", HeaderValue::from(limit.limit));
        headers.insert("x-ratelimit-remaining", HeaderValue::from(self.remaining));
        headers.insert(
            "x-ratelimit-interval-seconds",
            HeaderValue::from(limit.interval_seconds),
        );
        headers.insert("x-ratelimit-fillrate", HeaderValue::from(limit.fill_rate));
        headers.insert("retry-after", HeaderValue::from(self.retry_after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_bucket_refuses_until_the_interval_has_passed() {
        let limit = RateLimit {
            enforce: true,
            limit: 2,
            fill_rate: 1,
            interval_seconds: 10,
            retry_after: None,
        };
        let start = Instant::now();
        let mut buckets = RateBuckets::default();
        let mut at = |seconds| {
            let taken = buckets.take("bot", &limit, start + Duration::from_secs(seconds));
            (taken.refused, taken.retry_after)
        };
        assert_eq!(at(0), (false, 0));
        assert_eq!(at(1), (false, 0));
        assert_eq!(at(4), (true, 7));
        assert_eq!(at(11), (false, 0));
        assert_eq!(at(12), (true, 9));
    }
}

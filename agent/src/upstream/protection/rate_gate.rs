//! Jira's own wish to be called again later, kept until then: `Retry-After` with a 429 or 503, and a rate limit whose
//! last token is spent. Until then a request is answered at once and costs Jira nothing.
//!
//! A 429 concerns one identity (Jira counts by user), a 503 the path that answered it. Three paths that say so speak for
//! the whole of Jira, until the agent's probe is answered.
//!
//! No clock and no sockets.

use crate::upstream::FailedStep;
use http::{HeaderMap, HeaderName, StatusCode, header};
use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// Whose request it is, as far as Jira's rate limit tells requesters apart. Without one, all share the forward's credential.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct RequesterKey(u64);

/// What waits until Jira wants to be called again.
#[derive(Debug, Default)]
pub(super) struct RateGate {
    closed: HashMap<GateScope, Instant>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum GateScope {
    Requester(RequesterKey),
    Path(u64),
}

/// Why a request waits, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GateRefusal {
    pub(super) step: FailedStep,
    pub(super) left: Duration,
}

impl RequesterKey {
    /// The requester behind these headers, which the vendor chose itself.
    pub fn of(headers: &HeaderMap) -> Self {
        // Fixed keys are enough: a collision only shares a rate limit between two.
        let hasher = KEYS.get_or_init(RandomState::new);
        let authorization = headers.get(header::AUTHORIZATION).map(|v| v.as_bytes());
        // A signature differs with each request; the token does not.
        let identity = authorization.map(|value| oauth_token(value).unwrap_or(value));
        let cookie = headers.get(header::COOKIE).map(|v| v.as_bytes());
        Self(hasher.hash_one((identity, cookie)))
    }
}

/// `oauth_token="…"` of an OAuth 1.0a header.
fn oauth_token(authorization: &[u8]) -> Option<&[u8]> {
    let rest = authorization.strip_prefix(b"OAuth ")?;
    rest.split(|byte| *byte == b',')
        .map(<[u8]>::trim_ascii)
        .find(|part| part.starts_with(b"oauth_token="))
}

impl RateGate {
    /// Whether this request has to wait.
    pub(super) fn check(
        &self,
        now: Instant,
        requester: RequesterKey,
        path: &str,
    ) -> Option<GateRefusal> {
        let left = |until: &Instant| {
            let left = until.saturating_duration_since(now);
            (!left.is_zero()).then_some(left)
        };
        let of = |scope: GateScope| self.closed.get(&scope).and_then(left);
        if let Some(left) = of(GateScope::Requester(requester)) {
            let step = FailedStep::RateLimit;
            return Some(GateRefusal { step, left });
        }
        if self.closed.is_empty() {
            return None;
        }
        let step = FailedStep::JiraPause;
        if let Some(left) = of(self.path(path)) {
            return Some(GateRefusal { step, left });
        }
        let paths = self.closed.iter().filter_map(|(scope, until)| match scope {
            GateScope::Path(_) => left(until),
            GateScope::Requester(_) => None,
        });
        let mut lefts: Vec<_> = paths.collect();
        if lefts.len() < PATHS_FOR_ALL {
            return None;
        }
        lefts.sort_unstable();
        let left = *lefts.first()?;
        Some(GateRefusal { step, left })
    }

    /// Reads from the head of an answer whether Jira wants to be called again later. True: it does.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        requester: RequesterKey,
        path: &str,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> bool {
        let after = retry_after(headers);
        let (scope, most) = match status {
            StatusCode::TOO_MANY_REQUESTS => (GateScope::Requester(requester), MOST_RATE_LIMIT),
            StatusCode::SERVICE_UNAVAILABLE => (self.path(path), MOST_PAUSE),
            _ if is_spent(headers) => (GateScope::Requester(requester), MOST_RATE_LIMIT),
            _ => return false,
        };
        let Some(after) = after.filter(|after| !after.is_zero()) else {
            return false;
        };
        let until = now + after.min(most);
        self.closed.retain(|_, until| *until > now);
        if self.closed.len() >= MOST_ENTRIES && !self.closed.contains_key(&scope) {
            // The one that ends first is missed least.
            let first = self.closed.iter().min_by_key(|(_, until)| **until);
            if let Some(first) = first.map(|(scope, _)| *scope) {
                self.closed.remove(&first);
            }
        }
        self.closed.insert(scope, until);
        true
    }

    /// Jira has answered the agent's own probe: a path's pause no longer counts.
    pub(super) fn probe_answered(&mut self) {
        self.closed
            .retain(|scope, _| matches!(scope, GateScope::Requester(_)));
    }

    /// How many wait now, and for how long the last of them does.
    pub(super) fn waiting(&self, now: Instant) -> Option<(usize, Duration)> {
        let open = self.closed.values().filter(|until| **until > now);
        let last = open.clone().max()?;
        Some((open.count(), last.saturating_duration_since(now)))
    }

    fn path(&self, path: &str) -> GateScope {
        GateScope::Path(self.hasher.hash_one(path))
    }
}

/// Seconds or a date (RFC 9110 §10.2.3). Jira is known to send numbers beyond any date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    date.duration_since(SystemTime::now()).ok()
}

/// Whether the answer says that the next request would be one too many. Jira then names in `Retry-After` when there are
/// new tokens, also with a success.
fn is_spent(headers: &HeaderMap) -> bool {
    let remaining = headers.get(X_RATELIMIT_REMAINING);
    remaining.is_some_and(|value| value.as_bytes().trim_ascii() == b"0")
}

const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// Longer waits are asked again after this: a wrong header must not stop a forward for a day.
const MOST_RATE_LIMIT: Duration = Duration::from_secs(300);
/// The same of a 503. It may come from anything in front of Jira.
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// Distinct paths whose 503 stands for the whole of Jira.
const PATHS_FOR_ALL: usize = 3;
/// Entries kept at once: a vendor may call under many names and on many paths. About 10 KiB.
const MOST_ENTRIES: usize = 256;
static KEYS: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHARED: RequesterKey = RequesterKey(0);

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()))
            .collect()
    }

    fn answered(gate: &mut RateGate, now: Instant, path: &str, status: u16, after: &str) -> bool {
        let status = StatusCode::from_u16(status).unwrap();
        gate.answered(
            now,
            SHARED,
            path,
            status,
            &headers(&[("retry-after", after)]),
        )
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_limit_is_kept_for_its_requester_until_its_time() {
        let now = Instant::now();
        let mut gate = RateGate::default();
        assert!(answered(&mut gate, now, "/a", 429, "7"));
        let refusal = gate
            .check(now + Duration::from_secs(5), SHARED, "/b")
            .unwrap();
        assert_eq!(refusal.step, FailedStep::RateLimit);
        assert_eq!(refusal.left, Duration::from_secs(2));
        assert_eq!(gate.check(now, RequesterKey(1), "/a"), None);
        assert_eq!(gate.check(now + Duration::from_secs(7), SHARED, "/a"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_jira_asks_for_is_clamped_and_what_it_does_not_ask_for_is_no_wait() {
        let now = Instant::now();
        for (status, after, left) in [
            (429, "9223372036854775807", Some(MOST_RATE_LIMIT)),
            (503, "86400", Some(MOST_PAUSE)),
            (429, "0", None),
            (429, "soon", None),
            (429, "-1", None),
            (429, "99999999999999999999999", None),
            (200, "5", None),
            (403, "5", None),
        ] {
            let mut gate = RateGate::default();
            assert_eq!(
                answered(&mut gate, now, "/a", status, after),
                left.is_some()
            );
            let found = gate.check(now, SHARED, "/a").map(|refusal| refusal.left);
            assert_eq!(found, left, "{status} {after}");
        }
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        let mut gate = RateGate::default();
        assert!(answered(&mut gate, now, "/a", 429, &date));
        let left = gate.check(now, SHARED, "/a").unwrap().left;
        assert!(left > Duration::from_secs(25) && left <= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_token_of_a_success_counts_too() {
        let now = Instant::now();
        let mut gate = RateGate::default();
        for (remaining, after, waits) in [("3", "0", false), ("0", "0", false), ("0", "4", true)] {
            let head = headers(&[("x-ratelimit-remaining", remaining), ("retry-after", after)]);
            let seen = gate.answered(now, SHARED, "/a", StatusCode::OK, &head);
            assert_eq!(seen, waits);
            assert_eq!(gate.check(now, SHARED, "/b").is_some(), waits);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_paths_503_is_that_paths_and_three_are_jiras_until_the_probe_is_answered() {
        let now = Instant::now();
        let mut gate = RateGate::default();
        for path in ["/a", "/a", "/b"] {
            assert!(answered(&mut gate, now, path, 503, "20"));
        }
        assert_eq!(
            gate.check(now, SHARED, "/a").unwrap().step,
            FailedStep::JiraPause
        );
        assert_eq!(gate.check(now, SHARED, "/other"), None);
        assert!(answered(&mut gate, now, "/c", 503, "30"));
        let left = gate.check(now, SHARED, "/other").unwrap().left;
        assert_eq!(left, Duration::from_secs(20));
        assert_eq!(gate.waiting(now), Some((3, Duration::from_secs(30))));
        gate.probe_answered();
        assert_eq!(gate.check(now, SHARED, "/a"), None);
        assert_eq!(gate.waiting(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn many_requesters_do_not_grow_it() {
        let now = Instant::now();
        let mut gate = RateGate::default();
        let head = headers(&[("retry-after", "9")]);
        for key in 0..10_000 {
            let status = StatusCode::TOO_MANY_REQUESTS;
            gate.answered(now, RequesterKey(key), "/a", status, &head);
        }
        assert!(gate.closed.len() <= MOST_ENTRIES);
        assert!(gate.check(now, RequesterKey(9_999), "/a").is_some());
    }

    #[test]
    fn requesters_are_told_apart_by_what_they_log_in_with() {
        let key = |lines: &[(&'static str, &str)]| RequesterKey::of(&headers(lines));
        let one = key(&[("authorization", "Bearer one")]);
        assert_eq!(
            one,
            key(&[("authorization", "Bearer one"), ("accept", "x")])
        );
        assert_ne!(one, key(&[("authorization", "Bearer two")]));
        assert_ne!(one, key(&[("cookie", "JSESSIONID=1")]));
        let signed = |nonce: &str, token: &str| {
            let value = format!("OAuth oauth_nonce=\"{nonce}\", oauth_token=\"{token}\"");
            key(&[("authorization", &value)])
        };
        assert_eq!(signed("1", "t"), signed("2", "t"));
        assert_ne!(signed("1", "t"), signed("1", "u"));
    }
}

//! Jira's own wish to be called again later, kept until then: `Retry-After` with a 429 or 503, and a rate limit whose
//! last token is spent. Until then a request is answered at once and costs Jira nothing.
//!
//! A 429 concerns one identity (Jira counts by user), or one path of it where Jira Cloud says so; a 503 concerns the path
//! that answered it. Three paths that say so, while no other is served, speak for the whole of Jira. If the agent's probe
//! finds Jira well, that was wrong: it does not happen again for a while.
//!
//! No clock and no sockets.

use crate::upstream::FailedStep;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
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
    closed: HashMap<GateScope, ClosedGate>,
    /// When Jira last served a request: paths that asked for a pause before do not speak for others.
    served: Option<Instant>,
    /// Until then paths speak for themselves only.
    distrusted: Option<Instant>,
    hasher: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct ClosedGate {
    since: Instant,
    until: Instant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum GateScope {
    Requester(RequesterKey),
    /// One method on one path, for one requester.
    Endpoint(u64),
    Path(u64),
}

/// What the gate has to know of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct GatedRequest<'a> {
    pub(super) requester: RequesterKey,
    pub(super) method: &'a Method,
    pub(super) path: &'a str,
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
    pub(super) fn check(&self, now: Instant, request: GatedRequest<'_>) -> Option<GateRefusal> {
        if self.closed.is_empty() {
            return None;
        }
        let left = |gate: &ClosedGate| {
            let left = gate.until.saturating_duration_since(now);
            (!left.is_zero()).then_some(left)
        };
        let of = |scope: GateScope| self.closed.get(&scope).and_then(left);
        let limit =
            of(GateScope::Requester(request.requester)).or_else(|| of(self.endpoint(request)));
        if let Some(left) = limit {
            let step = FailedStep::RateLimit;
            return Some(GateRefusal { step, left });
        }
        let left = of(self.path(request.path)).or_else(|| self.left_for_all(now))?;
        let step = FailedStep::JiraPause;
        Some(GateRefusal { step, left })
    }

    /// For how long paths that ask for a pause still speak for the whole of Jira.
    fn left_for_all(&self, now: Instant) -> Option<Duration> {
        if self.distrusted.is_some_and(|until| now < until) {
            return None;
        }
        let paths = self.closed.iter().filter(|(scope, gate)| {
            matches!(scope, GateScope::Path(_))
                && gate.until > now
                && self.served.is_none_or(|served| gate.since > served)
        });
        let (count, first) = paths.fold((0, None), |(count, first), (_, gate)| {
            let first = first.map_or(gate.until, |first: Instant| first.min(gate.until));
            (count + 1, Some(first))
        });
        let first = first.filter(|_| count >= PATHS_FOR_ALL)?;
        Some(first.saturating_duration_since(now))
    }

    /// Reads from the head of an answer whether Jira wants to be called again later. True: it does.
    pub(super) fn answered(
        &mut self,
        now: Instant,
        request: GatedRequest<'_>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> bool {
        let after = retry_after(headers);
        if !matches!(status.as_u16(), 502..=504) {
            self.served = Some(now);
        }
        let requester = GateScope::Requester(request.requester);
        let (scope, most) = match status {
            StatusCode::TOO_MANY_REQUESTS if is_of_endpoint(headers) => {
                (self.endpoint(request), MOST_RATE_LIMIT)
            }
            StatusCode::TOO_MANY_REQUESTS => (requester, MOST_RATE_LIMIT),
            StatusCode::SERVICE_UNAVAILABLE => (self.path(request.path), MOST_PAUSE),
            _ if is_spent(headers) => (requester, MOST_RATE_LIMIT),
            _ => return false,
        };
        let Some(after) = after.filter(|after| !after.is_zero()) else {
            return false;
        };
        let gate = ClosedGate {
            since: now,
            until: now + after.min(most),
        };
        self.closed.retain(|_, gate| gate.until > now);
        if self.closed.len() >= MOST_ENTRIES && !self.closed.contains_key(&scope) {
            // The one that ends first is missed least.
            let first = self.closed.iter().min_by_key(|(_, gate)| gate.until);
            if let Some(first) = first.map(|(scope, _)| *scope) {
                self.closed.remove(&first);
            }
        }
        self.closed.insert(scope, gate);
        true
    }

    /// The agent's own probe has found Jira well: a path's pause no longer counts.
    pub(super) fn found_well(&mut self, now: Instant) {
        if self.left_for_all(now).is_some() {
            self.distrusted = Some(now + MOST_PAUSE);
        }
        self.served = Some(now);
        self.closed
            .retain(|scope, _| !matches!(scope, GateScope::Path(_)));
    }

    /// How many wait now, and for how long the last of them does.
    pub(super) fn waiting(&self, now: Instant) -> Option<(usize, Duration)> {
        let ends = self.closed.values().map(|gate| gate.until);
        let ends = ends.filter(|until| *until > now);
        let last = ends.clone().max()?;
        Some((ends.count(), last.saturating_duration_since(now)))
    }

    fn endpoint(&self, request: GatedRequest<'_>) -> GateScope {
        let GatedRequest {
            requester,
            method,
            path,
        } = request;
        GateScope::Endpoint(self.hasher.hash_one((requester, method, path)))
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

/// Whether a 429 of Jira Cloud concerns one endpoint, or the writes to one issue, and not what the requester does
/// elsewhere (developer.atlassian.com/cloud/jira/platform/rate-limiting).
fn is_of_endpoint(headers: &HeaderMap) -> bool {
    let reason = headers.get(RATELIMIT_REASON).map(HeaderValue::as_bytes);
    reason.is_some_and(|reason| ENDPOINT_REASONS.contains(&reason.trim_ascii()))
}

const RATELIMIT_REASON: HeaderName = HeaderName::from_static("ratelimit-reason");
const ENDPOINT_REASONS: [&[u8]; 2] = [b"jira-burst-based", b"jira-per-issue-on-write"];
const X_RATELIMIT_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
/// Longer waits are asked again after this: a wrong header must not stop a forward for a day.
const MOST_RATE_LIMIT: Duration = Duration::from_secs(300);
/// The same of a 503. It may come from anything in front of Jira.
const MOST_PAUSE: Duration = Duration::from_secs(60);
/// Distinct paths whose 503 counts for all paths.
const PATHS_FOR_ALL: usize = 3;
/// Entries kept at once: a vendor may call under many names and on many paths. About 10 KiB.
const MOST_ENTRIES: usize = 256;
static KEYS: std::sync::OnceLock<RandomState> = std::sync::OnceLock::new();

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SHARED: RequesterKey = RequesterKey(0);

    fn of(requester: RequesterKey, path: &str) -> GatedRequest<'_> {
        GatedRequest {
            requester,
            method: &Method::GET,
            path,
        }
    }

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
            of(SHARED, path),
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
            .check(now + Duration::from_secs(5), of(SHARED, "/b"))
            .unwrap();
        assert_eq!(refusal.step, FailedStep::RateLimit);
        assert_eq!(refusal.left, Duration::from_secs(2));
        assert_eq!(gate.check(now, of(RequesterKey(1), "/a")), None);
        assert_eq!(
            gate.check(now + Duration::from_secs(7), of(SHARED, "/a")),
            None
        );
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
            let found = gate
                .check(now, of(SHARED, "/a"))
                .map(|refusal| refusal.left);
            assert_eq!(found, left, "{status} {after}");
        }
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(30));
        let mut gate = RateGate::default();
        assert!(answered(&mut gate, now, "/a", 429, &date));
        let left = gate.check(now, of(SHARED, "/a")).unwrap().left;
        assert!(left > Duration::from_secs(25) && left <= Duration::from_secs(30));
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_token_of_a_success_counts_too() {
        let now = Instant::now();
        let mut gate = RateGate::default();
        for (remaining, after, waits) in [("3", "0", false), ("0", "0", false), ("0", "4", true)] {
            let head = headers(&[("x-ratelimit-remaining", remaining), ("retry-after", after)]);
            let seen = gate.answered(now, of(SHARED, "/a"), StatusCode::OK, &head);
            assert_eq!(seen, waits);
            assert_eq!(gate.check(now, of(SHARED, "/b")).is_some(), waits);
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
            gate.check(now, of(SHARED, "/a")).unwrap().step,
            FailedStep::JiraPause
        );
        assert_eq!(gate.check(now, of(SHARED, "/other")), None);
        assert!(answered(&mut gate, now, "/c", 503, "30"));
        let left = gate.check(now, of(SHARED, "/other")).unwrap().left;
        assert_eq!(left, Duration::from_secs(20));
        assert_eq!(gate.waiting(now), Some((3, Duration::from_secs(30))));
        gate.found_well(now);
        assert_eq!(gate.check(now, of(SHARED, "/a")), None);
        assert_eq!(gate.waiting(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn paths_do_not_speak_for_a_jira_that_serves_or_whose_probe_is_well() {
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        let mut gate = RateGate::default();
        for path in ["/a", "/b", "/c"] {
            answered(&mut gate, now, path, 503, "50");
        }
        assert!(gate.check(now, of(SHARED, "/other")).is_some());
        // One that was sent before is served.
        answered(&mut gate, later, "/other", 404, "");
        assert_eq!(gate.check(later, of(SHARED, "/other")), None);
        assert!(gate.check(later, of(SHARED, "/a")).is_some());

        let mut gate = RateGate::default();
        for round in 0..3_u64 {
            let at = now + Duration::from_secs(round * 2);
            for path in ["/a", "/b", "/c"] {
                answered(&mut gate, at, path, 503, "50");
            }
            let is_held = gate.check(at, of(SHARED, "/other")).is_some();
            assert_eq!(is_held, round == 0, "{round}");
            gate.found_well(at + Duration::from_secs(1));
        }
        let after = now + Duration::from_secs(1) + MOST_PAUSE;
        for path in ["/a", "/b", "/c"] {
            answered(&mut gate, after, path, 503, "50");
        }
        assert!(gate.check(after, of(SHARED, "/other")).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_of_one_endpoint_holds_its_method_and_path_back() {
        let now = Instant::now();
        let mut gate = RateGate::default();
        let head = headers(&[
            ("retry-after", "5"),
            ("ratelimit-reason", "jira-per-issue-on-write"),
        ]);
        let put = GatedRequest {
            method: &Method::PUT,
            ..of(SHARED, "/issue/A-1")
        };
        assert!(gate.answered(now, put, StatusCode::TOO_MANY_REQUESTS, &head));
        assert_eq!(gate.check(now, put).unwrap().step, FailedStep::RateLimit);
        assert_eq!(gate.check(now, of(SHARED, "/issue/A-1")), None);
        gate.found_well(now);
        assert!(gate.check(now, put).is_some(), "a probe does not end it");
    }

    #[tokio::test(start_paused = true)]
    async fn many_requesters_do_not_grow_it() {
        let now = Instant::now();
        let mut gate = RateGate::default();
        let head = headers(&[("retry-after", "9")]);
        for key in 0..10_000 {
            let status = StatusCode::TOO_MANY_REQUESTS;
            gate.answered(now, of(RequesterKey(key), "/a"), status, &head);
        }
        assert!(gate.closed.len() <= MOST_ENTRIES);
        assert!(gate.check(now, of(RequesterKey(9_999), "/a")).is_some());
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

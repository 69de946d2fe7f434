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
mod tests;

//! One forward as its requests see it.

use super::{
    ExpectedRequest, HttpLimits, exchange::target, expected::ExpectedRequests, http2,
    refusal_limit::RefusalLimit,
};
use crate::{
    audit::AuditHandle,
    auth::{HeaderClass, RemovedHeaders, UpstreamAuth},
    metrics::TrafficCounters,
    pause::PauseRegistry,
    policy::CompiledPolicy,
    status::{LayerReporter, ProofState, StatusLayer},
    upstream::{AnswerSource, FailedStep, SendError, Upstream},
};
use http::{HeaderName, HeaderValue, StatusCode, request, response};
use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All that a request of one forward needs on its way. Shared by every channel of the forward.
pub struct HttpForward {
    name: Arc<str>,
    policy: CompiledPolicy,
    login: UpstreamAuth,
    upstream: Arc<Upstream>,
    audit: AuditHandle,
    limits: HttpLimits,
    jira: LayerReporter,
    slots: Arc<Semaphore>,
    /// For HTTP/2 connections.
    http2: Arc<Semaphore>,
    counter: Arc<RequestCounter>,
    traffic: Arc<TrafficCounters>,
    pauses: PauseRegistry,
    expected: Arc<ExpectedRequests>,
    refusal_limit: Arc<RefusalLimit>,
    /// All others are turned away.
    only_expected: bool,
    /// Headers of the vendor whose removal the log has named.
    named: Mutex<HashSet<HeaderName>>,
}

/// How many have come, and how many are under way.
#[derive(Default)]
pub struct RequestCounter {
    total: AtomicU64,
    in_flight: AtomicU64,
}

/// One that is under way, until it is dropped.
pub struct InFlightGuard(Arc<RequestCounter>);

impl RequestCounter {
    /// Requests since the agent started.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Requests that are being answered now.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// One more has come.
    pub fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// So many more have come.
    fn count_many(&self, count: u64) {
        self.total.fetch_add(count, Ordering::Relaxed);
    }

    /// One is under way.
    pub fn enter(self: &Arc<Self>) -> InFlightGuard {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlightGuard(Arc::clone(self))
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request's place among those in flight.
pub(super) struct RequestPermit {
    _place: OwnedSemaphorePermit,
    _under_way: InFlightGuard,
}

impl HttpForward {
    /// `jira` is the Jira layer of this forward's status: each answer proves it.
    pub fn new(
        name: Arc<str>,
        policy: CompiledPolicy,
        login: UpstreamAuth,
        upstream: impl Into<Arc<Upstream>>,
        audit: AuditHandle,
        limits: HttpLimits,
        jira: Arc<StatusLayer>,
    ) -> Self {
        let slots = limits.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            traffic: Arc::new(TrafficCounters::new(&name)),
            name,
            policy,
            login,
            upstream: upstream.into(),
            audit,
            refusal_limit: Arc::new(RefusalLimit::new(limits.refusals_per_minute)),
            slots: Arc::new(Semaphore::new(slots)),
            http2: Arc::new(Semaphore::new(http2::CONNECTIONS)),
            limits,
            jira: LayerReporter::new(jira),
            counter: Arc::default(),
            pauses: PauseRegistry::default(),
            expected: Arc::default(),
            only_expected: false,
            named: Mutex::default(),
        }
    }

    /// Obeys these pauses; without them nothing pauses it.
    pub fn pausable(self, pauses: PauseRegistry) -> Self {
        Self { pauses, ..self }
    }

    /// Answers only requests that are [awaited](Self::expect), and turns all others away as if it were paused: while a
    /// check stands in for an agent that does not run, no vendor's request may depend on it.
    pub fn only_expected(self) -> Self {
        Self {
            only_expected: true,
            ..self
        }
    }

    /// Goes on counting where `former` stands, whose seat it is to take.
    pub fn with_counters_of(self, former: &Self) -> Self {
        let slots = match self.limits.max_concurrent == former.limits.max_concurrent {
            true => &former.slots,
            false => &self.slots,
        };
        let refusal_limit =
            match self.limits.refusals_per_minute == former.refusal_limit.per_minute() {
                true => &former.refusal_limit,
                false => &self.refusal_limit,
            };
        Self {
            refusal_limit: Arc::clone(refusal_limit),
            slots: Arc::clone(slots),
            http2: Arc::clone(&former.http2),
            traffic: Arc::clone(&former.traffic),
            counter: Arc::clone(&former.counter),
            expected: Arc::clone(&former.expected),
            ..self
        }
    }

    /// Waits for a GET of `target` with this id, for as long as what it gives is kept.
    pub fn expect(&self, id: &str, target: &str) -> ExpectedRequest {
        self.expected.expect(id, target)
    }

    /// Whether a request is to be turned away since it is not the one that is waited for.
    pub(super) fn rejects_unexpected(&self, id: &HeaderValue, head: &request::Parts) -> bool {
        !self.expected.received(id, &head.method, target(head)) && self.only_expected
    }

    /// Whether the administrator has stopped its requests.
    pub(super) fn paused(&self) -> bool {
        self.pauses.of(&self.name).is_some()
    }

    /// Name of the forward, as configured.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The customer's policy for this forward.
    pub fn policy(&self) -> &CompiledPolicy {
        &self.policy
    }

    /// The login toward Jira.
    pub fn login(&self) -> &UpstreamAuth {
        &self.login
    }

    /// The way to Jira.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// Where its records go.
    pub fn audit(&self) -> &AuditHandle {
        &self.audit
    }

    /// What its requests are counted in.
    pub fn traffic(&self) -> &Arc<TrafficCounters> {
        &self.traffic
    }

    /// Bounds of its HTTP side.
    pub fn limits(&self) -> &HttpLimits {
        &self.limits
    }

    /// Its requests, allowed or refused, from all connections; also those that a predecessor still answers.
    pub fn counter(&self) -> &Arc<RequestCounter> {
        &self.counter
    }

    /// How many requests may be refused.
    pub(super) fn refusal_limit(&self) -> &RefusalLimit {
        &self.refusal_limit
    }

    /// Requests being answered now.
    pub fn in_flight(&self) -> u64 {
        self.counter.in_flight()
    }

    /// One more request has come.
    pub(super) fn count(&self) {
        self.counter.count();
    }

    /// So many requests have come and were refused without a look at each; none of them gets a record of its own.
    pub(super) fn refused_unseen(&self, error: &'static str, count: u64) {
        self.counter.count_many(count);
        self.traffic.refused_unseen(error, count);
        self.audit.count_refusal(&self.name, error, count);
    }

    /// A place for one request, or `None` where all are taken.
    pub(super) fn enter(&self) -> Option<RequestPermit> {
        let place = self.slots.clone().try_acquire_owned().ok()?;
        Some(RequestPermit {
            _place: place,
            _under_way: self.counter.enter(),
        })
    }

    /// Counts headers of the vendor that were taken off, and names each once.
    pub(super) fn removed(&self, removed: &RemovedHeaders) {
        for (header, class) in &removed.0 {
            self.traffic.removed(*class);
            self.log_removed_header(header, *class);
        }
    }

    fn log_removed_header(&self, header: &HeaderName, class: HeaderClass) {
        // A panic while it is held leaves a name too few, which is named again.
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.len() >= MAX_NAMED || named.contains(header) {
            return;
        }
        named.insert(header.clone());
        let last = named.len() == MAX_NAMED;
        drop(named);
        let header: String = header.as_str().chars().take(MAX_NAME).collect();
        let forward = &*self.name;
        match class {
            HeaderClass::Identity => tracing::info!(
                forward,
                header,
                "the vendor sends a header that can carry an identity: it is removed, since the agent logs in on this forward"
            ),
            HeaderClass::Forwarding | HeaderClass::Unknown => tracing::info!(
                forward,
                header,
                "a header of the vendor does not reach Jira; if Jira needs it, add it to pass in [forward.headers]"
            ),
        }
        if last {
            tracing::info!(
                forward,
                "the vendor sends more kinds of headers that do not reach Jira; they are counted in the metrics and no longer named"
            );
        }
    }

    /// A place for one HTTP/2 connection, or `None` where all are taken.
    pub(super) fn enter_http2(&self) -> Option<OwnedSemaphorePermit> {
        self.http2.clone().try_acquire_owned().ok()
    }

    /// Jira, or something before it, answered. Only what Jira itself says proves that it is there.
    pub(super) fn answered(&self, head: &response::Parts) {
        let status = head.status;
        // What a proxy says when Jira behind it does not answer, and Jira while it starts.
        if let 502..=504 = status.as_u16() {
            let cause = format!(
                "Jira, or a proxy before it, answers HTTP {}",
                status.as_str()
            );
            let remedy = "Look at Jira's log, and at a proxy before it.";
            if self.leaves_it_to_the_probe() {
                return;
            }
            if self.jira.failed(ProofState::Degraded, &cause, remedy) {
                tracing::warn!(
                    forward = &*self.name,
                    cause,
                    remedy,
                    "a request to Jira failed"
                );
            }
            return;
        }
        let is_jiras = match AnswerSource::noted(head) {
            // Under a wrong context path every request is answered so, and none can pass.
            AnswerSource::Jira if status == StatusCode::NOT_FOUND => self.jira.is_proven(),
            AnswerSource::Jira => true,
            // Others answer so, too: it does not overrule what the probe has found in Jira's place.
            AnswerSource::LikeJira => self.jira.is_proven(),
            AnswerSource::Unclear => false,
            // It may be this request alone; the probe finds out.
            AnswerSource::Intermediary(_) => {
                self.jira.doubt();
                false
            }
        };
        if is_jiras && self.jira.proven(Some("answers requests")) {
            tracing::info!(
                forward = &*self.name,
                status = status.as_u16(),
                "Jira answers requests"
            );
        }
    }

    /// One path that fails is no sick Jira: what stands proven the probe alone overrules, which looks within seconds. It
    /// also keeps a vendor from changing the state, and writing to the log, by every other request. What the probe has
    /// found to be wrong already it has better words for.
    fn leaves_it_to_the_probe(&self) -> bool {
        let state = self.jira.state();
        if state == ProofState::Proven {
            self.jira.doubt();
        }
        matches!(state, ProofState::Proven | ProofState::Degraded)
    }

    /// Jira gave no answer.
    pub(super) fn failed(&self, error: &SendError, remedy: &str) {
        let state = match error.kind {
            FailedStep::Resolve | FailedStep::Connect | FailedStep::Tls => ProofState::Failed,
            // One slow or broken answer among many good ones does not mean that Jira is down.
            FailedStep::PoolExhausted
            | FailedStep::ResponseTimeout
            | FailedStep::Exchange
            | FailedStep::AnswerHead => ProofState::Degraded,
            FailedStep::RequestBody => return,
        };
        if state == ProofState::Degraded && self.leaves_it_to_the_probe() {
            return;
        }
        let cause = error.to_string();
        if self.jira.failed(state, &cause, remedy) {
            tracing::warn!(
                forward = &*self.name,
                cause,
                remedy,
                "a request to Jira failed"
            );
        }
    }
}

/// An honest vendor sends a handful; a hostile one as many as it likes.
const MAX_NAMED: usize = 32;
/// Characters of a header's name that are shown; it has letters, digits and token characters only.
const MAX_NAME: usize = 64;

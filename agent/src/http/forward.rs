//! Everything that the requests of one forward share.

use super::{
    EventSink, ExpectedRequest, HttpLimits, RequestGate, event_sink::EventIntake, exchange::target,
    expected::ExpectedRequests, http2, problem::ProblemKind, refusal_limit::RefusalLimit,
};
use crate::{
    audit::{AuditHandle, TrafficDirection},
    auth::{HeaderClass, RemovedHeaders, UpstreamAuth},
    metrics::TrafficCounters,
    pause::PauseRegistry,
    policy::CompiledPolicy,
    status::{LayerReporter, ProofState, StatusLayer},
    upstream::{AnswerSource, FailedStep, SendError, Upstream},
    vendor_text::ToolName,
};
use http::{HeaderName, HeaderValue, StatusCode, request, response};
use parking_lot::Mutex;
use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What a request of one forward needs: policy, credential, upstream, audit, limits, counters. Shared by all channels of
/// the forward.
pub struct HttpForward {
    name: Arc<str>,
    policy: CompiledPolicy,
    login: UpstreamAuth,
    upstream: Arc<Upstream>,
    /// What the agent's own answers call the other side; `None`: Jira.
    tool: Option<ToolName>,
    audit: AuditHandle,
    limits: HttpLimits,
    jira: LayerReporter,
    slots: Arc<Semaphore>,
    /// Places for HTTP/2 connections.
    http2_slots: Arc<Semaphore>,
    counter: Arc<RequestCounter>,
    traffic: Arc<TrafficCounters>,
    pauses: PauseRegistry,
    expected: Arc<ExpectedRequests>,
    refusal_limit: Arc<RefusalLimit>,
    /// Rejects all others.
    only_expected: bool,
    /// On the way out: who may call, and what may leave.
    gate: Option<Arc<dyn RequestGate>>,
    /// On the way out: stores requests instead of sending them on.
    intake: Option<EventIntake>,
    /// Headers of the vendor whose removal was logged.
    logged_headers: Mutex<HashSet<HeaderName>>,
}

/// Counts requests since the start, and those in flight.
#[derive(Default)]
pub struct RequestCounter {
    total: AtomicU64,
    in_flight: AtomicU64,
}

/// Counts one request as in flight until it is dropped.
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

    /// Counts one more request.
    pub fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `count` more requests.
    fn count_many(&self, count: u64) {
        self.total.fetch_add(count, Ordering::Relaxed);
    }

    /// Counts one request as in flight until the guard is dropped.
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
    _slot: OwnedSemaphorePermit,
    _in_flight: InFlightGuard,
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
        let upstream: Arc<Upstream> = upstream.into();
        Self {
            traffic: Arc::new(TrafficCounters::new(&name)),
            name,
            policy,
            login,
            tool: upstream.profile().tool_name(),
            upstream,
            audit,
            refusal_limit: Arc::new(RefusalLimit::new(limits.refusals_per_minute)),
            slots: Arc::new(Semaphore::new(slots)),
            http2_slots: Arc::new(Semaphore::new(http2::CONNECTIONS)),
            limits,
            jira: LayerReporter::new(jira),
            counter: Arc::default(),
            pauses: PauseRegistry::default(),
            expected: Arc::default(),
            only_expected: false,
            gate: None,
            intake: None,
            logged_headers: Mutex::default(),
        }
    }

    /// The same forward, which these pauses can stop; without them nothing does.
    pub fn pausable(self, pauses: PauseRegistry) -> Self {
        Self { pauses, ..self }
    }

    /// The same forward, for requests of Jira to the vendor that this gate lets in.
    pub fn outward(self, gate: Arc<dyn RequestGate>) -> Self {
        Self {
            gate: Some(gate),
            ..self
        }
    }

    /// The same forward, which stores what its gate lets in instead of sending it on.
    pub fn storing(self, sink: Arc<dyn EventSink>) -> Self {
        Self {
            intake: Some(EventIntake::new(sink)),
            ..self
        }
    }

    /// Takes its requests if it stores them.
    pub(super) fn intake(&self) -> Option<&EventIntake> {
        self.intake.as_ref()
    }

    /// Which way its requests go.
    pub fn direction(&self) -> TrafficDirection {
        match self.gate {
            None => TrafficDirection::In,
            Some(_) => TrafficDirection::Out,
        }
    }

    /// Whether its requests go from Jira to the vendor.
    pub(super) fn is_outward(&self) -> bool {
        self.gate.is_some()
    }

    /// Decides who may send requests on the way out.
    pub(super) fn gate(&self) -> Option<&dyn RequestGate> {
        self.gate.as_deref()
    }

    /// The same forward, which answers only [expected](Self::expect) requests and rejects all others as if it were paused:
    /// while a check runs in place of the agent, no request of the vendor may depend on it.
    pub fn only_expected(self) -> Self {
        Self {
            only_expected: true,
            ..self
        }
    }

    /// The same forward with the counters and places of `former`, which it is to replace.
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
            http2_slots: Arc::clone(&former.http2_slots),
            traffic: Arc::clone(&former.traffic),
            counter: Arc::clone(&former.counter),
            expected: Arc::clone(&former.expected),
            ..self
        }
    }

    /// Expects a GET of `target` with this id until the returned value is dropped.
    pub fn expect(&self, id: &str, target: &str) -> ExpectedRequest {
        self.expected.expect(id, target)
    }

    /// Whether to reject a request because only expected ones are answered.
    pub(super) fn rejects_unexpected(&self, id: &HeaderValue, head: &request::Parts) -> bool {
        !self.expected.received(id, &head.method, target(head)) && self.only_expected
    }

    /// Waits until it is known whether the administrator has paused the forward.
    pub(super) async fn pauses_known(&self) {
        self.pauses.known().await;
    }

    /// Whether it is known whether the administrator has paused the forward.
    pub(super) fn are_pauses_known(&self) -> bool {
        self.pauses.is_known()
    }

    /// The pauses that can stop it.
    pub fn pauses(&self) -> &PauseRegistry {
        &self.pauses
    }

    /// Whether only expected requests are answered.
    pub(super) fn answers_only_expected(&self) -> bool {
        self.only_expected
    }

    /// Whether the administrator has paused the forward.
    pub(super) fn paused(&self) -> bool {
        self.pauses.of(&self.name).is_some()
    }

    /// Name of the forward, as configured.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The rules of `[forward.policy]`, compiled when the configuration was loaded.
    pub fn policy(&self) -> &CompiledPolicy {
        &self.policy
    }

    /// How requests of this forward are authenticated to Jira (`[forward.auth]`).
    pub fn login(&self) -> &UpstreamAuth {
        &self.login
    }

    /// Jira, with its connection pool.
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    /// What the agent's own answer of this kind calls the other side; `None`: Jira. What occurs on the way out alone names
    /// the vendor's host itself, and means Jira where it says so.
    pub(super) fn tool_in(&self, kind: ProblemKind) -> Option<&ToolName> {
        self.tool.as_ref().filter(|_| !kind.is_outward())
    }

    /// Takes the audit records of its requests.
    pub fn audit(&self) -> &AuditHandle {
        &self.audit
    }

    /// The metrics of its requests.
    pub fn traffic(&self) -> &Arc<TrafficCounters> {
        &self.traffic
    }

    /// The `[forward.http]` limits that apply to its requests.
    pub fn limits(&self) -> &HttpLimits {
        &self.limits
    }

    /// Its requests, allowed or refused, from all connections; also those that a predecessor still answers.
    pub fn counter(&self) -> &Arc<RequestCounter> {
        &self.counter
    }

    /// How many requests may be refused with an audit line each.
    pub(super) fn refusal_limit(&self) -> &RefusalLimit {
        &self.refusal_limit
    }

    /// Requests that are being answered now, whichever connection they came by.
    pub fn in_flight(&self) -> u64 {
        self.counter.in_flight()
    }

    /// Counts one more request.
    pub(super) fn count_request(&self) {
        self.counter.count();
    }

    /// Counts requests that were refused unread; none of them gets an audit record.
    pub(super) fn count_unread_refusals(&self, error: &'static str, count: u64) {
        self.counter.count_many(count);
        self.traffic.count_unread_refusals(error, count);
        self.audit.count_refusal(&self.name, error, count);
    }

    /// A place for one request, or `None` where all are taken.
    pub(super) fn try_enter(&self) -> Option<RequestPermit> {
        let slot = self.slots.clone().try_acquire_owned().ok()?;
        Some(RequestPermit {
            _slot: slot,
            _in_flight: self.counter.enter(),
        })
    }

    /// Counts headers that were removed from a request, and logs each name once.
    pub(super) fn count_removed_headers(&self, removed: &RemovedHeaders) {
        for (header, class) in &removed.0 {
            self.traffic.count_removed_header(*class);
            self.log_removed_header(header, *class);
        }
    }

    fn log_removed_header(&self, header: &HeaderName, class: HeaderClass) {
        // A panic while the lock is held leaves a name too few, which is logged again.
        let mut logged = self.logged_headers.lock();
        if logged.len() >= MAX_LOGGED_HEADERS || logged.contains(header) {
            return;
        }
        logged.insert(header.clone());
        let is_last = logged.len() == MAX_LOGGED_HEADERS;
        drop(logged);
        let header: String = header.as_str().chars().take(MAX_NAME).collect();
        match class {
            HeaderClass::Identity => tracing::info!(
                header,
                "removing a header of the vendor that can carry an identity: the agent logs in on this forward"
            ),
            HeaderClass::Forwarding | HeaderClass::Unknown => tracing::info!(
                header,
                "{}",
                self.jira.reword(
                    "removing a header of the vendor; if Jira needs it, add it to pass in [forward.headers]"
                )
            ),
        }
        if is_last {
            tracing::info!(
                "removing more headers of the vendor; the metrics count them, and the log no longer names them"
            );
        }
    }

    /// A place for one HTTP/2 connection, or `None` where all are taken.
    pub(super) fn try_enter_http2(&self) -> Option<OwnedSemaphorePermit> {
        self.http2_slots.clone().try_acquire_owned().ok()
    }

    /// Updates the Jira layer when Jira, or something before it, has answered. Only Jira's own answer proves Jira.
    pub(super) fn on_answer(&self, head: &response::Parts) {
        let status = head.status;
        if self.is_outward() {
            return self.on_vendor_answer(status);
        }
        // A proxy answers so when Jira behind it does not answer, and Jira while it starts.
        if let 502..=504 = status.as_u16() {
            let cause = format!(
                "Jira, or a proxy before it, answers HTTP {}",
                status.as_str()
            );
            let remedy = "Check Jira's log, and that of a proxy before it.";
            if !self.defers_to_probe() {
                self.report_failure(ProofState::Degraded, &cause, remedy);
            }
            return;
        }
        let is_jiras = match AnswerSource::noted(head) {
            // Under a wrong context path every request is answered so, and none can pass.
            AnswerSource::Jira if status == StatusCode::NOT_FOUND => self.jira.is_proven(),
            AnswerSource::Jira => true,
            // Others answer so, too: it does not overrule what the probe has found instead of Jira.
            AnswerSource::LikeJira => self.jira.is_proven(),
            AnswerSource::Unclear => false,
            // It may concern this request alone; the probe finds out.
            AnswerSource::Intermediary(_) => {
                self.jira.doubt();
                false
            }
        };
        if is_jiras && self.jira.proven(Some("answers requests")) {
            tracing::info!(
                status = status.as_u16(),
                "{}",
                self.jira.reword("Jira answers requests")
            );
        }
    }

    /// Whatever the vendor's side answers proves that it is reached, unless a proxy there answers for it.
    fn on_vendor_answer(&self, status: StatusCode) {
        if let 502..=504 = status.as_u16() {
            let cause = format!("the vendor's side answers HTTP {}", status.as_str());
            let remedy = "Tell the vendor; it is no fault of this host.";
            return self.report_failure(ProofState::Degraded, &cause, remedy);
        }
        if self.jira.proven(Some("answers requests")) {
            tracing::info!(
                outlet = &*self.name,
                status = status.as_u16(),
                "the vendor answers requests"
            );
        }
    }

    /// One path that fails does not mean that Jira fails: only the probe, which runs within seconds, overrules a proven
    /// state, and it describes a degraded one better. It also keeps a vendor from changing the state, and writing to the
    /// log, with every other request.
    fn defers_to_probe(&self) -> bool {
        let state = self.jira.state();
        if state == ProofState::Proven {
            self.jira.doubt();
        }
        matches!(state, ProofState::Proven | ProofState::Degraded)
    }

    /// Updates the Jira layer when Jira gave no answer.
    pub(super) fn on_send_error(&self, error: &SendError, remedy: &str) {
        let state = match error.kind {
            FailedStep::Resolve
            | FailedStep::Connect
            | FailedStep::NoSession
            | FailedStep::Prohibited
            | FailedStep::Tls => ProofState::Failed,
            // One slow or broken answer among many good ones does not mean that Jira is down.
            FailedStep::PoolExhausted
            | FailedStep::ResponseTimeout
            | FailedStep::Exchange
            | FailedStep::KeptConnection
            | FailedStep::AnswerHead => ProofState::Degraded,
            // Their cause is in the status already, or is none of Jira's health.
            FailedStep::Descriptors
            | FailedStep::RequestBody
            | FailedStep::HeldBack
            | FailedStep::JiraPause
            | FailedStep::RateLimit => return,
        };
        if state == ProofState::Failed || self.is_outward() || !self.defers_to_probe() {
            self.report_failure(state, &error.to_string(), remedy);
        }
    }

    fn report_failure(&self, state: ProofState, cause: &str, remedy: &str) {
        if !self.jira.failed(state, cause, remedy) {
            return;
        }
        let (cause, remedy) = (self.jira.reword(cause), self.jira.reword(remedy));
        let message = match self.is_outward() {
            false => self.jira.reword("a request to Jira failed"),
            true => "a request of Jira to the vendor failed".into(),
        };
        tracing::warn!(cause = &*cause, remedy = &*remedy, "{message}");
    }
}

/// An honest vendor sends a handful; a hostile one any number.
const MAX_LOGGED_HEADERS: usize = 32;
/// Characters of a header's name that are shown; it has letters, digits and token characters only.
const MAX_NAME: usize = 64;

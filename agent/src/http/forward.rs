//! One forward as its requests see it.

use super::{Awaited, Limits, awaited::Awaiting};
use crate::{
    audit::Audit,
    auth::Login,
    metrics::Traffic,
    pause::Pauses,
    policy::Policy,
    status::{Layer, State, Witness},
    upstream::{FailedStep, SendError, Upstream},
};
use http::{HeaderValue, StatusCode};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// All that a request of one forward needs on its way. Shared by every channel of the forward.
pub struct Forward {
    name: Arc<str>,
    policy: Policy,
    login: Login,
    upstream: Upstream,
    audit: Audit,
    limits: Limits,
    jira: Witness,
    slots: Arc<Semaphore>,
    total: AtomicU64,
    traffic: Arc<Traffic>,
    pauses: Pauses,
    awaiting: Arc<Awaiting>,
    /// All others are turned away.
    only_awaited: bool,
}

/// A request's place among those in flight.
pub(super) type InFlight = OwnedSemaphorePermit;

impl Forward {
    /// `jira` is the Jira layer of this forward's status: each answer proves it.
    pub fn new(
        name: Arc<str>,
        policy: Policy,
        login: Login,
        upstream: Upstream,
        audit: Audit,
        limits: Limits,
        jira: Arc<Layer>,
    ) -> Self {
        let slots = limits.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        Self {
            traffic: Arc::new(Traffic::new(&name)),
            name,
            policy,
            login,
            upstream,
            audit,
            slots: Arc::new(Semaphore::new(slots)),
            limits,
            jira: Witness::new(jira),
            total: AtomicU64::new(0),
            pauses: Pauses::default(),
            awaiting: Arc::default(),
            only_awaited: false,
        }
    }

    /// Obeys these pauses; without them nothing pauses it.
    pub fn pausable(self, pauses: Pauses) -> Self {
        Self { pauses, ..self }
    }

    /// Answers only requests that are [awaited](Self::expect), and turns all others away as if it were paused: while a
    /// check stands in for an agent that does not run, no vendor's request may depend on it.
    pub fn only_awaited(self) -> Self {
        Self {
            only_awaited: true,
            ..self
        }
    }

    /// Waits for a request with this id, for as long as what it gives is kept.
    pub fn expect(&self, id: &str) -> Awaited {
        self.awaiting.begin(id)
    }

    /// Whether a request is to be turned away since it is not the one that is waited for.
    pub(super) fn turns_away(&self, id: &HeaderValue) -> bool {
        !self.awaiting.came(id) && self.only_awaited
    }

    /// Whether the administrator has stopped its requests.
    pub(super) fn paused(&self) -> bool {
        self.pauses.of(&self.name).is_some()
    }

    /// As configured.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The customer's policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// The login toward Jira.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// The way to Jira.
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Where its records go.
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// What its requests are counted in.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Bounds of its HTTP side.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Requests being answered now, from all connections.
    pub fn in_flight(&self) -> usize {
        let slots = self.limits.max_concurrent.clamp(1, Semaphore::MAX_PERMITS);
        slots.saturating_sub(self.slots.available_permits())
    }

    /// Requests since the start, allowed or refused.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// One more request has come.
    pub(super) fn count(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// A place for one request, or `None` where all are taken.
    pub(super) fn enter(&self) -> Option<InFlight> {
        self.slots.clone().try_acquire_owned().ok()
    }

    /// Jira, or a proxy before it, answered.
    pub(super) fn answered(&self, status: StatusCode) {
        let changed = match status.as_u16() {
            // What a proxy says when Jira behind it does not answer, and Jira while it starts.
            502..=504 => self.jira.failed(
                State::Degraded,
                &format!(
                    "Jira, or a proxy before it, answers HTTP {}",
                    status.as_str()
                ),
                "Look at Jira's log, and at a proxy before it.",
            ),
            _ => self.jira.proven(Some("answers requests")),
        };
        if changed {
            tracing::info!(
                forward = &*self.name,
                status = status.as_u16(),
                "jira answers"
            );
        }
    }

    /// Jira gave no answer.
    pub(super) fn failed(&self, error: &SendError, remedy: &str) {
        let state = match error.kind {
            FailedStep::Resolve | FailedStep::Connect | FailedStep::Tls => State::Failed,
            // One slow or broken answer among many good ones does not mean that Jira is down.
            FailedStep::PoolExhausted | FailedStep::ResponseTimeout | FailedStep::Exchange => {
                State::Degraded
            }
            FailedStep::RequestBody => return,
        };
        let cause = error.to_string();
        if self.jira.failed(state, &cause, remedy) {
            tracing::warn!(forward = &*self.name, cause, remedy, "jira does not answer");
        }
    }
}

//! Protects Jira, and answers the vendor quickly where Jira cannot: who may send now, who waits, and who is answered at
//! once.
//!
//! | file | question |
//! |---|---|
//! | `breaker` | does Jira answer at all? |
//! | `rate_gate` | did Jira ask to be called again later? |
//! | `concurrency` | how many at once, and can the queue be served in time? |
//! | `usual` | how long does it usually take? |
//!
//! These are state machines without clock and sockets. [`UpstreamProtection`] asks them under one lock, which is never
//! held across a wait.

mod breaker;
mod concurrency;
mod rate_gate;
mod usual;

pub use rate_gate::RequesterKey;

use super::{Delivery, FailedStep, SendError, exchange::SendProgress};
use breaker::{
    BreakerChange, BreakerDecision, BreakerReason, TRIAL_PAUSE, TrialStart, UpstreamBreaker,
};
use concurrency::{ConcurrencyLimit, QueueForecast};
use http::{HeaderMap, Method, StatusCode};
use parking_lot::Mutex;
use rate_gate::{GatedRequest, RateGate};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};
use usual::UsualDuration;

/// The protection of one Jira, shared by all requests to it.
pub(super) struct UpstreamProtection {
    /// Most requests at once.
    ceiling: usize,
    /// How long a request may wait for its turn.
    wait: Duration,
    state: Mutex<ProtectionState>,
}

struct ProtectionState {
    breaker: UpstreamBreaker,
    gate: RateGate,
    concurrency: ConcurrencyLimit,
    /// From the last byte of a request to the first of its answer.
    heads: UsualDuration,
    /// From a request's turn to the end of its answer.
    turns: UsualDuration,
    /// Requests that have their turn, at most the ceiling.
    turn_holders: HashMap<u64, TurnHolder>,
    /// First come, first served; bounded by `max_concurrent` of the forwards.
    queue: VecDeque<QueuedRequest>,
    next_id: u64,
    /// When a turn last ended.
    last_end: Instant,
    last_observed: Instant,
}

struct TurnHolder {
    since: Instant,
    /// Until its answer begins.
    unanswered: Option<Arc<SendProgress>>,
    trial: Option<TrialStart>,
}

struct QueuedRequest {
    id: u64,
    since: Instant,
    turn: oneshot::Sender<Result<UpstreamPermit, SendError>>,
}

/// What the protection has to know of a request.
pub(super) struct ProtectedRequest {
    pub(super) requester: RequesterKey,
    pub(super) method: Method,
    pub(super) path: String,
}

impl ProtectedRequest {
    fn gated(&self) -> GatedRequest<'_> {
        GatedRequest {
            requester: self.requester,
            method: &self.method,
            path: &self.path,
        }
    }
}

/// The turn of one request, until it is dropped.
pub(super) struct UpstreamPermit {
    protection: Arc<UpstreamProtection>,
    id: u64,
    request: Option<ProtectedRequest>,
}

/// How a probe of the agent's own ended that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// Jira answers, and says nothing to the contrary.
    Well,
    /// Something answered: that Jira is in maintenance, or in place of Jira.
    Answered,
    /// There was no answer.
    Unanswered {
        /// For how long the probe waited.
        waited: Duration,
    },
}

/// What the protection does at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtectionSnapshot {
    /// Jira takes no connections or gives no answers: requests fail at once.
    pub breaker_open: bool,
    /// Requests that have waited for an answer for three seconds or longer, while none was answered, and the longest wait.
    pub silent: Option<(usize, Duration)>,
    /// Rate limits and pauses of Jira's that are kept now, and for how long the last of them lasts.
    pub held: Option<(usize, Duration)>,
    /// Requests that may be with Jira at once now.
    pub limit: usize,
    /// Requests that are with Jira.
    pub in_use: usize,
    /// Requests that wait for their turn.
    pub queued: usize,
}

impl UpstreamProtection {
    /// `ceiling` is the number of connections, `wait` how long a request may wait for one.
    pub(super) fn new(ceiling: usize, wait: Duration) -> Self {
        let now = Instant::now();
        Self {
            ceiling,
            wait,
            state: Mutex::new(ProtectionState {
                breaker: UpstreamBreaker::new(now),
                gate: RateGate::default(),
                concurrency: ConcurrencyLimit::new(ceiling, now),
                heads: UsualDuration::default(),
                turns: UsualDuration::default(),
                turn_holders: HashMap::new(),
                queue: VecDeque::new(),
                next_id: 0,
                last_end: now,
                last_observed: now,
            }),
        }
    }

    /// Waits for the right to send this request, or says at once why it cannot be sent in time.
    pub(super) async fn permit(
        self: &Arc<Self>,
        request: ProtectedRequest,
    ) -> Result<UpstreamPermit, SendError> {
        let mut permit = self.turn(&request).await?;
        permit.request = Some(request);
        Ok(permit)
    }

    async fn turn(
        self: &Arc<Self>,
        request: &ProtectedRequest,
    ) -> Result<UpstreamPermit, SendError> {
        let since = Instant::now();
        let (id, mut turn) = {
            let mut state = self.state.lock();
            state.observe(since);
            state.check_gate(since, request)?;
            let is_full = state.turn_holders.len() >= self.ceiling;
            let decision = match state.breaker.is_open() && is_full {
                true => BreakerDecision::Refuse(BreakerReason::Silent(Duration::ZERO)),
                false => state.breaker.admit(since, request.method.is_safe()),
            };
            match decision {
                BreakerDecision::Refuse(why) => return Err(breaker_refusal(why)),
                BreakerDecision::Trial(trial) => {
                    return Ok(self.begin(&mut state, since, Some(trial)));
                }
                BreakerDecision::Send => {}
            }
            if state.queue.is_empty() && state.has_room() {
                return Ok(self.begin(&mut state, since, None));
            }
            if !state.can_serve(since, state.queue.len(), Duration::ZERO, self.wait) {
                return Err(self.busy(Duration::ZERO));
            }
            state.enqueue(since)
        };
        let _place = QueuePlace {
            protection: self,
            id,
        };
        let deadline = since + self.wait;
        loop {
            let review = deadline.min(Instant::now() + REVIEW);
            tokio::select! {
                biased;
                // The sender is dropped only together with the state.
                turn = &mut turn => {
                    let permit = turn.unwrap_or_else(|_| Err(self.busy(since.elapsed())))?;
                    // Jira may have asked for a pause since.
                    let checked = self.state.lock().check_gate(Instant::now(), request);
                    return checked.map(|()| permit);
                }
                () = sleep_until(review) => {
                    let now = Instant::now();
                    let mut state = self.state.lock();
                    state.observe(now);
                    // The limit may have risen since a turn last ended.
                    let gone = self.grant(&mut state, now);
                    let ahead = state.queue.iter().position(|queued| queued.id == id);
                    let waited = now.saturating_duration_since(since);
                    let left = deadline.saturating_duration_since(now);
                    // Without a place it is answered already.
                    let is_hopeless = ahead.is_some_and(|ahead| {
                        left.is_zero() || !state.can_serve(now, ahead, waited, left)
                    });
                    drop(state);
                    drop(gone);
                    if is_hopeless {
                        return Err(self.busy(waited));
                    }
                }
            }
        }
    }

    /// A connection failed.
    pub(super) fn connect_failed(&self, error: &SendError) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let change = state.breaker.connect_failed(now, error.kind, &error.detail);
        state.apply(change);
    }

    /// The agent's own probe was sent, and ended so.
    pub(super) fn probe_ended(&self, outcome: ProbeOutcome) {
        let now = Instant::now();
        let mut state = self.state.lock();
        let change = match outcome {
            ProbeOutcome::Well => {
                state.gate.found_well(now);
                state.breaker.answered(now)
            }
            ProbeOutcome::Answered => state.breaker.answered(now),
            ProbeOutcome::Unanswered { waited } => state.breaker.probe_failed(now, waited),
        };
        state.apply(change);
    }

    /// What it does now. Call it about once a second, since nothing else ends a silence that no request meets.
    pub(super) fn snapshot(&self) -> ProtectionSnapshot {
        let now = Instant::now();
        let mut state = self.state.lock();
        state.observe(now);
        let silence = now.saturating_duration_since(state.breaker.last_answer());
        let waits = state.waits();
        let silent: Vec<_> = waits.iter().filter(|wait| **wait >= SILENCE).collect();
        ProtectionSnapshot {
            breaker_open: state.breaker.is_open(),
            silent: silent
                .iter()
                .max()
                .filter(|_| silence >= SILENCE)
                .map(|longest| (silent.len(), **longest)),
            held: state.gate.waiting(now),
            limit: state.concurrency.limit(),
            in_use: state.turn_holders.len(),
            queued: state.queue.len(),
        }
    }

    #[cfg(test)]
    pub(super) fn free(&self) -> usize {
        self.ceiling - self.state.lock().turn_holders.len()
    }

    fn begin(
        self: &Arc<Self>,
        state: &mut ProtectionState,
        now: Instant,
        trial: Option<TrialStart>,
    ) -> UpstreamPermit {
        let id = state.id();
        let holder = TurnHolder {
            since: now,
            unanswered: None,
            trial,
        };
        state.turn_holders.insert(id, holder);
        let in_use = state.turn_holders.len();
        state.concurrency.in_use(in_use);
        UpstreamPermit {
            protection: Arc::clone(self),
            id,
            request: None,
        }
    }

    fn end(self: &Arc<Self>, id: u64) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if let Some(holder) = state.turn_holders.remove(&id) {
            state.turns.add(now.saturating_duration_since(holder.since));
            state.last_end = now;
            // An answer has ended it already, and a failed connection.
            if let Some(trial) = holder.trial {
                state.breaker.trial_ended(trial);
            }
        }
        state.observe(now);
        let gone = self.grant(&mut state, now);
        drop(state);
        drop(gone);
    }

    /// Gives the first in the queue their turns, while there is room. Drop what it returns without the lock: the permit of
    /// a request that has gone ends its turn itself.
    fn grant(
        self: &Arc<Self>,
        state: &mut ProtectionState,
        now: Instant,
    ) -> Vec<Result<UpstreamPermit, SendError>> {
        let mut gone = Vec::new();
        while state.has_room()
            && let Some(next) = state.queue.pop_front()
        {
            let permit = self.begin(state, now, None);
            gone.extend(next.turn.send(Ok(permit)).err());
        }
        gone
    }

    fn busy(&self, waited: Duration) -> SendError {
        let waited = match waited.as_millis() {
            0 => "at once".to_owned(),
            millis => format!("after {millis} ms"),
        };
        SendError {
            kind: FailedStep::PoolExhausted,
            detail: format!(
                "all connections to Jira (at most {}) are busy, and a request would not get one within {:?} (known {waited}); Jira is slow, or max_connections is too low",
                self.ceiling, self.wait
            ),
            delivery: Delivery::NotSent,
            retry_after: None,
        }
    }
}

impl ProtectionState {
    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    fn check_gate(&self, now: Instant, request: &ProtectedRequest) -> Result<(), SendError> {
        let refusal = self.gate.check(now, request.gated());
        refusal.map_or(Ok(()), |refusal| Err(gate_refusal(refusal)))
    }

    fn has_room(&self) -> bool {
        self.turn_holders.len() < self.concurrency.limit()
    }

    fn enqueue(
        &mut self,
        since: Instant,
    ) -> (u64, oneshot::Receiver<Result<UpstreamPermit, SendError>>) {
        let (turn, taken) = oneshot::channel();
        let id = self.id();
        self.queue.push_back(QueuedRequest { id, since, turn });
        (id, taken)
    }

    /// For how long Jira has let each request wait that has no answer yet.
    fn waits(&self) -> Vec<Duration> {
        self.turn_holders
            .values()
            .filter_map(|holder| holder.unanswered.as_ref()?.waited_for_jira())
            .collect()
    }

    fn can_serve(&self, now: Instant, ahead: usize, waited: Duration, left: Duration) -> bool {
        let waits = self.waits();
        let first_queued = self.queue.front().map_or(now, |queued| queued.since);
        let forecast = QueueForecast {
            limit: self.concurrency.limit(),
            in_use: self.turn_holders.len(),
            waits: &waits,
            // A pool that was full for a moment only is not stalled.
            since_end: now.saturating_duration_since(self.last_end.max(first_queued.min(now))),
            usual: self.turns.quantile(0.5),
        };
        forecast.can_serve(ahead, waited, left)
    }

    fn observe(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_observed) < OBSERVATION_PAUSE {
            return;
        }
        self.last_observed = now;
        let waits = self.waits();
        // In a window without a new turn nothing else tells it.
        self.concurrency.in_use(self.turn_holders.len());
        let unanswered = self.turn_holders.values();
        let unanswered: Vec<_> = unanswered
            .filter_map(|holder| holder.unanswered.as_ref()?.waited_for_answer())
            .collect();
        self.concurrency.observe(now, &unanswered);
        let usual = self.heads.quantile(0.9);
        let change = self.breaker.observe(now, &waits, usual);
        self.apply(change);
    }

    fn apply(&mut self, change: Option<BreakerChange>) {
        match change {
            None => {}
            Some(BreakerChange::Closed) => {
                tracing::info!("Jira answers again; requests are sent again");
            }
            Some(BreakerChange::Opened(why)) => {
                tracing::warn!(
                    cause = why.to_string(),
                    remedy = BREAKER_REMEDY,
                    "requests fail at once until a trial shows that Jira answers"
                );
                for queued in self.queue.drain(..) {
                    let _ = queued.turn.send(Err(breaker_refusal(why.clone())));
                }
            }
        }
    }
}

impl UpstreamPermit {
    /// The request is being sent; from now on Jira is expected to take it and to answer.
    pub(super) fn sent(&self, progress: &Arc<SendProgress>) {
        let mut state = self.protection.state.lock();
        if let Some(holder) = state.turn_holders.get_mut(&self.id) {
            holder.unanswered = Some(Arc::clone(progress));
        }
    }

    /// The head of the answer is here.
    pub(super) fn answered(&self, status: StatusCode, headers: &HeaderMap) {
        let now = Instant::now();
        let mut state = self.protection.state.lock();
        let holder = state.turn_holders.get_mut(&self.id);
        let progress = holder.and_then(|holder| holder.unanswered.take());
        // An upload that Jira answers early did not wait.
        let took = progress.and_then(|progress| progress.waited_for_jira());
        let took = took.unwrap_or_default();
        state.heads.add(took);
        state.concurrency.answered(took);
        let is_new = state.gate.waiting(now).is_none();
        let asks = self
            .request
            .as_ref()
            .is_some_and(|request| state.gate.answered(now, request.gated(), status, headers));
        if asks && is_new {
            tracing::info!(
                status = status.as_u16(),
                "Jira asks to be called again later; such requests are answered without it until then"
            );
        }
        let change = state.breaker.answered(now);
        state.apply(change);
    }

    /// The connection failed: see [`UpstreamProtection::connect_failed`].
    pub(super) fn connect_failed(&self, error: &SendError) {
        self.protection.connect_failed(error);
    }
}

impl Drop for UpstreamPermit {
    fn drop(&mut self) {
        self.protection.end(self.id);
    }
}

/// A place in the queue, which is free again when its request has gone.
struct QueuePlace<'a> {
    protection: &'a UpstreamProtection,
    id: u64,
}

impl Drop for QueuePlace<'_> {
    fn drop(&mut self) {
        let mut state = self.protection.state.lock();
        state.queue.retain(|queued| queued.id != self.id);
    }
}

impl std::fmt::Display for BreakerReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect(step, detail) => write!(f, "{step}: {detail}"),
            Self::Silent(silence) => write!(
                f,
                "Jira takes requests and has answered none for {} s",
                silence.as_secs()
            ),
        }
    }
}

fn breaker_refusal(why: BreakerReason) -> SendError {
    let (kind, detail) = match why {
        // In the words of the failure, so that status and log do not alternate.
        BreakerReason::Connect(step, detail) => (step, detail),
        BreakerReason::Silent(_) => (FailedStep::HeldBack, HELD_BACK.to_owned()),
    };
    SendError {
        kind,
        detail,
        delivery: Delivery::NotSent,
        retry_after: Some(TRIAL_PAUSE),
    }
}

fn gate_refusal(refusal: rate_gate::GateRefusal) -> SendError {
    let seconds = refusal.left.as_millis().div_ceil(1000);
    SendError {
        kind: refusal.step,
        detail: format!("Jira asked to be called again in {seconds} s"),
        delivery: Delivery::NotSent,
        retry_after: Some(refusal.left),
    }
}

const HELD_BACK: &str =
    "Jira takes requests and answers none; nothing is sent until a trial is answered";
const BREAKER_REMEDY: &str = "Check that Jira runs and answers: its own log, garbage collection, threads, database; the agent tries by itself, and sends again as soon as it is answered.";
/// After this without an answer to any request, the agent asks Jira itself.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// How often a request in the queue asks whether its turn can still come.
const REVIEW: Duration = Duration::from_millis(250);
/// Looking at all requests costs a lookup each; more often than this tells nothing new.
const OBSERVATION_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;

//! Protects Jira, and answers the vendor quickly where Jira cannot: who may send now, who waits, and who is answered at
//! once.
//!
//! | file | question |
//! |---|---|
//! | `breaker` | does Jira answer at all? |
//! | `rate_gate` | did Jira ask to be called again later? |
//! | `concurrency` | how many at once, and can the queue be served in time? |
//! | `usual` | how long does it usually take? |
//! | `queue` | who waits for a turn, and for how long? |
//! | `permit` | who has a turn, and what does its answer tell? |
//! | `refusal` | what does the sender get that is held back? |
//!
//! The first four are state machines without clock and sockets. [`UpstreamProtection`] asks them under one lock, which is
//! never held across a wait.

mod breaker;
mod concurrency;
mod permit;
mod queue;
mod rate_gate;
mod refusal;
mod usual;

pub use rate_gate::RequesterKey;

pub(super) use permit::{ProtectedRequest, UpstreamPermit};

use super::SendError;
use crate::profile::ServiceProfile;
use breaker::{BreakerChange, UpstreamBreaker};
use concurrency::ConcurrencyLimit;
use parking_lot::Mutex;
use permit::TurnHolder;
use queue::QueuedRequest;
use rate_gate::RateGate;
use refusal::{breaker_refusal, gate_refusal};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};
use tokio::time::Instant;
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
    /// Whom the log lines speak of.
    profile: Arc<ServiceProfile>,
    breaker: UpstreamBreaker,
    gate: RateGate,
    concurrency: ConcurrencyLimit,
    /// From the last byte of a request to the first of its answer.
    heads: UsualDuration,
    /// From the turn of a request that was sent to the end of its answer.
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
    /// Requests that were sent, and whose answer has not begun.
    pub unanswered: usize,
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
                profile: ServiceProfile::jira(),
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

    /// The same protection, of the tool of this profile.
    pub(super) fn of_tool(self, profile: &Arc<ServiceProfile>) -> Self {
        self.state.lock().profile = Arc::clone(profile);
        self
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
            ProbeOutcome::Unanswered { waited } => {
                state.breaker.probe_failed(now, waited);
                None
            }
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
            unanswered: waits.len(),
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

    /// For how long Jira has let each request wait that has no answer yet.
    fn waits(&self) -> Vec<Duration> {
        self.turn_holders
            .values()
            .filter_map(|holder| holder.unanswered.as_ref()?.waited_for_jira())
            .collect()
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
                tracing::info!(
                    "{}",
                    self.profile
                        .reword("Jira answers again; requests are sent again")
                );
            }
            Some(BreakerChange::Opened(why)) => {
                let cause = why.to_string();
                let (cause, remedy) = (
                    self.profile.reword(&cause),
                    self.profile.reword(BREAKER_REMEDY),
                );
                tracing::warn!(
                    cause = &*cause,
                    remedy = &*remedy,
                    "{}",
                    self.profile
                        .reword("requests fail at once until a trial shows that Jira answers")
                );
                for queued in self.queue.drain(..) {
                    let _ = queued.turn.send(Err(breaker_refusal(why.clone())));
                }
            }
        }
    }
}

const BREAKER_REMEDY: &str = "Check that Jira runs and answers: its own log, garbage collection, threads, database; the agent tries by itself, and sends again as soon as it is answered.";
/// After this without an answer to any request, the agent asks Jira itself.
pub(super) const SILENCE: Duration = Duration::from_secs(3);
/// Looking at all requests costs a lookup each; more often than this tells nothing new.
const OBSERVATION_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests;

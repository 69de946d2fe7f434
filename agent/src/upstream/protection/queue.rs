//! Requests that wait for their turn: first come, first served, and answered at once when it cannot come in time.

use super::{
    ProtectionState, UpstreamProtection,
    breaker::{BreakerDecision, BreakerReason},
    concurrency::QueueForecast,
    permit::{ProtectedRequest, UpstreamPermit},
    refusal::breaker_refusal,
};
use crate::upstream::{Delivery, FailedStep, SendError};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

pub(super) struct QueuedRequest {
    id: u64,
    since: Instant,
    pub(super) turn: oneshot::Sender<Result<UpstreamPermit, SendError>>,
}

impl UpstreamProtection {
    pub(super) async fn turn(
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

    /// Gives the first in the queue their turns, while there is room. Drop what it returns without the lock: the permit of
    /// a request that has gone ends its turn itself.
    pub(super) fn grant(
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
    fn enqueue(
        &mut self,
        since: Instant,
    ) -> (u64, oneshot::Receiver<Result<UpstreamPermit, SendError>>) {
        let (turn, taken) = oneshot::channel();
        let id = self.id();
        self.queue.push_back(QueuedRequest { id, since, turn });
        (id, taken)
    }

    fn has_room(&self) -> bool {
        self.turn_holders.len() < self.concurrency.limit()
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

/// How often a request in the queue asks whether its turn can still come.
const REVIEW: Duration = Duration::from_millis(200);

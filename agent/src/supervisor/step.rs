//! The state machine: which connection to open, when to retry, when to drain. Pure: time and jitter are
//! arguments, what is to be done are values. No sockets, no clock, no randomness.

use super::{
    backoff,
    dialing::MAX_AGE,
    slot::{Dial, Farewell, Held, Leaving, Live, Slot},
};
use crate::tunnel::session::Retry;
use std::time::Duration;

/// What has happened. Times and generations that are no longer current are ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// A deadline may have passed.
    Tick,
    /// A dial has led to a session.
    Opened(Id),
    /// A dial has failed, or was given up.
    OpenFailed(Id, Retry),
    /// The gateway listens.
    Granted(Id, usize),
    /// The gateway refuses to listen.
    Refused(Id, usize),
    /// The gateway listens no more.
    Cancelled(Id, usize),
    /// A session is over.
    Ended(Id),
    /// A session should be replaced: it has leaked too much.
    Worn(Id),
    /// A session that is left has no channel open any more.
    Idle(Id),
    /// Let what is under way finish within this time, then stop.
    Drain(Duration),
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Open a session to the gateway of this number; answered by `Opened` or `OpenFailed`.
    Dial(Id, usize),
    /// Give up a dial; answered by `OpenFailed`, or by `Opened` if that was faster.
    Abandon(Id),
    /// Ask for a forward; answered by `Granted`, `Refused` or `Ended`.
    Request(Id, usize),
    /// Cancel a forward; answered by `Cancelled` or `Ended`.
    Cancel(Id, usize),
    /// Answer with `Idle` as soon as no channel is open.
    WatchIdle(Id),
    /// End a session; answered by `Ended`.
    Disconnect(Id),
    /// Everything has stopped after a drain. The last action.
    Stopped,
}

/// One dial and the session that came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id {
    /// Number of the connection.
    pub slot: usize,
    /// Counts up over all connections; never used twice.
    pub generation: u64,
}

/// The supervisor's mind.
pub(super) struct Machine {
    pub(super) slots: Vec<Slot>,
    pub(super) gateways: usize,
    forwards: usize,
    /// Per gateway: not before this, since somebody must change something first.
    pub(super) barred: Vec<Duration>,
    pub(super) generations: u64,
    pub(super) draining: bool,
    stopped: bool,
}

impl Machine {
    /// All three counts at least 1. The first `Tick` dials.
    pub(super) fn new(connections: usize, gateways: usize, forwards: usize) -> Self {
        Self {
            slots: (0..connections)
                .map(|index| Slot::new(index % gateways.max(1)))
                .collect(),
            gateways: gateways.max(1),
            forwards,
            barred: vec![Duration::ZERO; gateways.max(1)],
            generations: 0,
            draining: false,
            stopped: false,
        }
    }

    /// One step. `now` never goes back; `jitter` is in 0..1 and fresh each time.
    pub(super) fn step(&mut self, now: Duration, event: Event, jitter: f64) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Tick => {}
            Event::Opened(id) => self.opened(now, id, &mut actions),
            Event::OpenFailed(id, retry) => self.open_failed(now, id, retry, jitter),
            Event::Granted(id, forward) => self.granted(id, forward, &mut actions),
            Event::Refused(id, forward) => self.refused(now, id, forward, jitter),
            Event::Cancelled(id, forward) => self.released(now, id, forward),
            Event::Ended(id) => self.ended(now, id, jitter),
            Event::Worn(id) => {
                if let Some(live) = self.live(id) {
                    live.worn = true;
                }
            }
            Event::Idle(id) => {
                if let Some(leaving) = self.leaving(id) {
                    leaving.deadline = now;
                }
            }
            Event::Drain(limit) => self.drain(now, limit, &mut actions),
        }
        self.advance(now, &mut actions);
        actions
    }

    /// When a `Tick` is due at the latest.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let of_slot = |slot: &Slot| {
            let dial = match slot.dial {
                Dial::Waiting { until, .. } => Some(until),
                _ => None,
            };
            let retries = slot.current.iter().flat_map(|live| {
                let retry = live.forwards.iter().filter_map(|held| match held {
                    Held::Refused { retry_at, .. } => Some(*retry_at),
                    _ => None,
                });
                retry.chain((!live.worn).then(|| live.since + MAX_AGE))
            });
            let leaving = slot.leaving.iter().filter(|l| !l.disconnecting);
            let ends = leaving.map(|l| l.deadline);
            dial.into_iter().chain(retries).chain(ends).min()
        };
        self.slots.iter().filter_map(of_slot).min()
    }

    pub(super) fn forwards(&self) -> usize {
        self.forwards
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    fn opened(&mut self, now: Duration, id: Id, actions: &mut Vec<Action>) {
        let forwards = self.forwards;
        let draining = self.draining;
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        let Dial::Dialing {
            generation,
            gateway,
        } = slot.dial
        else {
            return;
        };
        if generation != id.generation {
            return;
        }
        slot.dial = Dial::Idle;
        slot.sessions += 1;
        if draining {
            // It came too late to serve anything.
            slot.leaving.push(Leaving {
                generation,
                gateway,
                forwards: vec![Farewell::Gone; forwards],
                deadline: now,
                watched: true,
                disconnecting: false,
            });
            return;
        }
        let mut held = vec![Held::Due { refusals: 0 }; forwards];
        if let Some(old) = slot.current.take() {
            held.clone_from(&old.forwards);
            let old_id = Id {
                slot: id.slot,
                generation: old.generation,
            };
            let deadline = now + REPLACED_DRAIN;
            slot.leaving.push(old.leave(old_id, deadline, actions));
        }
        // What an older session here has not let go of cannot be had yet.
        for leaving in slot.leaving.iter().filter(|l| l.gateway == gateway) {
            for (held, farewell) in held.iter_mut().zip(&leaving.forwards) {
                if *farewell != Farewell::Gone {
                    *held = Held::Moving {
                        from: leaving.generation,
                    };
                }
            }
        }
        slot.current = Some(Live {
            generation,
            gateway,
            since: now,
            forwards: held,
            worn: false,
        });
    }

    fn open_failed(&mut self, now: Duration, id: Id, retry: Retry, jitter: f64) {
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        let Dial::Dialing {
            generation,
            gateway,
        } = slot.dial
        else {
            return;
        };
        if generation != id.generation {
            return;
        }
        if retry == Retry::Slow
            && let Some(barred) = self.barred.get_mut(gateway)
        {
            *barred = (*barred).max(now + backoff::slow(jitter));
        }
        slot.dial = Dial::Idle;
        slot.rotation += 1;
        self.wait(now, id.slot, jitter);
    }

    fn granted(&mut self, id: Id, forward: usize, actions: &mut Vec<Action>) {
        if let Some(held) = self.held(id, forward)
            && matches!(held, Held::Requested { .. })
        {
            *held = Held::Granted;
        }
        // It was asked for before the session was left.
        if let Some(farewell) = self.farewell(id, forward)
            && *farewell == Farewell::Requested
        {
            *farewell = Farewell::Cancelling;
            actions.push(Action::Cancel(id, forward));
        }
    }

    fn refused(&mut self, now: Duration, id: Id, forward: usize, jitter: f64) {
        if let Some(held) = self.held(id, forward)
            && let Held::Requested { refusals } = *held
        {
            *held = Held::Refused {
                retry_at: now + backoff::forward(refusals, jitter),
                refusals: refusals.saturating_add(1),
            };
        }
        if let Some(farewell) = self.farewell(id, forward)
            && *farewell == Farewell::Requested
        {
            *farewell = Farewell::Gone;
            self.gone(now, id, forward);
        }
    }

    fn released(&mut self, now: Duration, id: Id, forward: usize) {
        if let Some(farewell) = self.farewell(id, forward)
            && *farewell == Farewell::Cancelling
        {
            *farewell = Farewell::Gone;
            self.gone(now, id, forward);
        }
    }

    fn ended(&mut self, now: Duration, id: Id, jitter: f64) {
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        if let Some(at) = slot
            .leaving
            .iter()
            .position(|l| l.generation == id.generation)
        {
            let leaving = slot.leaving.remove(at);
            for (forward, farewell) in leaving.forwards.iter().enumerate() {
                if *farewell != Farewell::Gone {
                    self.freed(now, id, leaving.gateway, forward);
                }
            }
            return;
        }
        let Some(live) = slot
            .current
            .take_if(|live| live.generation == id.generation)
        else {
            return;
        };
        if now.saturating_sub(live.since) >= STABLE {
            slot.attempt = 0;
            slot.rotation = 0;
        } else {
            slot.rotation += 1;
        }
        // A dial for its replacement goes on, and a wait for one may have become too long.
        if !matches!(slot.dial, Dial::Dialing { .. }) {
            self.wait(now, id.slot, jitter);
        }
        for (forward, held) in live.forwards.iter().enumerate() {
            if *held == Held::Granted {
                self.hurry(now, live.gateway, forward);
            }
        }
    }

    fn gone(&mut self, now: Duration, id: Id, forward: usize) {
        if let Some(gateway) = self.leaving(id).map(|leaving| leaving.gateway) {
            self.freed(now, id, gateway, forward);
        }
    }

    /// A forward that a session on its way out held is free: its successor asks now, or else whoever
    /// stands by.
    fn freed(&mut self, now: Duration, id: Id, gateway: usize, forward: usize) {
        let from = id.generation;
        let successor = self.slots.get_mut(id.slot).and_then(|slot| {
            let held = slot.current.as_mut()?.forwards.get_mut(forward)?;
            (*held == Held::Moving { from }).then_some(held)
        });
        match successor {
            Some(held) => *held = Held::Due { refusals: 0 },
            None => self.hurry(now, gateway, forward),
        }
    }

    /// Those that stand by for a forward of this gateway ask at once: its holder is gone.
    fn hurry(&mut self, now: Duration, gateway: usize, forward: usize) {
        let lives = self.slots.iter_mut().filter_map(|s| s.current.as_mut());
        for live in lives.filter(|live| live.gateway == gateway) {
            if let Some(held @ Held::Refused { .. }) = live.forwards.get_mut(forward) {
                *held = Held::Refused {
                    retry_at: now,
                    refusals: 0,
                };
            }
        }
    }

    fn drain(&mut self, now: Duration, limit: Duration, actions: &mut Vec<Action>) {
        let again = std::mem::replace(&mut self.draining, true);
        let deadline = now + limit;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            match slot.dial {
                Dial::Waiting { .. } => slot.dial = Dial::Idle,
                Dial::Dialing { generation, .. } if !again => {
                    actions.push(Action::Abandon(Id {
                        slot: index,
                        generation,
                    }));
                }
                Dial::Dialing { .. } | Dial::Idle => {}
            }
            for leaving in &mut slot.leaving {
                leaving.deadline = leaving.deadline.min(deadline);
            }
            if let Some(live) = slot.current.take() {
                let id = Id {
                    slot: index,
                    generation: live.generation,
                };
                slot.leaving.push(live.leave(id, deadline, actions));
            }
        }
    }

    /// Everything that time alone, or the last event, has made due.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.draining {
            self.replace_one(now);
        }
        for index in 0..self.slots.len() {
            self.dial_if_due(now, index, actions);
            if let Some(slot) = self.slots.get_mut(index) {
                slot.request_due(now, index, actions);
                slot.say_goodbye(now, index, actions);
            }
        }
        if self.draining && !self.stopped && self.slots.iter().all(Slot::is_empty) {
            self.stopped = true;
            actions.push(Action::Stopped);
        }
    }

    fn live(&mut self, id: Id) -> Option<&mut Live> {
        let live = self.slots.get_mut(id.slot)?.current.as_mut()?;
        (live.generation == id.generation).then_some(live)
    }

    fn held(&mut self, id: Id, forward: usize) -> Option<&mut Held> {
        self.live(id)?.forwards.get_mut(forward)
    }

    fn leaving(&mut self, id: Id) -> Option<&mut Leaving> {
        let slot = self.slots.get_mut(id.slot)?;
        slot.leaving
            .iter_mut()
            .find(|l| l.generation == id.generation)
    }

    fn farewell(&mut self, id: Id, forward: usize) -> Option<&mut Farewell> {
        self.leaving(id)?.forwards.get_mut(forward)
    }
}

/// A session that stood for so long was a good one: the next loss begins a new count of attempts.
pub(super) const STABLE: Duration = Duration::from_secs(60);
/// How long a replaced session may take to finish what is under way: a large attachment over a slow link
/// is not cut for it, and it ends well before russh would exchange keys.
const REPLACED_DRAIN: Duration = Duration::from_secs(12 * 3600);

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;

//! The state machine: which connection to open, when to retry, when to drain. Pure: time and jitter are
//! arguments, what is to be done are values. No sockets, no clock, no randomness.

use super::{
    backoff,
    dialing::MAX_AGE,
    slot::{Dial, Farewell, Held, Leaving, Live, Slot},
};
use crate::tunnel::session::Retry;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// What has happened. Times and generations that are no longer current are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// The configuration has changed; in a drain that is ignored.
    Reload(Wanted),
    /// Let what is under way finish within this time, then stop.
    Drain(Duration),
}

/// What the configuration asks for. Gateways and forwards go by numbers, each given once and to one alone: a number that
/// is not wanted any more is never wanted again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wanted {
    /// At least 1.
    pub connections: usize,
    /// At least one; connections are spread over them in this order.
    pub gateways: Vec<usize>,
    pub forwards: Vec<usize>,
    /// Sessions are opened in another way now (user, key, proxy, bounds): those that stand are to be replaced.
    pub anew: bool,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Open a session to the gateway of this number; answered by `Opened` or `OpenFailed`.
    Dial(Id, usize),
    /// Give up a dial; answered by `OpenFailed`, or by `Opened` if that was faster.
    Abandon(Id),
    /// Let the channels of a session end where they may: a successor serves, or soon will.
    Leave(Id),
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
    /// How many of the slots are wanted; those behind are retired.
    pub(super) connections: usize,
    /// Never empty.
    pub(super) gateways: Vec<usize>,
    pub(super) forwards: Vec<usize>,
    /// Per gateway: not before this, since somebody must change something first.
    pub(super) barred: BTreeMap<usize, Duration>,
    /// Gateways whose last login, or host key, was refused: until one connection has got in, one at a time tries.
    pub(super) refusing: BTreeSet<usize>,
    pub(super) generations: u64,
    pub(super) draining: bool,
    stopped: bool,
}

impl Machine {
    /// The first `Tick` dials.
    pub(super) fn new(wanted: Wanted) -> Self {
        Self {
            slots: (0..wanted.connections).map(Slot::new).collect(),
            connections: wanted.connections,
            gateways: wanted.gateways,
            forwards: wanted.forwards,
            barred: BTreeMap::new(),
            refusing: BTreeSet::new(),
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
            Event::Refused(id, forward) => self.refused(now, id, forward, jitter, &mut actions),
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
            Event::Reload(wanted) => self.reload(now, wanted, &mut actions),
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
                let waits = live.forwards.values().filter(|_| !live.parts());
                let retry = waits.filter_map(|held| match held {
                    Held::Refused { retry_at, .. } => Some(*retry_at),
                    _ => None,
                });
                retry.chain((!live.worn).then(|| live.since + MAX_AGE))
            });
            let leaving = slot.leaving.iter().filter(|l| !l.disconnecting);
            let ends = leaving.map(|l| l.deadline);
            dial.into_iter().chain(retries).chain(ends).min()
        };
        let replacement = self.next_replacement().map(|(due, _)| due);
        self.slots
            .iter()
            .filter_map(of_slot)
            .chain(replacement)
            .min()
    }

    /// Whether a session still has to do with this forward.
    pub(super) fn knows(&self, forward: usize) -> bool {
        self.slots.iter().any(|slot| {
            let live = slot
                .current
                .iter()
                .any(|live| live.forwards.contains_key(&forward));
            live || slot
                .leaving
                .iter()
                .any(|l| l.forwards.contains_key(&forward))
        })
    }

    /// Whether channels may still come by this forward, on any session.
    pub(super) fn holds(&self, forward: usize) -> bool {
        self.slots.iter().any(|slot| {
            let live = slot.current.as_ref();
            let held = live.and_then(|live| live.forwards.get(&forward));
            let leaving = slot.leaving.iter();
            let mut leaving = leaving.filter_map(|leaving| leaving.forwards.get(&forward));
            held.is_some_and(Held::may_listen) || leaving.any(|left| *left != Farewell::Gone)
        })
    }

    pub(super) fn is_draining(&self) -> bool {
        self.draining
    }

    fn opened(&mut self, now: Duration, id: Id, actions: &mut Vec<Action>) {
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        let Dial::Dialing {
            generation,
            gateway,
            stale,
        } = slot.dial
        else {
            return;
        };
        if generation != id.generation {
            return;
        }
        slot.dial = Dial::Idle;
        if self.refusing.remove(&gateway) {
            self.retry_waiting(now, gateway);
        }
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        if self.draining || stale || slot.retired {
            // It came too late to serve anything.
            slot.leaving.push(Leaving {
                generation,
                gateway,
                forwards: BTreeMap::new(),
                deadline: now,
                left: true,
                watched: true,
                disconnecting: false,
            });
            if stale {
                self.dial_anew(now, id.slot);
            }
            return;
        }
        slot.sessions += 1;
        let due = |forward: &usize| (*forward, Held::Due { refusals: 0 });
        let mut forwards: BTreeMap<_, _> = self.forwards.iter().map(due).collect();
        if let Some(old) = slot.current.take() {
            if old.gateway == gateway {
                // What another connection holds is not asked for sooner for it.
                let refused = |held: &Held| matches!(held, Held::Refused { .. });
                let refused = old.forwards.iter().filter(|(_, held)| refused(held));
                forwards.extend(refused.map(|(forward, held)| (*forward, *held)));
            }
            let old_id = Id {
                slot: id.slot,
                generation: old.generation,
            };
            let deadline = now + REPLACED_DRAIN;
            slot.leaving
                .push(old.leave(old_id, deadline, true, actions));
        }
        // What an older session here is letting go of cannot be had yet.
        for leaving in slot.leaving.iter().filter(|l| l.gateway == gateway) {
            for (forward, held) in &mut forwards {
                if let Some(Farewell::Requested | Farewell::Cancelling) =
                    leaving.forwards.get(forward)
                {
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
            forwards,
            worn: false,
            retry_at: None,
            moves: false,
        });
    }

    fn open_failed(&mut self, now: Duration, id: Id, retry: Retry, jitter: f64) {
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        let Dial::Dialing {
            generation,
            gateway,
            stale,
        } = slot.dial
        else {
            return;
        };
        if generation != id.generation {
            return;
        }
        slot.dial = Dial::Idle;
        if stale {
            // It says nothing of the configuration that holds now.
            self.dial_anew(now, id.slot);
            return;
        }
        if retry == Retry::Slow {
            let barred = self.barred.entry(gateway).or_default();
            *barred = (*barred).max(now + backoff::slow(jitter));
            self.refusing.insert(gateway);
        }
        slot.rotation += 1;
        self.wait(now, id.slot, jitter);
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
            for (forward, farewell) in &leaving.forwards {
                if *farewell != Farewell::Gone {
                    self.freed(now, id, leaving.gateway, *forward);
                }
            }
            return;
        }
        let served = self.has_served(id);
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        let Some(live) = slot
            .current
            .take_if(|live| live.generation == id.generation)
        else {
            return;
        };
        let lived = now.saturating_sub(live.since);
        if lived >= STABLE {
            slot.attempt = 0;
            slot.rotation = 0;
        } else {
            slot.rotation += 1;
        }
        // The way, the login and the forward are good: what cuts the session is not made better by waiting.
        if lived >= SERVED && served {
            slot.attempt = slot.attempt.min(SERVED_ATTEMPT);
        }
        // A dial for its replacement goes on, and a wait for one may have become too long.
        if !matches!(slot.dial, Dial::Dialing { .. }) {
            self.wait(now, id.slot, jitter);
        }
        for (forward, held) in &live.forwards {
            if *held == Held::Granted {
                self.hurry(now, live.gateway, *forward);
            }
        }
    }

    fn drain(&mut self, now: Duration, limit: Duration, actions: &mut Vec<Action>) {
        let again = std::mem::replace(&mut self.draining, true);
        let deadline = now + limit;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            match slot.dial {
                Dial::Waiting { .. } => slot.dial = Dial::Idle,
                Dial::Dialing {
                    generation,
                    stale: false,
                    ..
                } if !again => {
                    actions.push(Action::Abandon(Id {
                        slot: index,
                        generation,
                    }));
                }
                Dial::Dialing { .. } | Dial::Idle => {}
            }
            for leaving in &mut slot.leaving {
                leaving.deadline = leaving.deadline.min(deadline);
                leaving.let_go(index, |_| true, actions);
            }
            if let Some(live) = slot.current.take() {
                let id = Id {
                    slot: index,
                    generation: live.generation,
                };
                slot.leaving.push(live.leave(id, deadline, false, actions));
            }
        }
    }

    /// Everything that time alone, or the last event, has made due.
    fn advance(&mut self, now: Duration, actions: &mut Vec<Action>) {
        if !self.draining {
            self.retire(now, actions);
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

    pub(super) fn live(&mut self, id: Id) -> Option<&mut Live> {
        let live = self.slots.get_mut(id.slot)?.current.as_mut()?;
        (live.generation == id.generation).then_some(live)
    }

    pub(super) fn held(&mut self, id: Id, forward: usize) -> Option<&mut Held> {
        self.live(id)?.forwards.get_mut(&forward)
    }

    pub(super) fn leaving(&mut self, id: Id) -> Option<&mut Leaving> {
        let slot = self.slots.get_mut(id.slot)?;
        slot.leaving
            .iter_mut()
            .find(|l| l.generation == id.generation)
    }

    pub(super) fn farewell(&mut self, id: Id, forward: usize) -> Option<&mut Farewell> {
        self.leaving(id)?.forwards.get_mut(&forward)
    }
}

/// A session that stood for so long was a good one: the next loss begins a new count of attempts.
pub(super) const STABLE: Duration = Duration::from_secs(60);
/// One that ends sooner has a gateway that cannot keep sessions, and is not to be flooded with logins.
pub(super) const SERVED: Duration = Duration::from_secs(1);
/// The wait after a session that has served is this attempt's at most: a second.
pub(super) const SERVED_ATTEMPT: u32 = 1;
/// How long a replaced session may take to finish what is under way: a large attachment over a slow link
/// is not cut for it, and it ends well before russh would exchange keys.
pub(super) const REPLACED_DRAIN: Duration = Duration::from_secs(12 * 3600);

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;

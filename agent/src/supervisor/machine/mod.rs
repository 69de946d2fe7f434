//! The state machine: which connection to open, when to retry, when to drain. Pure: time and jitter are arguments, and
//! actions are values. Nothing here imports tokio, a socket, a clock or a random number.
//!
//! | module | what it holds |
//! |---|---|
//! | `events` | what has happened, and what the shell must do |
//! | `slot` | the state of one connection |
//! | `dialing` | when and where to dial |
//! | `succession` | when a new session takes the place of the one that serves |
//! | `forwards` | which session requests a forward, and which one releases it |
//! | `places` | which session has which slot number |
//! | `reload` | the reaction to a changed configuration |
//! | `backoff` | how long to wait |
//! | `summary` | the state as status and log show it |

mod backoff;
mod dialing;
mod events;
mod forwards;
mod places;
mod reload;
#[cfg(test)]
mod simulation;
mod slot;
mod succession;
mod summary;
#[cfg(test)]
mod tests;

pub(super) use events::{DesiredState, PlaceLoss, SessionId, SupervisorAction, SupervisorEvent};
pub(super) use places::SlotShare;
pub(super) use summary::ConnectionSummary;

use self::{
    dialing::MAX_AGE,
    places::PlaceBook,
    slot::{ActiveSession, ConnectionSlot, DrainingSession, ForwardPhase, ReleasePhase},
};
use crate::tunnel::session::RetryPace;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The supervisor's state machine, without sockets and clock.
pub(super) struct StateMachine {
    slots: Vec<ConnectionSlot>,
    /// Number of wanted slots; the ones after them are retired.
    connections: usize,
    /// The gateways, by number; never empty.
    gateways: Vec<usize>,
    forwards: Vec<usize>,
    places: PlaceBook,
    /// Per gateway: not to be dialed before this, because someone must change something first.
    barred: BTreeMap<usize, Duration>,
    /// Gateways that refused the last login, or whose host key was refused: one connection at a time tries them until one
    /// succeeds.
    refusing: BTreeSet<usize>,
    /// Per gateway: the longest time that one hop took when a session was last opened there.
    paces: BTreeMap<usize, Duration>,
    generations: u64,
    draining: bool,
    stopped: bool,
}

impl StateMachine {
    /// The first `Tick` dials.
    pub(super) fn new(wanted: DesiredState) -> Self {
        let mut places = PlaceBook::default();
        places.configure(wanted.slots, &wanted.slotted);
        Self {
            slots: (0..wanted.connections).map(ConnectionSlot::new).collect(),
            connections: wanted.connections,
            gateways: wanted.gateways,
            forwards: wanted.forwards,
            places,
            barred: BTreeMap::new(),
            refusing: BTreeSet::new(),
            paces: BTreeMap::new(),
            generations: 0,
            draining: false,
            stopped: false,
        }
    }

    /// One step. `now` never decreases; `jitter` is in 0..1 and new for each step.
    pub(super) fn step(
        &mut self,
        now: Duration,
        event: SupervisorEvent,
        jitter: f64,
    ) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        match event {
            SupervisorEvent::Tick => {}
            SupervisorEvent::Progressed(id) => self.progressed(now, id),
            SupervisorEvent::Opened(id) => self.opened(now, id, &mut actions),
            SupervisorEvent::OpenFailed(id, retry) => self.open_failed(now, id, retry, jitter),
            SupervisorEvent::Granted(id, forward) => self.on_granted(id, forward, &mut actions),
            SupervisorEvent::Refused(id, forward) => {
                self.on_refused(now, id, forward, jitter, &mut actions)
            }
            SupervisorEvent::Cancelled(id, forward) => self.on_cancelled(now, id, forward),
            SupervisorEvent::PlaceLost(id, forward, loss) => {
                self.on_place_lost(now, id, forward, loss, &mut actions)
            }
            SupervisorEvent::Proven(id) => self.on_proven(id),
            SupervisorEvent::Ended(id, hint) => self.ended(now, id, hint, jitter, &mut actions),
            SupervisorEvent::Woken => self.wake(now, &mut actions),
            SupervisorEvent::NeedsReplacement(id) => {
                if let Some(active) = self.active_session(id) {
                    active.needs_replacement = true;
                }
            }
            SupervisorEvent::Idle(id) => {
                if let Some(draining) = self.draining_session(id) {
                    draining.deadline = now;
                }
            }
            SupervisorEvent::UseReleased => {
                self.places.share(SlotShare::All);
                self.retry_all_now(now);
            }
            SupervisorEvent::ShareSlots(share) => self.places.share(share),
            SupervisorEvent::Reload(wanted) => self.reload(now, wanted, &mut actions),
            SupervisorEvent::Drain(limit) => self.drain(now, limit, &mut actions),
        }
        self.advance(now, jitter, &mut actions);
        actions
    }

    /// When a `Tick` is due at the latest.
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let of_slot = |(index, slot): (usize, &ConnectionSlot)| {
            let dial = self.next_dial(index).map(|(due, _)| due);
            let retries = slot.current.iter().flat_map(|active| {
                let waits = active.forwards.values().filter(|_| !active.is_releasing());
                let retry = waits.filter_map(|phase| match phase {
                    ForwardPhase::Refused { retry_at, .. } => Some(*retry_at),
                    ForwardPhase::Due { .. }
                    | ForwardPhase::AwaitingRelease { .. }
                    | ForwardPhase::Requested { .. }
                    | ForwardPhase::Granted
                    | ForwardPhase::Releasing(_) => None,
                });
                retry.chain((!active.needs_replacement).then(|| active.since + MAX_AGE))
            });
            let draining = slot.draining.iter().filter(|l| !l.disconnecting);
            let ends = draining.map(|l| l.deadline);
            let succession = slot.succession_due();
            let due = dial.into_iter().chain(succession);
            due.chain(retries).chain(ends).min()
        };
        self.slots.iter().enumerate().filter_map(of_slot).min()
    }

    /// Whether any session still holds, requests or releases this forward.
    pub(super) fn involves(&self, forward: usize) -> bool {
        self.slots.iter().any(|slot| {
            let active = slot
                .current
                .iter()
                .any(|active| active.forwards.contains_key(&forward));
            active
                || slot
                    .draining
                    .iter()
                    .any(|l| l.forwards.contains_key(&forward))
        })
    }

    /// Whether channels of this forward may still be opened, on any session.
    pub(super) fn expects_channels(&self, forward: usize) -> bool {
        self.slots.iter().any(|slot| {
            let active = slot.current.as_ref();
            let phase = active.and_then(|active| active.forwards.get(&forward));
            let draining = slot.draining.iter();
            let mut draining = draining.filter_map(|draining| draining.forwards.get(&forward));
            phase.is_some_and(ForwardPhase::may_listen)
                || draining.any(|left| *left != ReleasePhase::Released)
        })
    }

    /// Whether a drain has released all forwards. Before a drain, a forward that no session holds is requested again.
    pub(super) fn has_released(&self) -> bool {
        let holds = |slot: &ConnectionSlot| {
            let mut active = slot.current.iter().flat_map(|a| a.forwards.values());
            let mut left = slot.draining.iter().flat_map(|l| l.forwards.values());
            active.any(ForwardPhase::may_listen) || left.any(|one| *one != ReleasePhase::Released)
        };
        self.draining && !self.slots.iter().any(holds)
    }

    /// The slot numbers that sessions hold or have requested.
    pub(super) fn held_slots(&self) -> BTreeSet<u16> {
        self.places.held()
    }

    fn is_draining(&self) -> bool {
        self.draining
    }

    fn open_failed(&mut self, now: Duration, id: SessionId, retry: RetryPace, jitter: f64) {
        let Some(dial) = self.take_dial(id) else {
            return;
        };
        if dial.stale {
            // The failure says nothing about the current configuration.
            return;
        }
        match retry {
            RetryPace::Soon => {}
            // One connection finds out whether it was a refusal.
            RetryPace::Unclear if self.refusing.insert(dial.gateway) => {}
            RetryPace::Slow | RetryPace::Unclear => {
                self.bar(dial.gateway, now + backoff::slow(jitter));
                self.refusing.insert(dial.gateway);
            }
            RetryPace::After(hint) => self.bar_hinted(now, dial.gateway, hint, jitter),
        }
        if let Some(slot) = self.slots.get_mut(id.slot) {
            slot.attempt = slot.attempt.saturating_add(1);
            let history = slot.histories.entry(dial.gateway).or_default();
            history.fail(now, jitter);
        }
    }

    fn ended(
        &mut self,
        now: Duration,
        id: SessionId,
        hint: Option<Duration>,
        jitter: f64,
        actions: &mut Vec<SupervisorAction>,
    ) {
        self.places.ended(now, id);
        let Some(slot) = self.slots.get_mut(id.slot) else {
            return;
        };
        if let Some(at) = slot
            .draining
            .iter()
            .position(|l| l.generation == id.generation)
        {
            let draining = slot.draining.remove(at);
            for (forward, release) in &draining.forwards {
                if *release != ReleasePhase::Released {
                    self.on_released(now, id, draining.gateway, *forward);
                }
            }
            return;
        }
        let Some(active) = slot
            .current
            .take_if(|active| active.generation == id.generation)
        else {
            return self.successor_ended(now, id, hint, jitter);
        };
        let served = active.proven && now.saturating_sub(active.since) >= SERVED;
        slot.note_end(now, active.gateway, served, jitter);
        slot.not_before = now + backoff::reconnect(0, 0, jitter);
        let successor = slot.successor.take();
        if let Some(hint) = hint {
            self.bar_hinted(now, active.gateway, hint, jitter);
        }
        if let Some(successor) = successor {
            self.promote(now, id.slot, successor, actions);
        }
        for (forward, phase) in &active.forwards {
            if *phase == ForwardPhase::Granted {
                self.retry_now(now, active.gateway, *forward);
            }
        }
    }

    /// No connection dials the gateway before this.
    fn bar(&mut self, gateway: usize, until: Duration) {
        let barred = self.barred.entry(gateway).or_default();
        *barred = (*barred).max(until);
    }

    /// No connection dials the gateway before the wait that it has asked for.
    fn bar_hinted(&mut self, now: Duration, gateway: usize, hint: Duration, jitter: f64) {
        self.bar(gateway, now + backoff::hinted(hint, jitter));
    }

    fn drain(&mut self, now: Duration, limit: Duration, actions: &mut Vec<SupervisorAction>) {
        self.draining = true;
        let deadline = now + limit;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            slot.abandon_dials(index, |_| true, actions);
            slot.discard_successor(now);
            for draining in &mut slot.draining {
                draining.deadline = draining.deadline.min(deadline);
                draining.cancel_forwards(index, |_| true, actions);
            }
            if let Some(active) = slot.current.take() {
                let id = SessionId {
                    slot: index,
                    generation: active.generation,
                };
                slot.draining
                    .push(active.drain(id, deadline, false, actions));
            }
        }
    }

    /// Adds all actions that are due.
    fn advance(&mut self, now: Duration, jitter: f64, actions: &mut Vec<SupervisorAction>) {
        // Before all dials: a replacement that has ended lets another connection begin its own.
        for index in 0..self.slots.len() {
            self.succeed(now, index, actions);
        }
        self.free_places();
        if !self.draining {
            self.retire(now, actions);
            self.note_age(now);
        }
        for index in 0..self.slots.len() {
            self.dial_due(now, index, actions);
            self.request_due(now, index, jitter, actions);
            if let Some(slot) = self.slots.get_mut(index) {
                slot.close_drained(now, index, self.draining, actions);
            }
        }
        if self.draining && !self.stopped && self.slots.iter().all(ConnectionSlot::is_empty) {
            self.stopped = true;
            actions.push(SupervisorAction::Stopped);
        }
    }

    fn active_session(&mut self, id: SessionId) -> Option<&mut ActiveSession> {
        let active = self.slots.get_mut(id.slot)?.current.as_mut()?;
        (active.generation == id.generation).then_some(active)
    }

    fn forward_phase(&mut self, id: SessionId, forward: usize) -> Option<&mut ForwardPhase> {
        self.active_session(id)?.forwards.get_mut(&forward)
    }

    fn draining_session(&mut self, id: SessionId) -> Option<&mut DrainingSession> {
        let slot = self.slots.get_mut(id.slot)?;
        slot.draining
            .iter_mut()
            .find(|l| l.generation == id.generation)
    }

    fn release_phase(&mut self, id: SessionId, forward: usize) -> Option<&mut ReleasePhase> {
        self.draining_session(id)?.forwards.get_mut(&forward)
    }
}

/// A session that ends sooner was not good, whatever it has answered: a gateway that cannot keep sessions must not be flooded
/// with logins.
const SERVED: Duration = Duration::from_secs(1);
/// How long requests of a replaced session may take: enough for a large attachment over a slow link, and well before russh
/// would exchange keys.
const REPLACED_DRAIN: Duration = Duration::from_secs(12 * 3600);

#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use super::{
    dialing::{LONGEST_HOP, MAX_DIALS, SHORTEST_HOP, WOKEN_FLOOR},
    slot::MAX_DRAINING,
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::{BTreeMap, BTreeSet};

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// A machine with its world: dials in progress, sessions, who listens where, and what must always hold.
struct World {
    machine: StateMachine,
    now: Duration,
    rng: SmallRng,
    /// One session at a time can listen for a forward of a gateway, as with OpenSSH; or all, as with the stub.
    exclusive: bool,
    /// Now and then it refuses for no reason.
    moody: bool,
    dials: BTreeMap<SessionId, (usize, bool)>,
    sessions: BTreeMap<SessionId, Peer>,
    /// Last slow failure per gateway, since the last reload that may have mended it.
    slow: BTreeMap<usize, Duration>,
    /// What the configuration says now.
    wanted: DesiredState,
    /// When each connection dialed each gateway last, since the last reload that changed where or how.
    dialed: BTreeMap<(usize, usize), Duration>,
    /// Numbers are given once.
    next: usize,
    drained: Option<Duration>,
    stopped: bool,
}

struct Peer {
    gateway: usize,
    requests: BTreeSet<usize>,
    cancels: BTreeSet<usize>,
    held: BTreeSet<usize>,
    watched: bool,
    disconnecting: bool,
    /// It may be disconnected: replaced, retired, or the drain has begun.
    may_go: bool,
    proven: bool,
    /// The gateway has refused this to its successor while this one held it.
    in_the_way: BTreeSet<usize>,
    left: bool,
    /// What it held when it was left.
    kept: BTreeSet<usize>,
    /// The slot number of each forward that it has asked for.
    places: BTreeMap<usize, Option<u16>>,
    /// Forwards whose place was lost, with the time of the last release because of that.
    lost: BTreeMap<usize, Option<Duration>>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let (connections, gateways) = (rng.random_range(1..=4), rng.random_range(1..=3));
        let forwards = rng.random_range(1..=3);
        let slotted = (0..forwards).filter(|_| rng.random_bool(0.5)).collect();
        Self::of(connections, gateways, forwards, slotted, rng)
    }

    fn of(
        connections: usize,
        gateways: usize,
        forwards: usize,
        slotted: Vec<usize>,
        mut rng: SmallRng,
    ) -> Self {
        let exclusive = rng.random_bool(0.7);
        let wanted = DesiredState {
            connections,
            gateways: (0..gateways).collect(),
            forwards: (0..forwards).collect(),
            slotted,
            slots: (0..2 * connections as u16).collect(),
            replace_sessions: false,
        };
        let mut world = Self {
            machine: StateMachine::new(wanted.clone()),
            wanted,
            next: 100,
            now: Duration::ZERO,
            rng,
            exclusive,
            moody: true,
            dials: BTreeMap::new(),
            dialed: BTreeMap::new(),
            sessions: BTreeMap::new(),
            slow: BTreeMap::new(),
            drained: None,
            stopped: false,
        };
        world.send(SupervisorEvent::Tick);
        world
    }

    fn send(&mut self, event: SupervisorEvent) {
        let jitter = self.rng.random();
        if let SupervisorEvent::Drain(_) = event {
            self.drained = Some(self.now);
            self.sessions.values_mut().for_each(|p| p.may_go = true);
        }
        if let SupervisorEvent::Reload(wanted) = &event
            && self.drained.is_none()
        {
            self.wanted = wanted.clone();
            // Each may begin at once.
            self.dialed.clear();
            for (id, peer) in &mut self.sessions {
                peer.may_go |= id.slot >= wanted.connections;
            }
            if wanted.replace_sessions {
                self.slow.clear();
            }
        }
        if let SupervisorEvent::Proven(id) = event {
            let peer = self.sessions.get_mut(&id);
            peer.expect("a session answers").proven = true;
        }
        let mut served: Vec<SessionId> = self.serving().collect();
        if let SupervisorEvent::Ended(ended, _) = &event {
            served.retain(|id| id != ended);
        }
        let actions = self.machine.step(self.now, event, jitter);
        self.note_replaced(&served);
        for action in actions {
            self.obey(action);
        }
        self.check();
    }

    /// The session of each connection.
    fn serving(&self) -> impl Iterator<Item = SessionId> {
        let slots = self.machine.slots.iter().enumerate();
        slots.filter_map(|(slot, state)| {
            let generation = state.current.as_ref()?.generation;
            Some(SessionId { slot, generation })
        })
    }

    /// Sessions that served before the last step and do not serve after it may release what they hold.
    fn note_replaced(&mut self, served: &[SessionId]) {
        let serving: Vec<SessionId> = self.serving().collect();
        for old in served.iter().filter(|old| !serving.contains(old)) {
            let Some(peer) = self.sessions.get_mut(old) else {
                continue;
            };
            if !peer.may_go {
                peer.may_go = true;
                peer.kept = peer.held.clone();
                let new = serving.iter().find(|new| new.slot == old.slot);
                let new = new.expect("a session serves until another one does");
                assert!(
                    self.sessions[new].proven,
                    "a session that serves is replaced by a proven one"
                );
            }
        }
        for (id, peer) in &mut self.sessions {
            let slot = self.machine.slots.get(id.slot);
            let waits = slot.and_then(|slot| slot.successor.as_ref());
            let waits = waits.is_some_and(|one| one.generation == id.generation);
            // It was opened too late, or another has overtaken it.
            peer.may_go |= !waits && !serving.contains(id);
        }
    }

    fn obey(&mut self, action: SupervisorAction) {
        assert!(!self.stopped, "nothing happens after the end: {action:?}");
        match action {
            SupervisorAction::Dial(id, gateway) => {
                assert!(self.drained.is_none(), "a drained supervisor dials nobody");
                assert!(
                    self.wanted.gateways.contains(&gateway) && id.slot < self.wanted.connections,
                    "only what is configured is dialled"
                );
                let own = self.dials.iter().filter(|(dial, _)| dial.slot == id.slot);
                assert!(own.clone().count() < MAX_DIALS, "few dials at a time");
                let live = |(_, (to, abandoned)): (&SessionId, &(usize, bool))| {
                    *to == gateway && !abandoned
                };
                assert!(
                    !own.clone().any(live),
                    "one dial per connection and gateway"
                );
                let before = self.dialed.insert((id.slot, gateway), self.now);
                assert!(
                    before.is_none_or(|at| self.now >= at + backoff::FLOOR),
                    "no retry loop is faster than its floor"
                );
                if let Some(slow) = self.slow.get(&gateway) {
                    assert!(
                        self.now >= *slow + backoff::SLOW,
                        "a refused login or host key is not retried within a minute"
                    );
                }
                self.dials.insert(id, (gateway, false));
            }
            SupervisorAction::Abandon(id) => {
                let dial = self.dials.get_mut(&id).expect("a dial under way");
                assert!(!dial.1, "given up once");
                dial.1 = true;
            }
            SupervisorAction::MarkReplaced(id) => {
                let peer = self.sessions.get_mut(&id).expect("a session that stands");
                assert!(!peer.left, "left once");
                peer.left = true;
                assert!(
                    peer.may_go,
                    "channels are told to end where a session is left"
                );
                assert!(
                    peer.held.is_empty(),
                    "and only once it has let go of everything"
                );
            }
            SupervisorAction::Request(id, forward, place) => {
                self.at_a_place_of_its_own(id, forward, place);
                assert!(
                    self.drained.is_none(),
                    "a drained supervisor asks for nothing"
                );
                assert!(
                    self.wanted.forwards.contains(&forward),
                    "only what is configured is asked for"
                );
                assert!(
                    self.sessions[&id].cancels.is_empty(),
                    "nothing is asked for while something is let go of"
                );
                let gateway = self.sessions[&id].gateway;
                let elder = |(other, peer): (&SessionId, &Peer)| {
                    other.slot == id.slot
                        && *other != id
                        && peer.gateway == gateway
                        && peer.cancels.contains(&forward)
                        && peer.places.get(&forward) == Some(&place)
                };
                assert!(
                    !self.sessions.iter().any(elder),
                    "what the old session is letting go of is waited for"
                );
                let peer = self.sessions.get_mut(&id).expect("a session that stands");
                assert!(
                    !peer.held.contains(&forward),
                    "what is held is not asked for"
                );
                assert!(peer.requests.insert(forward), "asked once at a time");
            }
            SupervisorAction::Cancel(id, forward) => {
                let wanted = self.wanted.forwards.contains(&forward);
                let successor = self.machine.slots.get(id.slot).and_then(|slot| {
                    let live = slot.current.as_ref()?;
                    Some(live.forwards.get(&forward) == Some(&ForwardPhase::Granted))
                });
                let drained = self.drained.is_some();
                let no_slot = self.wanted.slotted.contains(&forward) && self.is_full(forward);
                let retired = id.slot >= self.wanted.connections;
                let now = self.now;
                let peer = self.sessions.get_mut(&id).expect("a session that stands");
                if let Some(before) = peer.lost.get_mut(&forward)
                    && wanted
                    && !peer.may_go
                {
                    let floor = before.is_none_or(|at| now >= at + backoff::REPEAT_FLOOR);
                    assert!(floor, "a place is given up again after a wait only");
                    *before = Some(now);
                    assert!(peer.held.contains(&forward), "only what is held");
                    assert!(peer.cancels.insert(forward), "cancelled once");
                    return;
                }
                assert!(
                    peer.may_go || !wanted,
                    "what is wanted is cancelled on sessions that leave only"
                );
                // What was granted after its session was left is nobody's: its successor waits for it.
                let late = peer.may_go && !peer.kept.contains(&forward);
                assert!(
                    !wanted
                        || drained
                        || retired
                        || late
                        || no_slot
                        || successor == Some(true)
                        || peer.in_the_way.contains(&forward),
                    "a replaced session lets go of what its successor holds, or cannot hold beside it"
                );
                assert!(peer.held.contains(&forward), "only what is held");
                assert!(peer.cancels.insert(forward), "cancelled once");
            }
            SupervisorAction::WatchIdle(id) => {
                let peer = self.sessions.get_mut(&id).expect("a session that stands");
                assert!(!peer.watched, "watched once");
                assert!(
                    peer.held.is_empty() && peer.requests.is_empty(),
                    "all let go"
                );
                peer.watched = true;
            }
            SupervisorAction::Disconnect(id) => {
                let peer = self.sessions.get_mut(&id).expect("a session that stands");
                assert!(peer.may_go, "a refused forward never closes a session");
                assert!(!peer.disconnecting, "disconnected once");
                peer.disconnecting = true;
            }
            SupervisorAction::Stopped => {
                assert!(
                    self.drained.is_some() && self.dials.is_empty() && self.sessions.is_empty()
                );
                self.stopped = true;
            }
        }
    }

    /// Where the bind names the slot, no two sessions have to do with the same place, at whatever gateway.
    fn at_a_place_of_its_own(&mut self, id: SessionId, forward: usize, place: Option<u16>) {
        assert_eq!(place.is_some(), self.wanted.slotted.contains(&forward));
        let involved =
            |peer: &Peer| peer.held.contains(&forward) || peer.requests.contains(&forward);
        let mut others = self.sessions.iter().filter(|(other, _)| **other != id);
        let same = |peer: &Peer| peer.places.get(&forward) == Some(&place);
        assert!(
            place.is_none() || !others.any(|(_, peer)| involved(peer) && same(peer)),
            "no two sessions at one place"
        );
        assert!(place.is_none_or(|slot| self.wanted.slots.contains(&slot)));
        let peer = self.sessions.get_mut(&id).expect("a session that stands");
        peer.places.insert(forward, place);
    }

    /// Whether sessions have to do with all slots of this forward.
    fn is_full(&self, forward: usize) -> bool {
        let peers = self.sessions.values();
        let peers =
            peers.filter(|peer| peer.held.contains(&forward) || peer.requests.contains(&forward));
        let used: BTreeSet<_> = peers.filter_map(|peer| peer.places.get(&forward)).collect();
        self.wanted
            .slots
            .iter()
            .all(|slot| used.contains(&Some(*slot)))
    }

    /// What holds after every step.
    fn check(&self) {
        let machine = &self.machine;
        for (index, slot) in machine.slots.iter().enumerate() {
            let next = machine.next_dial(index);
            assert_eq!(slot.retired, index >= self.wanted.connections);
            assert!(
                !slot.retired && self.drained.is_none() || next.is_none(),
                "a retired connection dials no gateway"
            );
            let refused = |gateway: &usize| machine.refusing.contains(gateway);
            let busy = slot.current.is_some() || !slot.dials.is_empty() || next.is_some();
            assert!(
                busy || next.is_none() && (slot.retired || self.drained.is_some())
                    || self.wanted.gateways.iter().any(refused),
                "connection {index} is idle without a timer"
            );
            let waits = slot.successor.is_some() || !slot.dials.is_empty();
            let rest = !waits && slot.draining.len() < MAX_DRAINING;
            let home = machine.home(index);
            let bar = machine.barred.get(&home).copied().unwrap_or_default();
            let away = slot
                .current
                .as_ref()
                .is_none_or(|live| live.gateway != home);
            if away && rest && !slot.retired && self.drained.is_none() && !refused(&home) {
                let (due, _) = next.expect("the home gateway is dialed");
                assert!(
                    due <= bar.max(self.now + backoff::SHAKY_CEILING),
                    "every gateway that is not barred has a session soon"
                );
            }
            if let Some((due, _)) = next {
                assert!(
                    due > self.now,
                    "what is due is done in the step that makes it due"
                );
            }
            for history in slot.histories.values() {
                let ceiling = match history.bad_sessions < 2 {
                    true => backoff::CEILING,
                    false => backoff::SHAKY_CEILING,
                };
                assert!(
                    history.not_before <= self.now + ceiling,
                    "no wait beyond its ceiling"
                );
            }
            for barred in machine.barred.values() {
                assert!(barred.saturating_sub(self.now) <= backoff::LONGEST_HINT.mul_f64(1.5));
            }
            let staying = slot.draining.iter().filter(|l| !l.disconnecting);
            assert!(
                staying.count() <= MAX_DRAINING + usize::from(machine.draining),
                "few sessions are on their way out at once"
            );
            for leaving in &slot.draining {
                for (forward, farewell) in &leaving.forwards {
                    assert!(
                        *farewell != ReleasePhase::Retained
                            || self.wanted.forwards.contains(forward) && self.drained.is_none(),
                        "what is not wanted is not kept"
                    );
                }
            }
            let keeps = |leaving: &DrainingSession| {
                let mut farewells = leaving.forwards.values();
                farewells.any(|farewell| *farewell == ReleasePhase::Retained)
            };
            let serves = |slot: &ConnectionSlot| !slot.retired && slot.current.is_some();
            assert!(
                !(slot.retired
                    && slot.draining.iter().any(keeps)
                    && machine.slots.iter().any(serves)),
                "a connection that is taken out keeps nothing from those that stay"
            );
            let Some(live) = &slot.current else { continue };
            for forward in &self.wanted.forwards {
                assert!(
                    live.forwards.contains_key(forward) || self.drained.is_some(),
                    "every session has to do with every forward"
                );
            }
            let parting = |held: &ForwardPhase| matches!(held, ForwardPhase::Releasing(_));
            let parts = live.forwards.values().any(parting);
            let id = SessionId {
                slot: index,
                generation: live.generation,
            };
            for (forward, held) in &live.forwards {
                let peer = &self.sessions[&id];
                let lost = peer.lost.contains_key(forward) && peer.cancels.contains(forward);
                assert!(
                    parting(held) != self.wanted.forwards.contains(forward)
                        || parting(held) && lost,
                    "what is not wanted or lost is released, and nothing else"
                );
                match held {
                    ForwardPhase::Due { .. } => {
                        assert!(parts, "what is due is asked for in the same step");
                    }
                    ForwardPhase::Refused { .. } if parts => {}
                    ForwardPhase::Refused { retry_at, .. } => {
                        assert!(
                            *retry_at > self.now,
                            "a refused forward is asked for when due"
                        );
                        assert!(*retry_at - self.now <= backoff::FORWARD_CEILING);
                    }
                    ForwardPhase::AwaitingRelease { from } => assert!(
                        slot.draining.iter().any(|l| l.generation == *from),
                        "nobody waits for a session that is gone"
                    ),
                    ForwardPhase::Requested { .. }
                    | ForwardPhase::Granted
                    | ForwardPhase::Releasing(_) => {}
                }
            }
        }
        let successor = |s: &&ConnectionSlot| {
            let opened = s.successor.as_ref().map(|one| one.gateway);
            let worn = |live: &ActiveSession| {
                live.needs_replacement
                    && (s.is_dialing(live.gateway) || opened == Some(live.gateway))
            };
            s.current.as_ref().is_some_and(worn)
        };
        let replaced = machine.slots.iter().filter(successor).count();
        assert!(replaced <= 1, "one session is replaced at a time");
        if !machine.slots.iter().any(ConnectionSlot::is_being_replaced) && self.drained.is_none() {
            let worn = machine.slots.iter().enumerate().filter(|(_, slot)| {
                let worn = slot
                    .current
                    .as_ref()
                    .is_some_and(|live| live.needs_replacement);
                let waits = slot.successor.is_some() || !slot.dials.is_empty();
                worn && !slot.retired && !waits && slot.draining.len() < MAX_DRAINING
            });
            for (index, _) in worn {
                let refused = |gateway: &usize| machine.refusing.contains(gateway);
                assert!(
                    machine.next_dial(index).is_some() || self.wanted.gateways.iter().any(refused),
                    "a worn session waits for its own turn only, and not for another that cannot be replaced"
                );
            }
        }
        if let Some(deadline) = machine.next_deadline() {
            assert!(deadline > self.now, "no deadline stays behind");
        }
    }

    /// Something that can happen, chosen at random.
    fn happen(&mut self) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        match self.rng.random_range(0..100) {
            0..30 => self.pass(),
            30..53 => self.settle_a_dial(0.5, 0.2),
            53..58 => self.progress(),
            58..89 => self.answer(),
            89 => self.lose_a_place(),
            90..94 => {
                if let Some(id) = self.pick(&ids) {
                    self.end(id);
                }
            }
            94..95 => self.send(SupervisorEvent::Woken),
            95..97 => {
                if let Some(id) = self.pick(&ids) {
                    self.send(SupervisorEvent::NeedsReplacement(id));
                }
            }
            97..99 => self.reload(),
            _ => self.stale(),
        }
    }

    /// The configuration changes, sometimes in nothing.
    fn reload(&mut self) {
        let mut wanted = self.wanted.clone();
        wanted.replace_sessions = self.rng.random_bool(0.3);
        if self.rng.random_bool(0.4) {
            wanted.connections = self.rng.random_range(1..=4);
        }
        let fewest = wanted.connections as u16;
        wanted.slots = (0..self.rng.random_range(fewest..=2 * fewest)).collect();
        let (mut gateways, mut forwards) = (wanted.gateways.clone(), wanted.forwards.clone());
        self.change(&mut gateways);
        self.change(&mut forwards);
        (wanted.gateways, wanted.forwards) = (gateways, forwards);
        self.send(SupervisorEvent::Reload(wanted));
    }

    /// Takes some out, puts some in, never leaves none.
    fn change(&mut self, numbers: &mut Vec<usize>) {
        if self.rng.random_bool(0.3) {
            let at = self.rng.random_range(0..numbers.len());
            numbers.remove(at);
        }
        if self.rng.random_bool(0.3) || numbers.is_empty() {
            self.next += 1;
            let at = self.rng.random_range(0..=numbers.len());
            numbers.insert(at, self.next);
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        (!from.is_empty()).then(|| from[self.rng.random_range(0..from.len())])
    }

    /// Time goes on, sometimes exactly to the deadline, sometimes short of it, rarely far beyond.
    fn pass(&mut self) {
        let next = self
            .machine
            .next_deadline()
            .unwrap_or(self.now + seconds(1));
        self.now = match self.rng.random_range(0..10) {
            0..6 => next,
            6..9 => self.now + (next - self.now).mul_f64(self.rng.random()),
            _ => self.now + seconds(self.rng.random_range(0..200_000)),
        };
        self.send(SupervisorEvent::Tick);
    }

    fn settle_a_dial(&mut self, success: f64, slow: f64) {
        let ids: Vec<SessionId> = self.dials.keys().copied().collect();
        let Some(id) = self.pick(&ids) else { return };
        let (gateway, abandoned) = self.dials.remove(&id).unwrap();
        if self.rng.random_bool(if abandoned { 0.1 } else { success }) {
            self.dials.insert(id, (gateway, abandoned));
            self.open(id);
        } else {
            let retry = match self.rng.random_bool(slow) {
                true => RetryPace::Slow,
                false if self.moody && self.rng.random_bool(0.1) => RetryPace::Unclear,
                false if self.moody && self.rng.random_bool(0.1) => {
                    RetryPace::After(seconds(self.rng.random_range(0..1000)))
                }
                false => RetryPace::Soon,
            };
            if retry == RetryPace::Slow && !abandoned {
                self.slow.insert(gateway, self.now);
            }
            self.send(SupervisorEvent::OpenFailed(id, retry));
        }
    }

    /// A dial passes a hop.
    fn progress(&mut self) {
        let ids: Vec<SessionId> = self.dials.keys().copied().collect();
        if let Some(id) = self.pick(&ids) {
            self.send(SupervisorEvent::Progressed(id));
        }
    }

    /// A dial leads to a session, which answers its first probe.
    fn open(&mut self, id: SessionId) {
        self.accept(id);
        if !self.moody || self.rng.random_bool(0.8) {
            self.send(SupervisorEvent::Proven(id));
        }
    }

    /// A dial leads to a session.
    fn accept(&mut self, id: SessionId) {
        let (gateway, abandoned) = self.dials.remove(&id).unwrap();
        let may_go = self.drained.is_some() || abandoned;
        let peer = Peer {
            gateway,
            requests: BTreeSet::new(),
            cancels: BTreeSet::new(),
            held: BTreeSet::new(),
            watched: false,
            disconnecting: false,
            may_go,
            proven: false,
            in_the_way: BTreeSet::new(),
            left: false,
            kept: BTreeSet::new(),
            places: BTreeMap::new(),
            lost: BTreeMap::new(),
        };
        self.sessions.insert(id, peer);
        self.send(SupervisorEvent::Opened(id));
    }

    /// Requests through a place do not reach its session any more.
    fn lose_a_place(&mut self) {
        let held = self.sessions.iter().flat_map(|(id, peer)| {
            let held = peer.held.iter();
            held.map(|forward| (*id, *forward))
        });
        let held: Vec<_> = held.collect();
        let Some((id, forward)) = self.pick(&held) else {
            return;
        };
        let loss = match self.rng.random_range(0..10) {
            0..3 => PlaceLoss::OtherAgent,
            3 => PlaceLoss::HalfTaken,
            _ => PlaceLoss::Gone,
        };
        let peer = self.sessions.get_mut(&id).unwrap();
        peer.lost.entry(forward).or_default();
        self.send(SupervisorEvent::PlaceLost(id, forward, loss));
    }

    /// A session answers one of its questions.
    fn answer(&mut self) {
        let ids: Vec<SessionId> = self.sessions.keys().copied().collect();
        let Some(id) = self.pick(&ids) else { return };
        let busy = self.moody && self.rng.random_bool(0.1);
        self.answer_by(id, busy);
    }

    fn answer_of(&mut self, id: SessionId) {
        self.answer_by(id, false);
    }

    fn answer_by(&mut self, id: SessionId, busy: bool) {
        let own = self.sessions[&id].places.clone();
        let others: Vec<BTreeSet<usize>> = self
            .sessions
            .iter()
            .filter(|(other, p)| **other != id && p.gateway == self.sessions[&id].gateway)
            .map(|(_, p)| {
                let held = p.held.iter().copied();
                held.filter(|f| p.places.get(f) == own.get(f)).collect()
            })
            .collect();
        let exclusive = self.exclusive;
        let peer = self.sessions.get_mut(&id).unwrap();
        if peer.disconnecting {
            return self.end(id);
        }
        if !peer.proven {
            return self.send(SupervisorEvent::Proven(id));
        }
        if let Some(forward) = peer.requests.pop_first() {
            let taken = exclusive && others.iter().any(|held| held.contains(&forward));
            if taken || busy {
                let elders = self.sessions.iter_mut();
                for (_, elder) in elders
                    .filter(|(i, p)| i.slot == id.slot && **i != id && p.held.contains(&forward))
                {
                    elder.in_the_way.insert(forward);
                }
                return self.send(SupervisorEvent::Refused(id, forward));
            }
            peer.held.insert(forward);
            return self.send(SupervisorEvent::Granted(id, forward));
        }
        if let Some(forward) = peer.cancels.pop_first() {
            peer.held.remove(&forward);
            return self.send(SupervisorEvent::Cancelled(id, forward));
        }
        if peer.watched {
            self.send(SupervisorEvent::Idle(id));
        }
    }

    fn end(&mut self, id: SessionId) {
        self.sessions.remove(&id);
        let hint = self.moody && self.rng.random_bool(0.1);
        self.send(SupervisorEvent::Ended(id, hint.then_some(seconds(20))));
    }

    /// News of something long gone, or never there, changes nothing.
    fn stale(&mut self) {
        let id = SessionId {
            slot: self.rng.random_range(0..6),
            generation: 1_000_000,
        };
        let event = match self.rng.random_range(0..7) {
            0 => SupervisorEvent::Opened(id),
            1 => SupervisorEvent::OpenFailed(id, RetryPace::Slow),
            2 => SupervisorEvent::Granted(id, 0),
            3 => SupervisorEvent::Refused(id, 9),
            4 => SupervisorEvent::Cancelled(id, 0),
            5 => SupervisorEvent::Ended(id, None),
            _ => SupervisorEvent::Idle(id),
        };
        self.send(event);
    }

    /// Runs on until `done`, with a network that works, for at most this long.
    fn run_well(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.now <= end, "not done within {limit:?} of good weather");
            if !self.dials.is_empty() {
                self.settle_a_dial(1.0, 0.0);
                continue;
            }
            let waiting = |p: &Peer| {
                !p.proven
                    || !p.requests.is_empty()
                    || !p.cancels.is_empty()
                    || p.watched
                    || p.disconnecting
            };
            if self.sessions.values().any(waiting) {
                self.answer();
                continue;
            }
            if let Some(next) = self.machine.next_deadline() {
                self.now = next.max(self.now);
            }
            self.send(SupervisorEvent::Tick);
        }
    }

    fn everything_serves(&self) -> bool {
        let home = |slot: &ConnectionSlot| self.machine.home(slot.home);
        let full = |slot: &ConnectionSlot| {
            let there =
                |live: &ActiveSession| live.gateway == home(slot) && !live.needs_replacement;
            let waits = slot.successor.is_some() || !slot.dials.is_empty();
            slot.current.as_ref().is_some_and(there) && !waits
        };
        let live = self.machine.slots.iter().filter_map(|s| s.current.as_ref());
        let gateways: BTreeSet<usize> = live.map(|live| live.gateway).collect();
        let bound = |gateway: &usize| {
            self.wanted.forwards.iter().all(|&f| {
                self.sessions
                    .values()
                    .any(|p| p.gateway == *gateway && p.held.contains(&f))
            })
        };
        let mut slots = self.machine.slots.iter();
        slots.all(|slot| slot.retired || full(slot)) && gateways.iter().all(bound)
    }

    /// The dial to this gateway that was not abandoned.
    fn dial_to(&self, gateway: usize) -> SessionId {
        let mut dials = self.dials.iter();
        let dial = dials.find(|(_, (to, abandoned))| *to == gateway && !abandoned);
        *dial.expect("a dial to that gateway").0
    }

    fn fail(&mut self, id: SessionId, retry: RetryPace) {
        self.dials.remove(&id);
        self.send(SupervisorEvent::OpenFailed(id, retry));
    }

    fn gateway_of(&self, slot: usize) -> usize {
        self.sessions[&self.id(slot)].gateway
    }

    fn id(&self, slot: usize) -> SessionId {
        let live = self.machine.slots[slot].current.as_ref().unwrap();
        SessionId {
            slot,
            generation: live.generation,
        }
    }
}

fn calm(connections: usize, gateways: usize, forwards: usize) -> World {
    calm_with_slots(connections, gateways, forwards, Vec::new())
}

/// As [`calm`]; the binds of `slotted` forwards name the slot.
fn calm_with_slots(
    connections: usize,
    gateways: usize,
    forwards: usize,
    slotted: Vec<usize>,
) -> World {
    let rng = SmallRng::seed_from_u64(1);
    let mut world = World::of(connections, gateways, forwards, slotted, rng);
    world.exclusive = true;
    world.moody = false;
    world
}

/// The invariants are the texts in `obey` and `check`.
#[test]
fn random_schedules_keep_every_invariant_recover_and_drain() {
    for seed in 0..schedules() {
        let mut world = World::new(seed);
        for _ in 0..world.rng.random_range(10..40) {
            world.happen();
        }
        if world.rng.random_bool(0.2) {
            world.run_well(seconds(3600), World::everything_serves);
        }
        let limit = seconds(world.rng.random_range(0..100));
        world.send(SupervisorEvent::Drain(limit));
        for _ in 0..world.rng.random_range(0..10) {
            if world.stopped {
                break;
            }
            world.happen();
        }
        world.run_well(seconds(200_000 * 10), |w| w.stopped);
    }
}

#[test]
fn the_first_tick_dials_every_connection_spread_over_the_gateways() {
    let world = calm(4, 2, 1);
    let gateways: Vec<usize> = world.dials.values().map(|(g, _)| *g).collect();
    assert_eq!(gateways, [0, 1, 0, 1]);
}

/// The configuration has at least one connection for each gateway. The lost one is dialed while the other one serves.
#[test]
fn a_lost_gateway_changes_nothing_at_the_other() {
    let mut world = calm(2, 2, 1);
    world.run_well(seconds(10), World::everything_serves);
    world.now += seconds(60);
    let (lost, other) = (world.id(0), world.id(1));
    world.end(lost);
    for _ in 0..20 {
        let at_second = &world.sessions[&other];
        assert!(at_second.gateway == 1 && at_second.held.contains(&0));
        if let Some((id, _)) = world.dials.iter().next() {
            world.fail(*id, RetryPace::Soon);
        }
        world.now = world.machine.next_deadline().unwrap();
        world.send(SupervisorEvent::Tick);
    }
}

/// Two gateways of which the first does not answer, and what happens until the other one serves.
#[test]
fn a_gateway_that_does_not_answer_is_raced_by_the_next_within_a_second() {
    let mut world = calm(1, 2, 1);
    let first = world.dial_to(0);
    world.now = world.machine.next_deadline().unwrap();
    assert!(world.now <= LONGEST_HOP);
    world.send(SupervisorEvent::Tick);
    let second = world.dial_to(1);
    world.open(second);
    assert_eq!(world.gateway_of(0), 1);
    assert!(!world.dials[&first].1, "the dial home continues");
    world.open(first);
    world.run_well(seconds(10), World::everything_serves);
    assert_eq!(world.gateway_of(0), 0);
}

#[test]
fn a_slow_login_is_not_raced_while_each_hop_takes_its_usual_time() {
    let mut world = calm(1, 2, 1);
    let hop = Duration::from_millis(400);
    let login = |world: &mut World| {
        let id = world.dial_to(0);
        for _ in 0..5 {
            world.now += hop;
            world.send(SupervisorEvent::Progressed(id));
        }
        assert_eq!(world.dials.len(), 1, "no other gateway is dialed");
        world.open(id);
        id
    };
    let id = login(&mut world);
    world.now += seconds(10);
    world.end(id);
    world.now = world.machine.next_deadline().unwrap();
    world.send(SupervisorEvent::Tick);
    login(&mut world);
}

#[test]
fn a_gateway_nearby_that_hangs_is_raced_after_a_quarter_of_a_second() {
    let mut world = calm(1, 2, 1);
    world.run_well(seconds(10), World::everything_serves);
    world.now += seconds(10);
    let id = world.id(0);
    world.end(id);
    world.now = world.machine.next_deadline().unwrap();
    world.send(SupervisorEvent::Tick);
    world.dial_to(0);
    let dialed = world.now;
    world.now = world.machine.next_deadline().unwrap();
    world.send(SupervisorEvent::Tick);
    world.dial_to(1);
    assert_eq!(world.now - dialed, SHORTEST_HOP);
}

#[test]
fn a_gateway_that_refuses_the_connection_is_followed_by_the_next_at_once() {
    let mut world = calm(1, 2, 1);
    let id = world.dial_to(0);
    world.fail(id, RetryPace::Soon);
    let id = world.dial_to(1);
    world.open(id);
    assert_eq!(world.now, Duration::ZERO);
}

/// The gateway is away for three seconds, and the connection tries to return all the time.
#[test]
fn a_connection_returns_to_its_own_gateway_within_five_seconds_beside_its_session() {
    for seed in 0..200 {
        let mut world = calm(2, 2, 1);
        world.rng = SmallRng::seed_from_u64(seed);
        world.run_well(seconds(10), World::everything_serves);
        world.now += seconds(60);
        let lost = world.id(0);
        world.end(lost);
        let back = world.now + seconds(3);
        while world.now < back {
            match world.dials.iter().next().map(|(id, (to, _))| (*id, *to)) {
                Some((id, 0)) => world.fail(id, RetryPace::Soon),
                Some((id, _)) => world.open(id),
                None => {
                    world.now = world.machine.next_deadline().unwrap();
                    world.send(SupervisorEvent::Tick);
                }
            }
            world.answer();
        }
        let serves = world.id(0);
        assert_eq!(world.gateway_of(0), 1, "it serves there meanwhile");
        world.run_well(seconds(5), |w| w.gateway_of(0) == 0);
        assert!(world.sessions.contains_key(&serves), "make before break");
        world.run_well(seconds(10), World::everything_serves);
    }
}

#[test]
fn after_an_hour_without_a_link_no_wait_is_longer_than_four_seconds() {
    let mut world = calm(1, 1, 1);
    world.run_well(seconds(10), World::everything_serves);
    world.now += seconds(60);
    let id = world.id(0);
    world.end(id);
    while world.now < seconds(3600) {
        let wait = world.machine.next_deadline().unwrap() - world.now;
        assert!(wait <= backoff::CEILING);
        world.now += wait;
        world.send(SupervisorEvent::Tick);
        let id = world.dial_to(0);
        world.fail(id, RetryPace::Soon);
    }
}

#[test]
fn a_session_that_is_cut_again_and_again_is_back_within_half_a_second_each_time() {
    let mut world = calm(1, 1, 1);
    for _ in 0..12 {
        world.run_well(seconds(10), World::everything_serves);
        world.now += Duration::from_millis(4300);
        let id = world.id(0);
        world.end(id);
        let wait = world.machine.next_deadline().unwrap() - world.now;
        assert!(wait <= Duration::from_millis(400), "{wait:?}");
    }
}

#[test]
fn a_gateway_whose_sessions_end_at_once_is_dialed_less_and_less() {
    let mut world = calm(1, 1, 1);
    let mut waits = Vec::new();
    for _ in 0..12 {
        world.run_well(seconds(60), World::everything_serves);
        world.now += Duration::from_millis(900);
        let id = world.id(0);
        world.end(id);
        waits.push(world.machine.slots[0].histories[&0].failures);
    }
    assert_eq!(waits, (1..=12).collect::<Vec<_>>());
    assert_eq!(world.machine.slots[0].histories[&0].bad_sessions, 12);
    world.run_well(seconds(60), World::everything_serves);
    world.now += SERVED;
    let id = world.id(0);
    world.end(id);
    assert_eq!(world.machine.slots[0].histories[&0].failures, 1);
}

#[test]
fn a_changed_address_dials_at_once_but_not_more_than_once_a_second() {
    let mut world = calm(1, 1, 1);
    for _ in 0..8 {
        let id = world.dial_to(0);
        world.fail(id, RetryPace::Soon);
        world.now = world.machine.next_deadline().unwrap();
        world.send(SupervisorEvent::Tick);
    }
    let started = world.now;
    for _ in 0..150 {
        world.send(SupervisorEvent::Woken);
        world.now += Duration::from_millis(10);
        world.send(SupervisorEvent::Tick);
    }
    assert_eq!(
        world.dials.len(),
        2,
        "the dial without an answer is repeated once"
    );
    assert!(world.now >= started + WOKEN_FLOOR);
    let id = *world.dials.keys().last().unwrap();
    world.send(SupervisorEvent::Progressed(id));
    world.now += seconds(2);
    world.send(SupervisorEvent::Woken);
    assert!(!world.dials[&id].1, "what has an answer continues");
}

#[test]
fn a_gateways_hint_bars_it_for_every_connection_and_not_the_other_gateway() {
    let mut world = calm(4, 2, 1);
    world.run_well(seconds(10), World::everything_serves);
    world.now += seconds(60);
    let id = world.id(0);
    world.sessions.remove(&id);
    world.send(SupervisorEvent::Ended(id, Some(seconds(20))));
    let told = world.now;
    while world.now < told + seconds(20) {
        assert!(world.dials.values().all(|(to, _)| *to == 1));
        if !world.dials.is_empty() {
            world.settle_a_dial(1.0, 0.0);
        }
        world.answer();
        world.now = world.machine.next_deadline().unwrap();
        world.send(SupervisorEvent::Tick);
    }
    world.run_well(seconds(12), World::everything_serves);
}

/// A gateway that goes down in the middle of a login does not refuse anything.
#[test]
fn a_login_cut_without_a_word_is_repeated_once_and_then_once_a_minute() {
    let mut world = calm(1, 1, 1);
    let id = world.dial_to(0);
    world.fail(id, RetryPace::Unclear);
    let wait = world.machine.next_deadline().unwrap() - world.now;
    assert!(wait <= Duration::from_millis(400));
    world.now += wait;
    world.send(SupervisorEvent::Tick);
    let id = world.dial_to(0);
    world.fail(id, RetryPace::Unclear);
    let wait = world.machine.next_deadline().unwrap() - world.now;
    assert!(wait >= backoff::SLOW);
}

#[test]
fn a_connection_that_stands_by_is_back_as_soon_as_the_one_that_holds() {
    let mut world = calm(2, 1, 1);
    world.run_well(seconds(10), |w| {
        w.everything_serves() && {
            let refused = |held: &ForwardPhase| matches!(held, ForwardPhase::Refused { .. });
            w.machine
                .slots
                .iter()
                .any(|s| s.current.iter().any(|l| l.forwards.values().any(refused)))
        }
    });
    for _ in 0..5 {
        world.now += seconds(10);
        let standby = (0..2).find(|slot| world.sessions[&world.id(*slot)].held.is_empty());
        let id = world.id(standby.unwrap());
        world.end(id);
        let wait = world.machine.next_deadline().unwrap() - world.now;
        assert!(wait <= Duration::from_millis(400));
        world.run_well(seconds(10), World::everything_serves);
    }
}

#[test]
fn a_refusal_that_overtakes_the_other_connections_grant_is_no_refusal_yet() {
    use crate::status::ForwardState;
    let mut world = calm(2, 1, 1);
    world.settle_a_dial(1.0, 0.0);
    world.settle_a_dial(1.0, 0.0);
    let (first, second) = (world.id(0), world.id(1));
    let state = |w: &World, slot: usize| w.machine.summaries()[slot].forwards[0];
    world.send(SupervisorEvent::Refused(second, 0));
    assert_eq!(state(&world, 1), ForwardState::Pending);
    world.send(SupervisorEvent::Granted(first, 0));
    assert_eq!(state(&world, 1), ForwardState::Standby);
}

#[test]
fn after_a_refused_login_one_connection_tries_and_the_others_follow_its_success() {
    let mut world = calm(3, 1, 1);
    for id in world.dials.keys().copied().collect::<Vec<_>>() {
        world.dials.remove(&id);
        world.slow.insert(0, world.now);
        world.send(SupervisorEvent::OpenFailed(id, RetryPace::Slow));
    }
    for _ in 0..3 {
        world.now += backoff::SLOW + seconds(7);
        world.send(SupervisorEvent::Tick);
        assert_eq!(world.dials.len(), 1, "one tries, the others wait");
        world.now += seconds(5);
        let id = *world.dials.keys().next().unwrap();
        world.dials.clear();
        world.slow.insert(0, world.now);
        world.send(SupervisorEvent::OpenFailed(id, RetryPace::Slow));
    }
    world.now += backoff::SLOW + seconds(7);
    world.send(SupervisorEvent::Tick);
    world.slow.clear();
    world.settle_a_dial(1.0, 0.0);
    assert_eq!(world.dials.len(), 2, "it lets us in: all follow at once");
}

#[test]
fn a_gateway_with_a_wrong_host_key_is_barred_while_the_other_one_serves() {
    let mut world = calm(2, 2, 1);
    let (id, _) = world
        .dials
        .iter()
        .map(|(id, (g, _))| (*id, *g))
        .find(|(_, g)| *g == 0)
        .unwrap();
    world.dials.remove(&id);
    world.slow.insert(0, world.now);
    world.send(SupervisorEvent::OpenFailed(id, RetryPace::Slow));
    world.run_well(seconds(20), |w| {
        w.machine.slots.iter().all(|s| s.current.is_some())
    });
    assert!(world.sessions.values().all(|p| p.gateway == 1));
}

#[test]
fn a_single_gateway_that_refuses_the_login_is_tried_once_a_minute() {
    let mut world = calm(1, 1, 1);
    for _ in 0..5 {
        let id = *world.dials.keys().next().unwrap();
        world.dials.clear();
        world.slow.insert(0, world.now);
        world.send(SupervisorEvent::OpenFailed(id, RetryPace::Slow));
        let next = world.machine.next_deadline().unwrap();
        assert!(next - world.now >= backoff::SLOW);
        world.now = next;
        world.send(SupervisorEvent::Tick);
        assert_eq!(world.dials.len(), 1, "it never gives up");
    }
}

#[test]
fn only_one_connection_holds_a_port_and_the_other_takes_over_at_once_when_it_goes() {
    let mut world = calm(2, 1, 1);
    world.run_well(seconds(10), World::everything_serves);
    let holds = |w: &World, slot: usize| w.sessions[&w.id(slot)].held.len() == 1;
    let (holder, standby) = if holds(&world, 0) { (0, 1) } else { (1, 0) };
    let refused = |w: &World| {
        let live = w.machine.slots[standby].current.as_ref();
        matches!(live.unwrap().forwards[&0], ForwardPhase::Refused { .. })
    };
    world.run_well(seconds(10), refused);
    let id = world.id(holder);
    world.end(id);
    let standby = world.id(standby);
    assert_eq!(
        world.sessions[&standby].requests.len(),
        1,
        "asked in the same step"
    );
}

#[test]
fn a_worn_session_is_replaced_without_a_gap_in_which_nobody_is_logged_in() {
    let mut world = calm(1, 1, 2);
    world.run_well(seconds(10), World::everything_serves);
    world.now += seconds(1);
    let old = world.id(0);
    world.send(SupervisorEvent::NeedsReplacement(old));
    assert_eq!(world.dials.len(), 1);
    assert_eq!(
        world.sessions[&old].held.len(),
        2,
        "the old one goes on serving"
    );
    world.settle_a_dial(1.0, 0.0);
    let new = world.id(0);
    assert_ne!(new, old);
    assert_eq!(world.sessions[&new].requests.len(), 2);
    assert!(world.sessions[&old].cancels.is_empty());
    world.run_well(seconds(10), |w| w.sessions[&new].held.len() == 2);
    world.run_well(seconds(10), |w| !w.sessions.contains_key(&old));
}

#[test]
fn a_replacement_that_fails_leaves_the_old_session_in_service() {
    let mut world = calm(1, 1, 1);
    world.run_well(seconds(10), World::everything_serves);
    world.now += seconds(1);
    let old = world.id(0);
    world.send(SupervisorEvent::NeedsReplacement(old));
    let id = *world.dials.keys().next().unwrap();
    world.dials.clear();
    world.slow.insert(0, world.now);
    world.send(SupervisorEvent::OpenFailed(id, RetryPace::Slow));
    assert_eq!(world.id(0), old);
    assert_eq!(world.sessions[&old].held.len(), 1);
}

#[test]
fn a_session_is_replaced_once_a_day() {
    let mut world = calm(1, 1, 1);
    world.run_well(seconds(10), World::everything_serves);
    let old = world.id(0);
    world.now = world.machine.next_deadline().unwrap();
    assert!(world.now >= MAX_AGE);
    world.send(SupervisorEvent::Tick);
    assert_eq!(world.dials.len(), 1);
    world.run_well(seconds(60), |w| {
        w.everything_serves() && !w.sessions.contains_key(&old)
    });
}

#[test]
fn a_refused_forward_is_asked_again_while_the_session_stays() {
    let mut world = calm(1, 1, 1);
    world.settle_a_dial(1.0, 0.0);
    let id = world.id(0);
    for _ in 0..50 {
        assert!(world.sessions.get_mut(&id).unwrap().requests.remove(&0));
        world.send(SupervisorEvent::Refused(id, 0));
        assert!(!world.sessions[&id].requests.contains(&0));
        world.now = world.machine.next_deadline().unwrap();
        world.send(SupervisorEvent::Tick);
    }
    assert_eq!(world.id(0), id);
}

#[test]
fn a_drain_lets_channels_finish_and_ends_at_its_limit_at_the_latest() {
    let mut world = calm(1, 1, 1);
    world.run_well(seconds(10), World::everything_serves);
    let id = world.id(0);
    world.send(SupervisorEvent::Drain(seconds(30)));
    let begun = world.now;
    assert_eq!(world.sessions[&id].cancels.len(), 1);
    world.answer();
    assert!(world.sessions[&id].watched && !world.sessions[&id].disconnecting);
    world.now = world.machine.next_deadline().unwrap();
    assert_eq!(world.now, begun + seconds(30));
    world.send(SupervisorEvent::Tick);
    assert!(world.sessions[&id].disconnecting);
    world.answer();
    assert!(world.stopped);
}

/// Another process asks for what is released. A process whose session has just ended asks for it again, until it drains.
#[test]
fn what_a_process_holds_is_released_by_its_drain_alone() {
    let mut world = calm(1, 1, 1);
    assert!(!world.machine.has_released());
    world.run_well(seconds(10), World::everything_serves);
    assert!(!world.machine.has_released());
    let id = world.id(0);
    world.end(id);
    assert!(!world.machine.expects_channels(world.wanted.forwards[0]));
    assert!(!world.machine.has_released());
    world.run_well(seconds(10), World::everything_serves);
    world.send(SupervisorEvent::Drain(seconds(30)));
    assert!(!world.machine.has_released(), "the gateway still listens");
    world.answer();
    assert!(world.machine.has_released());
}

#[path = "reload_tests.rs"]
mod reload;
#[path = "succession_tests.rs"]
mod succession;

/// Each of up to 40 events, for some then good weather, then a drain. `SCHEDULES` sets another number.
fn schedules() -> u64 {
    let number = std::env::var("SCHEDULES").ok();
    number.map_or(20_000, |number| number.parse().expect("a number"))
}

/// On a gateway where only one session may listen at an address, each connection serves at its own.
#[test]
fn with_slots_all_connections_serve() {
    let mut world = calm_with_slots(3, 1, 1, vec![0]);
    world.run_well(seconds(10), |w| {
        w.sessions.len() == 3 && w.sessions.values().all(|p| p.held.len() == 1)
    });
    let places: BTreeSet<_> = world.sessions.values().map(|p| p.places[&0]).collect();
    assert_eq!(places, BTreeSet::from([Some(0), Some(1), Some(2)]));
}

/// The gateway keeps the place of a session that we know to be dead. The next one asks for another at once.
#[test]
fn a_new_session_does_not_wait_for_the_place_of_a_dead_one() {
    let mut world = calm_with_slots(1, 1, 1, vec![0]);
    world.run_well(seconds(10), |w| {
        w.sessions.values().any(|p| p.held.len() == 1)
    });
    let dead = world.id(0);
    world.send(SupervisorEvent::Ended(dead, None));
    // It stays in the world: to the gateway it lives.
    world.run_well(seconds(10), |w| w.sessions.len() == 2);
    let since = world.now;
    let new = world.id(0);
    world.run_well(seconds(10), |w| w.sessions[&new].held.len() == 1);
    assert_eq!(world.now, since, "no wait");
    assert_eq!(world.sessions[&new].places[&0], Some(1));
}

/// A session that is replaced keeps its place until the new one serves at another.
#[test]
fn with_slots_a_replacement_leaves_no_gap() {
    let mut world = calm_with_slots(1, 1, 1, vec![0]);
    world.run_well(seconds(10), |w| {
        w.sessions.values().any(|p| p.held.len() == 1)
    });
    let old = world.id(0);
    world.send(SupervisorEvent::NeedsReplacement(old));
    world.run_well(seconds(10), |w| {
        assert!(w.sessions.values().any(|p| p.held.len() == 1), "one serves");
        w.machine.slots[0].current.is_some() && w.id(0) != old && w.everything_serves()
    });
    let new = world.id(0);
    assert_eq!(world.sessions[&new].places[&0], Some(1));
}

/// One number for one connection is enough: the old session then releases the place first.
#[test]
fn with_a_single_slot_the_old_session_releases_its_place_first() {
    let mut world = calm_with_slots(1, 1, 1, vec![0]);
    world.wanted.slots = vec![0];
    let wanted = world.wanted.clone();
    world.send(SupervisorEvent::Reload(wanted));
    world.run_well(seconds(10), |w| {
        w.sessions.values().any(|p| p.held.len() == 1)
    });
    let old = world.id(0);
    world.send(SupervisorEvent::NeedsReplacement(old));
    world.run_well(seconds(30), |w| {
        let replaced = w.machine.slots[0].current.is_some() && w.id(0) != old;
        replaced && w.sessions[&w.id(0)].held.len() == 1
    });
    assert_eq!(world.sessions[&world.id(0)].places[&0], Some(0));
}

/// Where each place is refused, all are asked for once, and then there is a wait.
#[test]
fn where_all_places_are_refused_there_is_a_wait() {
    let mut world = calm_with_slots(1, 1, 1, vec![0]);
    world.run_well(seconds(10), |w| !w.sessions.is_empty());
    let id = world.id(0);
    let mut asked = Vec::new();
    while let Some(forward) = world.sessions.get_mut(&id).unwrap().requests.pop_first() {
        asked.push(world.sessions[&id].places[&0]);
        world.send(SupervisorEvent::Refused(id, forward));
    }
    assert_eq!(asked, [Some(0), Some(1)]);
    assert!(matches!(
        world.machine.slots[0].current.as_ref().unwrap().forwards[&0],
        ForwardPhase::Refused { .. }
    ));
}

/// The place of a session that holds it is released and asked for again on the same session, the next slot where there is
/// one.
#[test]
fn a_lost_place_is_asked_for_again_at_once_and_then_less_and_less() {
    let mut world = calm_with_slots(1, 1, 2, vec![1]);
    world.run_well(seconds(10), World::everything_serves);
    let id = world.id(0);
    let lose = |world: &mut World, loss| {
        for forward in [0, 1] {
            let peer = world.sessions.get_mut(&id).unwrap();
            peer.lost.entry(forward).or_default();
            world.send(SupervisorEvent::PlaceLost(id, forward, loss));
        }
        let cancelled = world.sessions[&id].cancels.clone();
        world.run_well(seconds(1), |w| {
            let peer = &w.sessions[&id];
            peer.cancels.is_empty() && peer.requests.is_empty()
        });
        cancelled.into_iter().collect::<Vec<_>>()
    };
    assert_eq!(lose(&mut world, PlaceLoss::Gone), [0, 1]);
    let places = &world.sessions[&id].places;
    assert_eq!((places[&0], places[&1]), (None, Some(1)));
    assert_eq!(lose(&mut world, PlaceLoss::Gone), [0; 0], "not in a loop");
    world.now += seconds(4);
    // What another agent holds is left to it; with another slot the session moves.
    assert_eq!(lose(&mut world, PlaceLoss::OtherAgent), [0; 0]);
    assert_eq!(lose(&mut world, PlaceLoss::HalfTaken), [0; 0]);
    world.now += seconds(60);
    assert_eq!(lose(&mut world, PlaceLoss::OtherAgent), [1]);
    assert_eq!(world.sessions[&id].places[&1], Some(0));
    assert_eq!(lose(&mut world, PlaceLoss::Gone), [0]);
    world.now += seconds(301);
    assert_eq!(lose(&mut world, PlaceLoss::Gone), [0, 1]);
    world.now += seconds(4);
    assert_eq!(lose(&mut world, PlaceLoss::Gone), [0, 1]);
    world.now += seconds(7);
    assert_eq!(lose(&mut world, PlaceLoss::Gone), [0; 0], "8 s now");
}

/// A gateway that answers no request makes the agent end the session to release a place.
#[test]
fn a_place_that_each_session_loses_is_given_up_less_and_less() {
    let mut world = calm(1, 1, 1);
    let mut given_up = Vec::new();
    let begin = world.now;
    while world.now < begin + seconds(60) {
        world.run_well(seconds(10), World::everything_serves);
        let id = world.id(0);
        let peer = world.sessions.get_mut(&id).unwrap();
        peer.lost.entry(0).or_default();
        world.send(SupervisorEvent::PlaceLost(id, 0, PlaceLoss::Gone));
        if !world.sessions[&id].cancels.is_empty() {
            given_up.push((world.now - begin).as_secs());
            world.end(id);
        }
        world.now += seconds(1);
    }
    assert!(
        (4..=5).contains(&given_up.len()),
        "4, 8, 16, 32 s: {given_up:?}"
    );
}

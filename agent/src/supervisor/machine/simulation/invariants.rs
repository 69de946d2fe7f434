//! What holds in every schedule, one function each. `check` calls those that hold after each step.

use super::*;

pub(super) fn time_passes(now: Duration, next: Duration) {
    assert!(next >= now, "time: no deadline is in the past");
}

impl SimulatedWorld {
    pub(super) fn check(&self, number: usize) {
        let process = &self.processes[number];
        if process.drained.is_some() {
            self.a_drain_ends(number);
        } else {
            for (index, slot) in process.machine.slots.iter().enumerate() {
                self.waits_are_bounded(slot);
                self.refused_forwards_are_requested_again(slot);
                if self.now >= self.settled_at(number) {
                    self.each_connection_is_at_home(number, index, slot);
                }
            }
        }
        self.each_forward_is_always_held(process.host);
    }

    pub(super) fn dials_keep_their_floor(&self, number: usize, id: SessionId, gateway: usize) {
        let before = self.processes[number].dialed.get(&(id.slot, gateway));
        assert!(
            before.is_none_or(|at| self.now >= *at + backoff::FLOOR),
            "floor: no gateway is dialed again sooner by one connection"
        );
    }

    pub(super) fn a_refused_login_is_not_repeated(&self, number: usize, gateway: usize) {
        let refused = self.processes[number].refused.get(&gateway);
        assert!(
            refused.is_none_or(|at| self.now >= *at + backoff::SLOW),
            "one login: a gateway that refused it is not tried within a minute"
        );
    }

    /// Unless another session has released a place since, or has ended.
    pub(super) fn requests_keep_their_floor(
        &self,
        number: usize,
        id: SessionId,
        forward: usize,
        place: Option<u16>,
    ) {
        let process = &self.processes[number];
        let before = process.asked.get(&(id, forward, place));
        assert!(
            before.is_none_or(|at| {
                self.now >= *at + milliseconds(40) || process.released.is_some_and(|end| end >= *at)
            }),
            "floor: a place that was refused is not asked for again sooner"
        );
    }

    /// Of all processes on all hosts: a gateway like the stub would give the requests of one place to either.
    pub(super) fn one_answerer_of_each_place(
        &self,
        number: usize,
        id: SessionId,
        forward: usize,
        place: Option<u16>,
    ) {
        let mut others = self.sessions.iter();
        let same = |(by, one): (&SessionHolder, &SimulatedSession)| {
            *by != (number, id) && one.is_at(forward, place)
        };
        assert!(
            place.is_none() || !others.any(same),
            "one answerer: no two sessions at one place"
        );
    }

    fn waits_are_bounded(&self, slot: &ConnectionSlot) {
        for history in slot.histories.values() {
            let ceiling = match history.bad_sessions < 2 {
                true => backoff::CEILING,
                false => backoff::SHAKY_CEILING,
            };
            assert!(
                history.not_before <= self.now + ceiling,
                "back-off: no wait is longer than its ceiling"
            );
        }
    }

    fn refused_forwards_are_requested_again(&self, slot: &ConnectionSlot) {
        let active = slot.current.iter();
        let late = |phase: &ForwardPhase| match phase {
            ForwardPhase::Refused { retry_at, .. } => {
                *retry_at > self.now + backoff::FORWARD_CEILING
            }
            ForwardPhase::Due { .. }
            | ForwardPhase::AwaitingRelease { .. }
            | ForwardPhase::Requested { .. }
            | ForwardPhase::Granted
            | ForwardPhase::Releasing(_) => false,
        };
        assert!(
            !active.flat_map(|active| active.forwards.values()).any(late),
            "back-off: a refused forward is requested again within a second"
        );
    }

    /// From when on a process is as it should be: the longest wait without a login, after the last fault and its start.
    fn settled_at(&self, number: usize) -> Duration {
        let started = self.processes[number].dialed.values().min();
        self.faults_until.max(started.copied().unwrap_or_default()) + SETTLED
    }

    fn each_connection_is_at_home(&self, number: usize, index: usize, slot: &ConnectionSlot) {
        let home = self.processes[number].machine.home(index);
        let current = slot.current.as_ref();
        let there = current.is_some_and(|active| active.gateway == home);
        let successor = slot.successor.as_ref();
        let opened = successor.is_some_and(|one| one.gateway == home);
        assert!(
            there || opened || slot.is_dialing(home),
            "spread: each gateway that works has its sessions: {slot:?}"
        );
    }

    /// A few seconds after the last fault each connection is at home, where no login was refused.
    pub(super) fn recovered(&self) {
        for (number, process) in self.processes.iter().enumerate() {
            let machine = &process.machine;
            let slots = machine.slots.iter().enumerate();
            for (index, slot) in slots.filter(|_| process.drained.is_none()) {
                let home = machine.home(index);
                let bar = machine.barred.get(&home).copied().unwrap_or_default();
                let history = slot.histories.get(&home).copied().unwrap_or_default();
                if bar < self.faults_until && history.bad_sessions < 2 {
                    self.each_connection_is_at_home(number, index, slot);
                }
            }
        }
    }

    /// With two slots for each connection, beside those that a gateway keeps for dead sessions, neither an upgrade nor a replacement leaves a moment in which no session of the
    /// host listens.
    fn each_forward_is_always_held(&self, host: u16) {
        let of_host = self.processes.iter().enumerate();
        let of_host: Vec<usize> = of_host
            .filter(|(_, process)| process.host == host)
            .map(|(number, _)| number)
            .collect();
        let settled = of_host.first().map(|first| self.settled_at(*first));
        let own = host * self.host_slots..(host + 1) * self.host_slots;
        // A place that was refused is asked for again within a second.
        let asked = self.now.saturating_sub(SOON);
        let gateways = self.gateways.iter();
        let kept: BTreeSet<u16> = gateways
            .flat_map(|one| one.kept_slots(asked))
            .filter(|slot| own.contains(slot))
            .collect();
        let is_scarce = own.len() < 2 * self.connections() + kept.len();
        if !self.slotted || is_scarce || self.ending || settled.is_none_or(|at| self.now < at) {
            return;
        }
        for forward in 0..self.forwards {
            assert!(
                of_host.iter().any(|process| self.holds(*process, forward)),
                "upgrade: some session listens at each moment"
            );
        }
    }

    /// The sessions that a successor had when the old process released its places hold them soon, however long that
    /// process still finishes requests.
    pub(super) fn the_released_is_held(&self, host: u16) {
        let serves = |one: &&AgentProcess| one.host == host && one.drained.is_none();
        let Some(process) = self.processes.iter().find(serves) else {
            return;
        };
        let Some(released) = process.took_released else {
            return;
        };
        let has_fault = released < self.faults_until
            || self.gateways.iter().any(|one| one.keeps_dead(released));
        if !self.slotted || self.ending || has_fault || self.now < released + SOON {
            return;
        }
        for active in process
            .machine
            .slots
            .iter()
            .filter_map(|s| s.current.as_ref())
        {
            let granted = |phase: &ForwardPhase| *phase == ForwardPhase::Granted;
            assert!(
                active.since > released || active.forwards.values().all(granted),
                "upgrade: what was released is held: {active:?}"
            );
        }
    }

    pub(super) fn a_drain_ends(&self, number: usize) {
        let process = &self.processes[number];
        let (begun, limit) = process.drained.expect("a drain");
        assert!(
            process.stopped || self.now <= begun + limit + DRAIN_SLACK,
            "drain: it ends at its limit"
        );
    }

    pub(super) fn all_drains_have_ended(&self) {
        assert!(
            self.processes.iter().all(|process| process.stopped),
            "drain: each process ends"
        );
    }

    /// Each forward of each process is held at each gateway that has sessions. Two processes without slots share the places.
    pub(super) fn each_forward_is_held(&self) {
        let shared = !self.slotted && self.processes.len() > 1;
        for (number, process) in self.processes.iter().enumerate() {
            if process.drained.is_some() || shared {
                continue;
            }
            let homes = process.wanted.connections.min(self.gateways.len());
            for forward in 0..self.forwards {
                let own = self
                    .sessions
                    .iter()
                    .filter(|((by, _), one)| *by == number && one.held.contains_key(&forward));
                let at: BTreeSet<usize> = own.map(|(_, session)| session.gateway).collect();
                assert!(
                    at.len() >= homes,
                    "held: forward {forward} only at {at:?}: {:?}",
                    process.machine.slots
                );
            }
        }
        let exclusive = self.gateways.iter().filter(|gateway| gateway.exclusive);
        assert!(
            exclusive
                .flat_map(SimulatedGateway::listeners)
                .all(|at| at.len() <= 1),
            "one answerer: OpenSSH gives a place to one session"
        );
    }
}

/// A minute for a gateway that refused a login, and the dials after it.
const SETTLED: Duration = Duration::from_secs(80);
/// A gateway that answers requests.
const SOON: Duration = Duration::from_secs(2);
/// The disconnects after a drain, and a session that the gateway keeps open meanwhile.
const DRAIN_SLACK: Duration = Duration::from_secs(12);

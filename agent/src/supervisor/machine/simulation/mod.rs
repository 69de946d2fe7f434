//! The state machine in a simulated world: gateways that fail in every way, places that dead sessions hold, two hosts, and a
//! process that hands over to another. Time passes as in reality; each schedule has its own faults.
//!
//! | module | what it holds |
//! |---|---|
//! | `gateways` | how a gateway answers, by its state |
//! | `processes` | what an agent's process asks for, and the hand-over to another |
//! | `invariants` | what always holds, one function each |
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod gateways;
mod invariants;
mod processes;

use super::{
    ConnectionSlot, DesiredState, SessionId, SlotShare, StateMachine, SupervisorAction,
    SupervisorEvent, backoff, slot::ForwardPhase,
};
use crate::tunnel::session::RetryPace;
use gateways::{GatewayState, SimulatedGateway, SimulatedSession};
use processes::AgentProcess;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    time::Duration,
};

/// A session, with the number of its process.
type SessionHolder = (usize, SessionId);

/// What happens at a moment of the simulated time. The first number is the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum ScheduledEvent {
    DialEnds(usize, SessionId),
    Answered(usize, SessionId),
    Requested(usize, SessionId, usize),
    Cancelled(usize, SessionId, usize),
    Idle(usize, SessionId),
    Ended(usize, SessionId),
    /// A gateway changes its state.
    Changes(usize, GatewayState),
    Woken(usize),
    NeedsReplacement(usize),
    /// The first host begins an upgrade.
    Upgrade,
    /// The successor of an upgrade is judged.
    Judged,
    /// The old process of an upgrade has released all its places, and asks for none.
    Released(u16),
    /// One of two processes of this host has ended.
    Alone(u16),
}

struct SimulatedWorld {
    rng: SmallRng,
    now: Duration,
    gateways: Vec<SimulatedGateway>,
    processes: Vec<AgentProcess>,
    /// With the gateway, and whether it was abandoned.
    dials: BTreeMap<SessionHolder, (usize, bool)>,
    sessions: BTreeMap<SessionHolder, SimulatedSession>,
    queue: BinaryHeap<Reverse<(Duration, u64, ScheduledEvent)>>,
    /// Number of scheduled events, which orders those of one moment.
    scheduled: u64,
    /// From then on all gateways work.
    faults_until: Duration,
    /// The process that hands over, and its successor.
    upgrade: Option<(usize, usize)>,
    /// The process that has handed over, until it has released all.
    leaving: Option<usize>,
    /// The schedule is over, and all processes drain.
    ending: bool,
    forwards: usize,
    /// Each bind names the slot.
    slotted: bool,
    /// How many slot numbers each host has.
    host_slots: u16,
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn milliseconds(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl SimulatedWorld {
    fn new(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let gateways = rng.random_range(1..=3);
        let gateways = (0..gateways).map(|_| SimulatedGateway::new(&mut rng));
        let mut world = Self {
            gateways: gateways.collect(),
            now: Duration::ZERO,
            processes: Vec::new(),
            dials: BTreeMap::new(),
            sessions: BTreeMap::new(),
            queue: BinaryHeap::new(),
            scheduled: 0,
            faults_until: seconds(rng.random_range(5..60)),
            upgrade: None,
            leaving: None,
            ending: false,
            forwards: rng.random_range(1..=2),
            slotted: rng.random_bool(0.6),
            host_slots: 0,
            rng,
        };
        let connections = world.rng.random_range(1..=3);
        let least = connections as u16;
        world.host_slots = world.rng.random_range(least..=2 * least + 2);
        let hosts = match world.slotted && world.rng.random_bool(0.3) {
            true => 2,
            false => 1,
        };
        for host in 0..hosts {
            let process = world.start(connections, host);
            world.send(process, SupervisorEvent::Tick);
        }
        world.plan();
        world
    }

    /// The faults of this schedule.
    fn plan(&mut self) {
        let until = self.faults_until;
        for _ in 0..self.rng.random_range(0..6) {
            let gateway = self.rng.random_range(0..self.gateways.len());
            let state = GatewayState::ALL[self.rng.random_range(0..GatewayState::ALL.len())];
            let at = until.mul_f64(self.rng.random());
            self.at(at, ScheduledEvent::Changes(gateway, state));
        }
        for gateway in 0..self.gateways.len() {
            self.at(until, ScheduledEvent::Changes(gateway, GatewayState::Good));
        }
        let process = self.rng.random_range(0..self.processes.len());
        if self.rng.random_bool(0.3) {
            let at = until.mul_f64(self.rng.random());
            self.at(at, ScheduledEvent::Woken(process));
        }
        if self.rng.random_bool(0.3) {
            let at = until.mul_f64(2.0 * self.rng.random::<f64>());
            self.at(at, ScheduledEvent::NeedsReplacement(process));
        }
        if self.rng.random_bool(0.4) {
            let at = until.mul_f64(3.0 * self.rng.random::<f64>());
            self.at(at, ScheduledEvent::Upgrade);
        }
    }

    fn at(&mut self, at: Duration, event: ScheduledEvent) {
        self.scheduled += 1;
        self.queue
            .push(Reverse((at.max(self.now), self.scheduled, event)));
    }

    /// After a random number of milliseconds.
    fn soon(&mut self, least: u64, most: u64, event: ScheduledEvent) {
        let wait = milliseconds(self.rng.random_range(least..most));
        self.at(self.now + wait, event);
    }

    fn run_until(&mut self, end: Duration) {
        loop {
            let event = self.queue.peek().map(|Reverse((at, ..))| *at);
            let running = self.processes.iter().enumerate();
            let running = running.filter(|(_, process)| !process.stopped);
            let tick = running.filter_map(|(n, p)| p.machine.next_deadline().map(|at| (at, n)));
            let tick = tick.min();
            let (at, process) = match (event, tick) {
                (Some(event), Some((tick, process))) if tick < event => (tick, Some(process)),
                (Some(event), _) => (event, None),
                (None, Some((tick, process))) => (tick, Some(process)),
                (None, None) => return,
            };
            if at > end {
                self.now = end;
                return;
            }
            invariants::time_passes(self.now, at);
            self.now = at;
            match process {
                Some(process) => self.send(process, SupervisorEvent::Tick),
                None => {
                    let Reverse((_, _, event)) = self.queue.pop().unwrap();
                    self.happen(event);
                }
            }
        }
    }

    fn happen(&mut self, event: ScheduledEvent) {
        match event {
            ScheduledEvent::DialEnds(process, id) => self.dial_ends(process, id),
            ScheduledEvent::Answered(process, id) => {
                if self.is_answered(process, id) {
                    self.send(process, SupervisorEvent::Proven(id));
                }
            }
            ScheduledEvent::Requested(process, id, forward) => self.requested(process, id, forward),
            ScheduledEvent::Cancelled(process, id, forward) => {
                if self.is_answered(process, id) {
                    self.leave((process, id), Some(forward), Duration::ZERO);
                    self.send(process, SupervisorEvent::Cancelled(id, forward));
                }
            }
            ScheduledEvent::Idle(process, id) => {
                if self.sessions.contains_key(&(process, id)) {
                    self.send(process, SupervisorEvent::Idle(id));
                }
            }
            ScheduledEvent::Ended(process, id) => self.ended(process, id, Duration::ZERO),
            ScheduledEvent::Changes(gateway, state) => self.changes(gateway, state),
            ScheduledEvent::Woken(process) => self.send(process, SupervisorEvent::Woken),
            ScheduledEvent::NeedsReplacement(process) => {
                let own = self.sessions.keys().find(|(by, _)| *by == process);
                if let Some((_, id)) = own.copied() {
                    self.send(process, SupervisorEvent::NeedsReplacement(id));
                }
            }
            ScheduledEvent::Upgrade => self.begin_upgrade(),
            ScheduledEvent::Judged => self.judge_upgrade(),
            ScheduledEvent::Released(host) => {
                let of_host = |one: &&mut AgentProcess| one.host == host && one.drained.is_none();
                if let Some(left) = self.processes.iter_mut().find(of_host) {
                    left.took_released = Some(self.now);
                }
                self.send_to_last_of(host, SupervisorEvent::UseReleased);
            }
            ScheduledEvent::Alone(host) => {
                self.the_released_is_held(host);
                self.send_to_last_of(host, SupervisorEvent::ShareSlots(SlotShare::All));
            }
        }
    }
}

/// One schedule from its first dial to the end of the last drain.
fn run_schedule(seed: u64) {
    let mut world = SimulatedWorld::new(seed);
    let healed = world.faults_until;
    world.run_until(healed + seconds(6));
    world.recovered();
    // A minute without a login, the time for which a dead session keeps its place, and an upgrade late in the schedule.
    world.run_until(healed + seconds(220));
    if world.upgrade.is_none() {
        world.each_forward_is_held();
    }
    world.ending = true;
    for process in 0..world.processes.len() {
        if world.processes[process].drained.is_none() {
            world.drain(process, seconds(5));
        }
    }
    world.run_until(world.now + seconds(200));
    world.all_drains_have_ended();
}

/// `SCHEDULES` sets another number, and `FIRST_SCHEDULE` another beginning: each number is one schedule, always the same.
#[test]
fn a_simulated_world_keeps_every_invariant() {
    let number = |name: &str, default: u64| {
        let text = std::env::var(name).ok();
        text.map_or(default, |text| text.parse().expect("a number"))
    };
    let first = number("FIRST_SCHEDULE", 0);
    for seed in first..first + number("SCHEDULES", DEFAULT_SCHEDULES) {
        let outcome = std::panic::catch_unwind(|| run_schedule(seed));
        assert!(outcome.is_ok(), "schedule {seed} fails");
    }
}

/// What a build without optimization does in a few seconds.
const DEFAULT_SCHEDULES: u64 = 4_000;

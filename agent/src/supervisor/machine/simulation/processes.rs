//! What the processes of an agent ask for, and the hand-over from one to another.

use super::*;

/// One process of the agent.
pub(super) struct AgentProcess {
    pub machine: StateMachine,
    pub host: u16,
    pub wanted: DesiredState,
    /// When its drain began, and the limit.
    pub drained: Option<(Duration, Duration)>,
    pub stopped: bool,
    /// When each connection last dialed each gateway.
    pub dialed: BTreeMap<(usize, usize), Duration>,
    /// When each gateway last refused a login.
    pub refused: BTreeMap<usize, Duration>,
    /// When each session last asked for each place.
    pub asked: BTreeMap<(SessionId, usize, Option<u16>), Duration>,
    /// When one of its sessions, or another process, last released a place: others may ask for that at once.
    pub released: Option<Duration>,
    /// When the process before this one had released all its places.
    pub took_released: Option<Duration>,
}

impl SimulatedWorld {
    /// The second host has slot numbers of its own; both processes of an upgrade share theirs.
    pub(super) fn start(&mut self, connections: usize, host: u16) -> usize {
        let each = self.host_slots;
        let forwards: Vec<usize> = (0..self.forwards).collect();
        let wanted = DesiredState {
            connections,
            gateways: (0..self.gateways.len()).collect(),
            slotted: match self.slotted {
                true => forwards.clone(),
                false => Vec::new(),
            },
            forwards,
            slots: (host * each..(host + 1) * each).collect(),
            replace_sessions: false,
        };
        self.processes.push(AgentProcess {
            machine: StateMachine::new(wanted.clone()),
            host,
            wanted,
            drained: None,
            stopped: false,
            dialed: BTreeMap::new(),
            refused: BTreeMap::new(),
            asked: BTreeMap::new(),
            released: None,
            took_released: None,
        });
        self.processes.len() - 1
    }

    pub(super) fn send(&mut self, process: usize, event: SupervisorEvent) {
        if self.processes[process].stopped {
            return;
        }
        if let SupervisorEvent::Ended(..)
        | SupervisorEvent::Cancelled(..)
        | SupervisorEvent::UseReleased = event
        {
            self.processes[process].released = Some(self.now);
        }
        let jitter = self.rng.random();
        let machine = &mut self.processes[process].machine;
        for action in machine.step(self.now, event, jitter) {
            self.execute(process, action);
        }
        self.check(process);
        self.look_for_release(process);
    }

    /// To the process of a host that does not drain.
    pub(super) fn send_to_last_of(&mut self, host: u16, event: SupervisorEvent) {
        let serves = |one: &AgentProcess| one.host == host && one.drained.is_none();
        if let Some(process) = self.processes.iter().position(serves) {
            self.send(process, event);
        }
    }

    /// The old process of an upgrade reports once that it has released all.
    fn look_for_release(&mut self, number: usize) {
        let machine = &self.processes[number].machine;
        let expects = (0..self.forwards).any(|forward| machine.expects_channels(forward));
        if self.leaving == Some(number) && !expects {
            self.leaving = None;
            let host = self.processes[number].host;
            self.soon(1, 50, ScheduledEvent::Released(host));
        }
    }

    fn execute(&mut self, number: usize, action: SupervisorAction) {
        let now = self.now;
        match action {
            SupervisorAction::Dial(id, gateway) => {
                self.dials_keep_their_floor(number, id, gateway);
                self.a_refused_login_is_not_repeated(number, gateway);
                let process = &mut self.processes[number];
                process.dialed.insert((id.slot, gateway), now);
                self.begin_dial(number, id, gateway);
            }
            SupervisorAction::Abandon(id) => {
                self.dials.get_mut(&(number, id)).expect("a dial").1 = true;
                self.at(now, ScheduledEvent::DialEnds(number, id));
            }
            SupervisorAction::MarkReplaced(_) => {}
            SupervisorAction::Request(id, forward, place) => {
                self.requests_keep_their_floor(number, id, forward, place);
                self.one_answerer_of_each_place(number, id, forward, place);
                let process = &mut self.processes[number];
                process.asked.insert((id, forward, place), now);
                // Without a session it has ended, and the machine does not know yet.
                if let Some(session) = self.sessions.get_mut(&(number, id)) {
                    session.asked.insert(forward, place);
                }
                self.soon(1, 200, ScheduledEvent::Requested(number, id, forward));
            }
            SupervisorAction::Cancel(id, forward) => {
                self.soon(1, 200, ScheduledEvent::Cancelled(number, id, forward));
            }
            SupervisorAction::WatchIdle(id) => {
                if self.rng.random_bool(0.8) {
                    self.soon(0, 5000, ScheduledEvent::Idle(number, id));
                }
            }
            SupervisorAction::Disconnect(id) => {
                self.soon(1, 200, ScheduledEvent::Ended(number, id));
            }
            SupervisorAction::Stopped => {
                self.processes[number].stopped = true;
                self.a_drain_ends(number);
                let host = self.processes[number].host;
                self.at(now, ScheduledEvent::Alone(host));
            }
        }
    }

    pub(super) fn begin_upgrade(&mut self) {
        let old = &self.processes[0];
        if old.drained.is_some() || self.upgrade.is_some() {
            return;
        }
        let connections = self.connections();
        let held = old.machine.held_slots();
        let new = self.start(connections, 0);
        self.send(0, SupervisorEvent::ShareSlots(SlotShare::Held));
        self.send(new, SupervisorEvent::ShareSlots(SlotShare::Except(held)));
        self.upgrade = Some((0, new));
        self.soon(500, 1000, ScheduledEvent::Judged);
        self.at(self.now + UPGRADE_LIMIT, ScheduledEvent::Judged);
    }

    /// The successor takes over when it holds each forward; past the limit it ends, and the old process stays. Without
    /// slots it cannot hold what the old process holds.
    pub(super) fn judge_upgrade(&mut self) {
        let Some((old, new)) = self.upgrade else {
            return;
        };
        let proven = (0..self.forwards).all(|forward| self.holds(new, forward));
        let started = self.processes[new].dialed.values().min().copied();
        let late = started.is_some_and(|at| self.now >= at + UPGRADE_LIMIT);
        // Where the old process holds all numbers, a refusal is proof enough.
        let has_spare = self.slotted && usize::from(self.host_slots) > self.connections();
        if proven || !has_spare {
            self.leaving = Some(old);
            self.drain(old, seconds(30));
        } else if late {
            self.drain(new, Duration::ZERO);
        } else {
            return self.soon(500, 1000, ScheduledEvent::Judged);
        }
        self.upgrade = None;
    }

    pub(super) fn drain(&mut self, process: usize, limit: Duration) {
        self.processes[process].drained = Some((self.now, limit));
        self.send(process, SupervisorEvent::Drain(limit));
    }

    /// Of each process.
    pub(super) fn connections(&self) -> usize {
        self.processes[0].wanted.connections
    }

    pub(super) fn holds(&self, process: usize, forward: usize) -> bool {
        let mut sessions = self.sessions.iter();
        sessions.any(|((by, _), one)| *by == process && one.held.contains_key(&forward))
    }
}

/// Time for a successor to prove itself.
const UPGRADE_LIMIT: Duration = Duration::from_secs(60);

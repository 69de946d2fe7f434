//! The hand-over as two pure state machines: `step(now, event) -> actions`, without tokio, sockets or a clock.
//!
//! What they promise together, whatever is lost or late (the tests try all orders):
//!
//! - At each moment at most one process may change the pauses, and at most one owns the runtime socket.
//! - A successor answers no request of the vendor before the predecessor has sent `Commit`, and requests no forward before
//!   it has proven all else.
//! - The predecessor drains only after the successor has confirmed; until then it keeps serving, so that at each moment
//!   at least one of them serves.
//! - A successor that fails, or is late, ends; the predecessor then continues as if nothing had happened.

use std::time::Duration;

/// What the process that serves does about its successor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PredecessorPhase {
    /// There is no successor.
    Serving,
    /// The new program was started and has not reported yet.
    Starting { until: Duration },
    /// The new process opens its own sessions, and proves Jira and login. The vendor's requests do not reach it.
    Preparing {
        until: Duration,
        lacking: Option<String>,
    },
    /// The new process requests its forwards; the vendor's requests that reach it wait.
    Proving {
        until: Duration,
        lacking: Option<String>,
    },
    /// Waits until the last change of the pauses is saved.
    Freezing { until: Duration },
    /// The new process was asked to take over and has not confirmed yet.
    Committing { until: Duration },
    /// The new process serves. This one finishes its requests and ends.
    Draining,
}

/// What the predecessor learns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PredecessorEvent {
    /// A deadline may have passed.
    Tick,
    /// An administrator asks for the hand-over.
    Requested,
    /// The new process runs and understands this one.
    Hello,
    /// What the new process has not proven yet of what it needs in this phase; `None`: nothing is lacking.
    Proof(Option<String>),
    /// The pauses are saved, and this process changes none.
    Frozen,
    /// The new process has taken over.
    Committed,
    /// The new process cannot take over, and ends.
    Failed(String),
    /// The new process has ended.
    Lost,
    /// This process was asked to stop.
    Stop,
}

/// What the predecessor does.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum PredecessorAction {
    /// Start the new program.
    Start,
    /// Tell the new process to request its forwards.
    Listen,
    /// Accept no change of the pauses, and wait until the last one is saved.
    Freeze,
    /// Tell the new process to take over.
    Commit,
    /// Let the new process reject the requests that wait there, and end; wait for its end.
    End,
    /// Kill the new process at once and wait for its end.
    Kill,
    /// Accept changes of the pauses again.
    Thaw,
    /// The hand-over has failed; the text says why.
    Fail(String),
    /// Report the new process to systemd as the main process, then drain.
    Drain,
}

/// The state machine of the process that serves.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PredecessorMachine {
    phase: PredecessorPhase,
}

impl PredecessorMachine {
    /// Without a successor.
    pub(super) fn new() -> Self {
        Self {
            phase: PredecessorPhase::Serving,
        }
    }

    /// What it does now.
    #[cfg(test)]
    pub(super) fn phase(&self) -> &PredecessorPhase {
        &self.phase
    }

    /// When a `Tick` is due.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.phase {
            PredecessorPhase::Starting { until }
            | PredecessorPhase::Preparing { until, .. }
            | PredecessorPhase::Proving { until, .. }
            | PredecessorPhase::Freezing { until }
            | PredecessorPhase::Committing { until } => Some(until),
            PredecessorPhase::Serving | PredecessorPhase::Draining => None,
        }
    }

    /// One step. `now` never decreases. Events that do not fit the phase change nothing.
    pub(super) fn step(
        &mut self,
        now: Duration,
        event: PredecessorEvent,
    ) -> Vec<PredecessorAction> {
        use PredecessorAction as Action;
        use PredecessorEvent as Event;
        use PredecessorPhase as Phase;
        match (&self.phase, event) {
            (Phase::Serving, Event::Requested) => {
                self.phase = Phase::Starting {
                    until: now + START_LIMIT,
                };
                vec![Action::Start]
            }
            (Phase::Starting { .. }, Event::Hello) => {
                self.phase = Phase::Preparing {
                    until: now + PROVE_LIMIT,
                    lacking: None,
                };
                Vec::new()
            }
            (Phase::Preparing { .. }, Event::Proof(None)) => {
                self.phase = Phase::Proving {
                    until: now + LISTEN_LIMIT,
                    lacking: None,
                };
                vec![Action::Listen]
            }
            (Phase::Proving { .. }, Event::Proof(None)) => {
                self.phase = Phase::Freezing {
                    until: now + COMMIT_LIMIT,
                };
                vec![Action::Freeze]
            }
            (
                Phase::Preparing { until, .. } | Phase::Proving { until, .. },
                Event::Proof(lacking),
            ) if now < *until => {
                self.phase.set_lacking(lacking);
                Vec::new()
            }
            (Phase::Freezing { .. }, Event::Frozen) => {
                self.phase = Phase::Committing {
                    until: now + COMMIT_LIMIT,
                };
                vec![Action::Commit]
            }
            (Phase::Committing { .. }, Event::Committed) => {
                self.phase = Phase::Draining;
                vec![Action::Drain]
            }
            (Phase::Committing { .. }, Event::Failed(cause)) => self.take_back(cause),
            (Phase::Committing { .. }, Event::Lost) => self.take_back(String::from(ENDED_LATE)),
            (Phase::Serving | Phase::Draining | Phase::Committing { .. }, Event::Stop)
            | (Phase::Serving | Phase::Draining, Event::Failed(_) | Event::Lost) => Vec::new(),
            (_, Event::Failed(cause)) => self.fail(cause),
            (_, Event::Lost) => self.fail(String::from(ENDED_EARLY)),
            (_, Event::Stop) => self.fail(String::from(STOPPING)),
            (Phase::Starting { until }, _) if *until <= now => self.fail(format!(
                "the new process did not report within {} s",
                START_LIMIT.as_secs()
            )),
            (Phase::Preparing { until, lacking }, _) if *until <= now => {
                let cause = not_proven(PROVE_LIMIT, lacking.as_deref());
                self.fail(cause)
            }
            (Phase::Proving { until, lacking }, _) if *until <= now => {
                let cause = not_proven(LISTEN_LIMIT, lacking.as_deref());
                self.fail(cause)
            }
            (Phase::Freezing { until }, _) if *until <= now => {
                self.fail(String::from("the pauses could not be saved in time"))
            }
            (Phase::Committing { until }, _) if *until <= now => self.take_back(format!(
                "the new process did not take over within {} s",
                COMMIT_LIMIT.as_secs()
            )),
            _ => Vec::new(),
        }
    }

    /// Before `Commit` the new process has sent nothing to Jira, and can say so to those that wait.
    fn fail(&mut self, cause: String) -> Vec<PredecessorAction> {
        let mut actions = vec![PredecessorAction::End];
        if matches!(self.phase, PredecessorPhase::Freezing { .. }) {
            actions.push(PredecessorAction::Thaw);
        }
        actions.push(PredecessorAction::Fail(cause));
        self.phase = PredecessorPhase::Serving;
        actions
    }

    fn take_back(&mut self, cause: String) -> Vec<PredecessorAction> {
        self.phase = PredecessorPhase::Serving;
        // Only when it has ended: until then it may change the pauses.
        vec![
            PredecessorAction::Kill,
            PredecessorAction::Thaw,
            PredecessorAction::Fail(cause),
        ]
    }
}

impl PredecessorPhase {
    fn set_lacking(&mut self, now: Option<String>) {
        if let Self::Preparing { lacking, .. } | Self::Proving { lacking, .. } = self {
            *lacking = now;
        }
    }
}

fn not_proven(limit: Duration, lacking: Option<&str>) -> String {
    let lacking = lacking.unwrap_or("it has reported nothing");
    let seconds = limit.as_secs();
    format!("the new process did not prove within {seconds} s what this one has proven: {lacking}")
}

/// What a process that was started to take over does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SuccessorPhase {
    /// Opens its own sessions, proves Jira and login, and requests no forward.
    Preparing,
    /// Requests its forwards; the vendor's requests wait.
    Proving,
    /// Was asked to take over, and reads the pauses.
    Reading,
    /// Serves. `alone`: the predecessor has ended.
    Serving { alone: bool },
    /// Has given up.
    Ended,
}

/// What the successor learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SuccessorEvent {
    /// The predecessor has seen all but the forwards proven.
    Listen,
    /// The predecessor has stopped changing the pauses, and hands over.
    Commit,
    /// The pauses are read.
    Read,
    /// The pauses cannot be read.
    Unreadable,
    /// The predecessor has ended.
    Lost,
    /// Someone asks the process to stop.
    Stop,
}

/// What the successor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SuccessorAction {
    /// Request the forwards from the gateways.
    RequestForwards,
    /// Read the pauses from the disk.
    ReadPauses,
    /// Answer the vendor's requests from now on.
    Serve,
    /// Confirm to the predecessor.
    Confirm,
    /// Take the runtime socket, and report to systemd.
    TakeSocket,
    /// Tell the predecessor that it cannot take over.
    Refuse,
    /// End this process.
    End,
}

/// The state machine of the process that takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct SuccessorMachine {
    phase: SuccessorPhase,
}

impl SuccessorMachine {
    /// Just started.
    pub(super) fn new() -> Self {
        Self {
            phase: SuccessorPhase::Preparing,
        }
    }

    /// What it does now.
    #[cfg(test)]
    pub(super) fn phase(&self) -> SuccessorPhase {
        self.phase
    }

    /// One step. Events that do not fit the phase change nothing.
    pub(super) fn step(&mut self, event: SuccessorEvent) -> Vec<SuccessorAction> {
        use SuccessorAction as Action;
        use SuccessorEvent as Event;
        use SuccessorPhase as Phase;
        let (next, actions) = match (self.phase, event) {
            (Phase::Preparing, Event::Listen) => (Phase::Proving, vec![Action::RequestForwards]),
            (Phase::Proving, Event::Commit) => (Phase::Reading, vec![Action::ReadPauses]),
            (Phase::Preparing | Phase::Proving | Phase::Reading, Event::Lost | Event::Stop) => {
                (Phase::Ended, vec![Action::End])
            }
            (Phase::Reading, Event::Unreadable) => {
                (Phase::Ended, vec![Action::Refuse, Action::End])
            }
            (Phase::Reading, Event::Read) => (
                Phase::Serving { alone: false },
                vec![Action::Serve, Action::Confirm, Action::TakeSocket],
            ),
            (Phase::Serving { .. }, Event::Lost) => (Phase::Serving { alone: true }, Vec::new()),
            (phase, _) => (phase, Vec::new()),
        };
        self.phase = next;
        actions
    }
}

/// From the start of the new program to its first report. A start takes 0.2 s; a slow disk is no reason to give up.
pub(super) const START_LIMIT: Duration = Duration::from_secs(15);
/// For sessions, Jira and login. Each takes less than a second; a gateway that limits logins, or a token that must be
/// refreshed, takes longer.
pub(super) const PROVE_LIMIT: Duration = Duration::from_secs(30);
/// For the gateways to grant the forwards, which takes a round trip; a refused one is requested again every second. The
/// vendor's requests wait that long at most.
pub(super) const LISTEN_LIMIT: Duration = Duration::from_secs(10);
/// Reading one small file. After it the new process is killed.
pub(super) const COMMIT_LIMIT: Duration = Duration::from_secs(5);
/// Why a hand-over ends with the process that began it.
pub(super) const STOPPING: &str = "the agent is stopping";
const ENDED_EARLY: &str =
    "the new process ended before it had proven anything; its reason is in the log";
const ENDED_LATE: &str = "the new process ended while it took over; its reason is in the log";

#[cfg(test)]
mod tests;

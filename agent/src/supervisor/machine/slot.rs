//! One connection of the supervisor: at most one dial, at most one session that serves, and sessions on
//! their way out.

use super::{SessionId, SupervisorAction};
use std::{collections::BTreeMap, time::Duration};

/// State of one connection. Without a session it always waits or dials, except in a drain.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    /// Its place among the connections: its own gateway is the one at this place, so that connections spread.
    pub home: usize,
    /// Failures since it last dialled its own gateway.
    pub rotation: usize,
    /// Attempts since a session was stable.
    pub attempt: u32,
    /// Number of sessions that the connection has had.
    pub sessions: u64,
    pub dial: DialState,
    pub current: Option<ActiveSession>,
    pub draining: Vec<DrainingSession>,
    /// The configuration has fewer connections now: it is gone as soon as nothing is under way on it.
    pub retired: bool,
}

/// Whether a new session is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DialState {
    /// There is a session, or the drain has begun.
    Idle,
    /// There is no session: the next attempt; the gateway is chosen anew when it is due.
    Waiting { until: Duration, gateway: usize },
    /// One attempt is under way. `stale`: it was given up, since the configuration has changed.
    Dialing {
        generation: u64,
        gateway: usize,
        stale: bool,
    },
}

/// A session that serves, or would.
#[derive(Debug)]
pub(super) struct ActiveSession {
    pub generation: u64,
    pub gateway: usize,
    pub since: Duration,
    /// By the forward's number: all that are wanted, and those that are being let go of.
    pub forwards: BTreeMap<usize, ForwardPhase>,
    /// It is to be replaced.
    pub needs_replacement: bool,
    /// When its replacement is tried again, where that has failed.
    pub retry_at: Option<Duration>,
    /// Its successor belongs to another gateway.
    pub relocate: bool,
}

/// One forward of a session that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForwardPhase {
    /// To be asked for now.
    Due { refusals: u32 },
    /// An older session of this connection must let go of it first.
    AwaitingRelease { from: u64 },
    /// Asked for; `refusals` were given before.
    Requested { refusals: u32 },
    /// The gateway listens.
    Granted,
    /// The gateway refused; it is asked again.
    Refused { retry_at: Duration, refusals: u32 },
    /// No longer wanted, and not let go of yet: `Requested` or `Cancelling`.
    Releasing(ReleasePhase),
}

/// A session on its way out.
#[derive(Debug)]
pub(super) struct DrainingSession {
    pub generation: u64,
    pub gateway: usize,
    /// By the forward's number.
    pub forwards: BTreeMap<usize, ReleasePhase>,
    /// It is disconnected then, whatever is still under way.
    pub deadline: Duration,
    /// `Leave` was given out.
    pub marked_replaced: bool,
    /// `WatchIdle` was given out.
    pub watched: bool,
    /// `Disconnect` was given out.
    pub disconnecting: bool,
}

/// One forward of a session on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReleasePhase {
    /// Still held, until the successor holds it too or cannot for as long as this one does.
    Retained,
    /// An answer to the request is still to come.
    Requested,
    /// An answer to the cancellation is still to come.
    Cancelling,
    /// Not held, or no more.
    Released,
}

impl ConnectionSlot {
    pub(super) fn new(home: usize) -> Self {
        Self {
            home,
            rotation: 0,
            attempt: 0,
            sessions: 0,
            dial: DialState::Waiting {
                until: Duration::ZERO,
                gateway: home,
            },
            current: None,
            draining: Vec::new(),
            retired: false,
        }
    }

    /// Nothing is left to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.dial == DialState::Idle && self.current.is_none() && self.draining.is_empty()
    }

    /// Its session has a successor under way, or one that has not taken everything over yet. One that waits to be tried
    /// again is none: it would hold up the other connections for as long as it cannot log in.
    pub(super) fn is_being_replaced(&self) -> bool {
        self.current.as_ref().is_some_and(|active| {
            let moving =
                |phase: &ForwardPhase| matches!(phase, ForwardPhase::AwaitingRelease { .. });
            self.dial != DialState::Idle || active.forwards.values().any(moving)
        })
    }

    /// Its session is to be replaced and can be.
    pub(super) fn awaits_replacement(&self) -> bool {
        !self.retired
            && self.dial == DialState::Idle
            && self.draining.len() < MAX_DRAINING
            && self
                .current
                .as_ref()
                .is_some_and(|active| active.needs_replacement)
    }

    pub(super) fn request_due(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let Some(active) = &mut self.current else {
            return;
        };
        let id = SessionId {
            slot: index,
            generation: active.generation,
        };
        // A forward whose place or name has changed may need what is being let go of.
        if active.is_releasing() {
            return;
        }
        for (forward, phase) in &mut active.forwards {
            let refusals = match *phase {
                ForwardPhase::Due { refusals } => refusals,
                ForwardPhase::Refused { retry_at, refusals } if retry_at <= now => refusals,
                _ => continue,
            };
            *phase = ForwardPhase::Requested { refusals };
            actions.push(SupervisorAction::Request(id, *forward));
        }
    }

    pub(super) fn close_drained(
        &mut self,
        now: Duration,
        index: usize,
        actions: &mut Vec<SupervisorAction>,
    ) {
        // Whoever comes anew finds somebody: before, a channel that ends would send its client into the gap.
        let settled = match &self.current {
            Some(active) => active.forwards.values().all(ForwardPhase::is_settled),
            None => self.retired || self.dial == DialState::Idle,
        };
        for draining in &mut self.draining {
            let id = SessionId {
                slot: index,
                generation: draining.generation,
            };
            if draining.disconnecting {
                continue;
            }
            let gone = draining
                .forwards
                .values()
                .all(|f| *f == ReleasePhase::Released);
            if gone && settled && !draining.marked_replaced {
                draining.marked_replaced = true;
                actions.push(SupervisorAction::MarkReplaced(id));
            }
            if draining.deadline <= now {
                draining.disconnecting = true;
                actions.push(SupervisorAction::Disconnect(id));
            } else if gone && !draining.watched {
                draining.watched = true;
                actions.push(SupervisorAction::WatchIdle(id));
            }
        }
    }
}

impl ForwardPhase {
    /// It is held, or another session holds it, as far as this one can know.
    fn is_settled(&self) -> bool {
        matches!(self, Self::Granted | Self::Refused { .. })
    }

    /// The gateway listens, or may as far as we know.
    pub(super) fn may_listen(&self) -> bool {
        matches!(
            self,
            Self::Granted | Self::Requested { .. } | Self::Releasing(_)
        )
    }
}

impl ActiveSession {
    /// Begins to leave: what is under way has until `deadline`. `keep`: a successor is there, and what is held is let go
    /// of when that one holds it.
    pub(super) fn drain(
        self,
        id: SessionId,
        deadline: Duration,
        keep: bool,
        actions: &mut Vec<SupervisorAction>,
    ) -> DrainingSession {
        let mut release = |(forward, phase)| {
            let release = match phase {
                ForwardPhase::Granted if keep => ReleasePhase::Retained,
                ForwardPhase::Granted => {
                    actions.push(SupervisorAction::Cancel(id, forward));
                    ReleasePhase::Cancelling
                }
                ForwardPhase::Requested { .. } => ReleasePhase::Requested,
                ForwardPhase::Releasing(release) => release,
                ForwardPhase::Due { .. }
                | ForwardPhase::AwaitingRelease { .. }
                | ForwardPhase::Refused { .. } => ReleasePhase::Released,
            };
            (forward, release)
        };
        DrainingSession {
            forwards: self.forwards.into_iter().map(&mut release).collect(),
            generation: self.generation,
            gateway: self.gateway,
            deadline,
            marked_replaced: false,
            watched: false,
            disconnecting: false,
        }
    }

    /// Whether something is being let go of.
    pub(super) fn is_releasing(&self) -> bool {
        let parting = |phase: &ForwardPhase| matches!(phase, ForwardPhase::Releasing(_));
        self.forwards.values().any(parting)
    }

    /// Lets go of what is not wanted, and will ask for what is.
    pub(super) fn reconcile(
        &mut self,
        id: SessionId,
        wanted: &[usize],
        actions: &mut Vec<SupervisorAction>,
    ) {
        self.forwards.retain(|forward, phase| {
            if wanted.contains(forward) {
                return true;
            }
            let release = match *phase {
                ForwardPhase::Granted => {
                    actions.push(SupervisorAction::Cancel(id, *forward));
                    ReleasePhase::Cancelling
                }
                ForwardPhase::Requested { .. } => ReleasePhase::Requested,
                ForwardPhase::Releasing(release) => release,
                ForwardPhase::Due { .. }
                | ForwardPhase::AwaitingRelease { .. }
                | ForwardPhase::Refused { .. } => return false,
            };
            *phase = ForwardPhase::Releasing(release);
            true
        });
        for forward in wanted {
            let due = ForwardPhase::Due { refusals: 0 };
            self.forwards.entry(*forward).or_insert(due);
        }
    }
}

impl DrainingSession {
    /// Lets go of what it still holds where `which` says so.
    pub(super) fn cancel_forwards(
        &mut self,
        slot: usize,
        which: impl Fn(usize) -> bool,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let id = SessionId {
            slot,
            generation: self.generation,
        };
        for (forward, release) in &mut self.forwards {
            if *release == ReleasePhase::Retained && which(*forward) {
                *release = ReleasePhase::Cancelling;
                actions.push(SupervisorAction::Cancel(id, *forward));
            }
        }
    }
}

/// Sessions of one connection that still finish what is under way; meanwhile it is not replaced again.
pub(super) const MAX_DRAINING: usize = 4;

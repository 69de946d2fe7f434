//! One connection of the supervisor: its dials, at most one active session, and draining sessions.

use super::{SessionId, SupervisorAction};
use std::{collections::BTreeMap, time::Duration};

/// State of one connection. Without a session it always dials or is about to, except in a drain.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    /// Its place among the connections. Its home gateway is the one at the same place, which spreads the connections.
    pub home: usize,
    /// Failures since a session was good, for status.
    pub attempt: u32,
    /// Number of sessions that the connection has had.
    pub sessions: u64,
    /// No gateway is dialed before this.
    pub not_before: Duration,
    /// What it knows of each gateway, by the gateway's number.
    pub histories: BTreeMap<usize, DialHistory>,
    /// By the numbers of gateway and forward: how often its place was lost lately. A session may end with each release, where
    /// the gateway leaves requests unanswered, so that the next one must know.
    pub repeats: BTreeMap<(usize, usize), RepeatedRequests>,
    /// Dials that have not ended, at most one per gateway besides abandoned ones.
    pub dials: Vec<PendingDial>,
    pub current: Option<ActiveSession>,
    /// A new session beside the one that serves, until it is proven.
    pub successor: Option<SuccessorSession>,
    pub draining: Vec<DrainingSession>,
    /// The configuration has fewer connections now: the slot is removed once it is drained.
    pub retired: bool,
}

/// An attempt to open a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PendingDial {
    pub generation: u64,
    pub gateway: usize,
    /// When it started, or last passed a hop.
    pub progress_at: Duration,
    /// The longest time that one hop has taken.
    pub slowest_hop: Duration,
    /// A server has accepted the TCP connection.
    pub connected: bool,
    /// It was abandoned: another gateway was faster, or the configuration has changed.
    pub stale: bool,
}

/// The outcome of earlier dials of one connection to one gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DialHistory {
    /// Failures in a row: dials, and sessions that were not good.
    pub failures: u32,
    /// Sessions in a row that were not good.
    pub bad_sessions: u32,
    /// When it was dialed last.
    pub dialed_at: Option<Duration>,
    /// It is not dialed before this.
    pub not_before: Duration,
}

/// A session that serves or will serve.
#[derive(Debug)]
pub(super) struct ActiveSession {
    pub generation: u64,
    pub gateway: usize,
    pub since: Duration,
    /// By the forward's number: all that are wanted, and those that are being released.
    pub forwards: BTreeMap<usize, ForwardPhase>,
    /// It has answered a probe.
    pub proven: bool,
    /// It must be replaced.
    pub needs_replacement: bool,
}

/// A new session that is not proven yet. It has no forward.
#[derive(Debug)]
pub(super) struct SuccessorSession {
    pub generation: u64,
    pub gateway: usize,
    pub since: Duration,
    /// It has answered a probe.
    pub proven: bool,
}

/// How often a granted forward was requested again lately, because its place was lost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RepeatedRequests {
    /// Times in a row.
    pub count: u32,
    /// The last time.
    pub last: Duration,
}

/// One forward of an active session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ForwardPhase {
    /// It must be requested now.
    Due { refusals: u32 },
    /// An older session of this connection must release it first.
    AwaitingRelease { from: u64 },
    /// It was requested, and refused `refusals` times before.
    Requested { refusals: u32 },
    /// The gateway listens.
    Granted,
    /// The gateway refused; it is requested again at `retry_at`.
    Refused { retry_at: Duration, refusals: u32 },
    /// It is not wanted any more, and not released yet: `Requested` or `Cancelling`.
    Releasing(ReleasePhase),
}

/// A replaced session that finishes its requests.
#[derive(Debug)]
pub(super) struct DrainingSession {
    pub generation: u64,
    pub gateway: usize,
    /// By the forward's number.
    pub forwards: BTreeMap<usize, ReleasePhase>,
    /// When it is disconnected, with or without open channels.
    pub deadline: Duration,
    /// `MarkReplaced` was returned for it.
    pub marked_replaced: bool,
    /// `WatchIdle` was returned for it.
    pub watched: bool,
    /// `Disconnect` was returned for it.
    pub disconnecting: bool,
}

/// One forward of a draining session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReleasePhase {
    /// Still held until the successor holds it too, or cannot while this session does.
    Retained,
    /// The answer to the request is pending.
    Requested,
    /// The answer to the cancellation is pending.
    Cancelling,
    /// Not held.
    Released,
}

impl ConnectionSlot {
    pub(super) fn new(home: usize) -> Self {
        Self {
            home,
            attempt: 0,
            sessions: 0,
            not_before: Duration::ZERO,
            histories: BTreeMap::new(),
            repeats: BTreeMap::new(),
            dials: Vec::new(),
            current: None,
            successor: None,
            draining: Vec::new(),
            retired: false,
        }
    }

    /// Whether the slot has no dial and no session.
    pub(super) fn is_empty(&self) -> bool {
        let sessions = self.current.is_some() || self.successor.is_some();
        self.dials.is_empty() && !sessions && self.draining.is_empty()
    }

    /// The dials that were not abandoned.
    pub(super) fn live_dials(&self) -> impl Iterator<Item = &PendingDial> {
        self.dials.iter().filter(|dial| !dial.stale)
    }

    /// Whether a dial to this gateway is running.
    pub(super) fn is_dialing(&self, gateway: usize) -> bool {
        self.live_dials().any(|dial| dial.gateway == gateway)
    }

    /// Whether a successor of a session that must be replaced is being opened, or has not taken over everything yet. A
    /// failed one that waits does not count: it would block the other connections for as long as it cannot log in.
    pub(super) fn is_being_replaced(&self) -> bool {
        self.current.as_ref().is_some_and(|active| {
            let moving =
                |phase: &ForwardPhase| matches!(phase, ForwardPhase::AwaitingRelease { .. });
            let opened = self.successor.is_some() || self.live_dials().next().is_some();
            active.needs_replacement && opened || active.forwards.values().any(moving)
        })
    }

    /// Notes that a session of this gateway has ended, and whether it was of use.
    pub(super) fn note_end(&mut self, now: Duration, gateway: usize, good: bool, jitter: f64) {
        let history = self.histories.entry(gateway).or_default();
        if good {
            self.attempt = 0;
            history.failures = 0;
            history.bad_sessions = 0;
        } else {
            history.bad_sessions = history.bad_sessions.saturating_add(1);
        }
        history.fail(now, jitter);
        self.attempt = self.attempt.saturating_add(1);
    }

    /// Abandons the dials that `which` selects.
    pub(super) fn abandon_dials(
        &mut self,
        index: usize,
        which: impl Fn(&PendingDial) -> bool,
        actions: &mut Vec<SupervisorAction>,
    ) {
        for dial in &mut self.dials {
            if !dial.stale && which(dial) {
                dial.stale = true;
                actions.push(SupervisorAction::Abandon(SessionId {
                    slot: index,
                    generation: dial.generation,
                }));
            }
        }
    }

    /// The forwards that must be requested now, each with the number of refusals before.
    pub(super) fn due_forwards(&self, now: Duration) -> Vec<(usize, u32)> {
        let Some(active) = &self.current else {
            return Vec::new();
        };
        // A forward whose address or name has changed may need one that is being released.
        if active.is_releasing() {
            return Vec::new();
        }
        let due = active
            .forwards
            .iter()
            .filter_map(|(forward, phase)| match *phase {
                ForwardPhase::Due { refusals } => Some((*forward, refusals)),
                ForwardPhase::Refused { retry_at, refusals } if retry_at <= now => {
                    Some((*forward, refusals))
                }
                ForwardPhase::AwaitingRelease { .. }
                | ForwardPhase::Requested { .. }
                | ForwardPhase::Granted
                | ForwardPhase::Refused { .. }
                | ForwardPhase::Releasing(_) => None,
            });
        due.collect()
    }

    pub(super) fn close_drained(
        &mut self,
        now: Duration,
        index: usize,
        stopping: bool,
        actions: &mut Vec<SupervisorAction>,
    ) {
        // Only when new connections are served: before that, a channel that ends would leave its client without a forward.
        let settled = match &self.current {
            Some(active) => active.forwards.values().all(ForwardPhase::is_settled),
            None => self.retired || stopping,
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
    /// Whether this or, as far as it knows, another session holds the forward.
    fn is_settled(&self) -> bool {
        matches!(self, Self::Granted | Self::Refused { .. })
    }

    /// Whether the gateway listens, or may listen.
    pub(super) fn may_listen(&self) -> bool {
        matches!(
            self,
            Self::Granted | Self::Requested { .. } | Self::Releasing(_)
        )
    }
}

impl ActiveSession {
    /// Starts to drain: requests in flight have until `deadline`. `keep`: there is a successor, and each forward is released
    /// when that one holds it.
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

    /// Whether a forward is being released.
    pub(super) fn is_releasing(&self) -> bool {
        let parting = |phase: &ForwardPhase| matches!(phase, ForwardPhase::Releasing(_));
        self.forwards.values().any(parting)
    }

    /// Releases the forwards that are not wanted, and requests those that are.
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
    /// Releases the retained forwards that `which` selects.
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

/// A connection with this many draining sessions is not replaced again.
pub(super) const MAX_DRAINING: usize = 4;

//! One connection of the supervisor: at most one dial, at most one session that serves, and sessions on
//! their way out.

use super::step::{Action, Id};
use std::{collections::BTreeMap, time::Duration};

/// State of one connection. Without a session it always waits or dials, except in a drain.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its place among the connections: its own gateway is the one at this place, so that connections spread.
    pub home: usize,
    /// Failures since it last dialled its own gateway.
    pub rotation: usize,
    /// Attempts since a session was stable.
    pub attempt: u32,
    /// Sessions so far.
    pub sessions: u64,
    pub dial: Dial,
    pub current: Option<Live>,
    pub leaving: Vec<Leaving>,
    /// The configuration has fewer connections now: it is gone as soon as nothing is under way on it.
    pub retired: bool,
}

/// Whether a new session is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
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
pub(super) struct Live {
    pub generation: u64,
    pub gateway: usize,
    pub since: Duration,
    /// By the forward's number: all that are wanted, and those that are being let go of.
    pub forwards: BTreeMap<usize, Held>,
    /// It is to be replaced.
    pub worn: bool,
    /// When its replacement is tried again, where that has failed.
    pub retry_at: Option<Duration>,
    /// Its successor belongs to another gateway.
    pub moves: bool,
}

/// One forward of a session that serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// To be asked for now.
    Due { refusals: u32 },
    /// An older session of this connection must let go of it first.
    Moving { from: u64 },
    /// Asked for; `refusals` were given before.
    Requested { refusals: u32 },
    /// The gateway listens.
    Granted,
    /// The gateway refused; it is asked again.
    Refused { retry_at: Duration, refusals: u32 },
    /// No longer wanted, and not let go of yet: `Requested` or `Cancelling`.
    Parting(Farewell),
}

/// A session on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    pub generation: u64,
    pub gateway: usize,
    /// By the forward's number.
    pub forwards: BTreeMap<usize, Farewell>,
    /// It is disconnected then, whatever is still under way.
    pub deadline: Duration,
    /// `Leave` was given out.
    pub left: bool,
    /// `WatchIdle` was given out.
    pub watched: bool,
    /// `Disconnect` was given out.
    pub disconnecting: bool,
}

/// One forward of a session on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
    /// Still held, until the successor holds it too or cannot for as long as this one does.
    Keeping,
    /// An answer to the request is still to come.
    Requested,
    /// An answer to the cancellation is still to come.
    Cancelling,
    /// Not held, or no more.
    Gone,
}

impl Slot {
    pub(super) fn new(home: usize) -> Self {
        Self {
            home,
            rotation: 0,
            attempt: 0,
            sessions: 0,
            dial: Dial::Waiting {
                until: Duration::ZERO,
                gateway: home,
            },
            current: None,
            leaving: Vec::new(),
            retired: false,
        }
    }

    /// Nothing is left to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.dial == Dial::Idle && self.current.is_none() && self.leaving.is_empty()
    }

    /// Its session has a successor under way, or one that has not taken everything over yet. One that waits to be tried
    /// again is none: it would hold up the other connections for as long as it cannot log in.
    pub(super) fn is_being_replaced(&self) -> bool {
        self.current.as_ref().is_some_and(|live| {
            let moving = |held: &Held| matches!(held, Held::Moving { .. });
            self.dial != Dial::Idle || live.forwards.values().any(moving)
        })
    }

    /// Its session is to be replaced and can be.
    pub(super) fn awaits_replacement(&self) -> bool {
        !self.retired
            && self.dial == Dial::Idle
            && self.leaving.len() < MAX_LEAVING
            && self.current.as_ref().is_some_and(|live| live.worn)
    }

    pub(super) fn request_due(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        let Some(live) = &mut self.current else {
            return;
        };
        let id = Id {
            slot: index,
            generation: live.generation,
        };
        // A forward whose place or name has changed may need what is being let go of.
        if live.parts() {
            return;
        }
        for (forward, held) in &mut live.forwards {
            let refusals = match *held {
                Held::Due { refusals } => refusals,
                Held::Refused { retry_at, refusals } if retry_at <= now => refusals,
                _ => continue,
            };
            *held = Held::Requested { refusals };
            actions.push(Action::Request(id, *forward));
        }
    }

    pub(super) fn say_goodbye(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        // Whoever comes anew finds somebody: before, a channel that ends would send its client into the gap.
        let settled = match &self.current {
            Some(live) => live.forwards.values().all(Held::is_settled),
            None => self.retired || self.dial == Dial::Idle,
        };
        for leaving in &mut self.leaving {
            let id = Id {
                slot: index,
                generation: leaving.generation,
            };
            if leaving.disconnecting {
                continue;
            }
            let gone = leaving.forwards.values().all(|f| *f == Farewell::Gone);
            if gone && settled && !leaving.left {
                leaving.left = true;
                actions.push(Action::Leave(id));
            }
            if leaving.deadline <= now {
                leaving.disconnecting = true;
                actions.push(Action::Disconnect(id));
            } else if gone && !leaving.watched {
                leaving.watched = true;
                actions.push(Action::WatchIdle(id));
            }
        }
    }
}

impl Held {
    /// It is held, or another session holds it, as far as this one can know.
    fn is_settled(&self) -> bool {
        matches!(self, Self::Granted | Self::Refused { .. })
    }

    /// The gateway listens, or may as far as we know.
    pub(super) fn may_listen(&self) -> bool {
        matches!(
            self,
            Self::Granted | Self::Requested { .. } | Self::Parting(_)
        )
    }
}

impl Live {
    /// Begins to leave: what is under way has until `deadline`. `keep`: a successor is there, and what is held is let go
    /// of when that one holds it.
    pub(super) fn leave(
        self,
        id: Id,
        deadline: Duration,
        keep: bool,
        actions: &mut Vec<Action>,
    ) -> Leaving {
        let mut farewell = |(forward, held)| {
            let farewell = match held {
                Held::Granted if keep => Farewell::Keeping,
                Held::Granted => {
                    actions.push(Action::Cancel(id, forward));
                    Farewell::Cancelling
                }
                Held::Requested { .. } => Farewell::Requested,
                Held::Parting(farewell) => farewell,
                Held::Due { .. } | Held::Moving { .. } | Held::Refused { .. } => Farewell::Gone,
            };
            (forward, farewell)
        };
        Leaving {
            forwards: self.forwards.into_iter().map(&mut farewell).collect(),
            generation: self.generation,
            gateway: self.gateway,
            deadline,
            left: false,
            watched: false,
            disconnecting: false,
        }
    }

    /// Whether something is being let go of.
    pub(super) fn parts(&self) -> bool {
        let parting = |held: &Held| matches!(held, Held::Parting(_));
        self.forwards.values().any(parting)
    }

    /// Lets go of what is not wanted, and will ask for what is.
    pub(super) fn want(&mut self, id: Id, wanted: &[usize], actions: &mut Vec<Action>) {
        self.forwards.retain(|forward, held| {
            if wanted.contains(forward) {
                return true;
            }
            let farewell = match *held {
                Held::Granted => {
                    actions.push(Action::Cancel(id, *forward));
                    Farewell::Cancelling
                }
                Held::Requested { .. } => Farewell::Requested,
                Held::Parting(farewell) => farewell,
                Held::Due { .. } | Held::Moving { .. } | Held::Refused { .. } => return false,
            };
            *held = Held::Parting(farewell);
            true
        });
        for forward in wanted {
            let due = Held::Due { refusals: 0 };
            self.forwards.entry(*forward).or_insert(due);
        }
    }
}

impl Leaving {
    /// Lets go of what it still holds where `which` says so.
    pub(super) fn let_go(
        &mut self,
        slot: usize,
        which: impl Fn(usize) -> bool,
        actions: &mut Vec<Action>,
    ) {
        let id = Id {
            slot,
            generation: self.generation,
        };
        for (forward, farewell) in &mut self.forwards {
            if *farewell == Farewell::Keeping && which(*forward) {
                *farewell = Farewell::Cancelling;
                actions.push(Action::Cancel(id, *forward));
            }
        }
    }
}

/// Sessions of one connection that still finish what is under way; meanwhile it is not replaced again.
pub(super) const MAX_LEAVING: usize = 4;

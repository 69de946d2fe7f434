//! One connection of the supervisor: at most one dial, at most one session that serves, and sessions on
//! their way out.

use super::step::{Action, Id};
use std::time::Duration;

/// State of one connection. Without a session it always waits or dials, except in a drain.
#[derive(Debug)]
pub(super) struct Slot {
    /// Its own gateway, so that connections spread.
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
}

/// Whether a new session is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// There is a session, or the drain has begun.
    Idle,
    /// The next attempt; the gateway is chosen anew when it is due.
    Waiting { until: Duration, gateway: usize },
    /// One attempt is under way.
    Dialing { generation: u64, gateway: usize },
}

/// A session that serves, or would.
#[derive(Debug)]
pub(super) struct Live {
    pub generation: u64,
    pub gateway: usize,
    pub since: Duration,
    /// One per forward.
    pub forwards: Vec<Held>,
    /// It is to be replaced.
    pub worn: bool,
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
}

/// A session on its way out.
#[derive(Debug)]
pub(super) struct Leaving {
    pub generation: u64,
    pub gateway: usize,
    pub forwards: Vec<Farewell>,
    /// It is disconnected then, whatever is still under way.
    pub deadline: Duration,
    /// `WatchIdle` was given out.
    pub watched: bool,
    /// `Disconnect` was given out.
    pub disconnecting: bool,
}

/// One forward of a session on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Farewell {
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
        }
    }

    /// Nothing is left to wait for.
    pub(super) fn is_empty(&self) -> bool {
        self.dial == Dial::Idle && self.current.is_none() && self.leaving.is_empty()
    }

    /// Its session has a successor under way, or one that has not taken everything over yet.
    pub(super) fn is_being_replaced(&self) -> bool {
        self.current.as_ref().is_some_and(|live| {
            let moving = |held: &Held| matches!(held, Held::Moving { .. });
            self.dial != Dial::Idle || live.forwards.iter().any(moving)
        })
    }

    pub(super) fn request_due(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        let Some(live) = &mut self.current else {
            return;
        };
        let id = Id {
            slot: index,
            generation: live.generation,
        };
        for (forward, held) in live.forwards.iter_mut().enumerate() {
            let refusals = match *held {
                Held::Due { refusals } => refusals,
                Held::Refused { retry_at, refusals } if retry_at <= now => refusals,
                _ => continue,
            };
            *held = Held::Requested { refusals };
            actions.push(Action::Request(id, forward));
        }
    }

    pub(super) fn say_goodbye(&mut self, now: Duration, index: usize, actions: &mut Vec<Action>) {
        for leaving in &mut self.leaving {
            let id = Id {
                slot: index,
                generation: leaving.generation,
            };
            if leaving.disconnecting {
                continue;
            }
            let gone = leaving.forwards.iter().all(|f| *f == Farewell::Gone);
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

impl Live {
    /// Begins to leave: no new channels, and what is under way has until `deadline`.
    pub(super) fn leave(self, id: Id, deadline: Duration, actions: &mut Vec<Action>) -> Leaving {
        let forwards = self
            .forwards
            .iter()
            .enumerate()
            .map(|(forward, held)| match held {
                Held::Granted => {
                    actions.push(Action::Cancel(id, forward));
                    Farewell::Cancelling
                }
                Held::Requested { .. } => Farewell::Requested,
                Held::Due { .. } | Held::Moving { .. } | Held::Refused { .. } => Farewell::Gone,
            });
        Leaving {
            forwards: forwards.collect(),
            generation: self.generation,
            gateway: self.gateway,
            deadline,
            watched: false,
            disconnecting: false,
        }
    }
}

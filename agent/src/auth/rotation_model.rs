//! A model of the token rotation, checked in all its schedules: two processes, crashes at each step, answers that are lost.
//!
//! The steps are those of `rotate` and `refresh`, and of the token store, whose saves are durable when they return. The
//! server rotates: it invalidates a refresh token the moment it answers.

#![allow(clippy::wildcard_enum_match_arm)]

use stateright::{Checker, Model, Property};

/// Number of a refresh token. Each answer of the server gives the next one.
type TokenNumber = u8;

/// The token file.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct ModelRecord {
    token: TokenNumber,
    /// A refresh began whose answer is not saved.
    pending: bool,
    /// Only a login helps: `true` where the record says why.
    ended: Option<bool>,
}

/// What a process does.
#[derive(Clone, Debug, Hash, PartialEq, Eq)]
enum RefreshStep {
    Idle,
    /// It holds the lock and has read the record; `interrupted`: the mark was there.
    Locked {
        read: TokenNumber,
        interrupted: bool,
    },
    /// The mark is on the disk.
    Marked {
        sent: TokenNumber,
        interrupted: bool,
    },
    /// The request is at the server.
    Sent {
        sent: TokenNumber,
        interrupted: bool,
    },
    /// The answer has come and is not on the disk yet.
    Answered {
        fresh: TokenNumber,
    },
    /// The server said that the token is invalid.
    Rejected {
        interrupted: bool,
    },
    /// The new token is used.
    Using {
        token: TokenNumber,
    },
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
struct RotationState {
    disk: ModelRecord,
    /// The token that the server accepts.
    valid: TokenNumber,
    processes: Vec<RefreshStep>,
    lock: Option<usize>,
    /// Whether any process died with the only copy of an answer, or an answer was lost in transit.
    answer_lost: bool,
    crashes: u8,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq)]
enum RotationAction {
    /// The next step of a process.
    Proceed(usize),
    /// The connection breaks before the server has the request.
    BreakBefore(usize),
    /// The server answers, and the answer is lost.
    LoseAnswer(usize),
    Crash(usize),
}

struct RotationModel {
    /// The mark is saved before the token is sent; without it the model must fail.
    marks: bool,
    /// The lock is held over the whole refresh; without it the model must fail.
    locks: bool,
}

impl Model for RotationModel {
    type State = RotationState;
    type Action = RotationAction;

    fn init_states(&self) -> Vec<RotationState> {
        vec![RotationState {
            disk: ModelRecord {
                token: 0,
                pending: false,
                ended: None,
            },
            valid: 0,
            processes: vec![RefreshStep::Idle; 2],
            lock: None,
            answer_lost: false,
            crashes: 0,
        }]
    }

    fn actions(&self, state: &RotationState, actions: &mut Vec<RotationAction>) {
        for (index, step) in state.processes.iter().enumerate() {
            let is_sent = matches!(step, RefreshStep::Sent { .. });
            let may_proceed = match step {
                RefreshStep::Idle => {
                    state.disk.ended.is_none()
                        && state.valid < MOST_REFRESHES
                        && (!self.locks || state.lock.is_none())
                }
                _ => true,
            };
            if may_proceed {
                actions.push(RotationAction::Proceed(index));
            }
            if is_sent {
                actions.push(RotationAction::BreakBefore(index));
                actions.push(RotationAction::LoseAnswer(index));
            }
            if *step != RefreshStep::Idle && state.crashes < MOST_CRASHES {
                actions.push(RotationAction::Crash(index));
            }
        }
    }

    fn next_state(&self, last: &RotationState, action: RotationAction) -> Option<RotationState> {
        let mut state = last.clone();
        match action {
            RotationAction::Proceed(index) => self.proceed(&mut state, index),
            RotationAction::BreakBefore(index) => {
                // The agent cannot tell whether it was sent: the mark stays.
                state.finish(index, RefreshStep::Idle);
            }
            RotationAction::LoseAnswer(index) => {
                if let RefreshStep::Sent { sent, .. } = state.processes[index].clone()
                    && sent == state.valid
                {
                    state.valid += 1;
                    state.answer_lost = true;
                }
                state.finish(index, RefreshStep::Idle);
            }
            RotationAction::Crash(index) => {
                state.crashes += 1;
                if matches!(state.processes[index], RefreshStep::Answered { .. }) {
                    state.answer_lost = true;
                }
                // The request of a dead process may still arrive.
                if let RefreshStep::Sent { sent, .. } = state.processes[index].clone()
                    && sent == state.valid
                {
                    state.valid += 1;
                    state.answer_lost = true;
                }
                state.finish(index, RefreshStep::Idle);
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(
                "a token in use is on the disk",
                |_, state: &RotationState| {
                    state.processes.iter().all(|step| match step {
                        RefreshStep::Using { token } => state.disk.token >= *token,
                        _ => true,
                    })
                },
            ),
            Property::always(
                "a valid token is lost only where a mark says so",
                |_, state: &RotationState| {
                    let held = state.processes.iter().any(|step| {
                    matches!(step, RefreshStep::Answered { fresh } if *fresh == state.valid)
                });
                    state.disk.token == state.valid
                        || held
                        || state.disk.pending
                        || state.disk.ended == Some(true)
                },
            ),
            Property::always(
                "two processes never send the same token",
                |_, state: &RotationState| {
                    let sending = |step: &&RefreshStep| matches!(step, RefreshStep::Sent { .. });
                    state.processes.iter().filter(sending).count() <= 1
                },
            ),
            Property::always(
                "a login is asked for only after a lost answer",
                |_, state: &RotationState| state.disk.ended.is_none() || state.answer_lost,
            ),
            Property::sometimes("a refresh succeeds", |_, state: &RotationState| {
                state.disk.token > 0
            }),
            Property::sometimes(
                "a lost answer is distinguished from a wrong token",
                |_, state: &RotationState| state.disk.ended == Some(true),
            ),
        ]
    }
}

impl RotationModel {
    fn proceed(&self, state: &mut RotationState, index: usize) {
        let next = match state.processes[index].clone() {
            RefreshStep::Idle => {
                state.lock = Some(index);
                RefreshStep::Locked {
                    read: state.disk.token,
                    interrupted: state.disk.pending,
                }
            }
            RefreshStep::Locked { read, interrupted } => {
                state.disk.pending |= self.marks;
                RefreshStep::Marked {
                    sent: read,
                    interrupted,
                }
            }
            RefreshStep::Marked { sent, interrupted } => RefreshStep::Sent { sent, interrupted },
            RefreshStep::Sent { sent, .. } if sent == state.valid => {
                state.valid += 1;
                RefreshStep::Answered { fresh: state.valid }
            }
            RefreshStep::Sent { interrupted, .. } => RefreshStep::Rejected { interrupted },
            RefreshStep::Answered { fresh } => {
                state.disk.token = fresh;
                state.disk.pending = false;
                RefreshStep::Using { token: fresh }
            }
            RefreshStep::Rejected { interrupted } => {
                state.disk.pending = false;
                state.disk.ended = Some(interrupted);
                RefreshStep::Idle
            }
            RefreshStep::Using { .. } => RefreshStep::Idle,
        };
        match next {
            RefreshStep::Idle | RefreshStep::Using { .. } => state.finish(index, next),
            next => state.processes[index] = next,
        }
    }
}

impl RotationState {
    /// The process releases the lock, or dies.
    fn finish(&mut self, index: usize, step: RefreshStep) {
        self.processes[index] = step;
        if self.lock == Some(index) {
            self.lock = None;
        }
    }
}

const MOST_REFRESHES: TokenNumber = 4;
const MOST_CRASHES: u8 = 3;

fn check(marks: bool, locks: bool) -> impl Checker<RotationModel> {
    RotationModel { marks, locks }.checker().spawn_bfs().join()
}

#[test]
fn in_all_schedules_no_token_is_lost_without_a_mark() {
    let checker = check(true, true);
    checker.assert_properties();
    assert!(
        checker.unique_state_count() > 500,
        "{}",
        checker.unique_state_count()
    );
}

#[test]
fn without_the_mark_a_token_is_lost_silently() {
    let found = check(false, true).discoveries();
    assert!(found.contains_key("a valid token is lost only where a mark says so"));
}

#[test]
fn without_the_lock_two_processes_send_one_token() {
    let found = check(true, false).discoveries();
    assert!(found.contains_key("two processes never send the same token"));
}

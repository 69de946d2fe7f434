//! Which connection to open, when to retry, when to drain: a pure state machine and the thin shell that carries its
//! actions out.
//!
//! | file | what |
//! |---|---|
//! | `step` | the state machine: `step(now, event, jitter) -> actions` |
//! | `dialing` | the part of it that says when and where to dial |
//! | `holding` | the part of it that says who asks for a forward, and who lets go |
//! | `reload` | the part that follows a changed configuration |
//! | `slot` | state of one connection in it |
//! | `backoff` | how long to wait |
//! | `summary` | what it says of itself |
//! | `register` | which gateway and forward it means by a number |
//! | `run` | the shell: tasks, clock, jitter, log |
//! | `tend` | one task per dial and per session |
//! | `liveness` | whether a session lives, a function of time and of what is seen of its link |
//! | `pulse` | the same of one session, for the task that asks and for status |
//! | `board` | what status sees |
//! | `cuts` | how often gateways have cut sessions, and after how long |

mod backoff;
mod board;
mod cuts;
mod dialing;
mod holding;
mod liveness;
#[cfg(test)]
mod liveness_tests;
mod pulse;
mod register;
mod reload;
mod run;
mod slot;
mod step;
mod summary;
mod tend;

pub use board::LastFailure;
pub use run::{Supervisor, SupervisorHandle};

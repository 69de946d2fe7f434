//! Which connection to open, when to retry, when to drain: a pure state machine and the thin shell that carries its
//! actions out.
//!
//! | file | what |
//! |---|---|
//! | `step` | the state machine: `step(now, event, jitter) -> actions` |
//! | `dialing` | the part of it that says when and where to dial |
//! | `forwards` | the part of it that says who asks for a forward, and who lets go |
//! | `reload` | the part that follows a changed configuration |
//! | `slot` | state of one connection in it |
//! | `backoff` | how long to wait |
//! | `summary` | what it says of itself |
//! | `ids` | which gateway and forward it means by a number |
//! | `run` | the shell: tasks, clock, jitter, log |
//! | `session_monitor` | one task per dial and per session |
//! | `liveness` | whether a session lives, a function of time and of what is seen of its link |
//! | `session_liveness` | the same of one session, for the task that asks and for status |
//! | `published_state` | what status sees |
//! | `cuts` | how often gateways have cut sessions, and after how long |

mod backoff;
mod cuts;
mod dialing;
mod forwards;
mod ids;
mod liveness;
#[cfg(test)]
mod liveness_tests;
mod published_state;
mod reload;
mod run;
mod session_liveness;
mod session_monitor;
mod slot;
mod step;
mod summary;

pub use published_state::LastFailure;
pub use run::{Supervisor, SupervisorHandle};

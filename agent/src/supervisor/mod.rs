//! Which connection to open, when to retry, when to drain: a pure state machine, and the shell that carries its actions
//! out.
//!
//! | module | what it holds |
//! |---|---|
//! | `machine` | the state machine: `step(now, event, jitter) -> actions`, without tokio, sockets and clock |
//! | `ids` | which gateway and forward the machine means by a number |
//! | `run` | the shell: tasks, clock, jitter, log |
//! | `session_monitor` | one task per dial and per session |
//! | `session_liveness` | the liveness of one session, for its monitor and for status |
//! | `held_place` | a place that a session holds, for whoever proves it |
//! | `published_state` | what status shows |
//! | `living_session` | a session that answers, for requests that go out |
//! | `host_changes` | addresses, routes and suspends of this host, after which dials may succeed |
//! | `arrival` | how the logins of many agents arrive at a gateway that restarts |
//! | `session_cuts` | how often gateways have cut sessions, and after how long |

mod arrival;
mod held_place;
mod host_changes;
mod ids;
mod living_session;
mod machine;
mod published_state;
mod run;
mod session_cuts;
mod session_liveness;
mod session_monitor;

pub use arrival::{ArrivalCurve, GatewayRestart};
pub use held_place::{HeldPlace, HeldPlaceKey};
pub use living_session::LivingSession;
pub use published_state::LastFailure;
pub use run::{Supervisor, SupervisorHandle};

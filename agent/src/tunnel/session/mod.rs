//! One SSH session: connect, host key, login, remote forwards, probe.
//!
//! | file | what |
//! |---|---|
//! | `identity` | the key and certificate we log in with |
//! | `host_key`, `known_hosts` | which gateways are trusted |
//! | `preferred` | which algorithms are offered |
//! | `greeting` | what answered, if it was not SSH |
//! | `connect`, `login` | opening a session, step by step, each with its deadline |
//! | `handler` | what the gateway may do to us |
//! | `forwards` | which channel belongs to which forward |
//! | `session` | a session that stands: forwards, probe, end |
//! | `question` | what only a living session answers |
//! | `exec` | one command on the gateway, for enrolment alone |
//! | `error` | why a session could not be opened or has ended, and what to do |

mod connect;
mod error;
mod exec;
mod forwards;
mod greeting;
mod handler;
mod host_key;
mod identity;
mod known_hosts;
mod login;
mod preferred;
mod question;
#[expect(clippy::module_inception, reason = "the room's own type")]
mod session;
#[cfg(test)]
mod test_keys;

pub use connect::{greet, reach};
pub use error::{Ended, OpenError, Retry, Step};
pub use exec::{ExecError, Ran};
pub use host_key::{HostKeyError, HostKeys, Reason, Refused};
pub use identity::{Identity, IdentityError};
pub use session::{Bound, CallError, Facts, ForwardError, ProbeError, Session};

pub(in crate::tunnel) use error::printable;
use session::Shared;

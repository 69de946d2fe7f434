//! One SSH session: connect, host key, login, remote forwards, probe.
//!
//! | file | what |
//! |---|---|
//! | `identity` | the key and certificate we log in with |
//! | `host_key`, `known_hosts` | which gateways are trusted |
//! | `preferred` | which algorithms are offered |
//! | `greeting`, `answer` | what answered, if it was not SSH |
//! | `connect`, `login` | opening a session, step by step, each with its deadline |
//! | `handler` | what the gateway may do to us |
//! | `forwards` | which channel belongs to which forward |
//! | `session` | a session that stands: forwards, probe, end |
//! | `question` | what only a living session answers |
//! | `forward_error` | why the gateway does not listen for us |
//! | `exec` | one command on the gateway, for enrolment alone |
//! | `faults` | what exactly was wrong in a step, one remedy each |
//! | `error` | why a session could not be opened or has ended, and what to do |

mod answer;
mod connect;
mod error;
mod exec;
mod faults;
mod forward_error;
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

pub use connect::{greet, has_untried_address, reach, retry, verify_host_key};
pub use error::{Ended, OpenError, Retry, Step};
pub use exec::{ExecError, Ran};
pub use faults::{KeyExchangeFault, LoginFault, Stranger};
pub use forward_error::{ForwardError, ForwardRefusal};
pub use host_key::{HostKeyError, HostKeys, Reason, Refused};
pub use identity::{Identity, IdentityError};
pub use known_hosts::SkippedLine;
pub use session::{Bound, CallError, Facts, ProbeError, Session};

pub use forwards::is_loopback;

pub(in crate::tunnel) use error::printable;
use session::Shared;

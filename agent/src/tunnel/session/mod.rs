//! One SSH session: connect, host key, login, remote forwards, probe.
//!
//! | file | what |
//! |---|---|
//! | `identity` | the key and certificate we log in with |
//! | `algorithms` | which algorithms are offered |
//! | `banner`, `unexpected_peer` | what answered, if it was not SSH |
//! | `connect`, `login` | opening a session, step by step, each with its deadline |
//! | `handler` | what the gateway may do to us |
//! | `forwards` | which channel belongs to which forward |
//! | `session` | a session that stands: forwards, probe, end |
//! | `probe` | what only a living session answers |
//! | `forward_error` | why the gateway does not listen for us |
//! | `exec` | one command on the gateway, for enrolment alone |
//! | `faults` | what exactly was wrong in a step, one remedy each |
//! | `error` | why a session could not be opened or has ended, and what to do |

mod algorithms;
mod banner;
mod connect;
mod error;
mod exec;
mod faults;
mod forward_error;
mod forwards;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_properties;
mod handler;
mod identity;
mod login;
mod probe;
#[expect(clippy::module_inception, reason = "the room's own type")]
mod session;
#[cfg(test)]
mod test_keys;
mod unexpected_peer;

pub use agent_ssh::SkippedLine;
pub use agent_ssh::host_key::{HostKeyError, HostKeyRefusal, HostKeyRefusalReason, HostKeys};
pub use connect::{has_untried_address, probe_banner, probe_first_hop, retry, verify_host_key};
pub use error::{RetryPace, SessionEnd, SessionOpenError, SessionOpenStep};
pub use exec::{ExecError, ExecOutput};
pub use faults::{KeyExchangeFault, LoginFault, UnexpectedPeer};
pub use forward_error::{ForwardError, ForwardRefusal};
pub use identity::{SshIdentity, SshIdentityError};
pub use session::{
    BoundForward, NegotiatedParameters, OpenDirectError, ProbeError, Session, connect_host,
};

pub use forwards::is_loopback;

pub(in crate::tunnel) use error::printable;
use session::SessionShared;

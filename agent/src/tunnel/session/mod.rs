//! One SSH session: connect, host key, login, remote forwards, probe.

mod host_key;
mod identity;

pub use host_key::HostKeys;
pub use identity::Identity;

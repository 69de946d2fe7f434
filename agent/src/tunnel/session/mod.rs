//! One SSH session: connect, host key, login, remote forwards, probe.

mod host_key;
mod identity;
mod known_hosts;
mod preferred;
#[cfg(test)]
mod test_keys;

pub use host_key::{HostKeyError, HostKeys, Reason, Refused};
pub use identity::{Identity, IdentityError};

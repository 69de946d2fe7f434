//! The runtime socket: how `agent status` and the other commands talk to the running agent.
//!
//! HTTP over a unix socket, so that `curl --unix-socket` works too. It reads what the path has written and
//! never waits for it: a look at the status cannot hold up a request.

mod client;
mod server;

pub use client::{Client, ClientError};
pub use server::{ListenError, Listener};

use crate::status::Report;

/// What the running agent can be asked.
pub trait Commands: Send + Sync + 'static {
    /// What is proven right now.
    fn status(&self) -> Report;
    /// Changes the log level until the next change or restart. `Err` says what is wrong with `level`.
    fn set_log_level(&self, level: &str) -> Result<(), String>;
    /// Closes the circuit of every login, so that a credential that Jira refused is tried once more.
    fn retry_logins(&self);
}

/// Name of the socket in the runtime folder.
pub const SOCKET_NAME: &str = "agent.sock";

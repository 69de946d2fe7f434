//! An agent under load whose configuration changes.

use e2e::{agent::AgentProcess, setup::RecordedTunnel};
use std::process::Output;

/// How often each kind of change is made.
pub const TIMES: usize = 20;

/// Changes `agent.toml`.
pub fn change(agent: &AgentProcess, change: impl FnOnce(String) -> String) {
    agent.edit_config(change).unwrap();
}

/// Text of a successful `agent reload`.
pub fn reload(agent: &AgentProcess) -> String {
    agent.succeed(&["reload"]).unwrap()
}

/// Standard error of a command.
pub fn errors(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

pub async fn start() -> RecordedTunnel {
    RecordedTunnel::start().await.unwrap()
}

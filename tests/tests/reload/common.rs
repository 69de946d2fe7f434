//! An agent under load whose configuration changes.

use e2e::{agent::AgentProcess, recording_origin::RecordingOrigin, setup::AgentSetup, sshd::Sshd};
use std::{
    fs,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    process::Output,
    time::Duration,
};
use tokio::time::timeout;

/// How often each kind of change is made.
pub const TIMES: usize = 20;

/// Changes `agent.toml`.
pub fn change(agent: &AgentProcess, change: impl FnOnce(String) -> String) {
    let file = agent.dir().join("agent.toml");
    let changed = change(fs::read_to_string(&file).unwrap());
    // As an editor does, so that no half file is ever read.
    let new = agent.dir().join("agent.toml.new");
    fs::write(&new, changed).unwrap();
    fs::rename(new, file).unwrap();
}

/// What `agent reload` says of it.
pub fn reload(agent: &AgentProcess) -> String {
    let done = agent.run(&["reload"]).unwrap();
    assert!(done.status.success(), "{}", told(&done));
    String::from_utf8(done.stdout).unwrap()
}

pub fn told(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).into_owned()
}

pub fn setup(sshd: &Sshd, addr: SocketAddr, jira: &RecordingOrigin) -> AgentSetup {
    let setup = AgentSetup::for_sshd(sshd).unwrap();
    setup.forward("jira", &addr.to_string(), &jira.url())
}

pub fn free_addr() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, e2e::sshd::free_port().unwrap()).into()
}

/// Generous: a loaded machine is no reason to fail.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60);
    timeout(limit, what).await.expect("it hangs")
}

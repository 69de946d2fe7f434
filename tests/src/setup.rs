//! The real agent from a configuration put together key by key, in a temporary folder of its own.

use crate::{agent::AgentProcess, sshd::Sshd};
use ::agent::status::{OverallState, StatusReport};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::Path,
};
use tempfile::TempDir;

/// A configuration to be.
#[derive(Clone)]
pub struct AgentSetup {
    tunnel: BTreeMap<String, Value>,
    forwards: String,
}

/// An agent that runs in a folder of its own; shows its log when a test fails.
pub struct RunningAgent {
    agent: AgentProcess,
    _folder: TempDir,
}

impl AgentSetup {
    /// One connection to this sshd, with its host key pinned and its own user and key.
    pub fn for_sshd(sshd: &Sshd) -> Result<Self> {
        let gateway = sshd.address();
        let setup = Self::new(&gateway, &sshd.user(), &sshd.identity());
        Ok(setup.tunnel("host_keys", vec![sshd.fingerprint()?]))
    }

    /// One connection to `gateway`, proven twice a second. No host key is trusted yet.
    pub fn new(gateway: &str, user: &str, identity: &Path) -> Self {
        let setup = Self {
            tunnel: BTreeMap::new(),
            forwards: String::new(),
        };
        setup
            .tunnel("gateways", vec![gateway])
            .tunnel("user", user)
            .tunnel("identity_file", identity.display().to_string())
            .tunnel("connections", 1)
            .tunnel("probe_interval", "500ms")
    }

    /// Sets a key of `[tunnel]`.
    pub fn tunnel(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.tunnel.insert(key.to_owned(), value.into());
        self
    }

    /// Leaves a key of `[tunnel]` out.
    pub fn without(mut self, key: &str) -> Self {
        self.tunnel.remove(key);
        self
    }

    /// Adds a forward for ticketing with the vendor's own login.
    pub fn forward(self, name: &str, bind: &str, upstream: &str) -> Self {
        self.forward_with(name, bind, upstream, &[])
    }

    /// The same with further keys of `[[forward]]`.
    pub fn forward_with(
        mut self,
        name: &str,
        bind: &str,
        upstream: &str,
        keys: &[(&str, Value)],
    ) -> Self {
        let given = [("name", name), ("bind", bind), ("upstream", upstream)]
            .map(|(key, value)| (key, json!(value)));
        self.forwards += "[[forward]]\n";
        for (key, value) in given.iter().chain(keys) {
            self.forwards += &format!("{key} = {value}\n");
        }
        self.forwards += "[forward.policy]\npresets = [\"ticketing\"]\n";
        self
    }

    /// Starts an agent with it.
    pub fn start(&self) -> Result<RunningAgent> {
        self.start_with(&[])
    }

    /// The same with these variables in the agent's environment.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Result<RunningAgent> {
        let folder = tempfile::Builder::new().prefix("agent-").tempdir()?;
        let mut text = "[log]\nformat = \"human\"\n[audit]\nsink = \"off\"\n[tunnel]\n".to_owned();
        for (key, value) in &self.tunnel {
            // What stands here is written alike in JSON and TOML.
            text += &format!("{key} = {value}\n");
        }
        let agent = AgentProcess::start_with(folder.path(), &(text + &self.forwards), variables)?;
        Ok(RunningAgent {
            agent,
            _folder: folder,
        })
    }
}

impl RunningAgent {
    /// Waits until every layer is proven.
    pub async fn until_proven(&self) -> Result<StatusReport> {
        self.until_status("every layer to be proven", |r| {
            r.overall == OverallState::Proven
        })
        .await
    }

    /// Waits until the gateway listens for the first forward; returns where.
    pub async fn until_bound(&self) -> Result<SocketAddr> {
        let bound = |r: &StatusReport| Some(r.forwards.first()?.bound.first()?.clone());
        let report = self
            .until_status("the first forward to be bound", |r| bound(r).is_some())
            .await?;
        Ok(bound(&report).context("not bound")?.parse()?)
    }

    /// What `agent status` prints, and its exit code.
    pub fn status_output(&self) -> Result<(String, i32)> {
        let done = self.run(&["status"])?;
        let text = String::from_utf8(done.stdout)?;
        Ok((text, done.status.code().context("ended by a signal")?))
    }
}

impl Deref for RunningAgent {
    type Target = AgentProcess;

    fn deref(&self) -> &AgentProcess {
        &self.agent
    }
}

impl DerefMut for RunningAgent {
    fn deref_mut(&mut self) -> &mut AgentProcess {
        &mut self.agent
    }
}

impl Drop for RunningAgent {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the agent's log ----\n{}", self.agent.log());
        }
    }
}

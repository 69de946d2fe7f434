//! The real agent with a configuration built key by key, in its own temporary folder.

use crate::{
    agent::AgentProcess,
    recording_origin::RecordingOrigin,
    sshd::{Sshd, free_addr},
};
use anyhow::Result;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    path::Path,
};
use tempfile::TempDir;

/// The agent's configuration, built key by key.
#[derive(Clone)]
pub struct AgentSetup {
    tunnel: BTreeMap<String, Value>,
    forwards: String,
}

/// A running agent in its own folder; prints its log when a test fails.
pub struct RunningAgent {
    agent: AgentProcess,
    _folder: TempDir,
}

impl AgentSetup {
    /// One connection to this sshd, with its host key pinned and with its user and key.
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

    /// Adds a forward for ticketing that passes the vendor's credential through.
    pub fn forward(self, name: &str, bind: &str, upstream: &str) -> Self {
        self.forward_with(name, bind, upstream, &[])
    }

    /// As [`forward`](Self::forward), with further keys of `[[forward]]`.
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

    /// Adds an outlet that lets POST and GET below `/hooks` pass, with further keys of `[[outlet]]`.
    pub fn outlet(mut self, name: &str, listen: &str, to: &str, keys: &[(&str, Value)]) -> Self {
        let allow = json!(["GET,POST /hooks/**"]);
        let given = [
            ("name", json!(name)),
            ("listen", json!(listen)),
            ("to", json!(to)),
        ];
        self.forwards += "[[outlet]]\n";
        for (key, value) in given.iter().chain(&[("allow", allow)]).chain(keys) {
            self.forwards += &format!("{key} = {value}\n");
        }
        self
    }

    /// Adds a key to the outlet that was added last.
    pub fn also(mut self, key: &str, value: Value) -> Self {
        self.forwards += &format!("{key} = {value}\n");
        self
    }

    /// Starts an agent with this configuration.
    pub fn start(&self) -> Result<RunningAgent> {
        self.start_with(&[])
    }

    /// As [`start`](Self::start), with these variables in the agent's environment.
    pub fn start_with(&self, variables: &[(&str, &str)]) -> Result<RunningAgent> {
        let folder = tempfile::Builder::new().prefix("agent-").tempdir()?;
        let agent = AgentProcess::start_with(folder.path(), &self.text(), variables)?;
        Ok(RunningAgent {
            agent,
            _folder: folder,
        })
    }

    /// As [`start`](Self::start), in a folder that the test has prepared.
    pub fn start_in(&self, folder: TempDir) -> Result<RunningAgent> {
        let agent = AgentProcess::start(folder.path(), &self.text())?;
        Ok(RunningAgent {
            agent,
            _folder: folder,
        })
    }

    /// The configuration as `agent.toml`.
    pub fn text(&self) -> String {
        let mut text = "[log]\nformat = \"human\"\n[audit]\nsink = \"off\"\n[tunnel]\n".to_owned();
        for (key, value) in &self.tunnel {
            // These values have the same syntax in JSON and TOML.
            text += &format!("{key} = {value}\n");
        }
        text + &self.forwards
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

/// A gateway, a recording Jira, and an agent between them with one forward `jira`; every layer is proven.
pub struct RecordedTunnel {
    /// Stock sshd as the gateway.
    pub sshd: Sshd,
    /// Upstream of the forward.
    pub jira: RecordingOrigin,
    /// The agent, in a folder of its own.
    pub agent: RunningAgent,
    /// Where the forward is bound.
    pub addr: SocketAddr,
}

impl RecordedTunnel {
    /// Starts all of it with the settings of [`AgentSetup::for_sshd`].
    pub async fn start() -> Result<Self> {
        Self::start_with(|setup, _| setup).await
    }

    /// As [`start`](Self::start), with a changed configuration; `change` also gets the Jira.
    pub async fn start_with(
        change: impl FnOnce(AgentSetup, &RecordingOrigin) -> AgentSetup,
    ) -> Result<Self> {
        Self::start_at(Sshd::start()?, &[], change).await
    }

    /// As [`start_with`](Self::start_with), on this gateway and with further keys of `[[forward]]`.
    pub async fn start_at(
        sshd: Sshd,
        forward: &[(&str, Value)],
        change: impl FnOnce(AgentSetup, &RecordingOrigin) -> AgentSetup,
    ) -> Result<Self> {
        let jira = RecordingOrigin::start().await?;
        let addr = free_addr()?;
        let setup = AgentSetup::for_sshd(&sshd)?;
        let setup = setup.forward_with("jira", &addr.to_string(), &jira.url(), forward);
        let agent = change(setup, &jira).start()?;
        agent.until_proven().await?;
        Ok(Self {
            sshd,
            jira,
            agent,
            addr,
        })
    }
}

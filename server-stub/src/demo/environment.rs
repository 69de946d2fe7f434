//! The three parts in a temporary folder, started in order and stopped in reverse.

use super::{
    DemoOptions,
    agent::{AgentSettings, DemoAgent, make_key},
};
use crate::{
    gateway::{self, Gateway},
    jira::{self, HttpsSettings, JiraStub},
};
use anyhow::Context;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use tempfile::TempDir;

/// The three running parts, joined on loopback.
pub(super) struct DemoEnvironment {
    /// The running agent, on the customer's side.
    pub agent: DemoAgent,
    /// The running gateway, on the vendor's side.
    pub gateway: gateway::RunningGateway,
    /// The imitation of the customer's Jira.
    pub jira: jira::RunningJira,
    /// Where the gateway listens for the agent's forward.
    pub bind: SocketAddr,
    /// Removes the folder when dropped.
    _folder: TempDir,
}

impl DemoEnvironment {
    pub(super) async fn start(options: &DemoOptions) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("jira-tunnel-demo-")
            .tempdir()?;
        let root = folder.path().canonicalize()?;
        let jira = JiraStub::start(jira::Settings {
            listen: local(JIRA_PORT),
            https: Some(HttpsSettings::default()),
            context_path: CONTEXT_PATH.to_owned(),
            ..jira::Settings::default()
        })
        .await
        .context("cannot start the imitation Jira")?;

        let agent_folder = root.join("customer");
        let public_key = make_key(&agent_folder)?;
        let vendor = root.join("vendor");
        let keys = vendor.join("agents").join(AGENT);
        std::fs::create_dir_all(&keys)?;
        std::fs::write(keys.join("authorized_keys"), public_key)?;
        let mut settings = gateway::Settings::new(&vendor);
        settings.ssh = local(settings.ssh.port());
        settings.http = local(settings.http.port());
        let gateway = Gateway::start(settings)
            .await
            .context("cannot start the gateway")?;

        let bind = local(FORWARD_PORT);
        let agent_settings = AgentSettings {
            gateway: gateway.ssh_addr,
            host_key: &gateway.host_key_fingerprint,
            user: AGENT,
            connections: options.connections,
            bind,
            upstream: &jira.url,
            ca: jira.ca_pem.as_deref().unwrap_or_default(),
            token: TOKEN,
        };
        let mut agent = DemoAgent::start(&options.agent, &agent_folder, &agent_settings)?;
        if let Err(error) = agent.wait_until_proven().await {
            agent.stop().await;
            return Err(error);
        }
        Ok(Self {
            agent,
            gateway,
            jira,
            bind,
            _folder: folder,
        })
    }

    /// The host name by which the vendor's services call this customer.
    pub(super) fn host(&self) -> String {
        format!("{AGENT}.{}", self.gateway.snapshot().domain)
    }

    /// The URL of that host, without a trailing slash.
    pub(super) fn url(&self) -> String {
        format!("http://{}:{}", self.host(), self.gateway.http_addr.port())
    }

    pub(super) async fn stop(self) {
        self.agent.stop().await;
        self.gateway.stop().await;
        self.jira.stop().await;
    }
}

/// This loopback port if it is free, else any free one.
fn local(port: u16) -> SocketAddr {
    let usual = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    [usual, any]
        .into_iter()
        .find_map(|address| TcpListener::bind(address).and_then(|l| l.local_addr()).ok())
        .unwrap_or(any)
}

/// The customer's name at the vendor.
pub(super) const AGENT: &str = "acme";
pub(super) const CONTEXT_PATH: &str = "/jira";
/// The imitation Jira's token of the user `acme-bot`.
const TOKEN: &str = "acme-bot-token";
const JIRA_PORT: u16 = 2990;
const FORWARD_PORT: u16 = 8080;

//! The stub's gateway in this process, with a customer `acme` and its keys, and callers of its HTTP listener.

use crate::{setup::AgentSetup, sshd::keygen, test_env::vendor};
use anyhow::{Context, Result};
use server_stub::gateway::{Gateway, RunningGateway, Settings};
use std::{fs, ops::Deref, path::PathBuf, time::Duration};
use tempfile::TempDir;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

/// A running gateway with one customer; ends when dropped.
pub struct StubGateway {
    gateway: RunningGateway,
    keys: Vec<PathBuf>,
    folder: TempDir,
}

impl StubGateway {
    /// Starts it on free ports, and lets this many keys log in.
    pub async fn start(keys: usize) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut settings = Settings::new(folder.path());
        settings.ssh = ([127, 0, 0, 1], 0).into();
        settings.http = ([127, 0, 0, 1], 0).into();
        let gateway = Gateway::start(settings).await?;
        let authorized = folder.path().join("agents").join(CUSTOMER);
        fs::create_dir_all(&authorized)?;
        let keys: Vec<PathBuf> = (0..keys)
            .map(|number| folder.path().join(format!("key-{number}")))
            .collect();
        let mut lines = String::new();
        for key in &keys {
            keygen(key, &["-t", "ed25519"], "")?;
            lines += &fs::read_to_string(key.with_extension("pub"))?;
        }
        fs::write(authorized.join("authorized_keys"), lines)?;
        Ok(Self {
            gateway,
            keys,
            folder,
        })
    }

    /// An agent with this key, which trusts the gateway.
    pub fn agent(&self, key: usize) -> Result<AgentSetup> {
        let key = self.keys.get(key).context("no such key")?;
        let setup = AgentSetup::new(&self.gateway.ssh_addr.to_string(), CUSTOMER, key);
        Ok(setup.tunnel("host_keys", vec![self.gateway.host_key_fingerprint.clone()]))
    }

    /// The folder in which the customer's sockets may be.
    pub fn sockets(&self) -> Result<PathBuf> {
        let folder = self.folder.path().canonicalize()?;
        Ok(folder.join("agents").join(CUSTOMER))
    }

    /// Starts callers of the HTTP listener, each with its own client.
    pub fn callers(&self, count: usize) -> GatewayCallers {
        self.callers_of("DEMO-1", count)
    }

    /// As [`callers`](Self::callers), of an issue for which Jira takes 300 ms.
    pub fn slow_callers(&self, count: usize) -> GatewayCallers {
        self.callers_of("SLOW-1", count)
    }

    fn callers_of(&self, issue: &str, count: usize) -> GatewayCallers {
        let url = format!("http://{}/rest/api/2/issue/{issue}", self.gateway.http_addr);
        GatewayCallers::start(&url, CUSTOMER_HOST, count)
    }
}

impl Deref for StubGateway {
    type Target = RunningGateway;

    fn deref(&self) -> &RunningGateway {
        &self.gateway
    }
}

/// Callers of a gateway that send one request after another.
pub struct GatewayCallers {
    stop: CancellationToken,
    tasks: JoinSet<(u64, Vec<String>)>,
}

impl GatewayCallers {
    /// Starts callers of `url`, each with its own client, with the customer's name as the host.
    pub fn start(url: &str, host: &str, count: usize) -> Self {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            tasks.spawn(call_until(stop.clone(), url.to_owned(), host.to_owned()));
        }
        Self { stop, tasks }
    }

    /// Stops them. Returns the count of answers of each, and what was not answered with 200.
    pub async fn stop(mut self) -> Result<(Vec<u64>, Vec<String>)> {
        self.stop.cancel();
        let (mut answers, mut failures) = (Vec::new(), Vec::new());
        while let Some(outcome) = self.tasks.join_next().await {
            let (answered, failed) = outcome?;
            answers.push(answered);
            failures.extend(failed);
        }
        Ok((answers, failures))
    }
}

async fn call_until(stop: CancellationToken, url: String, host: String) -> (u64, Vec<String>) {
    let client = vendor();
    let (mut answers, mut failures) = (0, Vec::new());
    while !stop.is_cancelled() {
        let request = client.get(&url).header("host", &host);
        match request.send().await {
            Ok(answer) if answer.status() == 200 => answers += 1,
            Ok(answer) => failures.push(answer.text().await.unwrap_or_default()),
            Err(error) => failures.push(format!("{error:?}")),
        }
        sleep(CALL_PAUSE).await;
    }
    (answers, failures)
}

const CUSTOMER: &str = "acme";
/// By which the gateway finds the customer.
pub const CUSTOMER_HOST: &str = "acme.gateway.localhost";
/// Between two requests of a caller.
const CALL_PAUSE: Duration = Duration::from_millis(5);

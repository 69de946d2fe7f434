//! The vendor's gateway: sessions of agents below, one HTTP listener above. Knows no Jira, and nothing of the agent but what
//! both agree on.
//!
//! ```text
//! agents ── SSH ──▶ session ──▶ registry ──▶ forward ◀── raw connections on loopback or sockets
//!                   login                       ▲
//!                                               └────── proxy ◀── HTTP, by Host ── vendor's services
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | `session` | the SSH server: accept loop, login, one session |
//! | `login` | who may log in as which agent |
//! | `enrollment` | who may register a key, once |
//! | `registry` | the connected agents, their sessions and forwards |
//! | `forward` | listeners, and the channels opened by them |
//! | `reconnect` | the wait for an agent that has just left |
//! | `proxy` | the HTTP listener: route, pool, problems |
//! | `status` | what `/` and the snapshot show |
//!
//! Several sessions of one agent that request the same bind share it. A reconnecting agent is therefore
//! never kept out by its own dead session, and `connections = 2` is served by both.
#![forbid(unsafe_code)]

pub mod enrollment;
mod forward;
mod host_key;
mod login;
mod name;
mod proxy;
mod reconnect;
mod registry;
mod session;
pub mod settings;
mod status;

pub use host_key::HostKeyError;
pub use name::{AgentName, AgentNameError};
pub use settings::{GatewayLimits, Settings};
pub use status::{AgentStatus, ForwardStatus, GatewaySnapshot, SessionStatus};

use login::LoginVerifier;
use proxy::ConnectionPool;
use registry::AgentRegistry;
use russh::keys::HashAlg;
use std::{io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration, time::SystemTime};
use tokio::sync::Semaphore;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The gateway; start it with [`Gateway::start`].
pub struct Gateway;

/// A running gateway. Dropping it stops everything without disconnecting the agents first.
pub struct RunningGateway {
    /// Where the SSH server listens.
    pub ssh_addr: SocketAddr,
    /// Where the HTTP listener is.
    pub http_addr: SocketAddr,
    /// Fingerprint of the host key, `SHA256:…`.
    pub host_key_fingerprint: String,
    /// The known_hosts line for clients.
    pub known_hosts_line: String,
    shared: Arc<GatewayState>,
}

/// The state that all tasks of the gateway share.
struct GatewayState {
    settings: Settings,
    logins: LoginVerifier,
    registry: AgentRegistry,
    pool: ConnectionPool,
    /// Places for requests that wait for an agent to come back.
    reconnect_places: Arc<Semaphore>,
    tasks: TaskTracker,
    stop: CancellationToken,
    started_at: SystemTime,
    ssh_addr: SocketAddr,
    http_addr: SocketAddr,
    fingerprint: String,
}

impl Gateway {
    /// Creates the folder and the host key if they are missing, and listens.
    pub async fn start(mut settings: Settings) -> Result<RunningGateway, GatewayStartError> {
        let prepared = {
            let data = settings.data.clone();
            tokio::task::spawn_blocking(move || prepare(data))
        };
        let (data, key) = prepared.await.map_err(|error| {
            GatewayStartError::Io("prepare".to_owned(), io::Error::other(error))
        })??;
        settings.data = data;
        let listen = |address: SocketAddr| {
            session::listener(address)
                .and_then(|listener| Ok((listener.local_addr()?, listener)))
                .map_err(|source| GatewayStartError::Listen { address, source })
        };
        let (ssh_addr, ssh) = listen(settings.ssh)?;
        let (http_addr, http) = listen(settings.http)?;
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let known_hosts_line = host_key::known_hosts_line(&key, ssh_addr);
        let config = Arc::new(session::config(key, &settings.limits));
        let shared = Arc::new(GatewayState {
            logins: LoginVerifier::new(&settings),
            registry: AgentRegistry::new(
                settings.data.join("agents"),
                settings.limits.max_sessions_per_agent,
                settings.limits.max_forwards,
            ),
            pool: ConnectionPool::default(),
            reconnect_places: Arc::new(Semaphore::new(settings.limits.max_reconnect_waits)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            started_at: SystemTime::now(),
            ssh_addr,
            http_addr,
            fingerprint: fingerprint.clone(),
            settings,
        });
        shared
            .tasks
            .spawn(session::connections(Arc::clone(&shared), config, ssh));
        shared.tasks.spawn(proxy::serve(Arc::clone(&shared), http));
        tracing::info!(ssh = %ssh_addr, http = %http_addr, host_key = fingerprint, "gateway started");
        Ok(RunningGateway {
            ssh_addr,
            http_addr,
            host_key_fingerprint: fingerprint,
            known_hosts_line,
            shared,
        })
    }
}

/// Fingerprint, `SHA256:…`, of the host key in a gateway's folder. Creates the key if it is missing. Blocks on disk access.
pub fn host_key_fingerprint(data: &std::path::Path) -> Result<String, GatewayStartError> {
    let (_, key) = prepare(data.to_owned())?;
    Ok(key.fingerprint(HashAlg::Sha256).to_string())
}

impl RunningGateway {
    /// The agents, sessions and forwards of this moment.
    pub fn snapshot(&self) -> GatewaySnapshot {
        status::snapshot(&self.shared)
    }

    /// Waits, without a deadline, until the snapshot satisfies `wanted`. Checks whenever a session or
    /// forward is added or removed.
    pub async fn wait_until(&self, wanted: impl Fn(&GatewaySnapshot) -> bool) -> GatewaySnapshot {
        let mut changes = self.shared.registry.changes();
        loop {
            let snapshot = self.snapshot();
            // The sender lives as long as `self`.
            if wanted(&snapshot) || changes.changed().await.is_err() {
                return snapshot;
            }
        }
    }

    /// Disconnects the agents and ends everything, within a few seconds.
    pub async fn stop(self) {
        self.shared.stop.cancel();
        self.shared.tasks.close();
        let _ = tokio::time::timeout(STOP, self.shared.tasks.wait()).await;
    }
}

impl Drop for RunningGateway {
    fn drop(&mut self) {
        self.shared.stop.cancel();
    }
}

/// Blocks on disk access. The path becomes absolute, because agents request sockets by absolute paths.
fn prepare(data: PathBuf) -> Result<(PathBuf, russh::keys::PrivateKey), GatewayStartError> {
    let failed = |source| GatewayStartError::Io(data.display().to_string(), source);
    std::fs::create_dir_all(data.join("agents")).map_err(failed)?;
    let absolute = data.canonicalize().map_err(failed)?;
    let key = host_key::load_or_create(&absolute)?;
    Ok((absolute, key))
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayStartError {
    /// The data folder could not be created or read.
    #[error("data folder {0}: {1}")]
    Io(String, io::Error),
    /// The host key could not be read or created.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The gateway could not listen on an address.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address to listen on.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Time limit for all tasks to end.
const STOP: Duration = Duration::from_secs(5);

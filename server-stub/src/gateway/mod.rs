//! The vendor's gateway: sessions of agents below, one HTTP listener above.
//!
//! ```text
//! agents ── SSH ──▶ session ──▶ registry ──▶ forward ◀── raw connections on loopback or sockets
//!                   login                       ▲
//!                                               └────── proxy ◀── HTTP, by Host ── vendor's services
//! ```
//!
//! | room | what lives there |
//! |---|---|
//! | `session` | the SSH server: accept loop, login, one session |
//! | `login` | who may log in as which agent |
//! | `enrollment` | who may register a key, once |
//! | `registry` | who is here: agents, sessions, forwards |
//! | `forward` | what is listened on, and channels opened by it |
//! | `proxy` | the HTTP listener: route, pool, problems |
//! | `status` | what `/` and the snapshot show |
//!
//! Several sessions of one agent that ask for the same bind share it. An agent that comes back is so
//! never kept out by its own dead twin, and `connections = 2` is served by both.

pub mod enrollment;
mod forward;
mod host_key;
mod login;
mod name;
mod proxy;
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
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The gateway. See [`Gateway::start`].
pub struct Gateway;

/// A running gateway. Dropping it stops everything, without a farewell to the agents.
pub struct RunningGateway {
    /// Where the SSH server listens.
    pub ssh_addr: SocketAddr,
    /// Where the HTTP listener is.
    pub http_addr: SocketAddr,
    /// `SHA256:…` of the host key.
    pub host_key_fingerprint: String,
    /// The line a client's known_hosts needs.
    pub known_hosts_line: String,
    shared: Arc<GatewayState>,
}

/// What every task of the gateway knows.
struct GatewayState {
    settings: Settings,
    logins: LoginVerifier,
    registry: AgentRegistry,
    pool: ConnectionPool,
    tasks: TaskTracker,
    stop: CancellationToken,
    started_at: SystemTime,
    ssh_addr: SocketAddr,
    http_addr: SocketAddr,
    fingerprint: String,
}

impl Gateway {
    /// Makes the folder and the host key where they are missing, and listens.
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
        tracing::info!(ssh = %ssh_addr, http = %http_addr, host_key = fingerprint, "gateway listens");
        Ok(RunningGateway {
            ssh_addr,
            http_addr,
            host_key_fingerprint: fingerprint,
            known_hosts_line,
            shared,
        })
    }
}

/// `SHA256:…` of the host key of the gateway that has this folder, which is made where it is missing. Blocks.
pub fn host_key_fingerprint(data: &std::path::Path) -> Result<String, GatewayStartError> {
    let (_, key) = prepare(data.to_owned())?;
    Ok(key.fingerprint(HashAlg::Sha256).to_string())
}

impl RunningGateway {
    /// What is there now.
    pub fn snapshot(&self) -> GatewaySnapshot {
        status::snapshot(&self.shared)
    }

    /// Waits until the snapshot satisfies `wanted`, looking again at each session or forward that
    /// comes or goes. Has no deadline of its own.
    pub async fn until(&self, wanted: impl Fn(&GatewaySnapshot) -> bool) -> GatewaySnapshot {
        let mut changes = self.shared.registry.changes();
        loop {
            let snapshot = self.snapshot();
            // The sender lives as long as we do.
            if wanted(&snapshot) || changes.changed().await.is_err() {
                return snapshot;
            }
        }
    }

    /// Says goodbye to the agents and ends everything, within a few seconds.
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

/// Blocking. The path is made absolute: sockets are asked for by absolute paths.
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
    /// The data folder could not be made or read.
    #[error("data folder {0}: {1}")]
    Io(String, io::Error),
    /// The host key could not be read or made.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// An address could not be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

/// Time for all tasks to end.
const STOP: Duration = Duration::from_secs(5);

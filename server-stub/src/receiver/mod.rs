//! The vendor's receiver of events, for tests, demos and measurements. It verifies the signature of each event (Standard
//! Webhooks), and counts events, repeats, forgeries, and events that overtook others of the same issue.
//!
//! | module | what it holds |
//! |---|---|
//! | `request` | one request: verified, or refused |
//! | `signature` | verifies signatures |
//! | `order` | the issue and the sequence number of an event, from its body |
//! | `journal` | the file with all that was received; synchronized before the answer |
//! | `tally` | the counts, which the journal restores after a crash |

mod journal;
mod order;
mod request;
mod signature;
mod tally;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_base::secret::SecretFile;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub use signature::SecretLineError;
pub use tally::ReceiverStats;

use journal::Journal;
use request::ReceiverState;
use signature::EventSecrets;

/// What a receiver listens on, keeps and answers.
#[derive(Clone, Debug)]
pub struct ReceiverSettings {
    /// Address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// File with the signing secrets, one `whsec_…` a line.
    pub secret_file: PathBuf,
    /// File that keeps what was received; created if it does not exist.
    pub journal: PathBuf,
    /// How old or how far in the future a `webhook-timestamp` may be.
    pub tolerance: Duration,
    /// Answers events with this status instead of taking them; with [`fail_first`](Self::fail_first) only the first ones.
    pub status: Option<u16>,
    /// Takes no event before this many were answered with [`status`](Self::status), or 503.
    pub fail_first: Option<u64>,
    /// How long each answer waits.
    pub delay: Duration,
}

/// A receiver that serves until [`RunningReceiver::stop`] or until this is dropped.
pub struct RunningReceiver {
    /// Address on which it listens.
    pub addr: SocketAddr,
    state: Arc<ReceiverState>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<()>,
}

/// Why a receiver did not start.
#[derive(Debug, thiserror::Error)]
pub enum ReceiverError {
    /// The address is in use or not on this host.
    #[error("cannot listen on {addr}: {source}; choose another --listen")]
    Listen {
        /// The address to listen on.
        addr: SocketAddr,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file with the secrets cannot be read, or others may read it too.
    #[error("the signing secret: {0}")]
    SecretFile(String),
    /// The file does not contain signing secrets.
    #[error("the signing secret in {path}: {source}")]
    Secret {
        /// The file with the secrets.
        path: PathBuf,
        /// What is wrong with it; never its content.
        source: SecretLineError,
    },
    /// The journal cannot be read or written.
    #[error("the journal {path}: {source}; choose another --journal")]
    Journal {
        /// The file of the journal.
        path: PathBuf,
        /// The error of the operating system.
        source: std::io::Error,
    },
}

impl ReceiverSettings {
    /// The default limits, on a free port of 127.0.0.1.
    pub fn new(secret_file: impl Into<PathBuf>, journal: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            secret_file: secret_file.into(),
            journal: journal.into(),
            tolerance: DEFAULT_TOLERANCE,
            status: None,
            fail_first: None,
            delay: Duration::ZERO,
        }
    }
}

impl RunningReceiver {
    /// Reads the journal, then listens and serves in the background.
    ///
    /// # Errors
    /// See [`ReceiverError`].
    pub async fn start(settings: ReceiverSettings) -> Result<Self, ReceiverError> {
        let secret_file = SecretFile::new(&settings.secret_file);
        let secret = tokio::task::spawn_blocking(move || secret_file.read())
            .await
            .map_err(|error| ReceiverError::SecretFile(error.to_string()))?
            .map_err(|error| ReceiverError::SecretFile(error.to_string()))?;
        let secrets = EventSecrets::parse(&secret).map_err(|source| ReceiverError::Secret {
            path: settings.secret_file.clone(),
            source,
        })?;
        let path = settings.journal.clone();
        let journal = tokio::task::spawn_blocking(move || Journal::open(&path))
            .await
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|source| ReceiverError::Journal {
                path: settings.journal.clone(),
                source,
            })?;
        let listen = |source| ReceiverError::Listen {
            addr: settings.listen,
            source,
        };
        let listener = TcpListener::bind(settings.listen).await.map_err(listen)?;
        let addr = listener.local_addr().map_err(listen)?;
        let state = Arc::new(ReceiverState::new(settings, secrets, journal));
        let router = Router::new()
            .route("/stats", get(request::stats))
            .fallback(post(request::receive))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(state.clone());
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(async {
                let _ = stopped.await;
            });
            let _ = served.await;
        });
        Ok(Self {
            addr,
            state,
            stop: Some(stop),
            serving,
        })
    }

    /// The counts so far, including those of earlier runs with the same journal.
    pub fn stats(&self) -> ReceiverStats {
        self.state.stats()
    }

    /// Answers the requests in flight, at most for five seconds, and returns the counts.
    pub async fn stop(mut self) -> ReceiverStats {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        // A caller keeps an idle connection open for longer.
        if tokio::time::timeout(STOP_TIMEOUT, &mut self.serving)
            .await
            .is_err()
        {
            self.serving.abort();
        }
        self.state.stats()
    }
}

impl Drop for RunningReceiver {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// As Standard Webhooks recommends.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes of one event, above the largest `max_body` of an outlet that makes sense for webhooks.
const MAX_BODY: usize = 64 << 20;

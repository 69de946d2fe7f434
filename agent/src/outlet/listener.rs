//! Accepts connections of Jira, plain or in TLS, and serves each to its end.

use super::{Settings, SourceList, client_stream::ClientStream};
use crate::{
    descriptors::{DescriptorBudget, DescriptorPermit},
    http::{self, ChannelOrigin, CurrentForward, ShutdownTokens},
};
use parking_lot::Mutex;
use rustls::ServerConfig;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Whether Jira can connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerCondition {
    /// Not tried yet.
    Starting,
    /// It listens here.
    Listening(SocketAddr),
    /// It cannot listen, for this reason; tried again.
    Failed(String),
}

/// The listening socket of an outlet and its condition. A new configuration with the same address takes it over.
pub struct OutletSockets {
    address: SocketAddr,
    condition: Mutex<ListenerCondition>,
    socket: tokio::sync::Mutex<Option<TcpListener>>,
    /// Bounds connections, each of which holds a buffer and a descriptor.
    places: Arc<Semaphore>,
}

impl OutletSockets {
    /// For this address; nothing is opened yet.
    pub fn new(address: SocketAddr) -> Arc<Self> {
        Arc::new(Self {
            address,
            condition: Mutex::new(ListenerCondition::Starting),
            socket: tokio::sync::Mutex::default(),
            places: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
        })
    }

    /// Waits until no client is connected, after the listener has stopped.
    pub async fn clients_ended(&self) {
        let all = u32::try_from(MAX_CONNECTIONS).unwrap_or(u32::MAX);
        // Fails only if the semaphore is closed, which nothing does.
        let _ = self.places.acquire_many(all).await;
    }

    /// The configured address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether Jira can connect now.
    pub fn condition(&self) -> ListenerCondition {
        self.condition.lock().clone()
    }

    async fn open(&self) -> TcpListener {
        loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => {
                    let at = listener.local_addr().unwrap_or(self.address);
                    *self.condition.lock() = ListenerCondition::Listening(at);
                    tracing::info!(listen = %at, "the outlet listens");
                    return listener;
                }
                Err(error) => self.note_failure(&error),
            }
            // The process before this one may listen until it has handed over.
            sleep(RETRY).await;
        }
    }

    fn note_failure(&self, error: &io::Error) {
        let failed =
            ListenerCondition::Failed(format!("cannot listen on {}: {error}", self.address));
        let mut condition = self.condition.lock();
        if *condition == failed {
            return;
        }
        *condition = failed;
        drop(condition);
        tracing::warn!(
            listen = %self.address,
            %error,
            remedy = "free the address, or change listen of the outlet",
            "the outlet cannot listen; it tries again"
        );
    }
}

/// Serves one outlet.
pub struct OutletListener {
    name: Arc<str>,
    sockets: Arc<OutletSockets>,
    current: CurrentForward,
    tls: Option<Arc<ServerConfig>>,
    sources: SourceList,
    shutdown: ShutdownTokens,
    /// Bounds those whose address may not call; they get an answer that says so.
    strangers: Arc<Semaphore>,
}

impl OutletListener {
    /// `current` answers the requests.
    pub fn new(
        settings: &Settings,
        sockets: Arc<OutletSockets>,
        current: CurrentForward,
        shutdown: ShutdownTokens,
    ) -> Self {
        Self {
            name: Arc::clone(&settings.name),
            sockets,
            current,
            tls: settings.tls.clone(),
            sources: settings.sources.clone(),
            shutdown,
            strangers: Arc::new(Semaphore::new(MAX_STRANGERS)),
        }
    }

    /// Listens and serves until `stop`; connections continue as `shutdown` says. `keep`: leaves the socket open for the next
    /// one of the same address.
    pub async fn run(self, stop: CancellationToken, keep: CancellationToken) {
        let sockets = Arc::clone(&self.sockets);
        let mut socket = sockets.socket.lock().await;
        let serving = async {
            let listener = match &*socket {
                Some(_) => None,
                None => Some(sockets.open().await),
            };
            if let Some(listener) = listener {
                *socket = Some(listener);
            }
            if let Some(listener) = &*socket {
                self.accept(listener).await;
            }
        };
        if stop.run_until_cancelled(serving).await.is_none() && !keep.is_cancelled() {
            *socket = None;
            *sockets.condition.lock() = ListenerCondition::Starting;
        }
    }

    async fn accept(&self, listener: &TcpListener) {
        let budget = DescriptorBudget::of_process();
        loop {
            let Ok(place) = Arc::clone(&self.sockets.places).acquire_owned().await else {
                return;
            };
            let accepted = budget.accept(|cx| listener.poll_accept(cx)).await;
            let ((socket, peer), permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a connection to the outlet was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let stranger = match self.sources.allows(peer.ip()) {
                true => None,
                false => match Arc::clone(&self.strangers).try_acquire_owned() {
                    Ok(permit) => Some(permit),
                    Err(_) => continue,
                },
            };
            let serving = self.serve(socket, peer, permit);
            tokio::spawn(async move {
                serving.await;
                drop((place, stranger));
            });
        }
    }

    fn serve(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        permit: DescriptorPermit,
    ) -> impl Future<Output = ()> + Send + use<> {
        let origin = ChannelOrigin {
            originator: peer.to_string().into(),
            connection: 0,
            place: None,
        };
        let (current, shutdown) = (self.current.clone(), self.shutdown.clone());
        let (tls, name) = (self.tls.clone(), Arc::clone(&self.name));
        async move {
            // Fails only on a dead socket, which the first read notices.
            let _ = socket.set_nodelay(true);
            let Some(tls) = tls else {
                let stream = ClientStream::new(socket, permit);
                return http::serve(stream, current, origin, shutdown).await;
            };
            let handshake = TlsAcceptor::from(tls).accept(socket);
            match timeout(HANDSHAKE_TIMEOUT, handshake).await {
                Ok(Ok(stream)) => {
                    let stream = ClientStream::new(stream, permit);
                    http::serve(stream, current, origin, shutdown).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(outlet = &*name, %peer, %error, "TLS with a client of the outlet failed");
                }
                Err(_) => {
                    tracing::debug!(outlet = &*name, %peer, "TLS with a client of the outlet took too long");
                }
            }
        }
    }
}

/// Jira's own pool toward one host is far smaller.
const MAX_CONNECTIONS: usize = 256;
/// Enough to show a person why; a flood of them takes no more.
const MAX_STRANGERS: usize = 16;
/// For TLS with a client of the same site.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries to listen.
const RETRY: Duration = Duration::from_millis(250);
/// After a failed accept, which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

//! One SSH session of the agent against a misbehaving gateway.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![expect(
    clippy::disallowed_methods,
    reason = "the misbehaving gateway is plain russh"
)]

use agent::tunnel::{
    ChannelAcceptor, InboundChannel, RemoteForward, Settings, ignore,
    session::{Session, SessionEnd, SessionOpenError},
};
use e2e::{
    sshd::keygen,
    tunnel::{EchoForwards, PATIENCE, echo, identity, settings_for},
};
use russh::{
    ChannelOpenFailure, Error,
    keys::{HashAlg, PrivateKey, load_secret_key},
    server::{self, Auth, Handle, VerifiedPublicKey},
};
use std::sync::Arc;
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{Mutex, oneshot},
    time::timeout,
};

/// A russh server with a handle to make it misbehave.
struct HostileGateway {
    folder: TempDir,
    address: String,
    fingerprint: String,
    session: Mutex<Option<oneshot::Receiver<Handle>>>,
}

struct Connection {
    login: Option<oneshot::Sender<Handle>>,
    accepts: bool,
    banner: Option<&'static str>,
}

impl server::Handler for Connection {
    type Error = Error;

    async fn authentication_banner(&mut self) -> Result<Option<String>, Error> {
        Ok(self.banner.map(str::to_owned))
    }

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Error> {
        Ok(match self.accepts {
            true => Auth::Accept,
            false => Auth::reject(),
        })
    }

    async fn auth_succeeded(&mut self, session: &mut server::Session) -> Result<(), Error> {
        if let Some(login) = self.login.take() {
            let _ = login.send(session.handle());
        }
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        _: &str,
        port: &mut u32,
        _: &mut server::Session,
    ) -> Result<bool, Error> {
        if *port == 0 {
            *port = GIVEN.into();
        }
        Ok(true)
    }
}

impl HostileGateway {
    async fn start(accepts: bool) -> Self {
        Self::start_saying(accepts, None).await
    }

    /// As `start`, with a banner before the login.
    async fn start_saying(accepts: bool, banner: Option<&'static str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for key in ["host", "id"] {
            keygen(&folder.path().join(key), &["-t", "ed25519"], "").unwrap();
        }
        let host: PrivateKey = load_secret_key(folder.path().join("host"), None).unwrap();
        let fingerprint = host.fingerprint(HashAlg::Sha256).to_string();
        let config = server::Config {
            keys: vec![host],
            auth_rejection_time: std::time::Duration::ZERO,
            ..server::Config::default()
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (login, session) = oneshot::channel();
        tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let login = Some(login);
            let running = server::run_stream(
                Arc::new(config),
                stream,
                Connection {
                    login,
                    accepts,
                    banner,
                },
            )
            .await
            .unwrap();
            let _ = running.await;
        });
        Self {
            folder,
            address,
            fingerprint,
            session: Mutex::new(Some(session)),
        }
    }

    fn settings(&self) -> Settings {
        let key = identity(&self.folder.path().join("id")).unwrap();
        let fingerprint = self.fingerprint.clone();
        let settings = settings_for(&self.address, "acme", key, fingerprint, &[]).unwrap();
        Settings {
            stall_timeout: PATIENCE,
            probe_interval: PATIENCE,
            probe_timeout: PATIENCE,
            congestion_control: None,
            max_channels: 10,
            ..settings
        }
    }

    async fn open(&self, accept: Arc<dyn ChannelAcceptor>) -> Result<Session, SessionOpenError> {
        let gateway = self.address.parse().unwrap();
        Session::open(Arc::new(self.settings()), gateway, 0, accept, ignore()).await
    }

    async fn open_echo(&self) -> Result<Session, SessionOpenError> {
        self.open(Arc::new(EchoForwards::default())).await
    }

    async fn handle(&self) -> Handle {
        let session = self.session.lock().await.take().unwrap();
        timeout(PATIENCE, session).await.unwrap().unwrap()
    }
}

fn forward(bind: &str) -> RemoteForward {
    RemoteForward {
        name: "jira".into(),
        bind: bind.parse().unwrap(),
    }
}

fn reason<T>(outcome: Result<T, Error>) -> ChannelOpenFailure {
    match outcome {
        Err(Error::ChannelOpenFailure(reason)) => reason,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the channel was accepted"),
    }
}

#[tokio::test]
async fn every_channel_but_those_on_our_forwards_is_refused() {
    let gateway = HostileGateway::start(true).await;
    let echo_back = Arc::new(EchoForwards::default());
    let session = gateway.open(echo_back.clone()).await.unwrap();
    session.forward(&forward("127.0.0.1:8080")).await.unwrap();
    let handle = gateway.handle().await;
    let prohibited = ChannelOpenFailure::AdministrativelyProhibited;
    assert_eq!(reason(handle.channel_open_session().await), prohibited);
    assert_eq!(reason(handle.channel_open_agent().await), prohibited);
    assert_eq!(reason(handle.channel_open_x11("x", 1).await), prohibited);
    let direct = handle.channel_open_direct_tcpip("10.0.0.1", 22, "x", 1);
    assert_eq!(reason(direct.await), prohibited);
    let direct = handle.channel_open_direct_streamlocal("/var/run/docker.sock");
    assert_eq!(reason(direct.await), prohibited);
    let unasked = handle.channel_open_forwarded_tcpip("127.0.0.1", 8081, "x", 1);
    assert_eq!(reason(unasked.await), prohibited);
    let unasked = handle.channel_open_forwarded_streamlocal("/run/unasked");
    assert_eq!(reason(unasked.await), prohibited);
    assert!(echo_back.seen().is_empty());

    let ours = handle.channel_open_forwarded_tcpip("127.0.0.1", 8080, "192.0.2.9", 1234);
    echo(ours.await.unwrap().into_stream(), "ours")
        .await
        .unwrap();
    assert_eq!(
        echo_back.seen(),
        [("jira".to_owned(), 0, "192.0.2.9:1234".to_owned())]
    );
}

#[tokio::test]
async fn a_gateway_that_reports_its_own_address_is_understood() {
    let gateway = HostileGateway::start(true).await;
    let session = gateway.open_echo().await.unwrap();
    let bound = session.forward(&forward("localhost:0")).await.unwrap();
    assert_eq!(bound.to_string(), format!("localhost:{GIVEN}"));
    let handle = gateway.handle().await;
    let channel = handle.channel_open_forwarded_tcpip("127.0.0.1", GIVEN.into(), "x", 1);
    echo(channel.await.unwrap().into_stream(), "hello")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_goodbye_from_the_gateway_is_passed_on_in_its_own_words() {
    let gateway = HostileGateway::start(true).await;
    let session = gateway.open_echo().await.unwrap();
    let handle = gateway.handle().await;
    let words = "maintenance at\nnoon".to_owned();
    handle
        .disconnect(russh::Disconnect::ByApplication, words, "en".to_owned())
        .await
        .unwrap();
    let ended = timeout(PATIENCE, session.ended()).await.unwrap();
    assert!(
        matches!(&ended, SessionEnd::ByGateway(text) if text.contains("maintenance at\u{fffd}noon")),
        "{ended:?}"
    );
}

struct PanickingAcceptor;

impl ChannelAcceptor for PanickingAcceptor {
    fn accept(&self, _: InboundChannel) {
        panic!("on purpose");
    }
}

#[tokio::test]
async fn a_session_that_panics_ends_and_the_process_goes_on() {
    let gateway = HostileGateway::start(true).await;
    let session = gateway.open(Arc::new(PanickingAcceptor)).await.unwrap();
    session.forward(&forward("127.0.0.1:8080")).await.unwrap();
    let handle = gateway.handle().await;
    // It may or may not be confirmed before the session ends.
    let _ = handle
        .channel_open_forwarded_tcpip("127.0.0.1", 8080, "x", 1)
        .await;
    let ended = timeout(PATIENCE, session.ended()).await.unwrap();
    assert_eq!(ended, SessionEnd::Panicked);
    assert!(session.probe(PATIENCE).await.is_err());
}

#[tokio::test]
async fn a_gateway_that_refuses_every_key_is_quoted() {
    let gateway = HostileGateway::start(false).await;
    let error = gateway.open_echo().await.err().unwrap();
    assert!(
        matches!(error, SessionOpenError::LoginRefused { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("\"acme\""), "{error}");
    assert!(error.to_string().contains("SHA256:"), "{error}");
}

#[tokio::test]
async fn a_loopback_forward_that_another_machine_reaches_is_noticed() {
    let gateway = HostileGateway::start(true).await;
    let session = gateway.open_echo().await.unwrap();
    session.forward(&forward("127.0.0.1:8080")).await.unwrap();
    let handle = gateway.handle().await;
    for (originator, exposed) in [("127.0.0.1", false), ("::1", false), ("192.0.2.9", true)] {
        let channel = handle.channel_open_forwarded_tcpip("127.0.0.1", 8080, originator, 1234);
        echo(channel.await.unwrap().into_stream(), "hello")
            .await
            .unwrap();
        assert_eq!(session.is_exposed("jira"), exposed, "{originator}");
    }
}

#[tokio::test]
async fn the_gateways_banner_is_in_the_cause_of_a_refused_login() {
    let words = "Your account has expired;\n\u{1b}[31m please contact your administrator.";
    let gateway = HostileGateway::start_saying(false, Some(words)).await;
    let error = gateway.open_echo().await.err().unwrap();
    let text = error.to_string();
    assert!(
        text.contains("the gateway says: \"Your account has expired;"),
        "{text}"
    );
    assert!(!text.chars().any(char::is_control), "{text}");
    assert_eq!(error.retry(), agent::tunnel::session::RetryPace::Slow);
}

/// Port that the gateway chooses for 0.
const GIVEN: u16 = 40_000;

//! A gateway's name with several addresses, one of them bad: what the agent learns after TCP is used for the next
//! attempt. The test resolves the name: sshd is on 127.0.0.1, the other gateway on 127.0.0.2, the first address.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    status::{ConnectionPhase, ConnectionView, ForwardState, LayerState},
    tunnel::{
        Settings, ignore,
        session::{HostKeys, Session, has_untried_address},
    },
};
use e2e::{
    sshd::{Sshd, free_port},
    tcp_server::TcpServer,
    tunnel::{EchoForwards, settings, supervise, until_connections},
};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// What the first address does after the TCP handshake.
#[derive(Clone, Debug)]
enum Behavior {
    Silent,
    Closes,
    Says(&'static str),
    /// Leads to the sshd at this address.
    Leads(String),
    /// As `Leads`, until this is cancelled.
    LeadsUntil(String, CancellationToken, Ending),
}

/// What happens to the connections then.
#[derive(Clone, Copy, Debug)]
enum Ending {
    Silence,
    Cut,
}

/// The gateway at 127.0.0.2, and how often it was called.
struct FirstAddress {
    calls: Arc<AtomicUsize>,
    _server: TcpServer,
}

impl FirstAddress {
    async fn start(port: u16, behavior: Behavior) -> Self {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let server = TcpServer::bind(("127.0.0.2", port), move |stream| {
            counted.fetch_add(1, SeqCst);
            behave(stream, behavior.clone())
        });
        Self {
            calls,
            _server: server.await.unwrap(),
        }
    }

    fn calls(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

async fn behave(mut stream: TcpStream, behavior: Behavior) {
    match behavior {
        Behavior::Closes => {}
        Behavior::Silent => {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        Behavior::Says(text) => {
            let _ = stream.write_all(text.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
        Behavior::LeadsUntil(to, until, ending) => {
            let Ok(mut other) = TcpStream::connect(to).await else {
                return;
            };
            let _ = until
                .run_until_cancelled(copy_bidirectional(&mut stream, &mut other))
                .await;
            if matches!(ending, Ending::Silence) {
                std::future::pending::<()>().await;
            }
        }
        Behavior::Leads(to) => {
            if let Ok(mut other) = TcpStream::connect(to).await {
                let _ = copy_bidirectional(&mut stream, &mut other).await;
            }
        }
    }
}

/// Settings by the name `gw.test`, which has both addresses.
fn named(sshd: &Sshd, binds: &[&str]) -> Settings {
    let mut settings = settings(sshd, binds).unwrap();
    settings.gateways = vec![format!("gw.test:{}", sshd.port()).parse().unwrap()];
    let both = ["127.0.0.2", "127.0.0.1"].map(|ip| ip.parse().unwrap());
    settings.egress.addresses().fix("gw.test", both.to_vec());
    settings
}

/// For an sshd that refuses every key.
fn without_keys(dir: &Path) -> anyhow::Result<()> {
    Ok(std::fs::write(dir.join("authorized_keys"), "")?)
}

fn serves(views: &[ConnectionView]) -> bool {
    views[0].phase == ConnectionPhase::Serving
}

fn failed(views: &[ConnectionView]) -> bool {
    views[0].tunnel.state == LayerState::Failed && views[0].phase == ConnectionPhase::Waiting
}

#[tokio::test]
async fn an_address_that_fails_past_tcp_is_followed_by_the_next_one() {
    let stranger = Sshd::start().unwrap();
    for behavior in [
        Behavior::Silent,
        Behavior::Closes,
        Behavior::Says("Not allowed at this time\r\n"),
        Behavior::Says("HTTP/1.1 400 Bad Request\r\n\r\n"),
        // Another host key.
        Behavior::Leads(stranger.address()),
    ] {
        let sshd = Sshd::start().unwrap();
        let first = FirstAddress::start(sshd.port(), behavior.clone()).await;
        let mut settings = named(&sshd, &["127.0.0.1:0"]);
        settings.login_timeout = Duration::from_secs(4);
        let handle = supervise(settings);
        until_connections(&handle, serves).await;
        // A wrong host key leads to one more attempt, for another key type.
        let calls = 1 + usize::from(matches!(behavior, Behavior::Leads(_)));
        assert_eq!(first.calls(), calls, "{behavior:?}");
        let view = handle.connections().remove(0);
        assert_eq!(view.address.as_deref(), Some("127.0.0.1"), "{behavior:?}");
        handle.drain(Duration::ZERO).await;
    }
}

/// After an address that falls silent after the login, the agent tries the next one.
#[tokio::test]
async fn an_address_that_falls_silent_is_left() {
    let sshd = Sshd::start().unwrap();
    let stopped = CancellationToken::new();
    let leads = Behavior::LeadsUntil(sshd.address(), stopped.clone(), Ending::Silence);
    let first = FirstAddress::start(sshd.port(), leads).await;
    let mut settings = named(&sshd, &["127.0.0.1:0"]);
    settings.probe_interval = Duration::from_millis(300);
    settings.probe_timeout = Duration::from_millis(300);
    let handle = supervise(settings);
    until_connections(&handle, serves).await;
    assert_eq!(
        handle.connections()[0].address.as_deref(),
        Some("127.0.0.2")
    );
    stopped.cancel();
    let at_the_other = |views: &[ConnectionView]| {
        serves(views) && views[0].address.as_deref() == Some("127.0.0.1")
    };
    until_connections(&handle, at_the_other).await;
    assert_eq!(first.calls(), 1);
    handle.drain(Duration::ZERO).await;
}

/// After an address that cuts sessions before they serve, the agent tries the next one.
/// No forward is granted, so that no session has served when it is cut.
#[tokio::test]
async fn an_address_that_cuts_new_sessions_is_left() {
    let sshd = Sshd::with(&["PermitListen 127.0.0.1:1"]).unwrap();
    let cut = CancellationToken::new();
    let leads = Behavior::LeadsUntil(sshd.address(), cut.clone(), Ending::Cut);
    let first = FirstAddress::start(sshd.port(), leads).await;
    let handle = supervise(named(&sshd, &["127.0.0.1:0"]));
    let is_at = |address: &'static str| {
        move |views: &[ConnectionView]| views[0].address.as_deref() == Some(address)
    };
    until_connections(&handle, is_at("127.0.0.2")).await;
    cut.cancel();
    until_connections(&handle, is_at("127.0.0.1")).await;
    assert_eq!(first.calls(), 1);
    handle.drain(Duration::ZERO).await;
}

#[tokio::test]
async fn a_key_refused_by_one_address_is_tried_at_the_next() {
    let sshd = Sshd::start().unwrap();
    let refusing = Sshd::prepare(without_keys, &[]).unwrap();
    let first = FirstAddress::start(sshd.port(), Behavior::Leads(refusing.address())).await;
    let mut settings = named(&sshd, &["127.0.0.1:0"]);
    let prints = vec![sshd.fingerprint().unwrap(), refusing.fingerprint().unwrap()];
    settings.host_keys = Arc::new(HostKeys::new(prints, None).unwrap());
    settings.connections = 2;
    let handle = supervise(settings);
    until_connections(&handle, |c| c.iter().all(|c| c.address.is_some())).await;
    assert_eq!(first.calls(), 1, "the other connection began elsewhere");
    let at = |c: &ConnectionView| c.address.as_deref() == Some("127.0.0.1");
    assert!(handle.connections().iter().all(at));
}

#[tokio::test]
async fn connections_to_one_name_spread_over_its_addresses() {
    let sshd = Sshd::start().unwrap();
    let _first = FirstAddress::start(sshd.port(), Behavior::Leads(sshd.address())).await;
    let mut settings = named(&sshd, &["127.0.0.1:0"]);
    settings.connections = 2;
    let handle = supervise(settings);
    until_connections(&handle, |c| c.iter().all(|c| c.address.is_some())).await;
    let addresses: BTreeSet<_> = handle
        .connections()
        .into_iter()
        .map(|c| c.address)
        .collect();
    assert_eq!(addresses.len(), 2, "{addresses:?}");
}

#[tokio::test]
async fn a_cause_names_the_address_that_failed() {
    let sshd = Sshd::start().unwrap();
    let _first = FirstAddress::start(sshd.port(), Behavior::Closes).await;
    let mut settings = named(&sshd, &["127.0.0.1:0"]);
    let other = e2e::sshd::fingerprint(&sshd.folder().join("id.pub")).unwrap();
    settings.host_keys = Arc::new(HostKeys::new(vec![other], None).unwrap());
    let place = format!("gw.test:{}", sshd.port());
    let handle = supervise(settings);
    let names = |c: &[ConnectionView], ip: &str| {
        let cause = c[0].tunnel.cause.clone().unwrap_or_default();
        cause.contains(&format!("{place} ({ip})"))
    };
    until_connections(&handle, |c| names(c, "127.0.0.2")).await;
    until_connections(&handle, |c| names(c, "127.0.0.1")).await;
}

/// Texts in place of a banner, and what the agent makes of them.
#[tokio::test]
async fn sshds_refusals_before_the_banner_are_quoted() {
    for (text, words, slow) in [
        ("Not allowed at this time\r\n", "PerSourcePenalties", true),
        ("Exceeded MaxStartups\r\n", "MaxStartups", false),
    ] {
        let port = free_port().unwrap();
        let _first = FirstAddress::start(port, Behavior::Says(text)).await;
        let sshd = Sshd::start().unwrap();
        let mut settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
        settings.gateways = vec![format!("127.0.0.2:{port}").parse().unwrap()];
        let handle = supervise(settings);
        until_connections(&handle, failed).await;
        let view = handle.connections().remove(0);
        assert!(view.tunnel.cause.unwrap().contains(text.trim()), "{text}");
        assert!(view.tunnel.remedy.unwrap().contains(words), "{text}");
        assert_eq!(view.next_retry_seconds.unwrap() > 50.0, slow, "{text}");
    }
}

#[tokio::test]
async fn a_low_max_auth_tries_is_named_and_retried_slowly() {
    let sshd = Sshd::prepare(without_keys, &["MaxAuthTries 1"]).unwrap();
    let handle = supervise(settings(&sshd, &["127.0.0.1:0"]).unwrap());
    until_connections(&handle, failed).await;
    let view = handle.connections().remove(0);
    let (cause, remedy) = (view.tunnel.cause.unwrap(), view.tunnel.remedy.unwrap());
    assert!(cause.contains("refused the login"), "{cause}");
    assert!(
        cause.contains("Too many authentication failures"),
        "{cause}"
    );
    assert!(remedy.contains("MaxAuthTries"), "{remedy}");
    assert!(view.next_retry_seconds.unwrap() > 50.0);
    assert_eq!(
        sshd.log().matches("Connection from").count(),
        2,
        "the test's own look, and one login"
    );
}

/// The cause names `UnusedConnectionTimeout`, and the agent reconnects at once.
#[tokio::test]
async fn a_gateway_that_cuts_unused_sessions_is_named() {
    let sshd = Sshd::with(&["UnusedConnectionTimeout 2s"]).unwrap();
    let handle = supervise(settings(&sshd, &["127.0.0.1:0"]).unwrap());
    until_connections(&handle, |c| {
        let cause = c[0].tunnel.cause.as_deref().unwrap_or_default();
        cause.contains("times in the last hour, each after about")
    })
    .await;
    let view = handle.connections().remove(0);
    assert_eq!(view.tunnel.state, LayerState::Degraded);
    assert!(
        view.tunnel
            .remedy
            .unwrap()
            .contains("UnusedConnectionTimeout")
    );
    assert!(view.attempt <= 2, "{}", view.attempt);
    until_connections(&handle, |c| c[0].forwards[0].state == ForwardState::Bound).await;
}

/// `agent check` without a running agent and `agent enroll` use this to continue with the next address.
#[tokio::test]
async fn whoever_opens_one_session_goes_on_with_the_next_address_too() {
    let sshd = Sshd::start().unwrap();
    let _first = FirstAddress::start(sshd.port(), Behavior::Closes).await;
    let settings = Arc::new(named(&sshd, &[]));
    let gateway = settings.gateways[0].clone();
    let open = || {
        let accept = Arc::new(EchoForwards::default());
        Session::open(Arc::clone(&settings), gateway.clone(), 0, accept, ignore())
    };
    let error = open().await.err().expect("the first address closes");
    assert!(has_untried_address(&settings, &gateway, &error), "{error}");
    let session = open().await.unwrap();
    assert_eq!(session.peer().unwrap().ip().to_string(), "127.0.0.1");
}

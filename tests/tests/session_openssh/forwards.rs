//! Remote forwards of a session.

use crate::{open, open_with};
use agent::tunnel::{
    BindAddress, RemoteForward, Settings,
    egress::{Egress, ProxyServer},
    session::{ForwardError, OpenDirectError},
};
use e2e::{
    sshd::{Sshd, certify, free_addr, keygen},
    tcp_server::TcpServer,
    tunnel::{EchoForwards, PATIENCE, echo, echo_at, settings},
};
use std::{fs, process::Command, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpSocket, TcpStream, UnixStream},
    time::{sleep, timeout},
};

#[tokio::test]
async fn a_tcp_forward_carries_bytes_both_ways_over_the_best_algorithms() {
    let sshd = Sshd::start().unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    let forward = settings.forwards[0].at(0);
    let accept = Arc::new(EchoForwards::default());
    let session = open_with(settings, accept.clone()).await.unwrap();
    let facts = session.negotiated().unwrap().clone();
    assert_eq!(facts.host_key, sshd.fingerprint().unwrap());
    assert_eq!(facts.cipher, "aes128-gcm@openssh.com");
    assert!(
        ["mlkem768x25519-sha256", "curve25519-sha256"].contains(&facts.key_exchange.as_str()),
        "{facts:?}"
    );
    assert!(facts.strict, "strict key exchange");
    let bound = session.forward(&forward).await.unwrap();
    let BindAddress::Tcp { port, .. } = bound.0 else {
        panic!("{bound:?}")
    };
    assert_ne!(port, 0, "the port that was given");
    echo_at(&bound.to_string(), "hello").await.unwrap();
    let (name, connection, originator) = accept.seen().remove(0);
    assert_eq!((name.as_str(), connection), ("f0", 0));
    assert!(originator.starts_with("127.0.0.1:"), "{originator}");
    session.probe(PATIENCE).await.unwrap();

    session.cancel_forward(&forward.name).await.unwrap();
    assert!(TcpStream::connect(bound.to_string()).await.is_err());
    session.disconnect().await;
    assert_eq!(
        session.ended().await,
        agent::tunnel::session::SessionEnd::ByUs,
        "{}",
        sshd.log()
    );
}

#[tokio::test]
async fn a_named_port_and_a_socket_are_bound_side_by_side() {
    let sshd = Sshd::start().unwrap();
    let tcp = free_addr().unwrap().to_string();
    let socket = sshd.folder().join("forward.sock");
    let socket = socket.to_str().unwrap();
    let settings = settings(&sshd, &[&tcp, socket]).unwrap();
    let forwards: Vec<_> = settings.forwards.iter().map(|f| f.at(0)).collect();
    let accept = Arc::new(EchoForwards::default());
    let session = open_with(settings, accept.clone()).await.unwrap();
    assert_eq!(
        session.forward(&forwards[0]).await.unwrap().to_string(),
        tcp
    );
    assert_eq!(
        session.forward(&forwards[1]).await.unwrap().to_string(),
        socket
    );
    echo_at(&tcp, "by port").await.unwrap();
    echo(UnixStream::connect(socket).await.unwrap(), "by socket")
        .await
        .unwrap();
    let by: Vec<String> = accept.seen().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(by, ["f0", "f1"]);
    assert_eq!(accept.seen()[1].2, "unix");
}

#[tokio::test]
async fn a_forward_that_is_not_permitted_is_refused_and_the_session_stays() {
    let allowed = free_addr().unwrap().to_string();
    let permit = format!("PermitListen {allowed}");
    let sshd = Sshd::with(&[&permit]).unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0", &allowed]).unwrap();
    let forwards: Vec<_> = settings.forwards.iter().map(|f| f.at(0)).collect();
    let session = open(settings).await.unwrap();
    let error = session.forward(&forwards[0]).await.unwrap_err();
    assert!(matches!(error, ForwardError::Refused(_)), "{error}");
    assert!(
        error.remedy().contains("permitlisten"),
        "{}",
        error.remedy()
    );
    session.probe(PATIENCE).await.unwrap();
    session.forward(&forwards[1]).await.unwrap();
    echo_at(&allowed, "permitted").await.unwrap();
}

#[tokio::test]
async fn more_channels_than_allowed_are_refused_and_those_open_go_on() {
    let sshd = Sshd::start().unwrap();
    let mut settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    settings.max_channels = 2;
    let forward = settings.forwards[0].at(0);
    let session = open(settings).await.unwrap();
    let bound = session.forward(&forward).await.unwrap().to_string();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&bound).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        held.push(stream);
    }
    assert!(echo_at(&bound, "one too many").await.is_err());
    assert_eq!(session.refused_channels(), 1);
    echo(held.remove(0), "still there").await.unwrap();
}

/// sshd waits two minutes for a host that is silent. Who asks gives up much sooner, and asks again.
#[tokio::test]
async fn opens_that_a_silent_target_leaves_unanswered_are_bounded() {
    let sshd = Sshd::with(&["AllowTcpForwarding yes"]).unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    let forward = settings.forwards[0].at(0);
    let session = open(settings).await.unwrap();
    let bound = session.forward(&forward).await.unwrap();
    let silent = TcpSocket::new_v4().unwrap();
    silent.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let silent = silent.listen(0).unwrap();
    let address = silent.local_addr().unwrap();
    // Its queue is full: the kernel answers nobody else.
    let _queued = TcpStream::connect(address).await.unwrap();
    let mut refused = None;
    for asked in 0..200 {
        let opening = session.open_target("127.0.0.1", address.port());
        if let Ok(outcome) = timeout(Duration::from_millis(5), opening).await {
            refused = Some((asked, outcome.err().unwrap()));
            break;
        }
    }
    let (asked, error) = refused.expect("a bound");
    assert_eq!(asked, 64);
    assert!(matches!(error, OpenDirectError::Busy(_)), "{error}");
    let own = session.open_direct(&bound).await.unwrap();
    echo(own, "hello").await.unwrap();
}

#[tokio::test]
async fn forwards_with_equal_names_are_not_mixed_up_after_a_refusal() {
    // First our listener takes the port, and the forward is refused; then it is bound on the same session.
    let sshd = Sshd::start().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let forward = RemoteForward {
        name: "f0".into(),
        bind: address.parse().unwrap(),
    };
    let session = open(settings(&sshd, &[]).unwrap()).await.unwrap();
    assert!(matches!(
        session.forward(&forward).await,
        Err(ForwardError::Refused(_))
    ));
    drop(taken);
    session.forward(&forward).await.unwrap();
    echo_at(&address, "now").await.unwrap();
}

#[tokio::test]
async fn a_certificate_that_permits_no_forward_is_named_as_the_reason() {
    let sshd = Sshd::prepare(
        |dir| {
            keygen(&dir.join("ca"), &["-t", "ed25519"], "")?;
            let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
            certify(
                &dir.join("ca"),
                &dir.join("id.pub"),
                &["-n", &user, "-O", "clear"],
            )?;
            fs::write(dir.join("authorized_keys"), "")?;
            Ok(())
        },
        &["TrustedUserCAKeys {dir}/ca.pub"],
    )
    .unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    let forward = settings.forwards[0].at(0);
    let session = open(settings).await.unwrap();
    let error = session.forward(&forward).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not permit port forwarding"),
        "{error}"
    );
    assert!(
        error.remedy().contains("permit-port-forwarding"),
        "{}",
        error.remedy()
    );
}

/// sshd logs the window that the agent grants each channel.
async fn granted_window(settings: Settings, sshd: &Sshd) -> u32 {
    let forward = settings.forwards[0].at(0);
    let session = open(settings).await.unwrap();
    let bound = session.forward(&forward).await.unwrap();
    let BindAddress::Tcp { port, .. } = bound.0 else {
        panic!("{bound:?}")
    };
    let before = sshd.log().len();
    echo_at(&format!("127.0.0.1:{port}"), "hello")
        .await
        .unwrap();
    let log = sshd.log().split_off(before);
    let (_, confirmed) = log.split_once("open confirm rwindow ").expect(&log);
    let (window, _) = confirmed.split_once(' ').unwrap();
    window.parse().unwrap()
}

/// A proxy that answers after `delay`, as one whose way to the gateway is long.
async fn distant_proxy(sshd: &Sshd, delay: Duration) -> TcpServer {
    let gateway = sshd.address();
    let server = TcpServer::start(move |mut stream| {
        let gateway = gateway.clone();
        async move {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await?);
            }
            sleep(delay).await;
            let mut far = TcpStream::connect(gateway).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
            copy_bidirectional(&mut stream, &mut far).await
        }
    });
    server.await.unwrap()
}

fn through(proxy: &TcpServer) -> Arc<Egress> {
    let proxy = ProxyServer::parse(&format!("http://{}", proxy.addr)).unwrap();
    Arc::new(Egress::new(Some(proxy), &[], None))
}

/// What `ss` shows of the connections to this port.
fn tcp_info(port: u16) -> String {
    let shown = Command::new("ss")
        .args(["-tinH", "dport", "=", &format!(":{port}")])
        .output()
        .unwrap();
    String::from_utf8(shown.stdout).unwrap()
}

#[tokio::test]
async fn a_distant_gateway_gets_the_congestion_control_of_the_setting() {
    let sshd = Sshd::start().unwrap();
    let proxy = distant_proxy(&sshd, Duration::from_millis(5)).await;
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.egress = through(&proxy);
    // Every kernel has this one.
    settings.congestion_control = Some("reno".to_owned());
    let session = open(settings).await.unwrap();
    let info = tcp_info(proxy.addr.port());
    assert!(info.contains(" reno "), "{info}");
    drop(session);
}

#[tokio::test]
async fn the_window_follows_the_round_trip_to_the_gateway() {
    let sshd = Sshd::with(&["LogLevel DEBUG2"]).unwrap();
    let near = || settings(&sshd, &["127.0.0.1:0"]).unwrap();
    // A busy machine may take longer than 2 ms to connect to itself.
    let mut windows = Vec::new();
    while windows.len() < 5 && !windows.contains(&(1 << 20)) {
        windows.push(granted_window(near(), &sshd).await);
    }
    assert!(windows.contains(&(1 << 20)), "{windows:?}");

    let proxy = distant_proxy(&sshd, Duration::from_millis(40)).await;
    let mut far = near();
    far.egress = through(&proxy);
    let window = granted_window(far, &sshd).await;
    assert!((10_000_000..=16 << 20).contains(&window), "{window}");

    let mut fixed = near();
    fixed.channel.window = Some(2 << 20);
    assert_eq!(granted_window(fixed, &sshd).await, 2 << 20);
}

//! Gateways that fail, stay silent, or are no SSH server.

use crate::open;
use agent::tunnel::session::{ForwardError, RetryPace, SessionOpenError, SessionOpenStep};
use e2e::{
    sshd::Sshd,
    tcp_server::TcpServer,
    tunnel::{PATIENCE, settings},
    wait::until_true,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

#[tokio::test]
async fn a_killed_gateway_ends_the_session_and_what_is_asked_of_it() {
    let mut sshd = Sshd::start().unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    let forward = settings.forwards[0].at(0);
    let session = open(settings).await.unwrap();
    sshd.kill();
    let ended = timeout(PATIENCE, session.ended()).await.unwrap();
    assert!(!ended.to_string().is_empty());
    assert!(session.probe(PATIENCE).await.is_err());
    let error = session.forward(&forward).await.unwrap_err();
    assert!(matches!(error, ForwardError::Lost(_)), "{error}");
}

/// A server that sends `greeting` to everybody and then says nothing.
async fn impostor(greeting: &'static [u8]) -> TcpServer {
    let server = TcpServer::start(move |mut stream| async move {
        let _ = stream.write_all(greeting).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    server.await.unwrap()
}

async fn open_at(sshd: &Sshd, server: &TcpServer) -> SessionOpenError {
    let mut settings = settings(sshd, &[]).unwrap();
    settings.gateways = vec![server.addr.to_string().parse().unwrap()];
    settings.login_timeout = Duration::from_secs(2);
    open(settings).await.err().unwrap()
}

#[tokio::test]
async fn what_is_not_ssh_is_told_by_what_it_said() {
    let sshd = Sshd::start().unwrap();
    let http = impostor(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
    let error = open_at(&sshd, &http).await;
    assert!(matches!(error, SessionOpenError::NotSsh { .. }), "{error}");
    assert!(error.to_string().contains("HTTP/1.1 400"), "{error}");
    assert_eq!(error.retry(), RetryPace::Soon);
}

/// A server that is silent from the start or after its banner runs into the deadline of that step.
#[tokio::test]
async fn a_silent_server_runs_into_the_deadline() {
    let sshd = Sshd::start().unwrap();
    for (greeting, expected) in [
        (b"".as_slice(), SessionOpenStep::Banner),
        (b"SSH-2.0-Mute\r\n", SessionOpenStep::KeyExchange),
    ] {
        match open_at(&sshd, &impostor(greeting).await).await {
            SessionOpenError::Timeout { step, .. } => assert_eq!(step, expected),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_gateway_with_old_algorithms_only_is_told_apart() {
    let sshd = Sshd::with(&["Ciphers aes128-cbc"]).unwrap();
    let error = open(settings(&sshd, &[]).unwrap()).await.err().unwrap();
    assert!(
        matches!(error, SessionOpenError::KeyExchange { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("aes128-cbc"), "{error}");
}

#[tokio::test]
async fn a_session_given_up_while_it_opens_leaves_nothing_behind() {
    let mute = impostor(b"SSH-2.0-Mute\r\n").await;
    let sshd = Sshd::start().unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.gateways = vec![mute.addr.to_string().parse().unwrap()];
    // No other timer may end it first.
    settings.login_timeout = Duration::from_secs(3600);
    settings.stall_timeout = Duration::from_secs(3600);
    let runtime = tokio::runtime::Handle::current().metrics();
    let before = runtime.num_alive_tasks();
    let opening = open(settings);
    assert!(timeout(Duration::from_millis(300), opening).await.is_err());
    let ended = || runtime.num_alive_tasks() <= before;
    until_true("its tasks to end", ended).await.unwrap();
}

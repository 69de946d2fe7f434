//! The supervisor's connections against a stock OpenSSH sshd.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    status::{ConnectionPhase, ConnectionView, ForwardState, LayerState},
    supervisor::Supervisor,
    tunnel::session::HostKeys,
};
use e2e::{
    sshd::{Sshd, fingerprint, free_port, listener, signal},
    tunnel::{EchoForwards, PATIENCE, echo, echo_at, settings, supervise, until_connections},
    wait::until,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

fn forward(views: &[ConnectionView], connection: usize) -> ForwardState {
    views[connection].forwards[0].state
}

fn states(views: &[ConnectionView]) -> Vec<ForwardState> {
    let mut all: Vec<_> = (0..views.len()).map(|c| forward(views, c)).collect();
    all.sort_by_key(|s| *s != ForwardState::Bound);
    all
}

fn local(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

#[tokio::test]
async fn a_connection_serves_and_says_so_with_proof() {
    let sshd = Sshd::start().unwrap();
    let handle = supervise(settings(&sshd, &["127.0.0.1:0"]).unwrap());
    until_connections(&handle, |c| {
        c[0].phase == ConnectionPhase::Serving && c[0].tunnel.state == LayerState::Proven
    })
    .await;
    let view = handle.connections().remove(0);
    assert_eq!(view.gateway, sshd.address());
    assert_eq!(view.host_key, sshd.fingerprint().ok());
    assert_eq!(view.network.state, LayerState::Proven);
    assert!(view.rtt_ms.is_some_and(|ms| ms > 0.0));
    assert_eq!(view.generation, 1);
    assert!(view.bytes_received > 0 && view.bytes_sent > 0);
    let bound = view.forwards[0].bound.clone().unwrap();
    assert_ne!(bound, "127.0.0.1:0", "the port that was given");
    echo_at(&bound, "hello").await.unwrap();
}

#[tokio::test]
async fn a_busy_port_is_asked_for_again_while_the_session_stays() {
    let sshd = Sshd::start().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let handle = supervise(settings(&sshd, &[&address]).unwrap());
    until_connections(&handle, |c| forward(c, 0) == ForwardState::Refused).await;
    let view = handle.connections().remove(0);
    assert_eq!(view.phase, ConnectionPhase::Standby);
    let refused = &view.forwards[0];
    assert!(
        refused.cause.as_ref().is_some_and(|c| c.contains(&address)),
        "{refused:?}"
    );
    assert!(
        refused
            .remedy
            .as_ref()
            .is_some_and(|r| r.contains("ss -ltnp")),
        "{refused:?}"
    );
    drop(taken);
    until_connections(&handle, |c| forward(c, 0) == ForwardState::Bound).await;
    echo_at(&address, "free at last").await.unwrap();
    assert_eq!(handle.connections()[0].generation, 1, "the same session");
}

#[tokio::test]
async fn the_standby_connection_takes_the_port_over() {
    let sshd = Sshd::start().unwrap();
    let port = free_port().unwrap();
    let mut settings = settings(&sshd, &[&local(port)]).unwrap();
    settings.connections = 2;
    let handle = supervise(settings);
    let one_each = [ForwardState::Bound, ForwardState::Standby];
    until_connections(&handle, |c| states(c) == one_each).await;
    let before = handle.connections();
    let holder = usize::from(forward(&before, 0) != ForwardState::Bound);
    let other = 1 - holder;
    assert_eq!(before[other].phase, ConnectionPhase::Standby);
    assert!(
        before[other].forwards[0].remedy.is_none(),
        "nothing to be done"
    );

    // The holder's session ends as if its process on the gateway had crashed.
    signal(listener(port).expect("a listener"), "KILL").unwrap();
    until_connections(&handle, |c| forward(c, other) == ForwardState::Bound).await;
    echo_at(&local(port), "taken over").await.unwrap();
    assert_eq!(handle.connections()[other].generation, 1);
    until_connections(&handle, |c| {
        states(c) == one_each && c[holder].generation == 2
    })
    .await;
}

#[tokio::test]
async fn a_dead_twin_on_the_gateway_holds_the_port_only_until_it_is_gone() {
    let sshd = Sshd::start().unwrap();
    let port = free_port().unwrap();
    let mut settings = settings(&sshd, &[&local(port)]).unwrap();
    settings.probe_interval = Duration::from_millis(200);
    settings.probe_timeout = Duration::from_millis(500);
    let handle = supervise(settings);
    until_connections(&handle, |c| forward(c, 0) == ForwardState::Bound).await;
    let twin = listener(port).expect("a listener");
    signal(twin, "STOP").unwrap();
    until_connections(&handle, |c| {
        c[0].generation == 2 && forward(c, 0) == ForwardState::Refused
    })
    .await;
    signal(twin, "KILL").unwrap();
    until_connections(&handle, |c| forward(c, 0) == ForwardState::Bound).await;
    assert_eq!(handle.connections()[0].generation, 2);
    echo_at(&local(port), "back").await.unwrap();
}

#[tokio::test]
async fn a_gateway_killed_and_started_again_is_served_again() {
    let mut sshd = Sshd::start().unwrap();
    let port = free_port().unwrap();
    let mut settings = settings(&sshd, &[&local(port)]).unwrap();
    settings.connections = 2;
    let handle = supervise(settings);
    until_connections(&handle, |c| states(c).contains(&ForwardState::Bound)).await;
    sshd.kill();
    until_connections(&handle, |c| {
        c.iter()
            .all(|c| c.network.state == LayerState::Failed && c.tunnel.state == LayerState::Failed)
    })
    .await;
    let view = handle.connections().remove(0);
    assert!(view.network.cause.is_some_and(|c| c.contains("refused")));
    sshd.restart().unwrap();
    until_connections(&handle, |c| states(c).contains(&ForwardState::Bound)).await;
    echo_at(&local(port), "again").await.unwrap();
}

#[tokio::test]
async fn a_wrong_host_key_is_shown_as_what_it_is_and_tried_once_a_minute() {
    let sshd = Sshd::start().unwrap();
    let other = fingerprint(&sshd.folder().join("id.pub")).unwrap();
    let mut settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    settings.host_keys = Arc::new(HostKeys::new(vec![other.clone()], None).unwrap());
    let handle = supervise(settings);
    until_connections(&handle, |c| {
        c[0].phase == ConnectionPhase::Waiting && c[0].tunnel.state == LayerState::Failed
    })
    .await;
    let view = handle.connections().remove(0);
    assert_eq!(view.network.state, LayerState::Proven, "SSH answers");
    let cause = view.tunnel.cause.unwrap();
    assert!(cause.contains(&other), "{cause}");
    assert!(cause.contains(&sshd.fingerprint().unwrap()), "{cause}");
    assert!(view.next_retry_seconds.is_some_and(|s| s > 55.0));
}

#[tokio::test]
async fn with_one_gateway_down_the_other_serves() {
    let sshd = Sshd::start().unwrap();
    let mut settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    settings
        .gateways
        .insert(0, local(free_port().unwrap()).parse().unwrap());
    let handle = supervise(settings);
    until_connections(&handle, |c| forward(c, 0) == ForwardState::Bound).await;
    assert_eq!(handle.connections()[0].gateway, sshd.address());
}

#[tokio::test]
async fn a_drain_takes_nothing_new_and_lets_what_is_under_way_finish() {
    let sshd = Sshd::start().unwrap();
    let port = free_port().unwrap();
    let handle = supervise(settings(&sshd, &[&local(port)]).unwrap());
    until_connections(&handle, |c| forward(c, 0) == ForwardState::Bound).await;
    let mut busy = TcpStream::connect(local(port)).await.unwrap();
    busy.write_all(b"half").await.unwrap();
    let mut half = [0; 4];
    busy.read_exact(&mut half).await.unwrap();
    assert_eq!(handle.open_channels(), 1);

    let draining = tokio::spawn({
        let handle = handle.clone();
        async move { handle.drain(PATIENCE).await }
    });
    until_connections(&handle, |c| c[0].phase == ConnectionPhase::Draining).await;
    let closed = async || TcpStream::connect(local(port)).await.is_err().then_some(());
    until("a closed port", closed).await.unwrap();
    assert!(!draining.is_finished(), "a channel is still open");
    echo(busy, "the other half").await.unwrap();
    timeout(PATIENCE, draining).await.unwrap().unwrap();
    assert_eq!(handle.connections()[0].phase, ConnectionPhase::Stopped);
    assert_eq!(handle.open_channels(), 0);
    sshd.logged("the agent is disconnecting").await.unwrap();
}

/// As after an upgrade that fails: the new process has taken the path over, and has ended.
#[tokio::test]
async fn a_socket_path_that_another_process_has_left_is_taken_again() {
    let sshd = Sshd::start().unwrap();
    let path = sshd.folder().join("jira.sock");
    let bind = path.display().to_string();
    let handle = supervise(settings(&sshd, &[&bind]).unwrap());
    until_connections(&handle, |c| forward(c, 0) == ForwardState::Bound).await;
    let new_process = supervise(settings(&sshd, &[&bind]).unwrap());
    until_connections(&new_process, |c| forward(c, 0) == ForwardState::Bound).await;
    new_process.drain(Duration::ZERO).await;
    let left = async || UnixStream::connect(&path).await.is_err().then_some(());
    until("a path without a listener", left).await.unwrap();
    handle.retake_sockets().await;
    let listening = async || UnixStream::connect(&path).await.ok();
    let stream = until("a listener", listening).await.unwrap();
    echo(stream, "taken again").await.unwrap();
}

/// Open channels and connection attempts do not delay it.
#[tokio::test]
async fn a_cancelled_supervisor_ends_at_once() {
    let sshd = Sshd::start().unwrap();
    let port = free_port().unwrap();
    let mut settings = settings(&sshd, &[&local(port)]).unwrap();
    // One connection to sshd, one to a gateway that accepts connections and stays silent.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute_address = mute.local_addr().unwrap().to_string();
    settings.gateways.push(mute_address.parse().unwrap());
    settings.connections = 2;
    settings.login_timeout = Duration::from_secs(3600);
    let cancel = CancellationToken::new();
    let echo = Arc::new(EchoForwards::default());
    let handle = Supervisor::spawn(Arc::new(settings), echo, cancel.clone());
    until_connections(&handle, |c| forward(c, 0) == ForwardState::Bound).await;
    let mut busy = TcpStream::connect(local(port)).await.unwrap();
    busy.write_all(b"x").await.unwrap();
    busy.read_exact(&mut [0]).await.unwrap();
    cancel.cancel();
    until_connections(&handle, |c| {
        c.iter().all(|c| c.phase == ConnectionPhase::Stopped)
    })
    .await;
}

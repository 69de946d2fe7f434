//! Logins and forwards.

use crate::support::{Origin, TestGateway, client, free_port, in_time, settings, spec};
use std::{fs, time::Duration};
use stub_gateway::Gateway;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    process::Command,
};

#[tokio::test]
async fn a_fixed_port_carries_requests_and_is_released_with_its_session() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let port = free_port().await;
    let mut ssh = gateway
        .forward("acme", &key, &port.to_string(), &origin)
        .await;
    let url = format!("http://127.0.0.1:{port}/");
    let text = in_time(client().get(&url).send())
        .await
        .unwrap()
        .text()
        .await;
    assert_eq!(text.unwrap(), "acme");

    ssh.child.kill().await.unwrap();
    gateway
        .wait_until(|g| !g.agent("acme").unwrap().online)
        .await;
    // The listener's task ends a moment later.
    in_time(async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert!(
        gateway
            .running
            .snapshot()
            .agent("acme")
            .unwrap()
            .forwards
            .is_empty()
    );
}

#[tokio::test]
async fn port_0_gets_a_port_that_the_client_learns() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let mut ssh = gateway.ssh("acme", &key, &["-N", "-R", &spec("0", &origin)]);
    let line = ssh.line_with("Allocated port").await;
    let snapshot = gateway.running.snapshot();
    let port = snapshot.agent("acme").unwrap().forwards[0].port.unwrap();
    assert!(line.contains(&format!("Allocated port {port} ")), "{line}");
    let url = format!("http://127.0.0.1:{port}/");
    let text = in_time(client().get(&url).send())
        .await
        .unwrap()
        .text()
        .await;
    assert_eq!(text.unwrap(), "acme");
}

#[tokio::test]
async fn a_socket_carries_bytes_and_goes_with_its_session() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let path = gateway.folder("acme").join("jira.sock");
    let mut ssh = gateway
        .forward("acme", &key, path.to_str().unwrap(), &origin)
        .await;
    assert_eq!(get_over(&path).await, "acme");

    ssh.child.kill().await.unwrap();
    gateway
        .wait_until(|g| !g.agent("acme").unwrap().online)
        .await;
    // It waits for its agent for a moment, and is closed then.
    in_time(async {
        while path.exists() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_socket_left_by_a_crash_does_not_keep_its_agent_out() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let path = gateway.folder("acme").join("jira.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let _ssh = gateway
        .forward("acme", &key, path.to_str().unwrap(), &origin)
        .await;
    assert!(UnixStream::connect(&path).await.is_ok());
}

#[tokio::test]
async fn a_socket_that_was_removed_or_replaced_is_bound_for_the_next_request() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let path = gateway.folder("acme").join("jira.sock");
    let bind = path.to_str().unwrap();
    let _first = gateway.forward("acme", &key, bind, &origin).await;
    std::fs::remove_file(&path).unwrap();
    let mut second = gateway.forward("acme", &key, bind, &origin).await;
    assert_eq!(get_over(&path).await, "acme");
    std::fs::remove_file(&path).unwrap();
    let thief = std::os::unix::net::UnixListener::bind(&path).unwrap();
    second.child.kill().await.unwrap();
    let _third = gateway.forward("acme", &key, bind, &origin).await;
    assert_eq!(get_over(&path).await, "acme");
    drop(thief);
    let snapshot = gateway.running.snapshot();
    assert_eq!(snapshot.agent("acme").unwrap().forwards.len(), 1);
}

async fn get_over(path: &std::path::Path) -> String {
    let mut stream = UnixStream::connect(path).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut text = String::new();
    in_time(stream.read_to_string(&mut text)).await.unwrap();
    text.rsplit("\r\n").next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn only_the_agents_own_key_logs_it_in() {
    let gateway = TestGateway::start().await;
    let acme = gateway.authorize("acme");
    let globex = gateway.authorize("globex");
    let (stranger, _) = gateway.key("stranger");
    for (user, key) in [
        ("acme", &stranger),
        ("acme", &globex),
        ("nobody", &acme),
        ("../acme", &acme),
        ("root", &stranger),
    ] {
        let mut ssh = gateway.ssh(user, key, &["-N"]);
        let (code, text) = ssh.ended().await;
        assert_eq!(code, 255, "{user}");
        assert!(text.contains("Permission denied (publickey)"), "{text}");
    }
    assert!(gateway.running.snapshot().agents.is_empty());
}

#[tokio::test]
async fn another_agents_port_is_refused() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let acme = gateway.authorize("acme");
    let globex = gateway.authorize("globex");
    let port = free_port().await.to_string();
    let _holder = gateway.forward("acme", &acme, &port, &origin).await;
    // Nor on another loopback address, where a client of `localhost` may go.
    for bind in [
        &port,
        &format!("127.0.0.2:{port}"),
        &format!("[::1]:{port}"),
    ] {
        let mut other = gateway.ssh("globex", &globex, &["-N", "-R", &spec(bind, &origin)]);
        let (code, text) = other.ended().await;
        assert_eq!(code, 255, "{bind}");
        assert!(text.contains("remote port forwarding failed"), "{text}");
    }
}

#[tokio::test]
async fn binds_outside_loopback_and_the_agents_folder_are_refused() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    gateway.authorize("globex");
    let foreign = gateway.folder("globex").join("jira.sock");
    for bind in ["10.1.2.3:0", "80", foreign.to_str().unwrap()] {
        let mut ssh = gateway.ssh("acme", &key, &["-N", "-R", &spec(bind, &origin)]);
        let (code, text) = ssh.ended().await;
        assert_eq!(code, 255, "{bind}: {text}");
        assert!(text.contains("forwarding failed"), "{bind}: {text}");
    }
    let mut any = gateway.ssh("acme", &key, &["-N", "-R", &spec("0.0.0.0:0", &origin)]);
    any.line_with("Allocated port").await;
    let bound = gateway.running.snapshot();
    let bind = &bound.agent("acme").unwrap().forwards[0].bind;
    assert!(bind.starts_with("127.0.0.1:"), "{bind}");
}

#[tokio::test]
async fn a_key_listens_only_where_its_line_permits() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let port = free_port().await.to_string();
    let options = format!("restrict,port-forwarding,permitlisten=\"localhost:{port}\" ");
    let key = gateway.authorize_with("acme", &options);
    for refused in ["0", &free_port().await.to_string()] {
        let mut ssh = gateway.ssh("acme", &key, &["-N", "-R", &spec(refused, &origin)]);
        assert_eq!(ssh.ended().await.0, 255, "{refused}");
    }
    gateway.forward("acme", &key, &port, &origin).await;
}

#[tokio::test]
async fn everything_but_a_remote_forward_is_refused() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("inside").await;
    let key = gateway.authorize("acme");
    let target = origin.address.to_string();
    for arguments in [&["-T"][..], &["-W", &target], &["-s", "-T"]] {
        let mut ssh = gateway.ssh("acme", &key, arguments);
        let (code, _) = ssh.ended().await;
        assert_eq!(code, 255, "{arguments:?}");
    }
    assert_eq!(
        origin.connections.load(std::sync::atomic::Ordering::SeqCst),
        0
    );
}

#[tokio::test]
async fn a_certificate_of_the_user_authority_logs_its_principal_in() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let (authority, public) = gateway.key("authority");
    fs::write(gateway.dir.path().join("user_ca.pub"), public).unwrap();
    let (key, _) = gateway.key("acme");
    let sign = |principal: &str| {
        let mut command = Command::new("ssh-keygen");
        command
            .args(["-q", "-I", "acme-1", "-n", principal, "-V", "+5m", "-s"])
            .arg(&authority)
            .arg(key.with_extension("key.pub"))
            .kill_on_drop(true);
        command
    };
    assert!(sign("acme").status().await.unwrap().success());
    let _ssh = gateway.forward("acme", &key, "0", &origin).await;
    let snapshot = gateway.running.snapshot();
    let login = &snapshot.agent("acme").unwrap().sessions[0].login;
    assert!(login.contains("acme-1"), "{login}");

    let mut other = gateway.ssh("globex", &key, &["-N"]);
    assert_eq!(other.ended().await.0, 255);
}

#[tokio::test]
async fn the_host_key_stays_the_same_across_restarts() {
    let gateway = TestGateway::start().await;
    let key = gateway.authorize("acme");
    let origin = Origin::start("acme").await;
    let fingerprint = gateway.running.host_key_fingerprint.clone();
    let TestGateway { running, dir } = gateway;
    let address = running.ssh_addr;
    running.stop().await;
    let mut again = settings(dir.path(), |_| {});
    again.ssh = address;
    let running = Gateway::start(again).await.unwrap();
    assert_eq!(running.host_key_fingerprint, fingerprint);
    let gateway = TestGateway { running, dir };
    gateway.forward("acme", &key, "0", &origin).await;
}

#[tokio::test]
async fn stopping_ends_the_agents_sessions() {
    let gateway = TestGateway::start().await;
    let origin = Origin::start("acme").await;
    let key = gateway.authorize("acme");
    let mut ssh = gateway.forward("acme", &key, "0", &origin).await;
    in_time(gateway.running.stop()).await;
    assert_eq!(ssh.ended().await.0, 255);
}

#[tokio::test]
async fn one_that_does_not_log_in_in_time_is_cut() {
    let gateway = TestGateway::with(|limits| limits.login_grace = Duration::from_millis(300)).await;
    for greeting in [&b""[..], b"SSH-2.0-idle\r\n"] {
        let mut stream = silent(&gateway).await;
        let _ = stream.write_all(greeting).await;
        let mut rest = Vec::new();
        let _ = in_time(stream.read_to_end(&mut rest)).await;
    }
}

/// More silent connections than slots: they evict one another, and an agent still gets a slot.
#[tokio::test]
async fn silent_connections_keep_no_agent_out() {
    let gateway = TestGateway::with(|limits| {
        limits.login_grace = Duration::from_secs(600);
        limits.max_unauthenticated = 4;
    })
    .await;
    let mut silent_ones = Vec::new();
    for _ in 0..6 {
        silent_ones.push(silent(&gateway).await);
    }
    let mut rest = Vec::new();
    let _ = in_time(silent_ones[0].read_to_end(&mut rest)).await;
    let key = gateway.authorize("acme");
    let origin = Origin::start("acme").await;
    let _agent = gateway.forward("acme", &key, "0", &origin).await;
    // It is logged in and can no longer be evicted.
    for _ in 0..6 {
        silent_ones.push(silent(&gateway).await);
    }
    assert!(
        !gateway
            .running
            .snapshot()
            .agent("acme")
            .unwrap()
            .forwards
            .is_empty()
    );
}

/// A connection that has received the SSH identification and sends nothing.
async fn silent(gateway: &TestGateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.running.ssh_addr).await.unwrap();
    let mut banner = [0; 8];
    in_time(stream.read_exact(&mut banner)).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    stream
}

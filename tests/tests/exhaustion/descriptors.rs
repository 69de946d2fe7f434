//! A flood under a small limit of open files: the status is answered and names the limit, the tunnel returns, and what is
//! refused was not sent.

use agent::status::{LayerState, StatusReport};
use e2e::{
    agent::records,
    caller::HttpCaller,
    recording_origin::{RecordingOrigin, issue},
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_addr},
    wait::soon,
};
use serde_json::json;
use std::{net::SocketAddr, process::Command, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, task::JoinSet, time::sleep};

/// Open files that the agent may have. At rest it has 16.
const LIMIT: usize = 64;
/// Vendors that upload at the same time, again and again.
const VENDORS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_under_64_descriptors_leaves_status_and_tunnel_alone() {
    let mut sshd = Sshd::start().unwrap();
    let jira = RecordingOrigin::with_small_buffers().unwrap();
    let addr = free_addr().unwrap();
    let audit = sshd.folder().join("audit.log");
    let connections = [("max_connections", json!(VENDORS))];
    let mut agent = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .forward_with("jira", &addr.to_string(), &jira.url(), &connections)
        .start_with(&[
            ("JIRA_TUNNEL_AGENT__AUDIT__SINK", "file"),
            ("JIRA_TUNNEL_AGENT__AUDIT__FILE", audit.to_str().unwrap()),
        ])
        .unwrap();
    agent.until_proven().await.unwrap();
    limit_descriptors(&mut agent);

    let mut flood = JoinSet::new();
    for _ in 0..VENDORS {
        flood.spawn(upload_again_and_again(addr));
    }
    let short = |report: &StatusReport| report.descriptors.state == LayerState::Degraded;
    agent
        .until_status("the limit to be named", short)
        .await
        .unwrap();
    let (text, code) = agent.status_output().unwrap();
    assert_eq!(code, 1, "{text}");
    for part in ["DEGRADED", "of 64 file descriptors", "LimitNOFILE"] {
        assert!(text.contains(part), "{text}");
    }
    let metrics = agent.succeed(&["metrics"]).unwrap();
    let refused = "jira_tunnel_agent_descriptors_refused_total ";
    let refused = metrics.lines().find_map(|line| line.strip_prefix(refused));
    assert!(refused.unwrap().parse::<f64>().unwrap() > 0.0);

    sshd.kill();
    sshd.restart().unwrap();
    let again = |report: &StatusReport| {
        let connection = &report.connections[0];
        connection.generation > 1 && connection.tunnel.state == LayerState::Proven
    };
    agent
        .until_status("the tunnel to return", again)
        .await
        .unwrap();

    flood.shutdown().await;
    let is_over =
        |report: &StatusReport| report.forwards[0].in_flight == 0 && report.descriptors.in_use <= 2;
    agent
        .until_status("all to be given back", is_over)
        .await
        .unwrap();
    let asked = async {
        let mut caller = HttpCaller::connect(addr).await.unwrap();
        caller.get("/rest/api/2/issue/DEMO-1").await.unwrap()
    };
    assert_eq!(*soon(asked).await.body(), issue("DEMO-1"));

    let audit = records(&audit);
    let refused: Vec<_> = audit
        .iter()
        .filter(|r| r["error"] == "overloaded")
        .collect();
    assert!(!refused.is_empty());
    for record in &refused {
        assert_eq!(record["delivery"], "not_sent", "{record}");
        let cause = record["cause"].as_str().unwrap_or_default();
        assert!(cause.contains("file descriptors"), "{record}");
    }
    let log = agent.log();
    for never in ["cannot be written", "os error 24", "Jira runs"] {
        assert!(!log.contains(never), "{never}");
    }
    let lines = log.matches("no file descriptor is left").count();
    assert!((1..=2).contains(&lines), "{lines} lines");
}

fn limit_descriptors(agent: &mut RunningAgent) {
    let pid = agent.process().pid().to_string();
    let limit = format!("--nofile={LIMIT}:{LIMIT}");
    let limited = Command::new("prlimit")
        .args(["--pid", &pid, &limit])
        .status();
    assert!(limited.unwrap().success());
}

/// Uploads that Jira does not read, each until it is refused.
async fn upload_again_and_again(addr: SocketAddr) {
    let head = "POST /rest/api/2/issue/HELD-1/attachments HTTP/1.1\r\nHost: x\r\nX-Atlassian-Token: no-check\r\n\
                Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 20000000\r\n\r\n";
    let piece = vec![b'z'; 64 << 10];
    loop {
        if let Ok(mut stream) = TcpStream::connect(addr).await
            && stream.write_all(head.as_bytes()).await.is_ok()
        {
            while stream.write_all(&piece).await.is_ok() {}
        }
        sleep(Duration::from_millis(200)).await;
    }
}

//! The demo as a user runs it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{agent::binary, wait::soon};
use std::{path::Path, process::Stdio};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

fn demo(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary("server-stub"));
    command
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn once_it_sends_one_of_everything_and_succeeds() {
    let output = demo(&["--once"]).output().await.unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}\n{complaint}");
    for wanted in [
        "Jira saw",
        "acme-bot (Pat)",
        "sha256",
        "still acme-bot",
        "refused by the agent: policy-refused",
        "refused by the agent: ambiguous-target",
        "$ agent status",
        "All 13 steps succeeded.",
    ] {
        assert!(printed.contains(wanted), "{wanted}: {printed}");
    }
}

/// As `server-stub demo --once | head -1` is.
#[tokio::test]
async fn a_reader_that_leaves_ends_nothing() {
    let mut demo = demo(&["--once"]);
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = demo.spawn().unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some());
    drop(lines);
    let output = running.wait_with_output();
    let output = soon(output).await.unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    assert!(!complaint.contains("panicked"), "{complaint}");
}

#[tokio::test]
async fn an_agent_that_does_not_work_fails_the_demo() {
    for (agent, complaint) in [
        ("/nonexistent/agent", "there is no agent at"),
        ("/bin/false", "the agent ended with"),
    ] {
        let output = demo(&["--once", "--agent", agent]).output().await.unwrap();
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(printed.contains(complaint), "{printed}");
    }
}

#[tokio::test]
async fn left_running_it_stops_all_of_it_at_an_interrupt() {
    let mut demo = demo(&[]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut folder = None;
    let ready = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if let Some((_, audit)) = line.split_once("tail -f ") {
                folder = Path::new(audit).parent().map(Path::to_owned);
            }
            if line.contains("Ctrl-C stops") {
                return;
            }
        }
        panic!("the demo ended");
    };
    soon(ready).await;
    let folder = folder.unwrap();
    assert!(folder.join("run/agent.sock").exists());
    let id = demo.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-INT", &id]).status().await;
    assert!(sent.unwrap().success());
    assert!(soon(demo.wait()).await.unwrap().success());
    assert!(!folder.exists());
}

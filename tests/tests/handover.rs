//! `agent upgrade`: the running agent hands over to a new process without losing or refusing a request, and keeps serving
//! where the new one fails. All processes run in a namespace that ends with the test.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{StatusReport, UpgradeState};
use e2e::{
    agent::AgentProcess,
    background_load::BackgroundLoad,
    handover::ReplaceableAgent,
    setup::RecordedTunnel,
    wait::{PATIENCE, until},
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::{fs::PermissionsExt, net::UnixDatagram},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, time::sleep};

/// Replaces the file as a package manager does, by a rename.
fn replace(program: &Path, content: &[u8]) {
    let new = program.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(new, program).unwrap();
}

/// A tunnel through sshd with one port, whose agent runs from a file that may be replaced.
async fn start() -> (RecordedTunnel, PathBuf) {
    let mut env = RecordedTunnel::start_with(|setup, _| setup).await.unwrap();
    let audit = env.agent.dir().join("audit.log");
    let file = format!("sink = \"file\"\nfile = {audit:?}");
    env.agent
        .edit_config(|text| text.replace("sink = \"off\"", &file))
        .unwrap();
    let program = env.agent.use_replaceable_program().unwrap();
    env.agent.restart().unwrap();
    env.agent.until_proven().await.unwrap();
    (env, program)
}

async fn until_pid(agent: &AgentProcess, not: u32) -> StatusReport {
    let other = |r: &StatusReport| r.agent.pid != not && r.upgrade.is_none();
    agent
        .until_status("the new process to serve alone", other)
        .await
        .unwrap()
}

/// On one bare port the successor gets the port when the predecessor releases it: no request is lost, and each upgrade
/// refuses for a moment only.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_one_port_no_request_is_lost_and_the_gap_is_short() {
    let (env, program) = start().await;
    let load = BackgroundLoad::start(env.addr, 4);
    load.until_answered(20).await.unwrap();
    let (mut pid, mut gaps) = (env.agent.status().await.unwrap().agent.pid, Vec::new());
    let build = fs::read(&program).unwrap();
    for _ in 0..3 {
        replace(&program, &build);
        let gap = tokio::spawn(longest_refusal(env.addr));
        let said = env.agent.succeed(&["upgrade"]).unwrap();
        assert!(said.contains("serves, process"), "{said}");
        pid = until_pid(&env.agent, pid).await.agent.pid;
        gaps.push(gap.await.unwrap());
        load.until_answered(20).await.unwrap();
    }
    env.agent.until_proven().await.unwrap();
    let summary = load.stop().await;
    println!(
        "gaps {gaps:?}; {} answered, {} refused, {} failed",
        summary.answered, summary.refused, summary.failed
    );
    summary.verify_against(&env.jira.comments()).unwrap();
    assert_eq!(summary.failed, 0, "{}", env.agent.log());
    assert!(gaps.iter().all(|gap| *gap < SHORT_GAP), "{gaps:?}");
    // Without a word of the old process, the new one finds the free port by its own timer, sooner or later.
    let released = env.agent.log().matches(RELEASED).count();
    assert_eq!(released, gaps.len(), "{}", env.agent.log());
    each_run_is_complete(&env.agent.dir().join("audit.log"));
}

const RELEASED: &str = "the process before this one has released its forwards";
/// Two round trips to the gateway take milliseconds here; a request that is repeated by its own timer takes seconds.
const SHORT_GAP: Duration = Duration::from_secs(1);

/// Behind the stub both processes listen at once: nothing is lost and nothing refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_the_stub_no_request_is_lost_or_refused() {
    let env = ReplaceableAgent::start(|_| {}).await.unwrap();
    let agent = &env.agent;
    // Without an end to the old process's requests, those of slow callers are lost.
    let (callers, slow) = (env.gateway.callers(2), env.gateway.slow_callers(4));
    let mut pid = agent.status().await.unwrap().agent.pid;
    for _ in 0..5 {
        agent.succeed(&["upgrade"]).unwrap();
        pid = until_pid(agent, pid).await.agent.pid;
    }
    let (answers, failures) = callers.stop().await.unwrap();
    assert_eq!(failures, Vec::<String>::new(), "{}", agent.log());
    assert!(answers.iter().all(|count| *count > 50), "{answers:?}");
    let (answers, failures) = slow.stop().await.unwrap();
    assert_eq!(failures, Vec::<String>::new(), "{}", agent.log());
    assert!(answers.iter().all(|count| *count > 5), "{answers:?}");
}

/// Each session has a place of its own, and the new process takes none that the old one holds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_new_process_takes_other_slots() {
    let mut env = RecordedTunnel::start_with(|setup, _| setup.tunnel("connections", 2))
        .await
        .unwrap();
    let port = env.addr.port() - 1;
    let one = format!("\"{}\"", env.addr);
    let slotted = format!("\"127.0.0.1:{{{port}+slot}}\"");
    env.agent
        .edit_config(|text| text.replace(&one, &slotted))
        .unwrap();
    env.agent.use_replaceable_program().unwrap();
    env.agent.restart().unwrap();
    let bound = |r: &StatusReport| r.forwards[0].bound.iter().cloned().collect::<BTreeSet<_>>();
    let both = |r: &StatusReport| bound(r).len() == 2;
    let before = env.agent.until_status("two places", both).await.unwrap();
    let refusals = || env.sshd.log().matches("cannot listen").count();
    let refused = refusals();
    env.agent.succeed(&["upgrade"]).unwrap();
    until_pid(&env.agent, before.agent.pid).await;
    let after = env.agent.until_status("two places", both).await.unwrap();
    assert!(bound(&before).is_disjoint(&bound(&after)));
    // It knows which are held: one that it tries would be refused.
    assert_eq!(refusals(), refused, "{}", env.sshd.log());
}

/// The longest time in which the port refused, within two seconds.
async fn longest_refusal(addr: std::net::SocketAddr) -> Duration {
    let (begin, mut since, mut longest) = (Instant::now(), None, Duration::ZERO);
    while begin.elapsed() < Duration::from_secs(2) {
        match TcpStream::connect(addr).await {
            Ok(_) => since = None,
            Err(_) => longest = longest.max(since.get_or_insert_with(Instant::now).elapsed()),
        }
        sleep(Duration::from_millis(2)).await;
    }
    longest
}

/// Within a run no number is missing or given twice, though two processes wrote at once.
fn each_run_is_complete(audit: &Path) {
    let mut last = BTreeMap::<String, u64>::new();
    for line in fs::read_to_string(audit).unwrap().lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let run = last.entry(line["run"].as_str().unwrap().to_owned());
        let number = line["seq"].as_u64().unwrap();
        let last = run.or_default();
        assert_eq!(number, *last + 1, "{line}");
        *last = number;
    }
    assert!(last.len() > 3, "{last:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_program_changes_nothing_and_is_not_tried_again() {
    let (env, program) = start().await;
    let before = env.agent.status().await.unwrap().agent.pid;
    let build = fs::read(&program).unwrap();
    for (text, cause) in [
        ("#!/bin/sh\nexit 7\n", "exit status: 7"),
        ("#!/bin/sh\nexit 0\n", "ended before it had proven anything"),
    ] {
        replace(&program, text.as_bytes());
        let refused = upgrade(&env, &build, &[]);
        assert_eq!(refused.0, 1, "{}", refused.1);
        assert!(refused.1.contains(cause), "{}", refused.1);
        let report = env.agent.status().await.unwrap();
        let upgrade_report = report.upgrade.unwrap();
        assert_eq!(upgrade_report.state, UpgradeState::Failed);
        assert!(upgrade_report.cause.unwrap().contains(cause));
        assert_eq!(report.agent.pid, before);
        let again = upgrade(&env, &build, &[]);
        assert!(again.1.contains("has failed before"), "{}", again.1);
        let again = upgrade(&env, &build, &["--retry"]);
        assert!(!again.1.contains("has failed before"), "{}", again.1);
    }
    // A version without a hand-over needs a restart.
    replace(&program, b"#!/bin/sh\nexit 64\n");
    assert_eq!(upgrade(&env, &build, &[]).0, 4);
    // A configuration that the new process rejects.
    replace(&program, &build);
    env.agent
        .edit_config(|text| text.replace("[tunnel]", "[tunnel]\nnonsense = 1"))
        .unwrap();
    let refused = upgrade(&env, &build, &["--retry"]);
    assert!(refused.1.contains("nonsense"), "{}", refused.1);
    assert!(env.agent.log().contains("the upgrade has failed"));
    env.agent.until_proven().await.unwrap();
    assert_eq!(env.agent.status().await.unwrap().agent.pid, before);
    // With the cause removed it works.
    env.agent
        .edit_config(|text| text.replace("nonsense = 1", ""))
        .unwrap();
    assert_eq!(upgrade(&env, &build, &["--retry"]).0, 0);
    let report = until_pid(&env.agent, before).await;
    assert_eq!(report.upgrade, None);
}

/// Runs `agent upgrade` with a program that works, whatever is in the replaceable file.
fn upgrade(env: &RecordedTunnel, build: &[u8], arguments: &[&str]) -> (i32, String) {
    let client = env.agent.dir().join("client");
    replace(&client, build);
    let mut command = e2e::agent::command(
        std::process::Command::new(&client),
        env.agent.dir(),
        &["upgrade"],
    );
    let done = command.args(arguments).output().unwrap();
    let text = String::from_utf8(done.stderr).unwrap() + &String::from_utf8(done.stdout).unwrap();
    (done.status.code().unwrap(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pause_holds_across_the_hand_over() {
    let (env, _) = start().await;
    let before = env.agent.status().await.unwrap().agent.pid;
    env.agent
        .succeed(&["pause", "--reason", "maintenance"])
        .unwrap();
    env.agent.succeed(&["upgrade"]).unwrap();
    let report = until_pid(&env.agent, before).await;
    let pause = report.forwards[0].paused.clone().unwrap();
    assert_eq!(pause.reason.as_deref(), Some("maintenance"));
    env.agent.succeed(&["resume"]).unwrap();
    env.agent.until_proven().await.unwrap();
}

/// systemd learns which process is the main one, from the one that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn systemd_hears_of_the_new_main_process() {
    let (mut env, _) = start().await;
    let path = env.agent.dir().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    env.agent.env("NOTIFY_SOCKET", &path);
    env.agent.env("WATCHDOG_USEC", "300000");
    env.agent.restart().unwrap();
    env.agent.until_proven().await.unwrap();
    env.agent.succeed(&["upgrade"]).unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    let life_after = |heard: &[String]| {
        let main = heard.iter().position(|m| m.starts_with("MAINPID="));
        main.is_some_and(|at| heard[at..].iter().any(|m| m == "WATCHDOG=1"))
    };
    while !life_after(&heard) {
        let length = socket.recv(&mut buffer).unwrap();
        heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
    }
    let pid = env.agent.status().await.unwrap().agent.pid;
    assert!(heard.contains(&format!("MAINPID={pid}")), "{heard:?}");
    assert!(!heard.iter().any(|m| m.contains("STOPPING")), "{heard:?}");
    until("the old process to end", async || {
        let log = env.agent.log();
        log.contains("the process before this one has ended")
            .then_some(())
    })
    .await
    .unwrap();
}

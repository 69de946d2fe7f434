//! Faults in the middle of a hand-over: the new process proves less than the old one, or the agent is stopped or changed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    agent::{AgentProcess, command},
    handover::ReplaceableAgent,
    recording_origin::RecordingOrigin,
    test_env::vendor,
    wait::until,
};
use std::{
    fs,
    ops::Deref,
    os::unix::net::UnixDatagram,
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinSet, time::sleep};

/// What the tests do with the agent and its processes.
struct TestEnv(ReplaceableAgent);

async fn start(prepare: impl FnOnce(&mut AgentProcess)) -> TestEnv {
    TestEnv(ReplaceableAgent::start(prepare).await.unwrap())
}

impl Deref for TestEnv {
    type Target = ReplaceableAgent;

    fn deref(&self) -> &ReplaceableAgent {
        &self.0
    }
}

impl TestEnv {
    fn upgrade(&self) -> Child {
        let program = Command::new(&self.program);
        let mut upgrade = command(program, self.agent.dir(), &["upgrade"]);
        upgrade.stdout(Stdio::piped()).stderr(Stdio::piped());
        upgrade.spawn().unwrap()
    }

    fn change_upstream(&self, to: &str) {
        let change = |text: String| text.replace(&self.jira.url(), to);
        self.agent.edit_config(change).unwrap();
    }

    /// The process ids of the agent, by those that it knows itself.
    fn processes(&self) -> Vec<(u32, u32)> {
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let of_agent = processes.filter_map(|entry| {
            let exe = fs::read_link(entry.path().join("exe")).ok()?;
            let status = fs::read_to_string(entry.path().join("status")).ok()?;
            let ids = status
                .lines()
                .find_map(|line| line.strip_prefix("NSpid:"))?;
            let mut ids = ids.split_whitespace().map(|id| id.parse().unwrap());
            // The commands of the test run outside of the namespace.
            (exe == self.program).then_some((ids.next()?, ids.next()?))
        });
        of_agent.map(|(outer, inner)| (inner, outer)).collect()
    }

    fn stop(&self, pid: u32) {
        let found = self
            .processes()
            .into_iter()
            .find(|(inner, _)| *inner == pid);
        let (_, outer) = found.expect("no such process");
        let signal = Command::new("kill").arg(outer.to_string()).status();
        assert!(signal.unwrap().success());
    }

    async fn until_stopped(&self) {
        let what = "all processes of the agent to end";
        until(what, async || self.processes().is_empty().then_some(()))
            .await
            .unwrap();
    }
}

/// Exit code and texts.
fn outcome(upgrade: Child) -> (i32, String) {
    let done = upgrade.wait_with_output().unwrap();
    let text = String::from_utf8(done.stderr).unwrap() + &String::from_utf8(done.stdout).unwrap();
    (done.status.code().unwrap(), text)
}

/// The vendor's requests never wait for a Jira that the new process does not reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_process_without_jira_gets_no_request() {
    let env = start(|_| {}).await;
    let pid = env.agent.status().await.unwrap().agent.pid;
    env.change_upstream("http://127.0.0.1:1");
    let callers = env.gateway.callers(4);
    let upgrade = env.upgrade();
    env.agent
        .logged("Jira refused the connection")
        .await
        .unwrap();
    sleep(Duration::from_secs(1)).await;
    let (answers, failures) = callers.stop().await.unwrap();
    assert_eq!(failures, Vec::<String>::new());
    assert!(answers.iter().all(|count| *count > 20), "{answers:?}");
    env.stop(pid);
    let (_, said) = outcome(upgrade);
    assert!(said.contains("the agent is stopping"), "{said}");
    env.until_stopped().await;
    let log = env.agent.log();
    assert!(!log.contains("the upgrade has failed"), "{log}");
}

/// `systemctl stop` may reach the old process when the new one already serves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_in_the_moment_of_a_hand_over_lets_both_processes_finish() {
    let folder = tempfile::tempdir().unwrap();
    let systemd = folder.path().join("notify");
    let socket = UnixDatagram::bind(&systemd).unwrap();
    let env = start(|agent| agent.env("NOTIFY_SOCKET", &systemd)).await;
    let pid = env.agent.status().await.unwrap().agent.pid;
    // systemd reads nothing: the old process waits for a second to report the new one.
    let full = UnixDatagram::unbound().unwrap();
    full.set_nonblocking(true).unwrap();
    while full.send_to(b"x", &systemd).is_ok() {}
    let granted = || env.agent.log().matches("granted the forward").count();
    let before = granted();
    let upgrade = env.upgrade();
    until("the new process to hold the forward", async || {
        (granted() == before + 2).then_some(())
    })
    .await
    .unwrap();
    // The gateway spreads them over the sessions of both.
    let mut requests = JoinSet::new();
    let url = format!("http://{}/rest/api/2/issue/HELD-1", env.gateway.http_addr);
    for _ in 0..8 {
        let request = vendor().get(&url).header("host", "acme.gateway.localhost");
        requests.spawn(request.send());
    }
    env.jira.wait_until_held(8).await.unwrap();
    env.stop(pid);
    sleep(Duration::from_millis(300)).await;
    env.jira.release();
    while let Some(answer) = requests.join_next().await {
        assert_eq!(answer.unwrap().unwrap().status(), 200);
    }
    outcome(upgrade);
    env.until_stopped().await;
    assert!(
        env.agent
            .log()
            .contains("asking the new process to stop too")
    );
    drop(socket);
}

/// The new process has read the configuration before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_in_the_middle_of_a_hand_over_is_not_lost() {
    let env = start(|_| {}).await;
    let next = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = next.local_addr().unwrap();
    drop(next);
    env.change_upstream(&format!("http://{addr}"));
    let upgrade = env.upgrade();
    env.agent
        .logged("Jira refused the connection")
        .await
        .unwrap();
    let change = |text: String| text.replace("[tunnel]", "[tunnel]\ndrain_limit = \"11s\"");
    env.agent.edit_config(change).unwrap();
    env.agent.succeed(&["reload"]).unwrap();
    let _jira = RecordingOrigin::on(TcpListener::bind(addr).await.unwrap()).unwrap();
    let (code, said) = outcome(upgrade);
    assert_eq!(code, 0, "{said}");
    until("the new process to apply it too", async || {
        let log = env.agent.log();
        (log.matches("tunnel.drain_limit: 11s").count() == 2).then_some(())
    })
    .await
    .unwrap();
}

/// It would share neither pauses nor tokens with the process before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_folder_needs_a_restart() {
    let env = start(|agent| {
        // systemd's variable would win.
        agent.env("STATE_DIRECTORY", "");
        let named = |text: String| format!("state_dir = \"state\"\n{text}");
        agent.edit_config(named).unwrap();
    })
    .await;
    let pid = env.agent.status().await.unwrap().agent.pid;
    let moved = |text: String| text.replace("\"state\"", "\"elsewhere\"");
    env.agent.edit_config(moved).unwrap();
    let (code, said) = outcome(env.upgrade());
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("state_dir has changed"), "{said}");
    assert_eq!(env.agent.status().await.unwrap().agent.pid, pid);
}

/// Its end would be the end of the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_process_of_a_container_cannot_hand_over() {
    let env = start(|agent| agent.use_namespace("exec \"$0\" \"$@\"")).await;
    let (code, said) = outcome(env.upgrade());
    assert_eq!(code, 4, "{said}");
    assert!(said.contains("restart the container"), "{said}");
    env.agent.until_proven().await.unwrap();
}

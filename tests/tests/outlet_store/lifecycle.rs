//! Kill, reload, upgrade: what was acknowledged is delivered.

use super::common::*;
use agent::status::StatusReport;
use e2e::{
    agent::write_secret,
    wait::{soon, until, until_true},
};
use serde_json::json;
use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

/// An event that got 202: issue, number within it, id.
type AcknowledgedEvent = (u64, u64, String);

/// Sends events of some issues one after the other, each until it is stored.
struct Sender {
    stop: CancellationToken,
    stored: Arc<AtomicU64>,
    running: JoinHandle<(Vec<AcknowledgedEvent>, Vec<String>)>,
}

impl Sender {
    fn start(url: &str, issues: u64) -> Self {
        let (stop, stored) = (CancellationToken::new(), Arc::new(AtomicU64::new(0)));
        let (url, ended, count) = (url.to_owned(), stop.clone(), Arc::clone(&stored));
        let running = tokio::spawn(async move {
            let (jira, mut acknowledged, mut odd) = (jira(), Vec::new(), Vec::new());
            for number in 0.. {
                let (issue, sequence) = (1 + number % issues, 1 + number / issues);
                loop {
                    if ended.is_cancelled() {
                        return (acknowledged, odd);
                    }
                    let request = jira.post(&url).body(event("SEC", issue, sequence));
                    let name = format!("{issue}-{sequence}");
                    let request = request.header("x-atlassian-webhook-identifier", name);
                    match request.send().await {
                        Ok(answer) if answer.status() == 202 => {
                            let Ok(text) = answer.text().await else {
                                continue;
                            };
                            let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
                            let id = answer["id"].as_str().unwrap().to_owned();
                            acknowledged.push((issue, sequence, id));
                            count.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        Ok(answer) => odd.push(format!("{}", answer.status())),
                        // Refused or cut off: sent again, as Jira does.
                        Err(_) => {}
                    }
                    sleep(PAUSE).await;
                }
            }
            (acknowledged, odd)
        });
        Self {
            stop,
            stored,
            running,
        }
    }

    /// Waits until this many more are stored.
    async fn until_stored(&self, more: u64) {
        let target = self.stored.load(Ordering::Relaxed) + more;
        let enough = || self.stored.load(Ordering::Relaxed) >= target;
        until_true("more stored events", enough).await.unwrap();
    }

    /// What was acknowledged, and other answers than that.
    async fn stop(self) -> (Vec<AcknowledgedEvent>, Vec<String>) {
        self.stop.cancel();
        soon(self.running).await.unwrap()
    }
}

const PAUSE: Duration = Duration::from_millis(5);

/// Every acknowledged event was accepted, and those of each issue in their order.
async fn all_delivered(env: &StoreEnv, acknowledged: &[(u64, u64, String)]) {
    let is_delivered = async || {
        let accepted = env.vendor.accepted();
        let missing = acknowledged
            .iter()
            .filter(|event| !accepted.contains(event));
        (missing.count() == 0).then_some(accepted)
    };
    let accepted = until("every acknowledged event at the vendor", is_delivered).await;
    let accepted = accepted.unwrap_or_else(|error| panic!("{error}\n{}", env.agent.log()));
    let mut last: HashMap<u64, u64> = HashMap::new();
    for (issue, sequence, _) in &accepted {
        let before = last.insert(*issue, *sequence).unwrap_or_default();
        assert!(
            *sequence == before + 1,
            "issue {issue}: {sequence} after {before}"
        );
    }
    let attempts = env.vendor.attempts().len();
    println!(
        "{} acknowledged, {} accepted, {attempts} attempts",
        acknowledged.len(),
        accepted.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_killed_loses_no_acknowledged_event() {
    let mut env = StoreEnv::start(&[]).await;
    // One issue is stuck for a while, so that events wait at each kill.
    env.vendor.script(1, &[500, 500, 500, 200]);
    let sender = Sender::start(&env.url, 5);
    for _ in 0..4 {
        sender.until_stored(20).await;
        env.agent.process().kill();
        env.agent.restart().unwrap();
    }
    sender.until_stored(20).await;
    let (acknowledged, _) = sender.stop().await;
    all_delivered(&env, &acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_keys_and_keeps_the_queue() {
    let mut env = StoreEnv::start(&[("max_queue_events", json!(3))]).await;
    env.sshd.kill();
    env.store(1, 1).await;
    env.store(1, 2).await;
    // Two secrets while one replaces the other: the receiver knows the first.
    let both = format!("{OTHER_SECRET}\n{SIGNING_SECRET}\n");
    write_secret(&env.folder.path().join("signing"), &both).unwrap();
    let edited = env.agent.edit_config(|text| {
        let text = text.replace("max_queue_events = 3", "max_queue_events = 2");
        text.replace("\"GET,POST /hooks/**\"", "\"POST /hooks/jira\"")
    });
    edited.unwrap();
    let changes = env.agent.succeed(&["reload"]).unwrap();
    assert!(changes.contains("outlet events: changed"), "{changes}");
    env.until_stores().await;
    assert_eq!(
        problem(env.post(1, 3).await).await,
        (503, "queue-full".to_owned())
    );

    // Without its outlet the queue is kept, and goes on when the outlet is back.
    let config = fs::read_to_string(env.agent.dir().join("agent.toml")).unwrap();
    let (before, _) = config.split_once("[[outlet]]").unwrap();
    env.agent.edit_config(|_| before.to_owned()).unwrap();
    env.agent.succeed(&["reload"]).unwrap();
    env.agent.restart().unwrap();
    let removed = "events of a removed outlet wait in its queue";
    env.agent.logged(removed).await.unwrap();
    env.agent.edit_config(|_| config).unwrap();
    env.agent.succeed(&["reload"]).unwrap();
    env.sshd.restart().unwrap();
    assert_eq!(env.vendor.until_accepted(2).await, [(1, 1), (1, 2)]);
    let attempts = env.vendor.attempts();
    let signatures = attempts[0].headers["webhook-signature"].to_str().unwrap();
    assert_eq!(signatures.split(' ').count(), 2, "{signatures}");
    env.store(1, 3).await;
    env.vendor.until_accepted(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_hands_the_queue_over_and_loses_nothing() {
    let mut env = StoreEnv::start(&[]).await;
    let program = env.agent.use_replaceable_program().unwrap();
    env.agent.restart().unwrap();
    env.agent.until_proven().await.unwrap();
    env.until_stores().await;
    // Its events wait over both upgrades.
    env.vendor.script(1, &[500, 500, 500, 500, 200]);
    let sender = Sender::start(&env.url, 4);
    for _ in 0..2 {
        sender.until_stored(20).await;
        let before = env.agent.status().await.unwrap().agent.pid;
        let new = program.with_extension("new");
        fs::write(&new, fs::read(&program).unwrap()).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&new, &program).unwrap();
        env.agent.succeed(&["upgrade"]).unwrap();
        let serves = |r: &StatusReport| r.agent.pid != before && r.upgrade.is_none();
        let served = env.agent.until_status("the new process alone", serves);
        served.await.unwrap();
    }
    sender.until_stored(20).await;
    let (acknowledged, odd) = sender.stop().await;
    assert!(odd.is_empty(), "{odd:?}\n{}", env.agent.log());
    all_delivered(&env, &acknowledged).await;
}

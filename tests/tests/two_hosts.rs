//! Two agents of one customer, each with its own key: one is stopped and started again under load, then the other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    recording_origin::RecordingOrigin,
    setup::{AgentSetup, RunningAgent},
    sshd::{free_port, keygen, signal},
    test_env::vendor,
    wait::PATIENCE,
};
use server_stub::gateway::{Gateway, Settings};
use std::{fs, path::Path, time::Duration};
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_is_lost_or_refused_when_one_is_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = Settings::new(folder.path());
    settings.ssh = ([127, 0, 0, 1], 0).into();
    settings.http = ([127, 0, 0, 1], 0).into();
    let gateway = Gateway::start(settings).await.unwrap();
    let keys = ["first", "second"].map(|name| folder.path().join(name));
    authorize(folder.path(), &keys);
    let jira = RecordingOrigin::start().await.unwrap();
    let bind = format!("127.0.0.1:{}", free_port().unwrap());
    let start = |key: &Path| {
        AgentSetup::new(&gateway.ssh_addr.to_string(), "acme", key)
            .tunnel("host_keys", vec![gateway.host_key_fingerprint.clone()])
            .forward("jira", &bind, &jira.url())
            .start()
            .unwrap()
    };
    let [mut first, mut second] = keys.each_ref().map(|key| start(key));
    for agent in [&first, &second] {
        agent.until_proven().await.unwrap();
    }
    let stop = CancellationToken::new();
    let mut callers = JoinSet::new();
    for caller in 0..4 {
        let url = format!(
            "http://{}/rest/api/2/issue/DEMO-{caller}",
            gateway.http_addr
        );
        callers.spawn(call_until(stop.clone(), url));
    }
    for agent in [&mut first, &mut second] {
        stop_and_start(agent).await;
    }
    stop.cancel();
    while let Some(outcome) = callers.join_next().await {
        let (answers, wrong) = outcome.unwrap();
        assert_eq!(wrong, Vec::<String>::new());
        assert!(answers > 20, "{answers}");
    }
}

/// Two keys of one customer.
fn authorize(folder: &Path, keys: &[std::path::PathBuf]) {
    let authorized = folder.join("agents").join("acme");
    fs::create_dir_all(&authorized).unwrap();
    let mut lines = String::new();
    for key in keys {
        keygen(key, &["-t", "ed25519"], "").unwrap();
        lines += &fs::read_to_string(key.with_extension("pub")).unwrap();
    }
    fs::write(authorized.join("authorized_keys"), lines).unwrap();
}

async fn stop_and_start(agent: &mut RunningAgent) {
    signal(agent.process().pid(), "TERM").unwrap();
    let ended = agent.process().wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    // The other agent serves alone for a while.
    sleep(Duration::from_millis(500)).await;
    agent.restart().unwrap();
    agent.until_proven().await.unwrap();
}

async fn call_until(stop: CancellationToken, url: String) -> (u64, Vec<String>) {
    let client = vendor();
    let (mut answers, mut wrong) = (0_u64, Vec::new());
    while !stop.is_cancelled() {
        let request = client.get(&url).header("host", "acme.gateway.localhost");
        match request.send().await {
            Ok(answer) if answer.status() == 200 => answers += 1,
            Ok(answer) => wrong.push(answer.text().await.unwrap_or_default()),
            Err(error) => wrong.push(format!("{error:?}")),
        }
        sleep(Duration::from_millis(5)).await;
    }
    (answers, wrong)
}

//! A bad configuration is refused as at a start, and the agent keeps running.

use crate::common::{change, errors, reload, start};
use agent::status::StatusReport;
use e2e::{
    background_load::BackgroundLoad,
    caller::HttpCaller,
    process::ChildProcess,
    sshd::signal,
    wait::{PATIENCE, soon},
};

/// A reload refuses a bad configuration with the same text as a start, and the previous configuration stays in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_refuses_a_bad_configuration_and_keeps_the_previous() {
    let mut env = start().await;
    let addr = env.addr;
    let load = BackgroundLoad::start(addr, 2);
    load.until_answered(20).await.unwrap();
    let before = env.agent.status().await.unwrap();

    change(&env.agent, |text| {
        let text = text.replace("presets = [\"ticketing\"]", "presets = [\"tickets\"]");
        text.replace(&env.sshd.address(), "nowhere")
    });
    let refused = env.agent.run(&["reload"]).unwrap();
    assert_eq!(refused.status.code(), Some(78));
    let refusal = errors(&refused);
    // The same text, each line with file and line number.
    let judged = env.agent.run(&["config", "show"]).unwrap();
    assert_eq!(judged.status.code(), Some(78));
    let words = errors(&judged);
    assert!(
        words.lines().count() == 2 && words.contains("agent.toml:"),
        "{words}"
    );
    assert_eq!(
        refusal,
        words.clone() + "agent: keeping the previous configuration\n"
    );

    let report = env.agent.status().await.unwrap();
    let kept = report.configuration.refused.unwrap();
    let words: Vec<_> = words
        .lines()
        .map(|l| l.trim_start_matches("agent: ").to_owned())
        .collect();
    assert_eq!(kept.problems, words);
    assert_eq!(report.configuration.loaded, before.configuration.loaded);
    assert!(
        env.agent
            .status_output()
            .unwrap()
            .0
            .contains("configuration: REFUSED")
    );
    let metrics = env.agent.succeed(&["metrics"]).unwrap();
    assert!(metrics.contains("jira_tunnel_agent_configuration_refused 1"));
    for line in &words {
        env.agent.logged(line).await.unwrap();
    }

    // A reload by signal does not end the process either.
    signal(env.agent.process().pid(), "HUP").unwrap();
    load.until_answered(50).await.unwrap();
    change(&env.agent, |text| {
        text.replace("[\"tickets\"]", "[\"read-only\"]")
            .replace("nowhere", &env.sshd.address())
    });
    signal(env.agent.process().pid(), "HUP").unwrap();
    let accepted = |r: &StatusReport| r.configuration.refused.is_none();
    env.agent
        .until_status("the corrected one", accepted)
        .await
        .unwrap();
    let mut caller = HttpCaller::connect(addr).await.unwrap();
    let answer = soon(caller.post("/rest/api/2/issue/DEMO-1/comment", "{}"))
        .await
        .unwrap();
    assert_eq!(answer.status(), 403, "read-only holds");
    let summary = load.stop().await;
    assert_eq!(summary.failed, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_holds_until_a_restart_says_so() {
    let env = start().await;
    change(&env.agent, |text| {
        text.replace("sink = \"off\"", "sink = \"journal\"")
    });
    assert_eq!(reload(&env.agent), "audit: needs a restart\n");
    let report = env.agent.status().await.unwrap();
    assert_eq!(report.configuration.restart, ["audit"]);
    assert!(
        env.agent
            .status_output()
            .unwrap()
            .0
            .contains("audit changed; to apply it: systemctl restart")
    );
    // The change is reverted.
    change(&env.agent, |text| {
        text.replace("sink = \"journal\"", "sink = \"off\"")
    });
    reload(&env.agent);
    assert!(
        env.agent
            .status()
            .await
            .unwrap()
            .configuration
            .restart
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_agent_a_reload_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let command = std::process::Command::new(e2e::agent::binary("agent"));
    let mut command = e2e::agent::command(command, folder.path(), &["reload"]);
    command.stderr(std::process::Stdio::piped());
    let mut process = ChildProcess::spawn(command, &folder.path().join("log")).unwrap();
    let status = process.wait(PATIENCE).await.unwrap();
    assert_eq!(status.code(), Some(3));
    assert!(
        process.log().contains("no agent is running here"),
        "{}",
        process.log()
    );
}

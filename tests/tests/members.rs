//! Commands without root: a member of the agent's group sees everything but secrets, and others are told who may ask.
//! Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    agent,
    login::output_text,
    test_env::{BOT_TOKEN, TestEnv},
};
use std::{
    fs,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
    process::{Command, Output},
};

/// The agent's group, and another one.
const GROUP: u32 = 65_530;
const OTHERS: u32 = 65_531;
const USER: u32 = 65_529;

/// Runs the agent's command as a user of this group.
fn run(dir: &Path, group: u32, arguments: &[&str]) -> Output {
    let mut program = Command::new("setpriv");
    program
        .args(["--clear-groups", "--reuid", &USER.to_string()])
        .args(["--regid", &group.to_string()])
        .arg(agent::binary("agent"));
    agent::command(program, dir, arguments).output().unwrap()
}

fn open(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// As the unit and the package leave it.
async fn site() -> TestEnv {
    let site = TestEnv::start().await.unwrap();
    let dir = site.dir();
    open(dir.parent().unwrap(), 0o755);
    open(&dir, 0o755);
    open(&dir.join("state"), 0o700);
    open(&dir.join("run"), 0o750);
    for path in ["run", "run/agent.sock"] {
        chown(dir.join(path), None, Some(GROUP)).unwrap();
    }
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn group_members_may_check_without_reading_secrets() {
    let mut site = site().await;
    let dir = site.dir();
    let checked = run(&dir, GROUP, &["check"]);
    assert_eq!(checked.status.code(), Some(0), "{}", output_text(&checked));
    assert!(
        output_text(&checked).contains("0 failed"),
        "{}",
        output_text(&checked)
    );
    let shown = run(&dir, GROUP, &["config", "show"]);
    assert_eq!(shown.status.code(), Some(0), "{}", output_text(&shown));
    let explained = run(
        &dir,
        GROUP,
        &["policy", "explain", "GET", "/jira/rest/api/2/issue/DEMO-1"],
    );
    assert_eq!(
        explained.status.code(),
        Some(0),
        "{}",
        output_text(&explained)
    );
    let sheet = run(&dir, GROUP, &["check", "--firewall"]);
    assert_eq!(sheet.status.code(), Some(0), "{}", output_text(&sheet));
    for output in [&checked, &shown, &explained, &sheet] {
        assert!(!output_text(output).contains(BOT_TOKEN));
    }

    // Without an agent the check needs the secrets; it does not suggest to loosen their mode.
    site.agent.process().kill();
    let checked = run(&dir, GROUP, &["check"]);
    assert_eq!(checked.status.code(), Some(77), "{}", output_text(&checked));
    assert!(
        output_text(&checked).contains("run as root: sudo agent check"),
        "{}",
        output_text(&checked)
    );
    assert!(
        !output_text(&checked).contains("chmod"),
        "{}",
        output_text(&checked)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn others_are_told_who_may_ask() {
    let site = site().await;
    let dir = site.dir();
    for command in [
        &["check"][..],
        &["status"],
        &["metrics"],
        &["pause"],
        &["events"],
    ] {
        let refused = run(&dir, OTHERS, command);
        assert_eq!(
            refused.status.code(),
            Some(3),
            "{command:?}: {}",
            output_text(&refused)
        );
        let text = output_text(&refused);
        assert!(
            text.contains("as root or as a member of the agent's group"),
            "{text}"
        );
    }
    open(&dir.join("agent.toml"), 0o600);
    let refused = run(&dir, OTHERS, &["config", "show"]);
    assert_eq!(refused.status.code(), Some(77), "{}", output_text(&refused));
}

/// A bad change on disk is a warning; the running agent is checked with the configuration it uses.
/// The next reload would be refused; the running agent is healthy.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_uses_the_running_configuration() {
    let site = site().await;
    let dir = site.dir();
    fs::create_dir(dir.join("agent.d")).unwrap();
    fs::write(dir.join("agent.d/60-slip.toml"), "[tunel]\n").unwrap();
    let checked = site.agent.run(&["check"]).unwrap();
    let text = output_text(&checked);
    assert_eq!(checked.status.code(), Some(1), "{text}");
    assert!(
        text.contains("the running agent keeps the previous configuration: "),
        "{text}"
    );
    assert!(text.contains("60-slip.toml:1"), "{text}");
    assert!(
        text.contains("round-trip") && text.contains("1 warning, 0 failed"),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_configuration_every_command_names_enroll() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    fs::write(dir.join("agent.toml"), "# [tunnel]\n").unwrap();
    for (command, code) in [
        (&["status"][..], 3),
        (&["metrics"], 3),
        (&["reload"], 3),
        (&["pause"], 3),
        (&["events"], 3),
        (&["check"], 78),
        (&["config", "show"], 78),
        (&["policy", "explain", "GET", "/"], 78),
        (&["run"], 78),
    ] {
        let done = agent::command(Command::new(agent::binary("agent")), dir, command);
        let done = { done }.output().unwrap();
        assert_eq!(
            done.status.code(),
            Some(code),
            "{command:?}: {}",
            output_text(&done)
        );
        let text = output_text(&done);
        assert!(text.contains("agent enroll"), "{command:?}: {text}");
        assert!(!text.contains("systemctl start"), "{command:?}: {text}");
    }
}

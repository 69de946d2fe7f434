//! The rotation of OAuth 2.0 tokens, killed at every system call: whatever instruction it was, the next start either
//! works or says "log in again" and why. And no kill ever makes the agent use a token that is not on the disk.
//!
//! The real binary renews under `strace -f`, which delivers SIGKILL as it enters the N-th call of one kind: on the token
//! files for every kind that opens, writes, keeps, renames or locks one, on sockets for every kind that connects, sends
//! or receives, and for every N until it lives through.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    agent::{binary, command},
    login::{Desk, said},
};
use serde_json::Value;
use server_stub::jira::{Https, Jira, OAuth2Client, Running, Settings};
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_killed_at_any_step_works_at_the_next_start_or_says_why_to_log_in_again() {
    let office = Office::open().await;
    let mut told = Told::default();
    for (call, on) in CALLS {
        let mut survived = false;
        for nth in 1..=MOST {
            match office.renew_killed_at(call, on, nth) {
                Some(done) => {
                    assert!(done.status.success(), "{call} {nth}: {}", said(&done));
                    survived = true;
                    break;
                }
                None => office.start_again(call, nth, &mut told).await,
            }
        }
        assert!(survived, "{call} was killed {MOST} times and still is");
    }
    // Both happen: killed before Jira has rotated it works, killed before the answer is saved it cannot.
    assert!(told.worked > 20, "{told:?}");
    assert!(told.log_in_again > 5, "{told:?}");
    assert!(office.jira.oauth2_counts().refreshes > 20);
}

/// What a kill cannot show, because the kernel lives on: that each step is on the disk before the next one begins.
#[tokio::test(flavor = "multi_thread")]
async fn the_mark_is_durable_before_the_token_is_sent_and_the_answer_before_it_is_used() {
    let office = Office::open().await;
    let trace = office.dir().join("trace");
    let mut strace = Command::new("strace");
    strace
        .args(["-f", "-y", "-e", "trace=fsync,connect,/^rename", "-o"])
        .args([&trace, Path::new("--"), &binary("agent")]);
    let done = command(strace, office.dir(), &["login", "--renew"]).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{}", said(&done));
    let trace = fs::read_to_string(trace).unwrap();
    let steps: Vec<_> = trace.lines().filter_map(step).collect();
    // One connection for the refresh token, one for the question whose the new access token is.
    let save = ["file synced", "renamed", "folder synced"];
    let expected = [&save[..], &["connected"], &save, &["connected"]].concat();
    assert_eq!(steps, expected);
}

fn step(line: &str) -> Option<&'static str> {
    let call = line.split_whitespace().nth(1)?;
    match call.split('(').next()? {
        "fsync" if line.contains("jira.json.new>") => Some("file synced"),
        "fsync" if line.contains("/tokens>") => Some("folder synced"),
        name if name.starts_with("rename") && line.contains("jira.json.new") => Some("renamed"),
        "connect" if line.contains("AF_INET") => Some("connected"),
        _ => None,
    }
}

/// What the next starts said.
#[derive(Debug, Default)]
struct Told {
    worked: u32,
    log_in_again: u32,
}

/// A Jira, and a folder that the agent's commands are run on.
struct Office {
    jira: Running,
    desk: Desk,
}

impl Office {
    async fn open() -> Self {
        let mut settings = Settings {
            https: Some(Https::default()),
            context_path: "/jira".into(),
            ..Settings::default()
        };
        settings.oauth2.clients = vec![OAuth2Client::new("acme", "acme-secret", REDIRECT)];
        let jira = Jira::start(settings).await.unwrap();
        let ca = jira.ca_pem.as_ref().unwrap();
        let auth = "mode = \"oauth2\"\nclient_id = \"acme\"\nclient_secret_file = \"secret\"";
        let desk = Desk::new(&jira.url, ca, auth, "acme-secret").unwrap();
        let office = Self { jira, desk };
        office.log_in().await;
        office
    }

    fn dir(&self) -> &Path {
        self.desk.dir()
    }

    async fn log_in(&self) {
        let done = self.desk.log_in("acme-bot", "acme-password").await;
        let done = done.unwrap();
        assert!(done.status.success(), "{}", said(&done));
    }

    /// `None`: killed.
    fn renew_killed_at(&self, call: &str, on: On, nth: u32) -> Option<Output> {
        let mut strace = Command::new("strace");
        strace
            .args(["-f", "-qq", "-o", "/dev/null", "-e"])
            .arg(format!("trace={call}"))
            .arg("-e")
            .arg(format!("inject={call}:signal=KILL:when={nth}"));
        if on == On::Files {
            // Without it the many files that every start reads would be counted too.
            for name in ["", "/jira.json", "/jira.json.new", "/jira.lock"] {
                let path = format!("{}/state/tokens{name}", self.dir().display());
                strace.args(["-P", &path]);
            }
        }
        strace.arg("--").arg(binary("agent"));
        let mut strace = command(strace, self.dir(), &["login", "--renew"]);
        let done = strace.stdin(Stdio::null()).output();
        let done = done.expect("strace (tools/setup installs it)");
        // strace dies of what its tracee died of.
        done.status.code().map(|_| done)
    }

    async fn start_again(&self, call: &str, nth: u32, told: &mut Told) {
        let before = self.stored();
        let next = self.desk.run(&["login", "--renew"]).unwrap();
        let text = said(&next);
        if next.status.success() {
            told.worked += 1;
            return;
        }
        assert!(
            text.contains("was interrupted before the new tokens were saved")
                && text.contains("log in again: agent login jira"),
            "{call} {nth}: {text}"
        );
        // It knew from its own mark.
        assert!(before["pending"].is_string(), "{call} {nth}: {before:?}");
        assert!(self.stored()["ended"].is_string());
        told.log_in_again += 1;
        self.log_in().await;
    }

    /// A killed process leaves an old or a new file, never none or half of one.
    fn stored(&self) -> Value {
        self.desk.stored().unwrap()
    }
}

/// What a call is counted on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum On {
    /// The token file, its successor, its lock and their folder.
    Files,
    /// All there is; but only the exchange with Jira uses sockets.
    Sockets,
}

/// By which token files and sockets are changed or looked at.
const CALLS: [(&str, On); 15] = [
    ("openat", On::Files),
    ("read", On::Files),
    ("write", On::Files),
    ("fsync", On::Files),
    ("close", On::Files),
    ("flock", On::Files),
    ("/^rename", On::Files),
    ("/^unlink", On::Files),
    ("/stat", On::Files),
    ("socket", On::Sockets),
    ("connect", On::Sockets),
    ("sendto", On::Sockets),
    ("writev", On::Sockets),
    ("recvfrom", On::Sockets),
    ("shutdown", On::Sockets),
];
/// Of one kind in one renewal; more would mean that it never comes to its end.
const MOST: u32 = 400;
const REDIRECT: &str = "https://localhost/jira-tunnel-agent";

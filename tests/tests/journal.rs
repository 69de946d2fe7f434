//! What an administrator reads in plain `journalctl`: the real agent and a real systemd-journald in their own mount
//! namespace. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    agent,
    process::ChildProcess,
    test_env::{BOT_TOKEN, TestEnv},
    wait::until,
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An agent that logs to a journal, and the output of `journalctl`.
struct Journal {
    process: ChildProcess,
    shown: PathBuf,
}

impl Journal {
    /// Restarts the agent with a journal.
    fn of(site: &mut TestEnv) -> Self {
        site.agent.process().kill();
        let to_journald =
            |config: String| config.replace("format = \"human\"", "format = \"journald\"");
        site.agent.edit_config(to_journald).unwrap();
        let script = site.dir().join("with-journal");
        fs::write(&script, SCRIPT).unwrap();
        let shown = site.dir().join("journal.txt");
        let mut program = Command::new("unshare");
        program
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--propagation",
                "private",
                "bash",
            ])
            .arg(&script)
            .arg(&shown)
            .arg(agent::binary("agent"));
        let command = agent::command(program, &site.dir(), &[]);
        let process = ChildProcess::spawn(command, &site.dir().join("with-journal.log")).unwrap();
        Self { process, shown }
    }

    /// Waits for a line with all these words and returns it.
    async fn line(&self, words: &[&str]) -> String {
        let found = async || {
            let shown = read(&self.shown);
            let mut lines = shown.lines();
            let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
            line.map(str::to_owned)
        };
        let found = until("a line of the journal", found).await;
        found.unwrap_or_else(|error| {
            let shown = read(&self.shown);
            panic!("{error}: {words:?} in\n{shown}\n{}", self.process.log())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_says_what_where_why_and_what_to_do() {
    let plan = TestEnv::builder().pat("a-token-that-jira-does-not-know");
    let mut site = plan.start_unproven().await.unwrap();
    let gateway = format!("gateway {}", site.sshd.address());
    let journal = Journal::of(&mut site);

    let rejected =
        "forward jira: Jira rejected the credential; requests are held back until it changes";
    journal
        .line(&[rejected, "login-retry): Jira refused", "; remedy: "])
        .await;
    // There is a credential, and one line about it.
    let shown = read(&journal.shown);
    assert!(!shown.contains("there is no credential"), "{shown}");
    journal
        .line(&[
            "forward jira, connection 0",
            &gateway,
            ": the gateway granted the forward (bind 127.0.0.1:",
        ])
        .await;

    // Wait for the runtime socket.
    site.agent
        .until_status("the forward", |r| !r.connections.is_empty())
        .await
        .unwrap();
    site.agent
        .run(&["pause", "jira", "--reason", "an audit of ours"])
        .unwrap();
    journal
        .line(&[
            "forward jira: paused: the vendor gets 503",
            "(reason \"an audit of ours\", by uid ",
        ])
        .await;
    site.agent.run(&["log-level", "debug"]).unwrap();
    journal.line(&["the log level is now debug"]).await;

    site.sshd.kill();
    journal
        .line(&[
            "connection 0",
            &gateway,
            ": session lost; connecting again: ",
            "; remedy: ",
        ])
        .await;
    let line = journal
        .line(&[
            "connection 0",
            &gateway,
            ": cannot connect; retrying: ",
            "(hop tcp); remedy: ",
        ])
        .await;
    assert!(line.contains("jira-tunnel-agent["), "{line}");
    assert!(!read(&journal.shown).contains("a-token-that-jira"));
}

/// The journal names an untrusted certificate as such, and not as a Jira that does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_certificate_is_not_a_silent_jira() {
    let other = rcgen::generate_simple_self_signed(["jira.example".to_owned()]).unwrap();
    let plan = TestEnv::builder().trusted_ca(&other.cert.pem());
    let mut site = plan.pat(BOT_TOKEN).start_unproven().await.unwrap();
    let journal = Journal::of(&mut site);
    journal
        .line(&[
            "forward jira: the probe of Jira failed: ",
            "not trusted",
            "; remedy: ",
        ])
        .await;
    assert!(!read(&journal.shown).contains("does not answer"));
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// Arguments: where to write what `journalctl` shows, and the agent. Ends with its first process.
const SCRIPT: &str = r#"set -e
mount -t tmpfs none /run
mount -t proc none /proc
mkdir -p /run/systemd /run/log
# It takes RUNTIME_DIRECTORY for its own.
env -u RUNTIME_DIRECTORY SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-journald &
for _ in $(seq 200); do [ -S /run/systemd/journal/socket ] && break; sleep 0.05; done
journalctl --no-pager --follow --lines all --identifier jira-tunnel-agent --output short-iso-precise >"$1" &
exec "$2" run
"#;

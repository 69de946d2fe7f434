//! Every fence with commands is run with an imitation Jira, a stock sshd and the real agent, in the order of the page.
//! A fence that cannot run has the reason in an HTML comment before it: `<!-- not run: needs root -->`.

use crate::markdown::{Document, Fence};
use e2e::{
    agent::{binary, command},
    test_env::{BOT_TOKEN, TestEnv},
    wait::PATIENCE,
};
use std::{
    io::Write,
    process::{Command, Stdio},
};
use tokio::process::Command as AsyncCommand;

#[tokio::test(flavor = "multi_thread")]
async fn every_fence_that_can_be_run_does_what_it_says() {
    let mut wrong = Vec::new();
    let mut count = 0;
    for document in Document::all() {
        let fences: Vec<_> = document
            .fences()
            .into_iter()
            .filter(|f| f.not_run.is_none())
            .collect();
        if fences.is_empty() {
            continue;
        }
        let env = DocumentEnv::new().await;
        for fence in fences {
            count += 1;
            if let Err(why) = env.run(&fence).await {
                wrong.push(format!("{}: {why}", fence.at));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 12, "only {count} fences were run");
}

#[test]
fn what_is_not_run_says_why() {
    for fence in Document::all().iter().flat_map(Document::fences) {
        let reason = fence.not_run.as_deref().unwrap_or("it is run");
        assert!(reason.len() >= 8, "{}: {reason:?} is no reason", fence.at);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_fails_and_a_flag_that_is_gone_are_found() {
    let env = DocumentEnv::new().await;
    for (language, text, well) in [
        ("sh", "agent status\n", true),
        ("sh", "agent status --no-such-flag\n", false),
        ("sh", "false\nagent status\n", false),
        (
            "console",
            "$ agent policy explain GET /jira/none\nGET /jira/none: refused\n",
            true,
        ),
        ("console", "$ agent polcy explain GET /jira/none\n", false),
        (
            "console",
            "$ agent policy explain GET /jira/none\nGET /none: allowed\n",
            false,
        ),
    ] {
        let fence = Fence {
            at: "here:1".to_owned(),
            language: language.to_owned(),
            text: text.to_owned(),
            not_run: None,
        };
        let done = env.run(&fence).await;
        assert_eq!(done.is_ok(), well, "{text}: {done:?}");
    }
}

/// An environment for the commands.
struct DocumentEnv {
    site: TestEnv,
    /// The working folder, which also replaces folders that only root may write.
    folder: tempfile::TempDir,
}

impl DocumentEnv {
    /// With the policy of `README.md` and `docs/policy.md`.
    async fn new() -> Self {
        let plan = TestEnv::builder()
            .pat(BOT_TOKEN)
            .allow("POST /rest/api/2/issue/bulk")
            .deny("* /rest/api/2/user/**");
        Self {
            site: plan.start().await.unwrap(),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// Compares a `console` fence with its output, command by command; any other fence is a script that must succeed.
    async fn run(&self, fence: &Fence) -> Result<(), String> {
        if fence.language != "console" {
            let text = match fence.has_prompts() {
                true => fence.commands().join("\n"),
                false => fence.text.clone(),
            };
            let script = format!("set -euo pipefail\n{}", self.here(&text));
            return match self.shell(&script).await? {
                (_, Some(0)) => Ok(()),
                (printed, code) => Err(format!("ends with {code:?}: {printed}")),
            };
        }
        for typed in fence.typed() {
            let line = typed.command;
            let (printed, code) = self.shell(&self.here(&line)).await?;
            if [None, Some(64), Some(78), Some(126), Some(127)].contains(&code) {
                return Err(format!("{line}: ends with {code:?}: {printed}"));
            }
            let first = printed.lines().find(|line| !line.trim().is_empty());
            let first = first.unwrap_or_default();
            let shown = typed.shown.iter().any(|shown| begins_alike(shown, first));
            if !shown && !typed.shown.is_empty() {
                return Err(format!(
                    "{line}: shows {first:?}, which the page does not have: {printed}"
                ));
            }
        }
        Ok(())
    }

    /// Replaces the paths of an installed agent by those of this environment.
    fn here(&self, text: &str) -> String {
        let dir = self.site.dir().display().to_string();
        let own = self.folder.path().display().to_string();
        text.replace("/etc/jira-tunnel-agent", &dir)
            .replace("/run/jira-tunnel-agent", &format!("{dir}/run"))
            .replace("/var/lib/node_exporter", &own)
            .replace("/root/", &format!("{own}/"))
            .replace(
                "http://127.0.0.1:8080/",
                &format!("http://{}/", self.site.addr()),
            )
            // No such user exists here: the agent runs as the user of the test.
            .replace("-o jira-tunnel-agent ", "")
            .replace("chown jira-tunnel-agent:", "chown \"$(id -un)\"")
    }

    async fn shell(&self, script: &str) -> Result<(String, Option<i32>), String> {
        let programs = binary("agent").parent().unwrap().display().to_string();
        let path = format!("{programs}:{}", std::env::var("PATH").unwrap());
        let mut shell = command(Command::new("bash"), &self.site.dir(), &["-c", script]);
        // A token for the prompts that ask for one.
        let mut typed = tempfile::tempfile().unwrap();
        writeln!(typed, "{BOT_TOKEN}").unwrap();
        std::io::Seek::rewind(&mut typed).unwrap();
        shell
            .env("PATH", path)
            .env("HOME", self.folder.path())
            .current_dir(self.folder.path());
        shell.stdin(Stdio::from(typed));
        let mut shell = AsyncCommand::from(shell);
        let output = tokio::time::timeout(PATIENCE, shell.kill_on_drop(true).output()).await;
        let output = output.map_err(|_| format!("does not end within {PATIENCE:?}: {script}"))?;
        let output = output.map_err(|error| error.to_string())?;
        let printed = [output.stdout, output.stderr].concat();
        Ok((
            String::from_utf8_lossy(&printed).into_owned(),
            output.status.code(),
        ))
    }
}

/// Whether the first words are equal. Numbers match any number, since times, addresses and versions differ; an ellipsis
/// matches the rest of a word.
fn begins_alike(shown: &str, printed: &str) -> bool {
    let words = |line: &str| {
        line.split_whitespace()
            .take(WORDS)
            .map(without_digits)
            .collect::<Vec<_>>()
    };
    let (shown, printed) = (words(shown), words(printed));
    let alike = |(shown, printed): (&String, &String)| match shown.split_once('…') {
        Some((begin, _)) => printed.starts_with(begin),
        None => shown == printed,
    };
    shown.len() == printed.len() && shown.iter().zip(&printed).all(alike)
}

fn without_digits(word: &str) -> String {
    let mut short = String::new();
    for c in word.chars() {
        match c.is_ascii_digit() {
            true if short.ends_with('0') => {}
            true => short.push('0'),
            false => short.push(c),
        }
    }
    short
}

/// Words of the first line of output that a page must have: `GET /jira/rest/api/2/user: refused`.
const WORDS: usize = 3;

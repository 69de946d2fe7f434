//! Starts the systemd unit if possible; otherwise explains how.

use crate::{
    config::{ConfigSources, DEFAULT_FILE, runtime_dir},
    control::AgentClient,
    status::{OverallState, StatusReport},
};
use std::{
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// The running agent after [`start`], and a message about it.
pub(super) struct ServiceStart {
    /// The agent that now answers on the socket.
    pub agent: AnsweringAgent,
    /// What was done, or what to do.
    pub text: String,
}

/// Which agent answers on the socket of `agent status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnsweringAgent {
    None,
    /// One with the current configuration.
    Current,
    /// One with the previous configuration.
    Outdated,
}

/// Enables and starts the unit, or restarts it if it runs and the configuration has `changed`.
pub(super) fn start(never: bool, changed: bool, sources: &ConfigSources) -> ServiceStart {
    let runs = is_running(sources);
    if runs && !changed {
        return ServiceStart {
            agent: AnsweringAgent::Current,
            text: "the agent is running\n".to_owned(),
        };
    }
    let not_started = |why: &str| match runs {
        true => ServiceStart {
            agent: AnsweringAgent::Outdated,
            text: format!(
                "the running agent still uses the previous configuration; to apply this one: {RESTART}\n"
            ),
        },
        false => ServiceStart {
            agent: AnsweringAgent::None,
            text: format!("not started: {why}\n"),
        },
    };
    if never {
        return not_started(&format!("--no-start; to start it: {START}"));
    }
    if sources.file != Path::new(DEFAULT_FILE) {
        return not_started(&format!(
            "the service reads {DEFAULT_FILE}, not {}; to run with it: agent --config {} run",
            sources.file.display(),
            sources.file.display()
        ));
    }
    if !Path::new("/run/systemd/system").is_dir() {
        return not_started("systemd is not running; to run it in the foreground: agent run");
    }
    if !rustix::process::geteuid().is_root() {
        return not_started(&format!("root is required; run: sudo {START}"));
    }
    // `enable --now` would not restart a running agent.
    for verb in ["enable", "restart"] {
        match systemctl(&[verb, UNIT]) {
            Ok(output) if output.status.success() => {}
            Ok(output) => {
                return not_started(&format!(
                    "systemctl {verb} {UNIT}: {}; see: journalctl -u {UNIT} -n 20",
                    String::from_utf8_lossy(&output.stderr).trim()
                ));
            }
            Err(error) => return not_started(&format!("systemctl: {error}; run: {START}")),
        }
    }
    let runs = status_matches(sources, START_TIMEOUT, |report| report.is_some());
    match runs {
        true => ServiceStart {
            agent: AnsweringAgent::Current,
            text: format!("started the service {UNIT}; it also starts at every boot\n"),
        },
        false => ServiceStart {
            agent: AnsweringAgent::None,
            text: format!(
                "started the service {UNIT}, but it does not answer; see: journalctl -u {UNIT} -n 20\n"
            ),
        },
    }
}

/// Waits a short time until every layer is proven. Then the status shows what is not.
pub(super) fn wait_for_proof(sources: &ConfigSources) {
    status_matches(sources, PROOF_TIMEOUT, |report| {
        report.is_some_and(|report| report.overall == OverallState::Proven)
    });
}

fn is_running(sources: &ConfigSources) -> bool {
    status_matches(sources, Duration::ZERO, |report| report.is_some())
}

/// Whether the status of the running agent matches within `limit`.
fn status_matches(
    sources: &ConfigSources,
    limit: Duration,
    wanted: impl Fn(Option<&StatusReport>) -> bool,
) -> bool {
    let client = AgentClient::new(&runtime_dir(sources));
    let poll = async {
        let deadline = Instant::now() + limit;
        loop {
            let report = client.status().await.ok();
            if wanted(report.as_ref()) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(POLL_INTERVAL).await;
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.is_ok_and(|runtime| runtime.block_on(poll))
}

/// Needs no timeout: systemd has one for each job (`TimeoutStartSec=`).
fn systemctl(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("systemctl")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
}

const UNIT: &str = "jira-tunnel-agent";
const RESTART: &str = "systemctl restart jira-tunnel-agent";
const START: &str = "systemctl enable --now jira-tunnel-agent";
/// Time for the socket to appear.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// A first connection takes a second or two; after a refusal the next attempt follows a minute later.
const PROOF_TIMEOUT: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(200);

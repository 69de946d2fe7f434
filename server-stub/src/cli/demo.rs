//! `server-stub demo`: its arguments, and running it.

use crate::demo::{self, DemoOptions};
use anyhow::{Context, bail};
use std::{path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// Run the imitation Jira, the gateway and the real agent together, and send one request of each kind
///
/// Everything runs on loopback, in a folder that is removed at the end.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The agent's binary [default: `agent` beside this one]
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Number of SSH sessions of the agent
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    connections: u8,
    /// End after one round, with exit code 0 only if every step succeeded
    #[arg(long)]
    once: bool,
}

/// Runs one round, and without `--once` until interrupted or terminated.
///
/// # Errors
/// When a part does not start.
pub(super) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let agent = match args.agent {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("agent"),
    };
    if !agent.is_file() {
        bail!(
            "there is no agent at {}; build it with `cargo build` or pass its path with --agent",
            agent.display()
        );
    }
    let agent = agent
        .canonicalize()
        .with_context(|| agent.display().to_string())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // A closed terminal ends the demo. The agent itself reloads its configuration at this signal.
    let mut hangup = signal(SignalKind::hangup())?;
    let interrupted = async {
        tokio::select! {
            _ = hangup.recv() => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    let options = DemoOptions {
        agent,
        connections: usize::from(args.connections),
        once: args.once,
    };
    Ok(if demo::run(options, interrupted).await? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

//! `server-stub demo`: its arguments, and running it.

use crate::demo::{self, DemoOptions};
use anyhow::{Context, bail};
use std::{path::PathBuf, process::ExitCode};
use tokio::signal::unix::{SignalKind, signal};

/// Run the imitation Jira, the gateway and the real agent together, and send one of everything through.
///
/// Everything is on loopback and in a folder that goes with the process.
#[derive(clap::Args)]
pub struct Args {
    /// The agent's binary [default: `agent` beside this one]
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// SSH sessions that the agent holds
    #[arg(long, value_name = "COUNT", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=16))]
    connections: u8,
    /// End after one round, with exit code 0 only if all of it went well
    #[arg(long)]
    once: bool,
}

/// Runs one round, and without `--once` until interrupted or terminated.
///
/// # Errors
/// When a part does not start.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let agent = match args.agent {
        Some(path) => path,
        None => std::env::current_exe()?.with_file_name("agent"),
    };
    if !agent.is_file() {
        bail!(
            "there is no agent at {}; build it with `cargo build`, or name it with --agent",
            agent.display()
        );
    }
    let agent = agent
        .canonicalize()
        .with_context(|| agent.display().to_string())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    // The terminal is closed; the agent would take it for a change of its configuration.
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

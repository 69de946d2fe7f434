//! `agent status`.

use crate::config::Sources;
use std::process::ExitCode;

/// Show what is proven right now: network, tunnel, Jira and login
#[derive(clap::Args)]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print again whenever something has changed
    #[arg(long)]
    watch: bool,
}

/// Asks the running agent.
pub fn run(args: Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let _ = (args.json, args.watch, sources);
    anyhow::bail!("not in this version")
}

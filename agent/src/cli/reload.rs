//! `agent reload`.

use super::{
    exit,
    output::{print, print_error},
};
use crate::{
    config::{ConfigSources, runtime_dir},
    control::{AgentClient, AgentClientError},
};
use std::process::ExitCode;

/// Apply a changed configuration without losing a request
///
/// Prints what changed. If the configuration is invalid, exits with 78, and the agent keeps the previous one. Does the
/// same as systemctl reload.
#[derive(clap::Args)]
pub(super) struct Args {}

/// Asks the running agent to reload.
pub(super) fn run(_: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let client = AgentClient::new(&runtime_dir(sources));
    let changes = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(client.reload());
    match changes {
        Ok(changes) if changes.is_empty() => print("nothing has changed\n")?,
        Ok(changes) => print(&(changes.join("\n") + "\n"))?,
        Err(AgentClientError::Refused(problems)) => {
            for problem in problems.lines() {
                print_error(problem);
            }
            print_error("keeping the previous configuration");
            return Ok(exit::CONFIG.into());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

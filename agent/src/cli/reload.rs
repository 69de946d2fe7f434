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

/// Let the running agent take over a changed configuration, without losing a request
///
/// Says what has changed. A configuration that cannot be used is refused with exit code 78, and the previous one stays in force.
/// What systemctl reload does.
#[derive(clap::Args)]
pub struct Args {}

/// Asks the running agent.
pub fn run(_: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
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

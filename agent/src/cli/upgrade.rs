//! `agent upgrade`.

use super::{
    exit,
    output::{print, print_error},
};
use crate::{
    config::{ConfigSources, runtime_dir},
    control::{AgentClient, AgentClientError},
};
use std::process::ExitCode;

/// Replace the running agent by the program on the disk without losing or refusing a request
///
/// The running agent starts the program beside itself. When the new process has proven what the old one has (tunnel,
/// Jira, login), it takes over, and the old one finishes its requests and ends. If it does not prove that within 30 s, it
/// ends, the old one keeps serving, and that program is not tried again without --retry.
///
/// The packages run this at an upgrade. With an unchanged program it is a restart without an interruption. Exit codes: 0
/// the new process serves, 1 the old one keeps serving, 3 no agent is running, 4 a restart is needed.
///
/// A restart is needed if the running version or the one on the disk cannot hand over (up to and including 0.1), if
/// state_dir or runtime_dir has changed, or if the running process cannot find its program. The packages then restart the
/// service; after a change of your own, run: systemctl restart jira-tunnel-agent. If the agent is the first process of a
/// container, which ends with it, start a container of the new image.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Try a program again that has failed before
    #[arg(long)]
    retry: bool,
}

/// Asks the running agent to hand over.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let client = AgentClient::new(&runtime_dir(sources));
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(client.upgrade(args.retry));
    match outcome {
        Ok(done) => print(&(done + "\n"))?,
        Err(AgentClientError::Refused(cause)) => {
            print_error(format!("the upgrade has failed: {cause}"));
            print_error("agent status shows which process serves, and why the upgrade has failed");
            return Ok(ExitCode::FAILURE);
        }
        Err(AgentClientError::Unsupported(cause)) => {
            print_error(cause);
            return Ok(exit::NEEDS_RESTART.into());
        }
        Err(error) => return Err(error.into()),
    }
    Ok(ExitCode::SUCCESS)
}

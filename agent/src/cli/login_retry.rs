//! `agent login-retry`: retries a rejected credential.

use super::{exit, output::print};
use crate::{
    config::{ConfigSources, runtime_dir},
    control::AgentClient,
};
use std::process::ExitCode;

/// Make the running agent retry a credential that Jira has rejected
///
/// After a rejection the agent stops sending the credential, because a few wrong passwords lock the account. Use this
/// when the cause was on Jira's side and is fixed. A changed secret file needs no command.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Name of one forward [default: all]
    forward: Option<String>,
}

/// Asks the running agent.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let client = AgentClient::new(&runtime_dir(sources));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let name = args.forward.as_deref();
    runtime.block_on(async {
        match client.retry_login(name).await {
            Ok(()) => Ok(()),
            Err(error) => Err(exit::of_forward(&client, name, error).await),
        }
    })?;
    print("the agent is retrying the credential; see: agent status\n")?;
    Ok(ExitCode::SUCCESS)
}

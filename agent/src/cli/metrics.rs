//! `agent metrics`.

use super::{exit, output::print};
use crate::{
    config::{ConfigSources, runtime_dir},
    control::{AgentClient, AgentClientError},
};
use std::process::ExitCode;

/// Print the running agent's metrics in Prometheus text format
///
/// For a textfile collector or to inspect by hand. docs/metrics.md describes each metric.
#[derive(clap::Args)]
pub(super) struct Args {}

/// Queries the running agent and prints the page.
pub(super) fn run(_: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let client = AgentClient::new(&runtime_dir(sources));
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(client.metrics());
    match asked {
        Ok(page) => {
            print(&page)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (AgentClientError::NotRunning { .. } | AgentClientError::Denied { .. })) => {
            exit::report_client_error(&error, sources);
            Ok(exit::NOT_RUNNING.into())
        }
        Err(error) => Err(error.into()),
    }
}

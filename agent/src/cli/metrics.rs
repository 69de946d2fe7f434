//! `agent metrics`.

use super::{exit, output::print};
use crate::{
    config::{Sources, runtime_dir},
    control::{Client, ClientError},
};
use std::process::ExitCode;

/// Print the running agent's metrics in Prometheus' text form
///
/// For a textfile collector, or to look at by hand. `docs/metrics.md` says what each means.
#[derive(clap::Args)]
pub struct Args {}

/// Asks the running agent.
pub fn run(_: Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let client = Client::new(&runtime_dir(sources));
    let asked = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(client.metrics());
    match asked {
        Ok(page) => {
            print(&page)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error @ (ClientError::NotRunning { .. } | ClientError::Denied { .. })) => {
            exit::not_asked(&error, sources);
            Ok(exit::NOT_RUNNING.into())
        }
        Err(error) => Err(error.into()),
    }
}

//! `agent log-level`.

use super::output::print;
use crate::{
    config::{ConfigSources, runtime_dir},
    control::AgentClient,
    telemetry::parse_level,
};
use std::process::ExitCode;

/// Set the log level of the running agent until the next change or restart
#[derive(clap::Args)]
pub(super) struct Args {
    /// error, warn, info, debug, trace or off; also per module: info,agent::tunnel=debug
    #[arg(value_parser = level)]
    level: String,
}

/// Sets the level through the runtime socket.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let client = AgentClient::new(&runtime_dir(sources));
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(client.set_log_level(&args.level))?;
    print(&format!(
        "the log level is {} until the next change or restart\n",
        args.level
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn level(text: &str) -> Result<String, crate::telemetry::LogLevelError> {
    parse_level(text).map(|_| text.to_owned())
}

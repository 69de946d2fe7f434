//! `agent config`.

use super::output::print;
use crate::{
    config::{Config, ConfigSources, reference, runtime_dir},
    control::AgentClient,
    status::AuditReport,
};
use clap::Subcommand;
use std::{process::ExitCode, time::Duration};

/// Validate and show the configuration
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Validate the configuration and print each effective value with its origin
    ///
    /// Lists every problem and exits with 78 if there is any. Secrets are shown as file names only.
    Show,
    /// Print the reference of all keys as Markdown
    #[command(hide = true)]
    Reference,
}

/// Runs the chosen subcommand.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    match args.command {
        ConfigCommand::Show => {
            let (_, effective) = Config::load_to_show(sources)?;
            print(&effective.show(sources.folder()))?;
            if let Some(audit) = running_audit(sources) {
                let (sink, reason) = (audit.sink, audit.sink_reason);
                print(&format!(
                    "\n# The running agent writes audit records to {sink}: {reason}.\n"
                ))?;
            }
        }
        ConfigCommand::Reference => print(&reference::markdown())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What `audit.sink = "auto"` resolved to, which only the running agent knows.
fn running_audit(sources: &ConfigSources) -> Option<AuditReport> {
    let client = AgentClient::new(&runtime_dir(sources));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let asked = runtime.ok()?.block_on(async {
        let status = client.status();
        tokio::time::timeout(STATUS_TIMEOUT, status).await
    });
    let audit = asked.ok()?.ok()?.audit;
    (!audit.sink.is_empty()).then_some(audit)
}

/// A running agent answers within milliseconds.
const STATUS_TIMEOUT: Duration = Duration::from_secs(2);

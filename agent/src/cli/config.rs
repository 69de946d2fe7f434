//! `agent config`.

use super::output::print;
use crate::{
    config::{Config, ConfigSources, reference, runtime_dir},
    control::AgentClient,
    status::AuditReport,
};
use clap::Subcommand;
use std::{process::ExitCode, time::Duration};

/// Look at the configuration
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Check the configuration and print what holds in the end, each value with where it comes from
    ///
    /// Ends with exit code 78 if anything is wrong, naming all of it. Secrets are shown as the names of
    /// their files.
    Show,
    /// Print the reference of all keys as Markdown
    #[command(hide = true)]
    Reference,
}

/// Prints what was asked for.
pub fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    match args.command {
        ConfigCommand::Show => {
            let (_, effective) = Config::load_to_show(sources)?;
            print(&effective.show(sources.folder()))?;
            if let Some(audit) = audit_in_force(sources) {
                let (sink, reason) = (audit.sink, audit.sink_reason);
                print(&format!(
                    "\n# The running agent writes its audit to {sink}: {reason}.\n"
                ))?;
            }
        }
        ConfigCommand::Reference => print(&reference::markdown())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What `audit.sink` has become depends on how the service was started, which only the running agent knows.
fn audit_in_force(sources: &ConfigSources) -> Option<AuditReport> {
    let client = AgentClient::new(&runtime_dir(sources));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let asked = runtime.ok()?.block_on(async {
        let status = client.status();
        tokio::time::timeout(PATIENCE, status).await
    });
    let audit = asked.ok()?.ok()?.audit;
    (!audit.sink.is_empty()).then_some(audit)
}

/// A running agent answers at once.
const PATIENCE: Duration = Duration::from_secs(2);

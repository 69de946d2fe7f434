//! `agent config`.

use super::output::print;
use crate::config::{Config, Sources, reference};
use clap::Subcommand;
use std::process::ExitCode;

/// Look at the configuration
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
pub fn run(args: Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Show => {
            let (_, effective) = Config::load_to_show(sources)?;
            print(&effective.show(sources.folder()))?;
        }
        Command::Reference => print(&reference::markdown())?,
    }
    Ok(ExitCode::SUCCESS)
}

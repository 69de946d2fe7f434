//! `agent man`: for building packages.

use anyhow::Context;
use std::{path::PathBuf, process::ExitCode};

/// Write the man pages into a folder
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// The folder; made where it does not exist
    folder: PathBuf,
}

/// Writes `agent.1` and one page for each subcommand.
pub fn run(args: Args, command: clap::Command) -> anyhow::Result<ExitCode> {
    let folder = args.folder;
    std::fs::create_dir_all(&folder)
        .and_then(|()| clap_mangen::generate_to(command, &folder))
        .with_context(|| folder.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

//! `agent completions`.

use super::output::print_as_is;
use clap_complete::Shell;
use std::process::ExitCode;

/// Print a completion script for a shell
#[derive(clap::Args)]
pub(super) struct Args {
    /// Shell to generate the script for
    shell: Shell,
}

/// Prints the completion script to standard output.
pub(super) fn run(args: Args, command: &mut clap::Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "agent", &mut script);
    print_as_is(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

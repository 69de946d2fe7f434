//! `agent support-bundle`.

use super::{exit::UsageError, output::print, terminal::confirmed};
use crate::{
    config::ConfigSources,
    support_bundle::{self, BundleOptions, PartContent, SupportBundle},
};
use std::{
    fmt::Write,
    io::{self, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

/// Collect what support needs into one archive, without secrets
///
/// Contains versions, configuration, status, check, metrics, recent log and audit lines, unit state and file permissions.
/// The command lists the contents and asks before it writes. It sends nothing.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Archive to write [default: jira-tunnel-agent-support-HOST-TIME.tar.gz in this folder]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write the archive without asking
    #[arg(long, conflicts_with = "list")]
    yes: bool,
    /// List the contents without writing the archive
    #[arg(long)]
    list: bool,
    /// Run the check even if no agent is running; sends each credential to Jira once
    #[arg(long)]
    check: bool,
    /// Systemd unit whose journal and state to collect
    #[arg(long, value_name = "NAME", default_value = "jira-tunnel-agent", value_parser = unit)]
    unit: String,
    /// The agent's log file, if it does not log to the journal
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

/// Gathers the parts, lists them, asks, and writes the archive.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let asks = !args.yes && !args.list;
    if asks && !io::stdin().is_terminal() {
        let text = "not a terminal: pass --yes to write the archive, or --list to preview it";
        return Err(UsageError(text.to_owned()).into());
    }
    let options = BundleOptions {
        unit: args.unit,
        log_file: args.log_file,
        check: args.check,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bundle = runtime.block_on(support_bundle::gather(&options, sources));
    // Does not wait for a disk read that hangs.
    runtime.shutdown_background();
    let bundle = bundle?;
    print(&table(&bundle))?;
    if args.list {
        return Ok(ExitCode::SUCCESS);
    }
    let path = args
        .output
        .unwrap_or_else(|| PathBuf::from(format!("{}.tar.gz", bundle.name)));
    if asks && !confirmed(&format!("Write {}? [y/N] ", path.display()))? {
        print("Nothing was written.\n")?;
        return Ok(ExitCode::FAILURE);
    }
    let size = support_bundle::write(&bundle, &path)?;
    print(&format!(
        "Wrote {} ({size} bytes), readable only by you. Nothing was sent.\nTo review it before you share it: tar -xzf {}\n",
        path.display(),
        path.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn table(bundle: &SupportBundle) -> String {
    let mut text = String::new();
    for part in &bundle.parts {
        // Writing to a string cannot fail.
        let _ = match &part.content {
            PartContent::Text {
                text: content,
                cut,
                removed,
            } => {
                let mut notes = String::new();
                if *cut {
                    notes += "; truncated";
                }
                if *removed > 0 {
                    notes += &format!("; {removed} secrets removed");
                }
                writeln!(
                    text,
                    "{:>9}  {:18} {}{notes}",
                    content.len(),
                    part.name,
                    part.what
                )
            }
            PartContent::Missing(why) => {
                writeln!(text, "{:>9}  {:18} missing: {why}", "-", part.name)
            }
        };
    }
    text
}

/// It becomes an argument of systemctl, to which a leading dash is an option and a star means many units.
fn unit(name: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    match !name.is_empty() && !name.starts_with('-') && name.chars().all(allowed) {
        true => Ok(name.to_owned()),
        false => Err("not a unit name".to_owned()),
    }
}

//! `agent support-bundle`.

use super::{exit::UsageError, output::print};
use crate::{
    config::ConfigSources,
    support_bundle::{self, BundleOptions, PartContent, SupportBundle},
};
use std::{
    fmt::Write,
    io::{self, BufRead, IsTerminal},
    path::PathBuf,
    process::ExitCode,
};

/// Pack what a person who helps from afar needs to see into one archive, without secrets
///
/// Versions, configuration, status, check, metrics, the newest log and audit lines, state of the unit, rights of the
/// files. What would be in it is shown first, with sizes, and nothing is written before you agree. It is sent nowhere.
#[derive(clap::Args)]
pub struct Args {
    /// Where to write it [default: jira-tunnel-agent-support-HOST-TIME.tar.gz in this folder]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write it without asking
    #[arg(long, conflicts_with = "list")]
    yes: bool,
    /// Only show what would be in it
    #[arg(long)]
    list: bool,
    /// Check also where no agent is running; each login is sent to Jira once
    #[arg(long)]
    check: bool,
    /// Systemd unit whose journal and state are looked at
    #[arg(long, value_name = "NAME", default_value = "jira-tunnel-agent", value_parser = unit)]
    unit: String,
    /// File with the agent's log, where it does not go to the journal
    #[arg(long, value_name = "FILE")]
    log_file: Option<PathBuf>,
}

/// Gathers, shows, asks, writes.
pub fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let asks = !args.yes && !args.list;
    if asks && !io::stdin().is_terminal() {
        let text = "nobody is there to agree; say --yes to write the archive, or --list to see what would be in it";
        return Err(UsageError(text.to_owned()).into());
    }
    let choice = BundleOptions {
        unit: args.unit,
        log_file: args.log_file,
        check: args.check,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let bundle = runtime.block_on(support_bundle::gather(&choice, sources));
    // A read of a disk that hangs is not waited for.
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
        "Written: {} ({size} bytes), readable by you alone and sent nowhere.\nTo read it before you pass it on: tar -xzf {}\n",
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
                text: held,
                cut,
                removed,
            } => {
                let mut notes = String::new();
                if *cut {
                    notes += "; cut to fit";
                }
                if *removed > 0 {
                    notes += &format!("; {removed} secrets taken out");
                }
                writeln!(
                    text,
                    "{:>9}  {:18} {}{notes}",
                    held.len(),
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

fn confirmed(question: &str) -> anyhow::Result<bool> {
    print(question)?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// It becomes an argument of systemctl, which takes a leading dash for an option and a star for many units.
fn unit(name: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    match !name.is_empty() && !name.starts_with('-') && name.chars().all(allowed) {
        true => Ok(name.to_owned()),
        false => Err("not the name of one unit".to_owned()),
    }
}

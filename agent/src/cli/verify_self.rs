//! `agent verify-self`.

use super::output::{print, print_error};
use crate::verify::{self, MANIFEST, PackageManifest, render};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Compare the installed files with the package: content, mode, owner
///
/// Needs neither dpkg nor rpm. Changed configuration is reported but is not a fault. The manifest is on the same disk, so
/// this finds accidents, not an attacker who changes both; use --manifest with a copy from elsewhere. Exit codes: 0 as
/// packaged, 1 differences, 2 cannot be determined.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Manifest to compare with [default: /usr/lib/jira-tunnel-agent/manifest.json below --root]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Verify the system below this folder, such as a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Compares the installed files with the manifest.
pub(super) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let below_root = || args.root.join(MANIFEST.trim_start_matches('/'));
    let path = args.manifest.unwrap_or_else(below_root);
    let manifest = match PackageManifest::read(&path) {
        Ok(manifest) => manifest,
        Err(error) => {
            print_error(error);
            return Ok(CANNOT_TELL.into());
        }
    };
    let report = verify::verify(&manifest, &args.root);
    print(&match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => render(&report) + &other_program(&args.root),
    })?;
    Ok(report.exit_code().into())
}

/// A program that is not the installed one has not verified itself.
fn other_program(root: &Path) -> String {
    let installed = Path::new("/usr/bin/agent");
    match std::env::current_exe() {
        Ok(own) if root == Path::new("/") && own != installed => {
            format!(
                "This program is {}, not {}.\n",
                own.display(),
                installed.display()
            )
        }
        _ => String::new(),
    }
}

const CANNOT_TELL: u8 = 2;

//! `agent verify-self`.

use super::output::{print, print_error};
use crate::verify::{self, MANIFEST, PackageManifest, render};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Compare the installed files with what the package says: content, mode, owner
///
/// Needs neither dpkg nor rpm. Changed configuration is told and is no fault. The manifest lies on the same disk: this
/// shows accidents, not an attacker, who could change both; `--manifest` takes one from elsewhere. Ends with exit code
/// 0 if all is as packaged, 1 if something differs, 2 if that cannot be told.
#[derive(clap::Args)]
pub struct Args {
    /// Print a JSON document
    #[arg(long)]
    json: bool,
    /// Compare with this manifest [default: /usr/lib/jira-tunnel-agent/manifest.json below the root]
    #[arg(long, value_name = "FILE")]
    manifest: Option<PathBuf>,
    /// Look at the system below this folder, such as a mounted image
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Compares the installed files with the manifest.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
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

/// Who verifies with a program of their own build has not verified that one.
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

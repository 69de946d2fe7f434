//! Whether the installed files are those of the package, without dpkg or rpm.
//!
//! The package contains a manifest with checksum, mode and owner of each file. It is on the same disk: it finds accidents,
//! incomplete upgrades and well-meant edits. Whoever can change a program can also change the manifest and this program;
//! against an attacker, only a manifest or package from elsewhere helps (`docs/security.md`).
//!
//! `manifest` reads the manifest, `entry` compares one file with it, `added` finds what takes precedence over the package's
//! files, `report` sums up.

mod added;
mod entry;
mod manifest;
mod report;

pub use manifest::{EntryKind, ManifestEntry, ManifestError, PackageManifest};
pub use report::{FileFinding, FileVerdict, VerifyReport, render};

use crate::accounts::SystemAccounts;
use std::path::Path;

/// Compares every file of the manifest with those below `root`. Reads all of them: blocks for about a second.
pub fn verify(manifest: &PackageManifest, root: &Path) -> VerifyReport {
    let accounts = SystemAccounts::read(root);
    let mut findings: Vec<_> = manifest
        .files
        .iter()
        .map(|entry| entry::compare(entry, root, &accounts, manifest))
        .collect();
    findings.extend(added::find(root));
    VerifyReport::new(manifest, findings)
}

/// Path of the manifest that the package installs.
pub const MANIFEST: &str = "/usr/lib/jira-tunnel-agent/manifest.json";

//! Whether the installed files are what the package brought, without asking dpkg or rpm.
//!
//! The package has a manifest with checksum, mode and owner of each of its files. It lies on the same disk as they do:
//! it shows accidents, half upgrades and well-meant edits. Who can change a program can change the manifest, and this
//! program too; against an attacker only a manifest or package from elsewhere helps (`docs/security.md`).
//!
//! `manifest` is what the package says, `entry` holds one file against it, `added` looks for what stands in front of
//! the package's files, `report` sums up.

mod added;
mod entry;
mod manifest;
mod report;

pub use manifest::{EntryKind, ManifestEntry, ManifestError, PackageManifest};
pub use report::{FileFinding, FileVerdict, VerifyReport, render};

use crate::accounts::SystemAccounts;
use std::path::Path;

/// Holds every file of the manifest against what lies below `root`. Reads all of them: blocks for a second.
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

/// Where the package puts its manifest.
pub const MANIFEST: &str = "/usr/lib/jira-tunnel-agent/manifest.json";

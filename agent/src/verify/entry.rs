//! Compares one installed file with its entry in the manifest.

use super::{
    manifest::{EntryKind, ManifestEntry, PackageManifest},
    report::{FileFinding, FileVerdict},
};
use crate::{accounts::SystemAccounts, printable::hex};
use rustix::fs::{Mode, OFlags};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

pub(super) fn compare(
    entry: &ManifestEntry,
    root: &Path,
    accounts: &SystemAccounts,
    manifest: &PackageManifest,
) -> FileFinding {
    let path = below(root, &entry.path);
    // A link in the place of a file is a difference, wherever it leads.
    match fs::symlink_metadata(&path) {
        Ok(found) => present(entry, &path, &found, accounts, manifest),
        Err(error) if error.kind() == io::ErrorKind::NotFound => missing(entry, manifest),
        Err(error) => FileFinding::unknown(&entry.path, error.to_string()),
    }
}

fn missing(entry: &ManifestEntry, manifest: &PackageManifest) -> FileFinding {
    match entry.kind {
        EntryKind::Documentation => FileFinding::new(&entry.path, FileVerdict::LeftOut),
        EntryKind::Configuration => {
            FileFinding::new(&entry.path, FileVerdict::Changed).with_cause("deleted")
        }
        EntryKind::Program | EntryKind::Folder | EntryKind::Link => {
            FileFinding::new(&entry.path, FileVerdict::Differs)
                .with_cause("missing")
                .with_remedy(reinstall(manifest))
        }
    }
}

fn present(
    entry: &ManifestEntry,
    path: &Path,
    found: &Metadata,
    accounts: &SystemAccounts,
    manifest: &PackageManifest,
) -> FileFinding {
    let mut causes = Vec::new();
    let mut remedies = Vec::new();
    let shown = entry.path.display();
    if entry.kind == EntryKind::Link {
        return link(entry, path, manifest);
    }
    let is_folder = entry.kind == EntryKind::Folder;
    if found.is_dir() != is_folder || !(found.is_dir() || found.is_file()) {
        let wanted = if is_folder {
            "a folder"
        } else {
            "a regular file"
        };
        return FileFinding::new(&entry.path, FileVerdict::Differs)
            .with_cause(format!("not {wanted}"))
            .with_remedy(reinstall(manifest));
    }
    let mode = found.mode() & 0o7777;
    if u32::from_str_radix(&entry.mode, 8) != Ok(mode) {
        causes.push(format!("mode {mode:04o} instead of {}", entry.mode));
        remedies.push(format!("chmod {} {shown}", entry.mode));
    }
    let owner = accounts.user(found.uid());
    let group = accounts.group(found.gid());
    if (&owner, &group) != (&entry.owner, &entry.group) {
        let wanted = format!("{}:{}", entry.owner, entry.group);
        causes.push(format!("owner {owner}:{group} instead of {wanted}"));
        remedies.push(format!("chown {wanted} {shown}"));
    }
    if let Some(wanted) = &entry.sha256 {
        match sha256(path) {
            Ok(is) if is.eq_ignore_ascii_case(wanted) => {}
            Ok(_) => {
                causes.push("content changed".to_owned());
                remedies.push(reinstall(manifest));
            }
            Err(error) => {
                return FileFinding::unknown(&entry.path, format!("cannot be read: {error}"));
            }
        }
    }
    let verdict = match entry.kind {
        _ if causes.is_empty() => FileVerdict::Ok,
        // The administrator may change it, but not everyone.
        EntryKind::Configuration if mode & OTHERS_WRITE == 0 => {
            return FileFinding::new(&entry.path, FileVerdict::Changed)
                .with_cause(causes.join(", "));
        }
        EntryKind::Program
        | EntryKind::Configuration
        | EntryKind::Documentation
        | EntryKind::Folder
        | EntryKind::Link => FileVerdict::Differs,
    };
    FileFinding::new(&entry.path, verdict)
        .with_cause(causes.join(", "))
        .with_remedy(remedies.join("; "))
}

/// The mode of a link has no effect; its folder decides who may replace it.
fn link(entry: &ManifestEntry, path: &Path, manifest: &PackageManifest) -> FileFinding {
    let wanted = entry.target.as_deref().unwrap_or(Path::new(""));
    let differs = |cause: String| {
        FileFinding::new(&entry.path, FileVerdict::Differs)
            .with_cause(cause)
            .with_remedy(reinstall(manifest))
    };
    match fs::read_link(path) {
        Ok(target) if target == wanted => FileFinding::new(&entry.path, FileVerdict::Ok),
        Ok(target) => differs(format!(
            "points to {} instead of {}",
            target.display(),
            wanted.display()
        )),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            differs("not a symbolic link".to_owned())
        }
        Err(error) => FileFinding::unknown(&entry.path, format!("cannot be read: {error}")),
    }
}

fn sha256(path: &Path) -> io::Result<String> {
    // It may have become a link or a pipe since it was inspected.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 256 << 10];
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            count => hash.update(&buffer[..count]),
        }
    }
    Ok(hex(&hash.finalize()))
}

fn reinstall(manifest: &PackageManifest) -> String {
    match manifest.format.as_str() {
        "deb" => "reinstall the package: apt install --reinstall ./jira-tunnel-agent_*.deb",
        "rpm" => "reinstall the package: yum reinstall ./jira-tunnel-agent-*.rpm",
        _ => "reinstall the package",
    }
    .to_owned()
}

/// Paths in a manifest are absolute, and `join` would discard the root.
pub(super) fn below(root: &Path, path: &Path) -> std::path::PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

const OTHERS_WRITE: u32 = 0o002;

//! Permissions of the agent's files: names, owners, modes, sizes, times; never their contents.

use crate::{accounts::SystemAccounts, config::AgentPaths};
use std::{
    collections::BTreeSet,
    fmt::Write,
    fs::{self, Metadata},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// One line for each file that the agent reads or writes: in the configuration, state and runtime folders, and wherever
/// the configuration names one. Blocks on the disk.
pub(super) fn table(config: &Path, paths: &AgentPaths) -> String {
    let mut listing = PermissionListing {
        accounts: SystemAccounts::read(Path::new("/")),
        lines: String::new(),
        count: 0,
        listed: BTreeSet::new(),
    };
    let folder = config.parent().unwrap_or(Path::new("/"));
    listing.folder(folder, 0);
    listing.folder(&folder.join("agent.d"), 0);
    listing.folder(&paths.state_dir, DEPTH);
    listing.folder(&paths.runtime_dir, DEPTH);
    let elsewhere = paths.secret_files.iter().chain(&paths.audit_file);
    for file in elsewhere {
        // The folder's mode matters as much as the file's own.
        listing.one(file.parent().unwrap_or(Path::new("/")));
        listing.one(file);
    }
    for part in [
        Path::new("/usr/bin/agent"),
        Path::new("/usr/lib/jira-tunnel-agent"),
    ] {
        listing.one(part);
    }
    listing.lines
}

struct PermissionListing {
    accounts: SystemAccounts,
    lines: String,
    count: usize,
    listed: BTreeSet<PathBuf>,
}

impl PermissionListing {
    /// A folder and what is in it, `deeper` levels down.
    fn folder(&mut self, folder: &Path, deeper: usize) {
        self.one(folder);
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        // A limit, so that a huge folder takes no time.
        let entries = entries.flatten().take(MAX_FILES);
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
            if is_folder && deeper > 0 {
                self.folder(&path, deeper - 1);
            } else {
                self.one(&path);
            }
        }
    }

    fn one(&mut self, path: &Path) {
        if !self.listed.insert(path.to_owned()) {
            return;
        }
        self.count += 1;
        if self.count > MAX_FILES {
            if self.count == MAX_FILES + 1 {
                self.lines += "and more\n";
            }
            return;
        }
        // Names may hold line breaks and escape sequences.
        let shown = path.to_string_lossy().escape_default().to_string();
        let line = match fs::symlink_metadata(path) {
            Ok(found) => self.line(&found, &shown, path),
            Err(error) => format!("{:>10}  {shown}: {error}", "-"),
        };
        let _ = writeln!(self.lines, "{line}");
    }

    fn line(&self, found: &Metadata, shown: &str, path: &Path) -> String {
        let kind = match found.file_type() {
            kind if kind.is_dir() => 'd',
            kind if kind.is_symlink() => 'l',
            kind if kind.is_file() => '-',
            _ => 's',
        };
        let owner = self.accounts.user(found.uid());
        let group = self.accounts.group(found.gid());
        let seconds = Duration::from_secs(u64::try_from(found.mtime()).unwrap_or_default());
        let time = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + seconds);
        let target = match kind {
            'l' => fs::read_link(path).map_or_else(
                |error| format!(" -> {error}"),
                |to| format!(" -> {}", to.to_string_lossy().escape_default()),
            ),
            _ => String::new(),
        };
        format!(
            "{kind}{:04o}  {owner}:{group}  {:>9}  {time}  {shown}{target}",
            found.mode() & 0o7777,
            found.len()
        )
    }
}

/// Levels below the state folder: `tokens/`, `spool/` and what is in them.
const DEPTH: usize = 2;
/// Usually there are a dozen; a spool or a folder that others use too may have many.
const MAX_FILES: usize = 500;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn names_and_rights_are_shown_and_never_what_is_in_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("state/tokens")).unwrap();
        fs::write(at("state/tokens/jira.json"), "the-secret").unwrap();
        fs::write(at("key\u{1b}[31m"), "the-secret").unwrap();
        fs::write(at("elsewhere"), "the-secret").unwrap();
        fs::set_permissions(at("elsewhere"), fs::Permissions::from_mode(0o640)).unwrap();
        let paths = AgentPaths {
            runtime_dir: at("run"),
            state_dir: at("state"),
            audit_file: None,
            secret_files: vec![at("elsewhere"), PathBuf::from("/none/such")],
        };
        let table = table(&at("agent.toml"), &paths);
        assert!(table.contains("state/tokens/jira.json\n"), "{table}");
        assert!(
            table.contains("\\u{1b}[31m") && !table.contains('\u{1b}'),
            "{table}"
        );
        let elsewhere = table.lines().find(|line| line.ends_with("/elsewhere"));
        assert!(elsewhere.unwrap().starts_with("-0640  "), "{table}");
        assert!(table.contains("/none/such: No such file"), "{table}");
        assert!(!table.contains("the-secret"));
    }

    #[test]
    fn a_folder_with_very_many_files_is_cut_short() {
        let folder = tempfile::tempdir().unwrap();
        for n in 0..MAX_FILES + 50 {
            fs::write(folder.path().join(n.to_string()), "").unwrap();
        }
        let paths = AgentPaths {
            runtime_dir: folder.path().join("run"),
            state_dir: folder.path().join("state"),
            audit_file: None,
            secret_files: Vec::new(),
        };
        let table = table(&folder.path().join("agent.toml"), &paths);
        assert!(table.lines().count() <= MAX_FILES + 1);
        assert!(table.ends_with("and more\n"), "{table}");
    }
}

//! Files that take precedence over the package's own: possibly intended, but worth knowing.

use super::{
    entry::below,
    report::{FileFinding, FileVerdict},
};
use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

/// Units and drop-ins that override the package's unit, and programs that a shell finds before it.
pub(super) fn find(root: &Path) -> Vec<FileFinding> {
    let mut findings = Vec::new();
    for folder in UNIT_FOLDERS {
        let unit = Path::new(folder).join(UNIT);
        if is_there(root, &unit) {
            findings.push(added(&unit, "overrides the package's unit"));
        }
        let drop_ins = Path::new(folder).join(format!("{UNIT}.d"));
        for name in files_in(&below(root, &drop_ins)) {
            findings.push(added(&drop_ins.join(name), "changes the package's unit"));
        }
    }
    for program in ["/usr/local/bin/agent", "/usr/local/sbin/agent"] {
        if is_there(root, Path::new(program)) {
            findings.push(added(Path::new(program), "shadows /usr/bin/agent in PATH"));
        }
    }
    findings
}

fn added(path: &Path, what: &str) -> FileFinding {
    FileFinding::new(path, FileVerdict::Added).with_cause(what)
}

fn is_there(root: &Path, path: &Path) -> bool {
    below(root, path).symlink_metadata().is_ok()
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries
        .take(MAX_FILES)
        .map(|entry| PathBuf::from(entry.file_name()))
        .filter(|name| name.extension() == Some(OsStr::new("conf")))
        .collect();
    names.sort();
    names
}

const UNIT: &str = "jira-tunnel-agent.service";
/// systemd.unit(5): these come before /usr/lib.
const UNIT_FOLDERS: [&str; 3] = [
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
];
/// More drop-ins than any host has.
const MAX_FILES: usize = 100;

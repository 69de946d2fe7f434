//! Who can change the configuration decides what the vendor may do. So every file of it is checked as sshd checks
//! authorized_keys (sshd_config(5), `StrictModes`): the file, each folder above it and each link on the way must
//! belong to root or the agent's user, and no other user may write to them.
//!
//! There are two exceptions, for places where sshd does not run. A folder like /tmp passes if root owns it and it is
//! sticky: only the owner of a file in it can replace the file. On a read-only mount nothing is checked, since nothing
//! there can change: Kubernetes mounts a ConfigMap so, as a folder with mode 0777.

use super::{
    problem::{ConfigProblems, ValueOrigin},
    raw,
    source::ConfigSources,
};
use crate::accounts::SystemAccounts;
use rustix::fs::StatVfsMountFlags;
use std::{
    collections::VecDeque,
    ffi::OsString,
    fs::{self, Metadata},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Component, Path, PathBuf},
};

/// Users who may own files of the configuration.
#[derive(Clone)]
pub(super) struct TrustedOwners {
    users: Vec<u32>,
    /// The private group of the user who runs this, named like the user: with the umask 002 of several distributions
    /// it may write all files of a developer. Not for root.
    private_group: Option<u32>,
    accounts: SystemAccounts,
}

/// A file or folder that another user could change.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnsafePath {
    /// The file, or the folder or link on the way to it.
    pub path: PathBuf,
    /// The problem, and the command that corrects it.
    pub text: String,
}

impl TrustedOwners {
    /// Root, the user who runs this, and the user of the service. Blocks on the disk.
    pub(super) fn of(sources: &ConfigSources) -> Self {
        let own = rustix::process::geteuid().as_raw();
        let accounts = SystemAccounts::read(Path::new("/"));
        let mut users = vec![0, own];
        users.extend(accounts.ids(SERVICE_USER).map(|(user, _)| user));
        let state = sources.systemd_folder("STATE_DIRECTORY");
        let state = state.unwrap_or_else(raw::state_dir);
        users.extend(fs::metadata(state).ok().map(|found| found.uid()));
        let group = rustix::process::getegid().as_raw();
        let is_private = own != 0 && accounts.user(own) == accounts.group(group);
        Self {
            users,
            private_group: is_private.then_some(group),
            accounts,
        }
    }

    /// Finds the first component of `path` that another user could replace. Missing files are not an error here.
    pub(super) fn check_path(&self, path: &Path) -> Result<(), UnsafePath> {
        let mut rest: VecDeque<OsString> = components(path);
        let mut at = PathBuf::from("/");
        self.check_component(&at)?;
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            at.push(part);
            let Ok(found) = fs::symlink_metadata(&at) else {
                return Ok(());
            };
            if !found.is_symlink() {
                self.check_component(&at)?;
                continue;
            }
            self.check_owner(&at, &found)?;
            links += 1;
            let Ok(target) = fs::read_link(&at) else {
                return Ok(());
            };
            // Opening it fails with ELOOP.
            if links > MAX_LINKS {
                return Ok(());
            }
            match target.is_absolute() {
                true => at = PathBuf::from("/"),
                false => {
                    at.pop();
                }
            }
            for part in components(&target).into_iter().rev() {
                rest.push_front(part);
            }
        }
        Ok(())
    }

    fn check_component(&self, path: &Path) -> Result<(), UnsafePath> {
        let Ok(found) = fs::symlink_metadata(path) else {
            return Ok(());
        };
        self.check_owner(path, &found)?;
        let mode = found.permissions().mode() & 0o7777;
        let is_shared_folder = found.is_dir() && mode & STICKY != 0 && found.uid() == 0;
        let others = mode & OTHERS_WRITE != 0;
        let group = mode & GROUP_WRITE != 0 && self.private_group != Some(found.gid());
        let (who, classes) = match (group, others) {
            (false, false) => return Ok(()),
            (true, true) => ("anyone on this host".to_owned(), "go"),
            (false, true) => ("anyone on this host".to_owned(), "o"),
            (true, false) => {
                let group = self.accounts.group(found.gid());
                (format!("the group {group}"), "g")
            }
        };
        if is_shared_folder || is_read_only(path) {
            return Ok(());
        }
        Err(UnsafePath {
            path: path.to_owned(),
            text: format!(
                "{who} may change it (mode {mode:04o}); run: chmod {classes}-w {}",
                path.display()
            ),
        })
    }

    fn check_owner(&self, path: &Path, found: &Metadata) -> Result<(), UnsafePath> {
        if self.users.contains(&found.uid()) || is_read_only(path) {
            return Ok(());
        }
        let dereference = if found.is_symlink() { "-h " } else { "" };
        Err(UnsafePath {
            path: path.to_owned(),
            text: format!(
                "it belongs to the user {}, who may change it; run: chown {dereference}root {}",
                self.accounts.user(found.uid()),
                path.display()
            ),
        })
    }

    /// Like [`check_path`](Self::check_path), reported as a problem of the configuration.
    pub(super) fn check_for_config(&self, path: &Path, problems: &mut ConfigProblems) {
        if let Err(unsafe_path) = self.check_path(path) {
            problems.add(ValueOrigin::file(&unsafe_path.path), "", unsafe_path.text);
        }
    }
}

fn components(path: &Path) -> VecDeque<OsString> {
    let named = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    named.collect()
}

/// A link is on the mount of its folder.
fn is_read_only(path: &Path) -> bool {
    let place = match fs::symlink_metadata(path) {
        Ok(found) if found.is_symlink() => path.parent().unwrap_or(path),
        _ => path,
    };
    rustix::fs::statvfs(place).is_ok_and(|found| found.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// User of the service, created by the packages.
pub(crate) const SERVICE_USER: &str = "jira-tunnel-agent";
/// The limit of the kernel (path_resolution(7)).
const MAX_LINKS: u32 = 40;
const OTHERS_WRITE: u32 = 0o002;
const GROUP_WRITE: u32 = 0o020;
const STICKY: u32 = 0o1000;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::{collections::BTreeMap, fs::Permissions, os::unix::fs::symlink};

    struct Configured {
        folder: tempfile::TempDir,
    }

    impl Configured {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("agent.d")).unwrap();
            let configured = Self { folder };
            configured.write("agent.toml", 0o644);
            configured.write("agent.d/50-local.toml", 0o644);
            configured
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn write(&self, name: &str, mode: u32) {
            fs::write(self.path(name), "[log]\n").unwrap();
            self.mode(name, mode);
        }

        fn mode(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        }

        /// What is found wrong in all of it, each with its place.
        fn problems(&self) -> Vec<String> {
            let sources = ConfigSources::new(Some(self.path("agent.toml")), BTreeMap::new());
            let mut problems = ConfigProblems::default();
            sources.layers(&mut problems);
            problems.iter().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn what_somebody_else_could_write_is_refused_with_the_command_that_corrects_it() {
        for (name, mode, who, classes) in [
            ("agent.toml", 0o666, "anyone on this host", "go"),
            ("agent.toml", 0o664, "the group ", "g"),
            ("agent.d/50-local.toml", 0o646, "anyone on this host", "o"),
            ("agent.d", 0o777, "anyone on this host", "go"),
            ("agent.d", 0o775, "the group ", "g"),
            ("", 0o757, "anyone on this host", "o"),
            // Sticky helps where the folder is root's alone.
            ("", 0o772, "anyone on this host", "go"),
        ] {
            let configured = Configured::new();
            assert_eq!(configured.problems(), [""; 0]);
            configured.mode(name, mode);
            let problems = configured.problems();
            let path = configured.path(name);
            let path = path.display().to_string();
            let path = path.trim_end_matches('/');
            assert_eq!(problems.len(), 1, "{name} {mode:o}: {problems:?}");
            let problem = &problems[0];
            assert!(problem.contains(who), "{problem}");
            assert!(problem.starts_with(path), "{problem}");
            let command = format!("(mode {mode:04o}); run: chmod {classes}-w {path}");
            assert!(
                problem.trim_end_matches('/').ends_with(&command),
                "{problem}"
            );
        }
    }

    /// Needs root, as the tests are run.
    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        for name in ["agent.toml", "agent.d/50-local.toml", "agent.d", ""] {
            let configured = Configured::new();
            std::os::unix::fs::chown(configured.path(name), Some(65533), None).unwrap();
            let problems = configured.problems();
            assert_eq!(problems.len(), 1, "{name}: {problems:?}");
            assert!(
                problems[0].contains("belongs to the user 65533"),
                "{problems:?}"
            );
            assert!(problems[0].contains("; run: chown root "), "{problems:?}");
        }
    }

    #[test]
    fn a_link_is_as_good_as_every_folder_that_it_leads_through() {
        let configured = Configured::new();
        let elsewhere = tempfile::tempdir().unwrap();
        let at = |name: &str| elsewhere.path().join(name);
        fs::create_dir(at("open")).unwrap();
        fs::write(at("open/60.toml"), "[log]\n").unwrap();
        fs::write(at("60.toml"), "[log]\n").unwrap();
        symlink(at("60.toml"), at("hop.toml")).unwrap();
        symlink(at("hop.toml"), configured.path("agent.d/60.toml")).unwrap();
        assert_eq!(configured.problems(), [""; 0]);
        // As a ConfigMap is mounted: a link to `..data`, which is a link itself.
        symlink(
            "../agent.d/50-local.toml",
            configured.path("agent.d/70.toml"),
        )
        .unwrap();
        assert_eq!(configured.problems(), [""; 0]);
        fs::set_permissions(at("open"), Permissions::from_mode(0o777)).unwrap();
        fs::remove_file(at("hop.toml")).unwrap();
        symlink("open/60.toml", at("hop.toml")).unwrap();
        let problems = configured.problems();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(
            problems[0].starts_with(&at("open").display().to_string()),
            "{problems:?}"
        );
        // A circle ends.
        fs::remove_file(at("hop.toml")).unwrap();
        symlink("hop.toml", at("hop.toml")).unwrap();
        assert_eq!(configured.problems().len(), 1);
    }
}

//! `agent verify-self` on an artificial system below its own root folder.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::verify::{FileVerdict, VerifyReport};
use e2e::agent::binary;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

#[test]
fn packaged_files_are_ok_and_configuration_may_change() {
    let system = FakeSystem::new();
    let (report, code) = system.verify();
    assert_eq!(
        (report.verdict, code),
        (FileVerdict::Ok, Some(0)),
        "{report:#?}"
    );
    assert_eq!(report.as_packaged, FILES.len() + FOLDERS.len());
    assert!(report.findings.is_empty(), "{report:#?}");

    fs::write(system.at(CONFIG), "[tunnel]\n").unwrap();
    fs::set_permissions(system.at(CONFIG), Permissions::from_mode(0o640)).unwrap();
    fs::remove_file(system.at(LOGROTATE)).unwrap();
    // As on systems that exclude documentation.
    fs::remove_file(system.at(DOCUMENT)).unwrap();
    let (report, code) = system.verify();
    assert_eq!(code, Some(0), "{report:#?}");
    let found = |path| find(&report, path).verdict;
    assert_eq!(found(CONFIG), FileVerdict::Changed);
    assert_eq!(found(LOGROTATE), FileVerdict::Changed);
    assert_eq!(found(DOCUMENT), FileVerdict::LeftOut);
    let text = system.text();
    assert!(
        text.contains(
            "changed  /etc/jira-tunnel-agent/agent.toml: mode 0640 instead of 0644, content changed"
        ),
        "{text}"
    );
    assert!(
        text.contains("0 differ") && text.contains("not an attacker"),
        "{text}"
    );

    // The administrator may change it, but it must not be world-writable.
    fs::set_permissions(system.at(CONFIG), Permissions::from_mode(0o666)).unwrap();
    let (report, code) = system.verify();
    assert_eq!(
        (find(&report, CONFIG).verdict, code),
        (FileVerdict::Differs, Some(1))
    );
}

#[test]
fn each_difference_is_named_with_what_to_do_about_it() {
    type Spoil = fn(&Path);
    let cases: [(Spoil, &str, &str); 6] = [
        (
            |file| fs::write(file, "other").unwrap(),
            "content changed",
            "reinstall the package",
        ),
        (
            |file| fs::set_permissions(file, Permissions::from_mode(0o777)).unwrap(),
            "mode 0777 instead of 0755",
            "chmod 0755 /usr/bin/agent",
        ),
        (
            |file| fs::set_permissions(file, Permissions::from_mode(0o4755)).unwrap(),
            "mode 4755 instead of 0755",
            "chmod 0755 /usr/bin/agent",
        ),
        (
            |file| fs::remove_file(file).unwrap(),
            "missing",
            "apt install --reinstall",
        ),
        (
            |file| {
                fs::rename(file, file.with_extension("real")).unwrap();
                symlink(file.with_extension("real"), file).unwrap();
            },
            "not a regular file",
            "reinstall the package",
        ),
        (
            |file| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            },
            "not a regular file",
            "reinstall the package",
        ),
    ];
    for (spoil, cause, remedy) in cases {
        let system = FakeSystem::new();
        spoil(&system.at(PROGRAM));
        let (report, code) = system.verify();
        assert_eq!(
            (report.verdict, code),
            (FileVerdict::Differs, Some(1)),
            "{cause}"
        );
        assert_eq!(report.findings.len(), 1, "{report:#?}");
        let found = find(&report, PROGRAM);
        assert_eq!(found.cause.as_deref(), Some(cause));
        assert!(
            found.remedy.as_deref().unwrap().contains(remedy),
            "{found:?}"
        );
        let text = system.text();
        assert!(
            text.contains("DIFFERS  /usr/bin/agent") && text.contains(remedy),
            "{text}"
        );
    }
}

/// The package's name is a symbolic link to the program.
#[test]
fn a_link_is_held_to_where_it_leads() {
    let system = FakeSystem::new();
    let mut manifest = system.manifest();
    let mut link = manifest["files"][0].clone();
    for (member, value) in [
        ("path", json!(LINK)),
        ("kind", json!("link")),
        ("mode", json!("0777")),
        ("sha256", Value::Null),
        ("target", json!("agent")),
    ] {
        link[member] = value;
    }
    manifest["files"].as_array_mut().unwrap().push(link);
    system.write_manifest(&manifest);
    let place = system.at(LINK);
    symlink("agent", &place).unwrap();
    assert_eq!(system.verify().1, Some(0));

    let other = |system: &FakeSystem, cause: &str| {
        let (report, code) = system.verify();
        assert_eq!(code, Some(1), "{report:#?}");
        let found = find(&report, LINK);
        assert_eq!(found.cause.as_deref(), Some(cause));
        assert!(found.remedy.as_deref().unwrap().contains("reinstall"));
        fs::remove_file(&place).unwrap();
    };
    fs::remove_file(&place).unwrap();
    symlink("/tmp/agent", &place).unwrap();
    other(&system, "points to /tmp/agent instead of agent");
    fs::write(&place, "").unwrap();
    other(&system, "not a symbolic link");
    let (report, code) = system.verify();
    assert_eq!(
        (find(&report, LINK).cause.as_deref(), code),
        (Some("missing"), Some(1))
    );
}

#[test]
fn another_owner_is_a_difference() {
    let system = FakeSystem::new();
    let mut manifest = system.manifest();
    let program = manifest["files"].as_array_mut().unwrap();
    let program = program
        .iter_mut()
        .find(|entry| entry["path"] == PROGRAM)
        .unwrap();
    program["owner"] = json!("jira-tunnel-agent");
    system.write_manifest(&manifest);
    let (report, code) = system.verify();
    assert_eq!(code, Some(1));
    let found = find(&report, PROGRAM);
    assert!(
        found
            .cause
            .as_deref()
            .unwrap()
            .contains("instead of jira-tunnel-agent:"),
        "{found:?}"
    );
    assert!(
        found
            .remedy
            .as_deref()
            .unwrap()
            .starts_with("chown jira-tunnel-agent:"),
        "{found:?}"
    );
}

#[test]
fn what_stands_in_front_of_the_packages_files_is_told() {
    let system = FakeSystem::new();
    for path in [
        "/etc/systemd/system/jira-tunnel-agent.service",
        "/etc/systemd/system/jira-tunnel-agent.service.d/proxy.conf",
        "/usr/local/bin/agent",
    ] {
        fs::create_dir_all(system.at(path).parent().unwrap()).unwrap();
        fs::write(system.at(path), "").unwrap();
        let (report, code) = system.verify();
        assert_eq!(
            (find(&report, path).verdict, code),
            (FileVerdict::Added, Some(0))
        );
    }
}

#[test]
fn without_a_usable_manifest_nothing_is_claimed() {
    let system = FakeSystem::new();
    let manifest = system.manifest().to_string();
    for spoiled in [
        "",
        "[]",
        &manifest[..manifest.len() / 2],
        &manifest.replace("\"version\":1", "\"version\":2"),
    ] {
        fs::write(system.at(MANIFEST), spoiled).unwrap();
        let done = system.run(&[]);
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        assert!(done.stdout.is_empty());
        assert!(String::from_utf8_lossy(&done.stderr).contains("reinstall the package"));
    }
    fs::remove_file(system.at(MANIFEST)).unwrap();
    let done = system.run(&[]);
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stderr).contains("does not come from a package"));

    // A manifest from elsewhere, as after a change of the installed one.
    let elsewhere = tempfile::NamedTempFile::new().unwrap();
    fs::write(elsewhere.path(), manifest).unwrap();
    let done = system.run(&["--manifest", elsewhere.path().to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
}

/// A root folder with a package installed in it.
struct FakeSystem(tempfile::TempDir);

impl FakeSystem {
    fn new() -> Self {
        let system = Self(tempfile::tempdir().unwrap());
        for folder in FOLDERS {
            fs::create_dir_all(system.at(folder)).unwrap();
            fs::set_permissions(system.at(folder), Permissions::from_mode(0o755)).unwrap();
        }
        for (path, _, mode) in FILES {
            fs::create_dir_all(system.at(path).parent().unwrap()).unwrap();
            fs::write(system.at(path), path).unwrap();
            fs::set_permissions(system.at(path), Permissions::from_mode(mode)).unwrap();
        }
        fs::copy("/etc/passwd", system.at("/etc/passwd")).unwrap();
        fs::copy("/etc/group", system.at("/etc/group")).unwrap();
        system.write_manifest(&system.manifest());
        system
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    /// A manifest of the files as they are now.
    fn manifest(&self) -> Value {
        let owned = fs::metadata(self.0.path()).unwrap();
        let name = |file: &str, id: u32| {
            let text = fs::read_to_string(file).unwrap();
            let id = id.to_string();
            let line = text
                .lines()
                .find(|line| line.split(':').nth(2) == Some(&id));
            line.map_or(id.clone(), |line| {
                line.split(':').next().unwrap().to_owned()
            })
        };
        let (owner, group) = (
            name("/etc/passwd", owned.uid()),
            name("/etc/group", owned.gid()),
        );
        let folders = FOLDERS.map(|path| (path, "folder", 0o755, None));
        let files = FILES.map(|(path, kind, mode)| {
            let bytes = fs::read(self.at(path)).unwrap();
            let sum = Sha256::digest(&bytes);
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            (path, kind, mode, Some(sum))
        });
        let entries = folders
            .into_iter()
            .chain(files)
            .map(|(path, kind, mode, sha256)| {
                json!({ "path": path, "kind": kind, "mode": format!("{mode:04o}"),
                    "owner": owner, "group": group, "sha256": sha256 })
            });
        let entries: Vec<_> = entries.collect();
        json!({ "version": 1, "package_version": "1.2.3-1", "format": "deb", "files": entries })
    }

    fn write_manifest(&self, manifest: &Value) {
        fs::write(self.at(MANIFEST), manifest.to_string()).unwrap();
    }

    fn run(&self, more: &[&str]) -> Output {
        let mut command = Command::new(binary("agent"));
        command
            .args(["verify-self", "--root"])
            .arg(self.0.path())
            .args(more);
        command.output().unwrap()
    }

    fn verify(&self) -> (VerifyReport, Option<i32>) {
        let done = self.run(&["--json"]);
        let report = serde_json::from_slice(&done.stdout);
        (
            report.unwrap_or_else(|error| panic!("{error}: {done:?}")),
            done.status.code(),
        )
    }

    fn text(&self) -> String {
        String::from_utf8(self.run(&[]).stdout).unwrap()
    }
}

fn find<'a>(report: &'a VerifyReport, path: &str) -> &'a agent::verify::FileFinding {
    let found = report
        .findings
        .iter()
        .find(|finding| finding.path == Path::new(path));
    found.unwrap_or_else(|| panic!("nothing of {path} in {report:#?}"))
}

const LINK: &str = "/usr/bin/jira-tunnel-agent";
const PROGRAM: &str = "/usr/bin/agent";
const CONFIG: &str = "/etc/jira-tunnel-agent/agent.toml";
const LOGROTATE: &str = "/etc/logrotate.d/jira-tunnel-agent";
const DOCUMENT: &str = "/usr/share/doc/jira-tunnel-agent/install.md.gz";
const MANIFEST: &str = "/usr/lib/jira-tunnel-agent/manifest.json";
const FOLDERS: [&str; 2] = ["/etc/jira-tunnel-agent", "/usr/lib/jira-tunnel-agent"];
const FILES: [(&str, &str, u32); 4] = [
    (PROGRAM, "program", 0o755),
    (CONFIG, "configuration", 0o644),
    (LOGROTATE, "configuration", 0o644),
    (DOCUMENT, "documentation", 0o644),
];

//! Paths in the configuration, read without validation: for commands that inspect files even if the configuration is
//! invalid.

use super::{
    merged::{MergedConfig, member},
    problem::ConfigProblems,
    raw,
    source::ConfigSources,
};
use config::{Value, ValueKind};
use std::path::PathBuf;

/// Files and folders of one agent. They need not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentPaths {
    /// The folder of the runtime socket, absolute.
    pub runtime_dir: PathBuf,
    /// The state folder, absolute.
    pub state_dir: PathBuf,
    /// The audit file, if `audit.file` is set.
    pub audit_file: Option<PathBuf>,
    /// Every file with a secret.
    pub secret_files: Vec<PathBuf>,
}

impl AgentPaths {
    /// Reads the configuration without validating it. Blocks on the disk.
    pub fn read(sources: &ConfigSources) -> Self {
        let merged = MergedConfig::read(sources, &mut ConfigProblems::default());
        let folder = sources.folder();
        let text = |path: &[&str]| {
            let mut value = &merged.tree;
            for name in path {
                value = member(value, name)?;
            }
            Some(value.to_string())
        };
        let mut names = Vec::new();
        secret_names(&merged.tree, &mut names);
        let credentials = sources.systemd_folder("CREDENTIALS_DIRECTORY");
        let locate = |name: String| {
            let credential = credentials.as_ref().map(|folder| folder.join(&name));
            let credential = credential.filter(|path| !name.contains('/') && path.exists());
            credential.unwrap_or_else(|| folder.join(&name))
        };
        let state_dir = text(&["state_dir"]).map_or_else(raw::state_dir, PathBuf::from);
        Self {
            runtime_dir: folder.join(merged.runtime_dir()),
            state_dir: folder.join(state_dir),
            audit_file: text(&["audit", "file"]).map(|file| folder.join(file)),
            secret_files: names.into_iter().map(locate).collect(),
        }
    }
}

/// Collects the values of all keys that name a file with a secret.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the others are treated alike"
)]
fn secret_names(value: &Value, names: &mut Vec<String>) {
    let ValueKind::Table(table) = &value.kind else {
        return;
    };
    for (key, value) in table {
        match &value.kind {
            ValueKind::String(name) if key.ends_with("_file") && !names_public_file(key) => {
                names.push(name.clone());
            }
            _ => secret_names(value, names),
        }
    }
}

/// Every other key that ends in `_file` names a secret.
fn names_public_file(key: &str) -> bool {
    [
        "ca_file",
        "certificate_file",
        "client_ca_file",
        "gateway_ca_file",
        "known_hosts_file",
        "client_certificate_file",
    ]
    .contains(&key)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::keys::{self, SectionSchema};

    #[test]
    fn every_secret_of_a_configuration_that_cannot_be_used_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        let text = "state_dir = \"/state\"\n[tunnel]\nidentity_file = \"key\"\nknown_hosts_file = \"hosts\"\n\
                    [[forward]]\nname = \"jira\"\nca_file = \"ca.pem\"\n[forward.auth]\nmode = \"none such\"\n\
                    token_file = \"/secrets/pat\"\n";
        std::fs::write(&file, text).unwrap();
        let sources = ConfigSources::new(Some(file), Default::default());
        let paths = AgentPaths::read(&sources);
        let mut secrets = paths.secret_files;
        secrets.sort();
        assert_eq!(
            secrets,
            [PathBuf::from("/secrets/pat"), folder.path().join("key")]
        );
        assert_eq!(paths.state_dir, PathBuf::from("/state"));
        assert_eq!(paths.runtime_dir, raw::runtime_dir());
    }

    #[test]
    fn each_key_that_names_a_file_is_known_to_be_secret_or_public() {
        fn each(section: &SectionSchema, keys: &mut Vec<String>) {
            keys.extend(section.keys.iter().map(|key| key.name.clone()));
            section.sections.iter().for_each(|inner| each(inner, keys));
        }
        let mut keys = Vec::new();
        each(keys::root(), &mut keys);
        keys.retain(|key| key.ends_with("_file") && !names_public_file(key));
        keys.sort();
        let secret = [
            "access_token_file",
            "client_key_file",
            "client_secret_file",
            "identity_file",
            "identity_passphrase_file",
            "jira_secret_file",
            "key_file",
            "password_file",
            "path_secret_file",
            "private_key_file",
            "proxy_password_file",
            "refresh_token_file",
            "secret_file",
            "token_file",
        ];
        keys.dedup();
        assert_eq!(keys, secret);
    }
}

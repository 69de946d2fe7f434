//! Where the configuration is read from: the file, its drop-ins, the environment.

use super::{
    environment,
    layer::{ConfigLayer, RepeatedNames},
    problem::{ConfigProblems, ValueOrigin},
    trusted_owners::TrustedOwners,
};
use crate::plain_file;
use config::ValueKind;
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
};

/// Selects the configuration to read.
#[derive(Clone, Debug)]
pub struct ConfigSources {
    /// Path of the main configuration file.
    pub file: PathBuf,
    /// The environment, with overrides and the folders of systemd.
    pub environment: BTreeMap<String, String>,
    /// A drop-in to validate before it is written.
    pub proposed: Option<ProposedDropIn>,
}

/// A drop-in that is not written yet. It is read as if it were, and a missing main file as empty.
#[derive(Clone, Debug)]
pub struct ProposedDropIn {
    /// The path that it will have.
    pub path: PathBuf,
    /// The TOML that it will contain.
    pub text: String,
}

impl ConfigSources {
    /// `--config`, else `JIRA_TUNNEL_AGENT_CONFIG`, else the packaged file; with this process's
    /// environment.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        let text = |text: &OsStr| text.to_string_lossy().into_owned();
        let environment = std::env::vars_os()
            .map(|(name, value)| (text(&name), text(&value)))
            .collect();
        Self::new(file, environment)
    }

    /// Like [`from_process`](Self::from_process), with the given environment.
    pub fn new(file: Option<PathBuf>, environment: BTreeMap<String, String>) -> Self {
        let named = environment
            .get(FILE_VARIABLE)
            .filter(|name| !name.is_empty());
        let file = file
            .or_else(|| named.map(PathBuf::from))
            .unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
        Self {
            // Fails only without a working folder; then the path stays relative.
            file: std::path::absolute(&file).unwrap_or(file),
            environment,
            proposed: None,
        }
    }

    /// The same sources with this drop-in instead of the file of the same path.
    pub fn with_proposed(&self, proposed: ProposedDropIn) -> Self {
        Self {
            proposed: Some(proposed),
            ..self.clone()
        }
    }

    /// The folder of the file. Relative paths start here.
    pub fn folder(&self) -> &Path {
        self.file.parent().unwrap_or(Path::new("/"))
    }

    /// The folder of drop-ins, which need not exist.
    pub fn drop_in_folder(&self) -> PathBuf {
        self.folder().join(DROP_INS)
    }

    /// The folder in a variable of systemd; the first, if there are several.
    pub fn systemd_folder(&self, variable: &str) -> Option<PathBuf> {
        let value = self.environment.get(variable)?;
        let first = value.split(':').next().filter(|first| !first.is_empty())?;
        Some(PathBuf::from(first))
    }

    /// All layers, lowest precedence first.
    pub(super) fn layers(&self, problems: &mut ConfigProblems) -> Vec<ConfigLayer> {
        let mut layers = Vec::new();
        let owners = TrustedOwners::of(self);
        match read_text(&self.file) {
            Ok(text) => {
                owners.check_for_config(&self.file, problems);
                layers.push(ConfigLayer::from_toml(&self.file, &text, problems));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.proposed.is_some() => {}
            Err(error) => report_unreadable(&self.file, &error, true, problems),
        }
        // Also if it is empty: anyone who may write to it can add a file later.
        owners.check_for_config(&self.drop_in_folder(), problems);
        for path in self.drop_ins(problems) {
            let proposed = self
                .proposed
                .as_ref()
                .filter(|proposed| proposed.path == path);
            if let Some(proposed) = proposed {
                layers.push(ConfigLayer::from_toml(&path, &proposed.text, problems));
                continue;
            }
            match read_text(&path) {
                Ok(text) => {
                    owners.check_for_config(&path, problems);
                    layers.push(ConfigLayer::from_toml(&path, &text, problems));
                }
                Err(error) => report_unreadable(&path, &error, false, problems),
            }
        }
        let mut names = RepeatedNames::default();
        for layer in &layers {
            names.add_all(&layer.names);
        }
        let variables = self.environment.iter();
        let variables = variables.map(|(name, value)| (name.as_str(), value.as_str()));
        layers.push(environment::layer(variables, &names, problems));
        layers.push(self.systemd_layer());
        layers
    }

    /// `agent.d/*.toml` beside the file, sorted by name.
    fn drop_ins(&self, problems: &mut ConfigProblems) -> Vec<PathBuf> {
        let folder = self.drop_in_folder();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => Some(entries),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                report_unreadable(&folder, &error, false, problems);
                return Vec::new();
            }
        };
        let proposed = self.proposed.as_ref().map(|proposed| &proposed.path);
        let mut found: Vec<_> = entries
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| Some(path) != proposed)
            .chain(proposed.cloned())
            .filter(|path| path.extension() == Some(OsStr::new("toml")))
            // Editors leave lock and swap files that begin with a dot.
            .filter(|path| !file_name(path).starts_with(b"."))
            .collect();
        found.sort();
        found
    }

    fn systemd_layer(&self) -> ConfigLayer {
        let mut layer = ConfigLayer::default();
        for (variable, key) in [
            ("STATE_DIRECTORY", "state_dir"),
            ("RUNTIME_DIRECTORY", "runtime_dir"),
        ] {
            if let Some(folder) = self.systemd_folder(variable) {
                let value = ValueKind::String(folder.display().to_string());
                layer.put(&[key], value, &ValueOrigin::environment(variable));
            }
        }
        layer
    }
}

fn file_name(path: &Path) -> &[u8] {
    path.file_name().unwrap_or_default().as_encoded_bytes()
}

fn read_text(path: &Path) -> io::Result<String> {
    let bytes = plain_file::read(path, MAX_FILE_LEN)?;
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std adds kinds of errors; these are the ones with a text of their own"
)]
fn report_unreadable(path: &Path, error: &io::Error, main: bool, problems: &mut ConfigProblems) {
    let text = match error.kind() {
        io::ErrorKind::NotFound if main => {
            format!(
                "no such file; create it, or name another one with --config FILE or {FILE_VARIABLE}"
            )
        }
        io::ErrorKind::PermissionDenied => {
            let text = "no permission to read it; run as root or as the user jira-tunnel-agent, or change the owner";
            return problems.add_denied(ValueOrigin::file(path), text);
        }
        io::ErrorKind::InvalidData => "not UTF-8 text; save it as UTF-8".to_owned(),
        _ => format!("cannot be read: {error}"),
    };
    problems.add(ValueOrigin::file(path), "", text);
}

/// Variable with the path of the file, used without `--config`.
pub const FILE_VARIABLE: &str = "JIRA_TUNNEL_AGENT_CONFIG";
/// Path of the packaged file.
pub const DEFAULT_FILE: &str = "/etc/jira-tunnel-agent/agent.toml";
/// The folder of drop-ins, beside the file.
const DROP_INS: &str = "agent.d";
/// Bytes. Limits what a wrong path can make the agent read.
const MAX_FILE_LEN: u64 = 1 << 20;

//! One file, drop-ins, environment overrides → types that cannot hold a wrong value. Parsed once,
//! before any socket is opened.
//!
//! `raw` says which keys there are, `keys` makes one list of them, `source` finds the files,
//! `layer`, `environment` and `value` hold each file and variable against the list, `merged` merges them (with the `config`
//! crate) and remembers where each value comes from, `validate` turns the result into the rooms' types.
//! [`show`](MergedConfig::show) and [`mod@reference`] render the same list for people.

mod environment;
mod files;
mod fingerprint;
mod keys;
mod layer;
mod merged;
mod paths;
mod problem;
mod raw;
pub mod reference;
mod show;
mod source;
mod trusted_owners;
mod units;
mod validate;
mod value;

pub use fingerprint::ConfigFingerprint;
pub use merged::MergedConfig;
pub use paths::AgentPaths;
pub use problem::{ConfigProblem, ConfigProblems, ValueOrigin};
pub use source::{ConfigSources, DEFAULT_FILE, FILE_VARIABLE, ProposedDropIn};

use crate::{
    audit,
    auth::{self, UpstreamAuth},
    http, policy,
    status::StatusLayer,
    tunnel,
    upstream::{self, UpstreamTarget},
};
use std::{path::PathBuf, sync::Arc};

/// The whole configuration, valid.
#[derive(Clone)]
pub struct Config {
    /// Settings from the section `[tunnel]`.
    pub tunnel: Arc<tunnel::Settings>,
    /// What its sessions are opened by, to tell whether those that stand have to be replaced.
    pub tunnel_fingerprint: ConfigFingerprint,
    /// `[[forward]]`, at least one, names and binds unique.
    pub forwards: Vec<ForwardConfig>,
    /// Settings from the section `[audit]`.
    pub audit: audit::Settings,
    /// Settings from the section `[log]`.
    pub log: crate::telemetry::Settings,
    /// State folder: `STATE_DIRECTORY`, or `/var/lib/jira-tunnel-agent`.
    pub state_dir: PathBuf,
    /// Runtime folder: `RUNTIME_DIRECTORY`, or `/run/jira-tunnel-agent`.
    pub runtime_dir: PathBuf,
}

/// One `[[forward]]` section, validated.
#[derive(Clone)]
pub struct ForwardConfig {
    /// Unique; letters, digits, `-`, `_`.
    pub name: Arc<str>,
    /// Where the gateway is to listen.
    pub bind: tunnel::BindAddress,
    /// The way to Jira.
    pub upstream: upstream::Settings,
    /// Settings from the section `[forward.auth]`.
    pub auth: auth::Settings,
    /// Settings from the section `[forward.policy]`.
    pub policy: policy::Settings,
    /// Vendor headers that may pass, from the section `[forward.headers]`.
    pub headers: auth::VendorHeaders,
    /// Settings from the section `[forward.http]`.
    pub http: http::HttpLimits,
    /// Fingerprint of the settings in `upstream`.
    pub upstream_fingerprint: ConfigFingerprint,
    /// Of `auth`, which also needs `way`.
    pub auth_fingerprint: ConfigFingerprint,
}

impl ForwardConfig {
    /// A login of its own, which has not been tried yet; `layer` is that of its status.
    pub fn new_auth(&self, layer: Arc<StatusLayer>) -> UpstreamAuth {
        let tls = matches!(&self.upstream.target, UpstreamTarget::Http(target) if target.tls);
        UpstreamAuth::new_with_tls(self.auth.clone(), layer, tls)
            .with_vendor_headers(self.headers.clone())
    }
}

impl Config {
    /// Reads and judges the configuration, with every file it names. Blocks on the disk. The error
    /// holds everything that was found wrong.
    pub fn load(sources: &ConfigSources) -> Result<Self, ConfigProblems> {
        Self::load_with(sources, files::SecretAccess::Needed).map(|(config, _)| config)
    }

    /// The same for a command that shows and judges, and connects to nothing: secrets that this user may not read are
    /// left alone, and the agent's key is [a stand-in](tunnel::session::SshIdentity::ephemeral) then. Beside it the merged
    /// values with where each comes from.
    pub fn load_to_show(sources: &ConfigSources) -> Result<(Self, MergedConfig), ConfigProblems> {
        Self::load_with(sources, files::SecretAccess::WhereAllowed)
    }

    fn load_with(
        sources: &ConfigSources,
        secrets: files::SecretAccess,
    ) -> Result<(Self, MergedConfig), ConfigProblems> {
        let mut problems = ConfigProblems::default();
        let mut merged = MergedConfig::read(sources, &mut problems);
        // What does not fit was left out: judging the rest would find fault where there is none.
        if !problems.is_empty() {
            return Err(problems);
        }
        if merged.is_blank() {
            problems.add(ValueOrigin::file(&sources.file), "", NOT_CONFIGURED);
            return Err(problems);
        }
        let files = files::FileResolver::new(sources, secrets);
        let config = merged
            .to_raw(&mut problems)
            .and_then(|raw| validate::config(raw, &merged, &files, &mut problems));
        match config {
            Some(config) => {
                merged.note_derived_defaults(&config.tunnel);
                Ok((config, merged))
            }
            None => Err(problems),
        }
    }
}

/// Where the running agent's socket is, for commands that talk to it. Works with a configuration that
/// is otherwise wrong: it may have been changed since the agent started.
pub fn runtime_dir(sources: &ConfigSources) -> PathBuf {
    let merged = MergedConfig::read(sources, &mut ConfigProblems::default());
    sources.folder().join(merged.runtime_dir())
}

/// Where the agent keeps what must survive a restart, which is also its user's. Works with a configuration that is not
/// complete yet.
pub fn state_dir(sources: &ConfigSources) -> PathBuf {
    let merged = MergedConfig::read(sources, &mut ConfigProblems::default());
    sources.folder().join(merged.state_dir())
}

/// Where a key of a section is written, if it is; `[tunnel]` and its kin, not `[[forward]]`. Works with a configuration
/// that is not complete yet.
pub fn key_origin(sources: &ConfigSources, section: &str, key: &str) -> Option<ValueOrigin> {
    let merged = MergedConfig::read(sources, &mut ConfigProblems::default());
    let section = merged.top().section(section);
    section.is_written(key).then(|| section.origin(key))
}

/// Whether anything of the tunnel or of a forward is written. Works with a configuration that is not complete yet.
pub fn is_configured(sources: &ConfigSources) -> bool {
    let mut problems = ConfigProblems::default();
    let merged = MergedConfig::read(sources, &mut problems);
    // What could not be read may hold all of it.
    !(problems.is_empty() && merged.is_blank())
}

/// What commands say before there is anything to work with.
pub const NOT_CONFIGURED: &str = "this host is not configured yet; with the token that the vendor sent you, run as root: agent enroll (without one: install.md.gz in /usr/share/doc/jira-tunnel-agent)";

#[cfg(test)]
mod tests;

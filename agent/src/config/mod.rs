//! From one file, drop-ins and environment variables to types that cannot hold a wrong value. Parsed once, before any
//! socket is opened.
//!
//! `raw` declares the keys and `keys` lists them. `source` finds the files. `layer`, `environment` and `value` check
//! each file and variable against the list. `merged` merges them (with the `config` crate) and keeps the origin of
//! each value. `validate` turns the result into the types of the other rooms. [`show`](MergedConfig::show) and
//! [`mod@reference`] render the same list for users. Opens no connection, and decides nothing at run time.

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
pub(crate) use trusted_owners::SERVICE_USER;

use crate::{
    audit,
    auth::{self, UpstreamAuth},
    http, outlet, policy,
    status::StatusLayer,
    tunnel,
    upstream::{self, UpstreamTarget},
};
use std::{path::PathBuf, sync::Arc};

/// The whole configuration, validated.
#[derive(Clone)]
pub struct Config {
    /// Settings from the section `[tunnel]`.
    pub tunnel: Arc<tunnel::Settings>,
    /// Fingerprint of the settings that open sessions. If it changes, the open sessions are replaced.
    pub tunnel_fingerprint: ConfigFingerprint,
    /// `[[forward]]`, at least one, names and binds unique.
    pub forwards: Vec<ForwardConfig>,
    /// `[[outlet]]`, names and addresses unique.
    pub outlets: Vec<OutletConfig>,
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
    /// Unique name of letters, digits, `-` and `_`.
    pub name: Arc<str>,
    /// Where the gateway listens.
    pub bind: tunnel::BindTemplate,
    /// How Jira is reached.
    pub upstream: upstream::Settings,
    /// Settings from the section `[forward.auth]`.
    pub auth: auth::Settings,
    /// Settings from the section `[forward.policy]`.
    pub policy: policy::Settings,
    /// Vendor headers that pass, from the section `[forward.headers]`.
    pub headers: auth::VendorHeaders,
    /// Settings from the section `[forward.http]`.
    pub http: http::HttpLimits,
    /// Fingerprint of the settings in `upstream`.
    pub upstream_fingerprint: ConfigFingerprint,
    /// Fingerprint of the settings in `auth`. The credential also depends on `upstream_fingerprint`.
    pub auth_fingerprint: ConfigFingerprint,
}

/// One `[[outlet]]` section, validated.
#[derive(Clone)]
pub struct OutletConfig {
    /// What it does.
    pub settings: Arc<outlet::Settings>,
    /// Fingerprint of all keys and files.
    pub fingerprint: ConfigFingerprint,
}

impl ForwardConfig {
    /// A new authentication state, without any attempt yet. `layer` is the status layer that it reports to.
    pub fn new_auth(&self, layer: Arc<StatusLayer>) -> UpstreamAuth {
        let tls = matches!(&self.upstream.target, UpstreamTarget::Http(target) if target.tls);
        UpstreamAuth::new_for(
            self.auth.clone(),
            layer,
            tls,
            Arc::clone(&self.upstream.profile),
        )
        .with_vendor_headers(self.headers.clone())
    }
}

impl Config {
    /// Reads and validates the configuration, with every file it names. Blocks on the disk. The error lists every
    /// problem.
    pub fn load(sources: &ConfigSources) -> Result<Self, ConfigProblems> {
        Self::load_with(sources, files::SecretAccess::Needed).map(|(config, _)| config)
    }

    /// Like [`load`](Self::load), for commands that only show or check. Secrets that this user may not read are
    /// skipped, and the agent's key is then [a placeholder](tunnel::session::SshIdentity::ephemeral). Also returns the
    /// merged values with their origins.
    pub fn load_to_show(sources: &ConfigSources) -> Result<(Self, MergedConfig), ConfigProblems> {
        Self::load_with(sources, files::SecretAccess::WhereAllowed)
    }

    fn load_with(
        sources: &ConfigSources,
        secrets: files::SecretAccess,
    ) -> Result<(Self, MergedConfig), ConfigProblems> {
        let mut problems = ConfigProblems::default();
        let mut merged = MergedConfig::read(sources, &mut problems);
        // Wrong values were left out, so validating the rest would report problems that do not exist.
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

/// Folder of the running agent's socket. Also works if the configuration is invalid: it may have changed since the
/// agent started.
pub fn runtime_dir(sources: &ConfigSources) -> PathBuf {
    let merged = MergedConfig::read(sources, &mut ConfigProblems::default());
    sources.folder().join(merged.runtime_dir())
}

/// Folder of data that must survive a restart; owned by the agent's user. Also works if the configuration is
/// incomplete.
pub fn state_dir(sources: &ConfigSources) -> PathBuf {
    let merged = MergedConfig::read(sources, &mut ConfigProblems::default());
    sources.folder().join(merged.state_dir())
}

/// Origin of a key of a section other than `[[forward]]`, if it is set. Also works if the configuration is incomplete.
pub fn key_origin(sources: &ConfigSources, section: &str, key: &str) -> Option<ValueOrigin> {
    let merged = MergedConfig::read(sources, &mut ConfigProblems::default());
    let section = merged.top().section(section);
    section.is_written(key).then(|| section.origin(key))
}

/// Whether any key of the tunnel or of a forward is set. Also works if the configuration is incomplete.
pub fn is_configured(sources: &ConfigSources) -> bool {
    let mut problems = ConfigProblems::default();
    let merged = MergedConfig::read(sources, &mut problems);
    // A file that could not be read may contain all of it.
    !(problems.is_empty() && merged.is_blank())
}

/// Error of commands that need a configuration before there is one.
pub const NOT_CONFIGURED: &str = "this host is not configured yet; with the token from your vendor, run as root: agent enroll (without a token: install.md.gz in /usr/share/doc/jira-tunnel-agent)";

#[cfg(test)]
mod tests;

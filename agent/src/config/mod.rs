//! One file, drop-ins, environment overrides → types that cannot hold a wrong value. Parsed once,
//! before any socket is opened.
//!
//! `raw` says which keys there are, `catalog` makes one list of them, `source` finds the files,
//! `layer`, `environment` and `accept` hold each file and variable against the list, `effective` merges them (with the `config`
//! crate) and remembers where each value comes from, `judge` turns the result into the rooms' types.
//! [`show`](Effective::show) and [`mod@reference`] render the same list for people.

mod accept;
mod catalog;
mod effective;
mod environment;
mod files;
mod guard;
mod imprint;
mod judge;
mod judge_auth;
mod judge_cloud;
mod judge_egress;
mod judge_forward;
mod judge_oauth1;
mod judge_oauth2;
mod layer;
mod places;
mod problem;
mod raw;
pub mod reference;
mod show;
mod source;
mod units;

pub use effective::Effective;
pub use imprint::Imprint;
pub use places::Places;
pub use problem::{Origin, Problem, Problems};
pub use source::{DEFAULT_FILE, Draft, FILE_VARIABLE, Sources};

use crate::{
    audit,
    auth::{self, Login},
    http, policy,
    status::Layer,
    tunnel,
    upstream::{self, Target},
};
use std::{path::PathBuf, sync::Arc};

/// The whole configuration, valid.
#[derive(Clone)]
pub struct Config {
    /// `[tunnel]`.
    pub tunnel: Arc<tunnel::Settings>,
    /// What its sessions are opened by, to tell whether those that stand have to be replaced.
    pub sessions: Imprint,
    /// `[[forward]]`, at least one, names and binds unique.
    pub forwards: Vec<Forward>,
    /// `[audit]`.
    pub audit: audit::Settings,
    /// `[log]`.
    pub log: crate::telemetry::Settings,
    /// `/var/lib/jira-tunnel-agent`, or `STATE_DIRECTORY`.
    pub state_dir: PathBuf,
    /// `/run/jira-tunnel-agent`, or `RUNTIME_DIRECTORY`.
    pub runtime_dir: PathBuf,
}

/// One `[[forward]]` section.
#[derive(Clone)]
pub struct Forward {
    /// Unique; letters, digits, `-`, `_`.
    pub name: Arc<str>,
    /// Where the gateway is to listen.
    pub bind: tunnel::Bind,
    /// The way to Jira.
    pub upstream: upstream::Settings,
    /// `[forward.auth]`.
    pub auth: auth::Settings,
    /// `[forward.policy]`.
    pub policy: policy::Settings,
    /// `[forward.headers]`.
    pub headers: auth::VendorHeaders,
    /// `[forward.http]`.
    pub http: http::Limits,
    /// Of `upstream`.
    pub way: Imprint,
    /// Of `auth`, which also needs `way`.
    pub login: Imprint,
}

impl Forward {
    /// A login of its own, which has not been tried yet; `layer` is that of its status.
    pub fn new_login(&self, layer: Arc<Layer>) -> Login {
        let tls = matches!(&self.upstream.target, Target::Http(target) if target.tls);
        Login::over(self.auth.clone(), layer, tls).with_vendor_headers(self.headers.clone())
    }
}

impl Config {
    /// Reads and judges the configuration, with every file it names. Blocks on the disk. The error
    /// holds everything that was found wrong.
    pub fn load(sources: &Sources) -> Result<Self, Problems> {
        Self::load_by(sources, files::SecretAccess::Needed).map(|(config, _)| config)
    }

    /// The same for a command that shows and judges, and connects to nothing: secrets that this user may not read are
    /// left alone, and the agent's key is [a stand-in](tunnel::session::Identity::stand_in) then. Beside it the merged
    /// values with where each comes from.
    pub fn load_to_show(sources: &Sources) -> Result<(Self, Effective), Problems> {
        Self::load_by(sources, files::SecretAccess::WhereAllowed)
    }

    fn load_by(
        sources: &Sources,
        secrets: files::SecretAccess,
    ) -> Result<(Self, Effective), Problems> {
        let mut problems = Problems::default();
        let mut effective = Effective::read(sources, &mut problems);
        // What does not fit was left out: judging the rest would find fault where there is none.
        if !problems.is_empty() {
            return Err(problems);
        }
        if effective.is_blank() {
            problems.add(Origin::file(&sources.file), "", NOT_CONFIGURED);
            return Err(problems);
        }
        let files = files::Files::new(sources, secrets);
        let config = effective
            .to_raw(&mut problems)
            .and_then(|raw| judge::config(raw, &effective, &files, &mut problems));
        match config {
            Some(config) => {
                effective.note_derived_defaults(&config.tunnel);
                Ok((config, effective))
            }
            None => Err(problems),
        }
    }
}

/// Where the running agent's socket is, for commands that talk to it. Works with a configuration that
/// is otherwise wrong: it may have been changed since the agent started.
pub fn runtime_dir(sources: &Sources) -> PathBuf {
    let effective = Effective::read(sources, &mut Problems::default());
    sources.folder().join(effective.runtime_dir())
}

/// Where the agent keeps what must survive a restart, which is also its user's. Works with a configuration that is not
/// complete yet.
pub fn state_dir(sources: &Sources) -> PathBuf {
    let effective = Effective::read(sources, &mut Problems::default());
    sources.folder().join(effective.state_dir())
}

/// Where a key of a section is written, if it is; `[tunnel]` and its kin, not `[[forward]]`. Works with a configuration
/// that is not complete yet.
pub fn written(sources: &Sources, section: &str, key: &str) -> Option<Origin> {
    let effective = Effective::read(sources, &mut Problems::default());
    let place = effective.top().section(section);
    place.is_written(key).then(|| place.origin(key))
}

/// Whether anything of the tunnel or of a forward is written. Works with a configuration that is not complete yet.
pub fn is_configured(sources: &Sources) -> bool {
    let mut problems = Problems::default();
    let effective = Effective::read(sources, &mut problems);
    // What could not be read may hold all of it.
    !(problems.is_empty() && effective.is_blank())
}

/// What commands say before there is anything to work with.
pub const NOT_CONFIGURED: &str = "this host is not configured yet; with the token that the vendor sent you, run as root: agent enroll (without one: install.md.gz in /usr/share/doc/jira-tunnel-agent)";

#[cfg(test)]
mod tests;

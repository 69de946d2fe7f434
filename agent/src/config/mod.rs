//! One file, drop-ins, environment overrides → types that cannot hold a wrong value. Parsed once.

mod accept;
mod catalog;
mod effective;
mod later;
mod layer;
mod problem;
mod raw;
mod source;
mod units;

use crate::{audit, auth, http, policy, tunnel, upstream};
use std::{path::PathBuf, sync::Arc};

/// The whole configuration, valid.
#[derive(Clone)]
pub struct Config {
    /// `[tunnel]`.
    pub tunnel: Arc<tunnel::Settings>,
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
    /// `[forward.http]`.
    pub http: http::Limits,
}

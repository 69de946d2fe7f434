//! One forward in the status report, and what keeps its requests from Jira.

use super::LayerReport;
use crate::{pause::PauseRecord, upstream::ProtectionSnapshot};

/// State of one `[[forward]]`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct ForwardReport {
    /// Name of the forward.
    pub name: String,
    /// The address that was requested from the gateway.
    pub bind: String,
    /// The addresses that gateways granted, with the port that each chose; empty if no connection holds the forward.
    pub bound: Vec<String>,
    /// The upstream URL that the forward leads to.
    pub upstream: String,
    /// The `service` of the forward: the name of its profile.
    #[serde(default = "jira")]
    pub service: String,
    /// The customer's own file with that profile, which is used instead of a built-in one; absent if there is none.
    #[serde(default)]
    pub profile_file: Option<String>,
    /// The `mode` of `[forward.auth]`; `none` for a tcp:// forward.
    pub auth_mode: String,
    /// Whether a proven session holds this forward.
    pub tunnel: LayerReport,
    /// Whether Jira answers requests.
    pub jira: LayerReport,
    /// Whether Jira accepts the agent's credential.
    pub login: LayerReport,
    /// Whether Jira rejected the credential, so that requests are held back until it changes.
    #[serde(default)]
    pub circuit_open: bool,
    /// What keeps requests from Jira now, and how many may be there at once.
    #[serde(default)]
    pub protection: ProtectionReport,
    /// The pause, while the administrator has the forward paused.
    #[serde(default)]
    pub paused: Option<PauseRecord>,
    /// Requests or byte channels in progress now.
    pub in_flight: u64,
    /// Requests since the start, allowed or refused.
    pub requests: u64,
}

/// Reports of earlier versions do not name it.
fn jira() -> String {
    crate::profile::JIRA_NAME.to_owned()
}

/// How the agent protects Jira now; all zero for a tcp:// forward.
#[derive(
    Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct ProtectionReport {
    /// Whether requests fail at once because Jira takes no connections or gives no answers.
    pub breaker_open: bool,
    /// Rate limits and pauses that Jira asked for and that are kept now.
    pub held: u64,
    /// For how many seconds the last of them lasts.
    pub held_seconds: f64,
    /// Requests that may be with Jira at once now; below `max_connections` while Jira is slow.
    pub concurrency_limit: u64,
    /// Requests that are with Jira.
    pub with_jira: u64,
    /// Requests that wait for their turn.
    pub queued: u64,
}

impl From<ProtectionSnapshot> for ProtectionReport {
    fn from(snapshot: ProtectionSnapshot) -> Self {
        let (held, left) = snapshot.held.unwrap_or_default();
        Self {
            breaker_open: snapshot.breaker_open,
            held: held as u64,
            held_seconds: (left.as_secs_f64() * 10.0).round() / 10.0,
            concurrency_limit: snapshot.limit as u64,
            with_jira: snapshot.in_use as u64,
            queued: snapshot.queued as u64,
        }
    }
}

//! One outlet in the status report.

use super::{LayerReport, QueueReport};
use crate::pause::PauseRecord;

/// State of one `[[outlet]]`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct OutletReport {
    /// Name of the outlet.
    pub name: String,
    /// The address where Jira calls, with the port that was taken.
    pub listen: String,
    /// The vendor's host, as the gateway sees it.
    pub to: String,
    /// `pass` or `store`.
    pub mode: String,
    /// Whether Jira can connect.
    pub listener: LayerReport,
    /// Whether the gateway connects and the vendor's host answers, as the last request has shown.
    pub vendor: LayerReport,
    /// The pause, while the administrator has the outlet paused.
    #[serde(default)]
    pub paused: Option<PauseRecord>,
    /// The events that it holds; only in mode `store`.
    #[serde(default)]
    pub queue: Option<QueueReport>,
    /// Requests in progress now.
    pub in_flight: u64,
    /// Requests since the start, allowed or refused.
    pub requests: u64,
}

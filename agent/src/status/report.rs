//! The report that `agent status --json` prints. Its schema is `docs/status.schema.json`.

use super::{
    AuditReport, ConnectionView, CredentialReport, DescriptorReport, ForwardReport, LayerSummary,
    OutletReport, OverallState, SpoolReport, StateFolderReport, UpgradeReport,
};
use crate::printable::printable_lines;

/// Version of the status document. Fields may be added within a version; none is removed or changes its meaning.
pub const REPORT_VERSION: u32 = 1;

/// The status of the running agent: what is proven right now.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Report")]
pub struct StatusReport {
    /// Version of this document, 1.
    pub version: u32,
    /// When the report was made, RFC 3339, UTC.
    pub time: String,
    /// The status in one word; decides the exit code of `agent status`.
    pub overall: OverallState,
    /// The running agent process.
    pub agent: AgentReport,
    /// The four layers over all connections and forwards.
    pub layers: LayerSummary,
    /// One entry per SSH connection.
    pub connections: Vec<ConnectionView>,
    /// One entry per `[[forward]]`, in configuration order.
    pub forwards: Vec<ForwardReport>,
    /// One entry per `[[outlet]]`, in configuration order.
    #[serde(default)]
    pub outlets: Vec<OutletReport>,
    /// The credentials of the agent, and when each expires.
    #[serde(default)]
    pub credentials: Vec<CredentialReport>,
    /// State of the audit log.
    pub audit: AuditReport,
    /// The folder where channels buffer what is not read in time.
    #[serde(default)]
    pub spool: SpoolReport,
    /// The folder where pauses and refreshed tokens are saved.
    #[serde(default)]
    pub state_folder: StateFolderReport,
    /// Files that the agent's process may have open.
    #[serde(default)]
    pub descriptors: DescriptorReport,
    /// Which configuration is in effect.
    #[serde(default)]
    pub configuration: ConfigurationReport,
    /// The last hand-over to a new process, while it lasts or if it has failed.
    #[serde(default)]
    pub upgrade: Option<UpgradeReport>,
}

/// The running agent process.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct AgentReport {
    /// Version of the running agent.
    pub version: String,
    /// Process id of the running agent.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether it is stopping and only finishes requests in progress.
    pub draining: bool,
}

/// The configuration in use.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct ConfigurationReport {
    /// When it was read, at the start or at a reload, RFC 3339, UTC.
    pub loaded: String,
    /// Present if the last reload was refused, so that the previous configuration stays in use.
    #[serde(default)]
    pub refused: Option<RefusedConfiguration>,
    /// Sections that have changed since the start and need a restart.
    #[serde(default)]
    pub restart: Vec<String>,
}

/// A changed configuration that was refused.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct RefusedConfiguration {
    /// When it was refused, RFC 3339, UTC.
    pub time: String,
    /// What is wrong with it, in the words of a failed start; at most 20 lines.
    pub problems: Vec<String>,
}

/// The JSON schema of [`StatusReport`]: `docs/status.schema.json`.
pub fn schema() -> String {
    let schema = schemars::schema_for!(StatusReport);
    // Plain data: it cannot fail to serialize.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

impl StatusReport {
    /// A copy with control characters replaced in all texts, whoever they come from.
    #[must_use]
    pub fn printable(&self) -> Self {
        printable_document(self)
    }
}

/// A copy of a JSON document with control characters replaced in all texts, whoever they come from.
pub(crate) fn printable_document<T>(document: &T) -> T
where
    T: Clone + serde::Serialize + serde::de::DeserializeOwned,
{
    let printed = serde_json::to_value(document).and_then(|mut document| {
        make_printable(&mut document);
        serde_json::from_value(document)
    });
    // Plain data that was just written always parses.
    printed.unwrap_or_else(|_| document.clone())
}

fn make_printable(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = printable_lines(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(make_printable),
        serde_json::Value::Object(members) => members.values_mut().for_each(make_printable),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

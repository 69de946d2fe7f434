//! The hand-over to a new process in the status report.

/// A hand-over to a new process (`agent upgrade`).
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[schemars(rename = "Upgrade")]
pub struct UpgradeReport {
    /// How far it is.
    pub state: UpgradeState,
    /// Version of the other process, if it is known.
    pub version: Option<String>,
    /// When this state began, RFC 3339, UTC.
    pub since: String,
    /// Why it has failed, one sentence.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
}

/// How far a hand-over to a new process is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// The new process has not yet proven what this one has.
    InProgress,
    /// The new process has failed; this one keeps serving, and does not try that program again by itself.
    Failed,
    /// This process serves; the one before it finishes its requests.
    Finishing,
}

//! The report that `agent check --json` prints. Its schema is `docs/check.schema.json`.

use super::{CheckStep, FirewallRule, StepVerdict};
use std::time::SystemTime;

/// The result of `agent check`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Report")]
pub struct CheckReport {
    /// Version of this document, 1. Fields and words for `step` may be added within a version.
    pub version: u32,
    /// When the check ended, RFC 3339, UTC.
    pub time: String,
    /// The worst of all steps.
    pub verdict: StepVerdict,
    /// All steps, in the order in which they were taken.
    pub steps: Vec<CheckStep>,
    /// Outbound rules for the network team. Empty if the configuration is invalid.
    #[serde(default)]
    pub firewall: Vec<FirewallRule>,
}

impl CheckReport {
    /// Combines the steps into a report with one verdict.
    pub fn new(steps: Vec<CheckStep>, firewall: Vec<FirewallRule>) -> Self {
        let worst = steps.iter().map(|step| step.verdict).max();
        Self {
            version: REPORT_VERSION,
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            verdict: worst.unwrap_or(StepVerdict::Skipped),
            steps,
            firewall,
        }
    }

    /// Exit code of `agent check`.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            StepVerdict::Ok | StepVerdict::Skipped => 0,
            StepVerdict::Warn => 1,
            StepVerdict::Fail => 2,
        }
    }

    /// Whether a hop failed that the network team can fix.
    pub fn network_failed(&self) -> bool {
        let hops = ["dns", "tcp", "proxy", "tls", "banner"];
        let failed =
            |step: &CheckStep| step.verdict == StepVerdict::Fail && hops.contains(&&*step.step);
        self.steps.iter().any(failed)
    }
}

/// The JSON schema of [`CheckReport`]: `docs/check.schema.json`.
pub fn schema() -> String {
    let schema = schemars::schema_for!(CheckReport);
    // Plain data: it cannot fail to serialize.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

const REPORT_VERSION: u32 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_schema_is_the_one_of_the_code() {
        let documented = include_str!("../../../docs/check.schema.json");
        assert_eq!(
            documented,
            schema(),
            "run `make docs` and look at the difference"
        );
    }
}

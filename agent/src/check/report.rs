//! The whole check: what `agent check --json` prints. Its schema is `docs/check.schema.json`.

use super::{Rule, Step, Verdict};
use std::time::SystemTime;

/// All of a check.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Report {
    /// Version of this document, 1. Fields and words for `step` may be added within a version.
    pub version: u32,
    /// When it was made, RFC 3339, UTC.
    pub time: String,
    /// The worst of all steps.
    pub verdict: Verdict,
    /// In the order in which they were taken.
    pub steps: Vec<Step>,
    /// What the network must let out, for the network team. Empty where the configuration cannot be used.
    #[serde(default)]
    pub firewall: Vec<Rule>,
}

impl Report {
    /// Sums up.
    pub fn new(steps: Vec<Step>, firewall: Vec<Rule>) -> Self {
        let worst = steps.iter().map(|step| step.verdict).max();
        Self {
            version: REPORT_VERSION,
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            verdict: worst.unwrap_or(Verdict::Skipped),
            steps,
            firewall,
        }
    }

    /// Exit code of `agent check`.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Ok | Verdict::Skipped => 0,
            Verdict::Warn => 1,
            Verdict::Fail => 2,
        }
    }

    /// Whether a hop failed that the network team can mend.
    pub fn network_failed(&self) -> bool {
        let hops = ["dns", "tcp", "proxy", "tls", "banner"];
        let failed = |step: &Step| step.verdict == Verdict::Fail && hops.contains(&&*step.step);
        self.steps.iter().any(failed)
    }
}

/// The JSON schema of [`Report`]: `docs/check.schema.json`.
pub fn schema() -> String {
    let schema = schemars::schema_for!(Report);
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

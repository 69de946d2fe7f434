//! The audit log in the status report.

use super::LayerState;
use crate::audit::AuditCondition;

/// State of the audit log.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct AuditReport {
    /// Records written since the start.
    pub written: u64,
    /// Records dropped because the sink did not keep up or failed.
    pub dropped: u64,
    /// Whether requests are recorded: `proven` while each record is written, `degraded` while none can be written and for
    /// an hour after one was lost, `failed` if requests are refused because of that (`audit.required`).
    #[serde(default)]
    pub state: LayerState,
    /// Why it is not proven, one sentence.
    #[serde(default)]
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    #[serde(default)]
    pub remedy: Option<String>,
    /// Where audit lines are written.
    #[serde(default)]
    pub sink: String,
    /// Why audit lines are written there.
    #[serde(default)]
    pub sink_reason: String,
    /// Whether requests are refused while no record can be written (`audit.required`).
    #[serde(default)]
    pub required: bool,
    /// Seconds since a record was last lost; absent if none was.
    #[serde(default)]
    pub dropped_seconds_ago: Option<f64>,
    /// Refused requests without a line of their own, counted in a summary line.
    #[serde(default)]
    pub summed: u64,
    /// Identifier of this run of the agent, `run` in each audit line.
    #[serde(default)]
    pub run: String,
}

impl AuditReport {
    /// The report of this condition, with cause and remedy if something is wrong.
    pub fn of(condition: &AuditCondition) -> Self {
        let (state, cause, remedy) = assess(condition);
        Self {
            written: condition.written,
            dropped: condition.dropped,
            state,
            cause,
            remedy: remedy.map(str::to_owned),
            sink: condition.sink.clone(),
            sink_reason: condition.sink_reason.clone(),
            required: condition.required,
            dropped_seconds_ago: condition.last_dropped.map(|ago| ago.as_secs_f64()),
            summed: condition.summed,
            run: condition.run.clone(),
        }
    }
}

fn assess(condition: &AuditCondition) -> (LayerState, Option<String>, Option<&'static str>) {
    let lost = match condition.dropped {
        0 => String::new(),
        1 => String::from("; 1 record was lost since the start"),
        many => format!("; {many} records were lost since the start"),
    };
    if !condition.on {
        return (LayerState::NotApplicable, None, None);
    }
    match &condition.fault {
        Some(fault) if condition.required => {
            let cause = format!("{fault}{lost}; requests are answered 503 audit-unavailable");
            (LayerState::Failed, Some(cause), Some(CANNOT_WRITE))
        }
        Some(fault) => (
            LayerState::Degraded,
            Some(format!("{fault}{lost}")),
            Some(CANNOT_WRITE),
        ),
        None if condition.has_lost_recently() => {
            let ago = condition.last_dropped.unwrap_or_default().as_secs();
            let cause = format!(
                "{} audit records were lost since the start, the last {ago} s ago",
                condition.dropped
            );
            (LayerState::Degraded, Some(cause), Some(LOST))
        }
        None => (LayerState::Proven, None, None),
    }
}

const CANNOT_WRITE: &str = "free space on its disk, give the agent's user write permission, or find out why journald does not \
                            accept lines; the agent retries every second";
const LOST: &str = "check the log at that time; gaps in seq show which records are missing; this notice ends an hour \
                    after the last loss";

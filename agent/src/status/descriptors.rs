//! File descriptors in the status document.

use super::LayerState;
use crate::descriptors::{DescriptorSnapshot, REMEDY};
use std::time::Duration;

/// Files that the agent's process may have open.
#[derive(
    Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[schemars(rename = "Descriptors")]
pub struct DescriptorReport {
    /// `degraded` for a minute after no file descriptor was left, else `proven`.
    pub state: LayerState,
    /// Why it is not proven, one sentence.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
    /// Most files that the process may have open (`LimitNOFILE`); absent if there is no limit.
    pub limit: Option<u64>,
    /// Descriptors kept for the tunnel, the runtime socket and the files of audit and state.
    pub reserve: u64,
    /// Descriptors that requests use now.
    pub in_use: u64,
    /// How often none was left for a request, a session or the runtime socket, since the start.
    pub refused: u64,
    /// Seconds since that was last so; absent if it never was.
    pub refused_seconds_ago: Option<f64>,
}

impl DescriptorReport {
    /// The report of this snapshot.
    pub fn of(snapshot: &DescriptorSnapshot) -> Self {
        let recent = snapshot.last_refused.filter(|ago| *ago < RECENT);
        let limit = match snapshot.limit {
            Some(limit) => format!("of {limit} file descriptors"),
            None => "on this host".to_owned(),
        };
        let cause = recent.map(|ago| {
            format!(
                "too many files are open: {limit} none was left, {} s ago; {} since the start",
                ago.as_secs(),
                snapshot.refused
            )
        });
        Self {
            state: match recent {
                Some(_) => LayerState::Degraded,
                None => LayerState::Proven,
            },
            cause,
            remedy: recent.map(|_| REMEDY.to_owned()),
            limit: snapshot.limit,
            reserve: snapshot.reserve,
            in_use: snapshot.promised,
            refused: snapshot.refused,
            refused_seconds_ago: snapshot
                .last_refused
                .map(|ago| (ago.as_secs_f64() * 10.0).round() / 10.0),
        }
    }
}

/// How long a refusal degrades the status. The vendor may repeat what was refused: nothing is lost.
const RECENT: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::status::OverallState;

    #[test]
    fn a_refusal_degrades_for_a_minute_with_cause_and_remedy() {
        let judged = |ago: Option<u64>| {
            let report = DescriptorReport::of(&DescriptorSnapshot {
                limit: Some(64),
                reserve: 28,
                promised: 3,
                refused: ago.iter().count() as u64,
                last_refused: ago.map(Duration::from_secs),
            });
            let is_explained = report.cause.is_some() && report.remedy.is_some();
            assert_eq!(is_explained, report.state == LayerState::Degraded);
            // It may have been the runtime socket that found none.
            assert!(
                !report
                    .cause
                    .as_deref()
                    .unwrap_or_default()
                    .contains("request")
            );
            OverallState::Proven.with_descriptors(&report)
        };
        assert_eq!(judged(None), OverallState::Proven);
        assert_eq!(judged(Some(59)), OverallState::Degraded);
        assert_eq!(judged(Some(60)), OverallState::Proven);
    }
}

//! A layer in the status document: ages instead of instants, and stale proofs degraded.

use super::{LayerSnapshot, ProofState};
use std::time::{Duration, Instant};

/// State of a layer, as shown to a person or a monitoring system.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LayerState {
    /// The other side replied, recently.
    Proven,
    /// It works, but not as it should, or the last proof is too old.
    Degraded,
    /// It does not work.
    Failed,
    /// Not tried yet, or the earlier proof no longer counts, such as after a secret changed.
    #[default]
    Unknown,
    /// This configuration has no such layer: the login of a pass-through forward belongs to the vendor.
    NotApplicable,
}

/// One layer of the status.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct LayerReport {
    /// Whether the layer is proven.
    pub state: LayerState,
    /// Seconds since the other side last replied; absent if it never did.
    pub proven_seconds_ago: Option<f64>,
    /// Seconds since the state last changed.
    pub since_seconds: Option<f64>,
    /// What was seen: the round-trip time, Jira's version, the user that Jira reports.
    pub detail: Option<String>,
    /// Why it is not proven, one sentence.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
}

impl LayerReport {
    /// The report of `snapshot` at `now`. A proof older than `stale_after` no longer counts.
    pub fn new(snapshot: &LayerSnapshot, now: Instant, stale_after: Duration) -> Self {
        let age = snapshot
            .proven_at
            .map(|at| now.saturating_duration_since(at));
        let stale = age.is_some_and(|age| age > stale_after);
        let (state, cause, remedy) = match snapshot.state {
            ProofState::Unknown => (
                LayerState::Unknown,
                snapshot.cause.clone(),
                snapshot.remedy.clone(),
            ),
            ProofState::Proven if stale => (
                LayerState::Degraded,
                Some(format!(
                    "no reply for {} s",
                    age.unwrap_or_default().as_secs()
                )),
                Some("wait for the next probe; if this persists, check the log".to_owned()),
            ),
            ProofState::Proven => (LayerState::Proven, None, None),
            ProofState::Degraded => (
                LayerState::Degraded,
                snapshot.cause.clone(),
                snapshot.remedy.clone(),
            ),
            ProofState::Failed => (
                LayerState::Failed,
                snapshot.cause.clone(),
                snapshot.remedy.clone(),
            ),
        };
        Self {
            state,
            proven_seconds_ago: age.map(tenths),
            since_seconds: snapshot
                .changed_at
                .map(|at| tenths(now.saturating_duration_since(at))),
            detail: snapshot.detail.clone(),
            cause,
            remedy,
        }
    }

    /// Adds to a layer that was never tried what it waits for.
    pub fn or_untried(self, cause: &str, remedy: &str) -> Self {
        match (self.state, &self.cause) {
            (LayerState::Unknown, None) => Self {
                cause: Some(cause.to_owned()),
                remedy: Some(remedy.to_owned()),
                ..self
            },
            _ => self,
        }
    }

    /// A layer that this configuration does not have.
    pub fn not_applicable(detail: &str) -> Self {
        Self {
            detail: Some(detail.to_owned()),
            ..Self::unknown(LayerState::NotApplicable)
        }
    }

    /// The worst of several, for a summary; see `best` for layers of which one is enough.
    pub fn worst<'a>(reports: impl IntoIterator<Item = &'a Self>) -> Self {
        reports
            .into_iter()
            .max_by_key(|r| severity(r.state))
            .cloned()
            .unwrap_or_else(|| Self::unknown(LayerState::Unknown))
    }

    /// The best of several: one gateway that answers proves the network.
    pub fn best<'a>(reports: impl IntoIterator<Item = &'a Self>) -> Self {
        reports
            .into_iter()
            .filter(|r| r.state != LayerState::NotApplicable)
            .min_by_key(|r| severity(r.state))
            .cloned()
            .unwrap_or_else(|| Self::unknown(LayerState::Unknown))
    }

    fn unknown(state: LayerState) -> Self {
        Self {
            state,
            proven_seconds_ago: None,
            since_seconds: None,
            detail: None,
            cause: None,
            remedy: None,
        }
    }
}

fn severity(state: LayerState) -> u8 {
    match state {
        LayerState::NotApplicable => 0,
        LayerState::Proven => 1,
        LayerState::Unknown => 2,
        LayerState::Degraded => 3,
        LayerState::Failed => 4,
    }
}

/// Tenths of a second: more would suggest a precision that a status does not have.
fn tenths(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::super::StatusLayer;
    use super::*;

    #[test]
    fn a_proof_that_is_too_old_proves_nothing() {
        let layer = StatusLayer::default();
        layer.proven(Some("rtt 1 ms"));
        let snapshot = layer.snapshot();
        let later = Instant::now() + Duration::from_secs(100);
        let report = LayerReport::new(&snapshot, later, Duration::from_secs(90));
        assert_eq!(report.state, LayerState::Degraded);
        assert!(report.cause.is_some_and(|c| c.contains("no reply for")));
        let report = LayerReport::new(&snapshot, later, Duration::from_secs(200));
        assert_eq!(report.state, LayerState::Proven);
    }

    #[test]
    fn a_failed_layer_keeps_the_time_of_its_last_proof_and_says_why() {
        let layer = StatusLayer::default();
        layer.proven(None);
        assert!(layer.failed(
            ProofState::Failed,
            "connection refused",
            "ask the network team"
        ));
        assert!(!layer.failed(
            ProofState::Failed,
            "connection refused",
            "ask the network team"
        ));
        let report = LayerReport::new(&layer.snapshot(), Instant::now(), Duration::from_secs(90));
        assert_eq!(report.state, LayerState::Failed);
        assert!(report.proven_seconds_ago.is_some());
        assert_eq!(report.remedy.as_deref(), Some("ask the network team"));
    }
}

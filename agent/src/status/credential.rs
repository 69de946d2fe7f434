//! The expiry of credentials in the status document.

use super::{LayerReport, LayerState};
use crate::expiry::{
    CredentialExpiry, CredentialKind, ExpiryTime, ExpiryUrgency, TrackedCredential,
};
use std::time::SystemTime;

/// One credential of the agent, and when it expires.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct CredentialReport {
    /// Name of the forward; absent for `[tunnel]`.
    pub forward: Option<String>,
    /// Which kind of credential it is.
    pub credential: CredentialKind,
    /// When it expires, RFC 3339, UTC; absent if it never does or that is not known.
    pub expires: Option<String>,
    /// Days left, in tenths; negative once it has expired.
    pub days_left: Option<f64>,
    /// Whether the agent renews it automatically.
    pub renewed_by_itself: bool,
    /// How urgent it is to replace it.
    pub urgency: ExpiryUrgency,
    /// The same in one sentence.
    pub summary: String,
    /// What to do before it expires; present while it is urgent.
    pub remedy: Option<String>,
}

impl CredentialReport {
    /// The report of `credential` at `now`.
    pub fn new(credential: &TrackedCredential, now: SystemTime) -> Self {
        let TrackedCredential { forward, expiry } = credential;
        let end = match &expiry.end {
            ExpiryTime::At(end) => Some(*end),
            ExpiryTime::Never | ExpiryTime::Unknown(_) => None,
        };
        let urgency = expiry.urgency(now);
        Self {
            forward: forward.as_deref().map(str::to_owned),
            credential: expiry.kind,
            expires: end.map(|end| humantime::format_rfc3339_seconds(end).to_string()),
            days_left: end.map(|end| days(end, now)),
            renewed_by_itself: expiry.auto_refreshed,
            urgency,
            summary: expiry.sentence(now),
            remedy: (urgency > ExpiryUrgency::None).then(|| expiry.remedy.clone()),
        }
    }
}

impl LayerReport {
    /// Degrades a proven layer that still works but has a concern, which becomes its cause: cause, remedy, age in seconds.
    pub fn with_concern(self, concern: Option<(&str, &str, f64)>) -> Self {
        match (concern, self.state) {
            (Some((cause, remedy, since_seconds)), LayerState::Proven) => Self {
                state: LayerState::Degraded,
                cause: Some(cause.to_owned()),
                remedy: Some(remedy.to_owned()),
                since_seconds: Some(since_seconds),
                ..self
            },
            _ => self,
        }
    }

    /// Degrades a proven layer whose credential expires within a week, or has expired as far as is known, so that
    /// monitoring by exit code notices in time. An earlier warning leaves it proven.
    pub fn with_expiries<'a>(
        self,
        expiries: impl IntoIterator<Item = &'a CredentialExpiry>,
        now: SystemTime,
    ) -> Self {
        let urgent = expiries
            .into_iter()
            .filter(|expiry| expiry.urgency(now) >= ExpiryUrgency::Within7Days)
            .max_by_key(|expiry| expiry.urgency(now));
        match (urgent, self.state) {
            (Some(expiry), LayerState::Proven | LayerState::NotApplicable) => Self {
                state: LayerState::Degraded,
                cause: Some(expiry.sentence(now)),
                remedy: Some(expiry.remedy.clone()),
                ..self
            },
            _ => self,
        }
    }
}

/// Days, rounded down to tenths.
fn days(end: SystemTime, now: SystemTime) -> f64 {
    let seconds = match end.duration_since(now) {
        Ok(left) => left.as_secs_f64(),
        Err(past) => -past.duration().as_secs_f64(),
    };
    (seconds / 8640.0).floor() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn only_the_last_week_degrades_a_layer_and_nothing_hides_a_failure() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let day = Duration::from_secs(86_400);
        let token = |days| {
            let end = ExpiryTime::At(now + day * days);
            [CredentialExpiry::new(
                CredentialKind::PersonalAccessToken,
                end,
                "make one",
            )]
        };
        let proven = LayerReport {
            state: LayerState::Proven,
            ..LayerReport::not_applicable("user acme-bot")
        };
        assert_eq!(proven.clone().with_expiries(&token(8), now), proven);
        let degraded = proven.clone().with_expiries(&token(6), now);
        assert_eq!(degraded.state, LayerState::Degraded);
        assert_eq!(degraded.remedy.as_deref(), Some("make one"));
        assert!(degraded.cause.is_some_and(|c| c.contains("6 days")));
        let failed = LayerReport {
            state: LayerState::Failed,
            ..proven
        };
        assert_eq!(failed.clone().with_expiries(&token(6), now), failed);
    }
}

//! Logs a credential that is about to end: once for each threshold it passes, and once when it has ended.

use super::{CredentialKind, ExpiryTime, ExpiryUrgency, TrackedCredential};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Remembers which expiries were logged, so that each threshold is logged once.
#[derive(Default)]
pub struct ExpiryNotifier {
    notified: HashMap<CredentialId, (ExpiryTime, ExpiryUrgency)>,
}

/// Forward, or the tunnel, and which of its credentials.
type CredentialId = (Option<Arc<str>>, CredentialKind);

impl ExpiryNotifier {
    /// What has become more urgent since the last call. A replaced credential starts over.
    pub fn newly_urgent<'a>(
        &mut self,
        credentials: &'a [TrackedCredential],
        now: SystemTime,
    ) -> Vec<(&'a TrackedCredential, ExpiryUrgency)> {
        let mut urgent = Vec::new();
        let mut notified = HashMap::new();
        for credential in credentials {
            let key = (credential.forward.clone(), credential.expiry.kind);
            let urgency = credential.expiry.urgency(now);
            let before = match self.notified.get(&key) {
                Some((end, urgency)) if *end == credential.expiry.end => *urgency,
                _ => ExpiryUrgency::None,
            };
            if urgency > before {
                urgent.push((credential, urgency));
            }
            let end = credential.expiry.end.clone();
            notified.insert(key, (end, urgency.max(before)));
        }
        self.notified = notified;
        urgent
    }

    /// Logs the credentials that have become more urgent.
    pub fn notify(&mut self, credentials: &[TrackedCredential], now: SystemTime) {
        for (credential, urgency) in self.newly_urgent(credentials, now) {
            let expiry = &credential.expiry;
            tracing::warn!(
                forward = credential.forward.as_deref(),
                credential = expiry.kind.code(),
                remedy = expiry.remedy,
                over = urgency == ExpiryUrgency::Over,
                "{}",
                expiry.sentence(now)
            );
        }
    }
}

/// Between two checks: a certificate that another tool renews may live for hours only.
pub const NOTIFY_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::super::{CredentialExpiry, DAY};
    use super::*;

    #[test]
    fn each_threshold_is_told_once_and_a_new_credential_begins_anew() {
        let start = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let token = |end: SystemTime| TrackedCredential {
            forward: Some("jira".into()),
            expiry: CredentialExpiry::new(
                CredentialKind::PersonalAccessToken,
                ExpiryTime::At(end),
                "make one",
            ),
        };
        let one = [token(start + DAY * 40)];
        let mut notifier = ExpiryNotifier::default();
        let mut logged = Vec::new();
        // Every half day, well past the end.
        for half in 0..90 {
            let now = start + DAY / 2 * half;
            logged.extend(
                notifier
                    .newly_urgent(&one, now)
                    .into_iter()
                    .map(|(_, u)| (half, u)),
            );
        }
        assert_eq!(
            logged,
            [
                (20, ExpiryUrgency::Within30Days),
                (52, ExpiryUrgency::Within14Days),
                (66, ExpiryUrgency::Within7Days),
                (81, ExpiryUrgency::Over),
            ]
        );
        let now = start + DAY * 45;
        let replaced = [token(now + DAY * 6)];
        assert_eq!(notifier.newly_urgent(&replaced, now).len(), 1);
        assert_eq!(notifier.newly_urgent(&replaced, now).len(), 0);
    }
}

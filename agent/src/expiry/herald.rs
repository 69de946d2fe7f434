//! Logs a credential that is about to end: once for each threshold it passes, and once when it has ended.

use super::{Credential, End, Kind, Urgency};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Remembers what was said.
#[derive(Default)]
pub struct Herald {
    said: HashMap<Holder, (End, Urgency)>,
}

/// Forward, or the tunnel, and which of its credentials.
type Holder = (Option<Arc<str>>, Kind);

impl Herald {
    /// What has become more pressing since the last call. A credential that was replaced begins anew.
    pub fn news<'a>(
        &mut self,
        credentials: &'a [Credential],
        now: SystemTime,
    ) -> Vec<(&'a Credential, Urgency)> {
        let mut news = Vec::new();
        let mut said = HashMap::new();
        for credential in credentials {
            let key = (credential.forward.clone(), credential.expiry.kind);
            let urgency = credential.expiry.urgency(now);
            let before = match self.said.get(&key) {
                Some((end, urgency)) if *end == credential.expiry.end => *urgency,
                _ => Urgency::None,
            };
            if urgency > before {
                news.push((credential, urgency));
            }
            let end = credential.expiry.end.clone();
            said.insert(key, (end, urgency.max(before)));
        }
        self.said = said;
        news
    }

    /// Writes the news to the log.
    pub fn tell(&mut self, credentials: &[Credential], now: SystemTime) {
        for (credential, urgency) in self.news(credentials, now) {
            let expiry = &credential.expiry;
            tracing::warn!(
                forward = credential.forward.as_deref(),
                credential = expiry.kind.code(),
                remedy = expiry.remedy,
                over = urgency == Urgency::Over,
                "{}",
                expiry.sentence(now)
            );
        }
    }
}

/// How often the log is told: a certificate that is renewed by something else may live for hours only.
pub const TELL_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::super::{DAY, Expiry};
    use super::*;

    #[test]
    fn each_threshold_is_told_once_and_a_new_credential_begins_anew() {
        let start = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let token = |end: SystemTime| Credential {
            forward: Some("jira".into()),
            expiry: Expiry::new(Kind::PersonalAccessToken, End::At(end), "make one"),
        };
        let one = [token(start + DAY * 40)];
        let mut herald = Herald::default();
        let mut told = Vec::new();
        // Every half day, well past the end.
        for half in 0..90 {
            let now = start + DAY / 2 * half;
            told.extend(herald.news(&one, now).into_iter().map(|(_, u)| (half, u)));
        }
        assert_eq!(
            told,
            [
                (20, Urgency::Within30Days),
                (52, Urgency::Within14Days),
                (66, Urgency::Within7Days),
                (81, Urgency::Over),
            ]
        );
        let now = start + DAY * 45;
        let renewed = [token(now + DAY * 6)];
        assert_eq!(herald.news(&renewed, now).len(), 1);
        assert_eq!(herald.news(&renewed, now).len(), 0);
    }
}

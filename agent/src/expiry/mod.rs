//! When credentials expire, and how urgent that is.
//!
//! Each owner of a credential (authentication, the client certificate, the SSH certificate) reports a
//! [`CredentialExpiry`]. Status, metrics and the log read it and warn 30, 14 and 7 days before. Nothing here knows where a
//! credential is stored or how it is refreshed.

mod notifier;
pub mod timestamps;

pub use notifier::{ExpiryNotifier, NOTIFY_INTERVAL};

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// Which credential. A bounded set: it is a label of the metrics.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Kind")]
pub enum CredentialKind {
    /// Jira personal access token.
    PersonalAccessToken,
    /// An API token of an Atlassian account.
    ApiToken,
    /// A key in header fields of a tool's own.
    HeaderField,
    /// OAuth 2.0 access token.
    AccessToken,
    /// OAuth 2.0 refresh token.
    RefreshToken,
    /// OAuth 1.0a access token.
    Oauth1Token,
    /// OAuth 1.0a session, by which the access token is refreshed.
    Oauth1Session,
    /// TLS client certificate toward Jira.
    ClientCertificate,
    /// OpenSSH user certificate toward the gateway.
    SshCertificate,
}

impl CredentialKind {
    /// As in the JSON and in the metrics.
    pub fn code(self) -> &'static str {
        match self {
            Self::PersonalAccessToken => "personal_access_token",
            Self::ApiToken => "api_token",
            Self::HeaderField => "header_field",
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
            Self::Oauth1Token => "oauth1_token",
            Self::Oauth1Session => "oauth1_session",
            Self::ClientCertificate => "client_certificate",
            Self::SshCertificate => "ssh_certificate",
        }
    }

    /// Name of the credential kind in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::PersonalAccessToken => "personal access token",
            Self::ApiToken => "API token",
            Self::HeaderField => "key in a header",
            Self::AccessToken => "access token",
            Self::RefreshToken => "refresh token",
            Self::Oauth1Token => "OAuth 1.0a access token",
            Self::Oauth1Session => "OAuth 1.0a session",
            Self::ClientCertificate => "client certificate",
            Self::SshCertificate => "SSH certificate",
        }
    }
}

/// What is known of the end of one credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialExpiry {
    /// Which kind of credential it is.
    pub kind: CredentialKind,
    /// When the credential expires.
    pub end: ExpiryTime,
    /// When it was issued, if known: a certificate made for a day is not urgent because it ends tomorrow.
    pub issued_at: Option<SystemTime>,
    /// Whether the agent refreshes it by itself, so that no warning is needed.
    pub auto_refreshed: bool,
    /// What an administrator does before it ends, one sentence.
    pub remedy: String,
}

/// A credential, and which part of the configuration it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrackedCredential {
    /// Name of the forward; `None` for `[tunnel]`.
    pub forward: Option<Arc<str>>,
    /// What is known of its end.
    pub expiry: CredentialExpiry,
}

/// When a credential ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExpiryTime {
    /// It expires at this time.
    At(SystemTime),
    /// It was issued without an end.
    Never,
    /// Its end was not reported; the text is the reason, one clause.
    Unknown(String),
}

impl CredentialExpiry {
    /// A credential that ends at `end` and that an administrator has to replace.
    pub fn new(kind: CredentialKind, end: ExpiryTime, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            end,
            issued_at: None,
            auto_refreshed: false,
            remedy: remedy.into(),
        }
    }

    /// Sets the time of issue, if known.
    pub fn issued(mut self, since: Option<SystemTime>) -> Self {
        self.issued_at = since;
        self
    }

    /// Marks it as refreshed by the agent.
    pub fn auto_refreshed(mut self) -> Self {
        self.auto_refreshed = true;
        self
    }

    /// What is known, one sentence: `the personal access token ends in 12 days (2027-01-31)`.
    pub fn sentence(&self, now: SystemTime) -> String {
        let name = self.kind.name();
        match &self.end {
            ExpiryTime::Never => format!("the {name} has no end"),
            ExpiryTime::Unknown(why) => format!("when the {name} ends is not known: {why}"),
            ExpiryTime::At(end) => {
                let date = humantime::format_rfc3339_seconds(*end).to_string();
                let date = date.split('T').next().unwrap_or_default();
                let by_itself = match self.auto_refreshed {
                    true => ", and is refreshed automatically",
                    false => "",
                };
                match end.duration_since(now) {
                    Ok(left) => format!("the {name} ends in {}{by_itself} ({date})", span(left)),
                    Err(past) => format!(
                        "the {name} ended {} ago{by_itself} ({date})",
                        span(past.duration())
                    ),
                }
            }
        }
    }

    /// How urgent it is to replace it. Never for credentials that the agent refreshes: a failed refresh shows in the login
    /// layer.
    pub fn urgency(&self, now: SystemTime) -> ExpiryUrgency {
        let ExpiryTime::At(end) = self.end else {
            return ExpiryUrgency::None;
        };
        if self.auto_refreshed {
            return ExpiryUrgency::None;
        }
        let Ok(left) = end.duration_since(now) else {
            return ExpiryUrgency::Over;
        };
        let lifetime = self
            .issued_at
            .and_then(|since| end.duration_since(since).ok());
        // Thresholds longer than half of the lifetime are ignored.
        let counts = |limit: Duration| lifetime.is_none_or(|whole| limit <= whole / 2);
        [
            (ExpiryUrgency::Within7Days, 7),
            (ExpiryUrgency::Within14Days, 14),
            (ExpiryUrgency::Within30Days, 30),
        ]
        .into_iter()
        .map(|(urgency, days)| (urgency, DAY * days))
        .find(|(_, limit)| left <= *limit && counts(*limit))
        .map_or(ExpiryUrgency::None, |(urgency, _)| urgency)
    }
}

/// How pressing it is to replace a credential.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Urgency")]
pub enum ExpiryUrgency {
    /// It need not be replaced soon.
    None,
    /// It ends within 30 days.
    #[serde(rename = "within_30_days")]
    Within30Days,
    /// It ends within 14 days.
    #[serde(rename = "within_14_days")]
    Within14Days,
    /// It ends within 7 days.
    #[serde(rename = "within_7_days")]
    Within7Days,
    /// The credential has already expired.
    Over,
}

/// The largest unit, rounded down, so that it never shows more time than there is.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (count, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds / 60, "minute"),
        7200..172_800 => (seconds / 3600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    match count {
        1 => format!("1 {unit}"),
        _ => format!("{count} {unit}s"),
    }
}

const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    fn ends_in(days: u32) -> (CredentialExpiry, SystemTime) {
        let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let end = ExpiryTime::At(now + DAY * days);
        (
            CredentialExpiry::new(CredentialKind::PersonalAccessToken, end, "make one"),
            now,
        )
    }

    #[test]
    fn warnings_come_at_30_14_and_7_days_and_at_the_end() {
        for (days, urgency) in [
            (31, ExpiryUrgency::None),
            (30, ExpiryUrgency::Within30Days),
            (15, ExpiryUrgency::Within30Days),
            (14, ExpiryUrgency::Within14Days),
            (8, ExpiryUrgency::Within14Days),
            (7, ExpiryUrgency::Within7Days),
            (0, ExpiryUrgency::Within7Days),
        ] {
            let (expiry, now) = ends_in(days);
            assert_eq!(expiry.urgency(now), urgency, "{days}");
        }
        let (expiry, now) = ends_in(0);
        assert_eq!(
            expiry.urgency(now + Duration::from_secs(1)),
            ExpiryUrgency::Over
        );
    }

    #[test]
    fn a_kind_has_one_word_everywhere() {
        for kind in [
            CredentialKind::PersonalAccessToken,
            CredentialKind::Oauth1Session,
            CredentialKind::SshCertificate,
        ] {
            assert_eq!(serde_json::json!(kind), kind.code());
        }
    }

    #[test]
    fn a_sentence_never_shows_more_time_than_there_is() {
        let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        for (seconds, text) in [
            (1, "1 second"),
            (119, "119 seconds"),
            (120, "2 minutes"),
            (7_199, "119 minutes"),
            (7_200, "2 hours"),
            (172_799, "47 hours"),
            (172_800, "2 days"),
            (365 * 86_400 - 1, "364 days"),
        ] {
            let span = Duration::from_secs(seconds);
            let ends = |end| {
                let end = ExpiryTime::At(end);
                CredentialExpiry::new(CredentialKind::RefreshToken, end, "").sentence(now)
            };
            let (left, past) = (ends(now + span), ends(now - span));
            let begins = format!("the refresh token ends in {text} (");
            assert!(left.starts_with(&begins), "{left}");
            let begins = format!("the refresh token ended {text} ago (");
            assert!(past.starts_with(&begins), "{past}");
        }
    }

    #[test]
    fn a_short_life_is_not_pressing_from_its_first_day() {
        let (expiry, now) = ends_in(1);
        let made_today = expiry.issued(Some(now));
        assert_eq!(made_today.urgency(now), ExpiryUrgency::None);
        assert_eq!(made_today.urgency(now + DAY * 2), ExpiryUrgency::Over);
        // Of 90 days all three count.
        let (expiry, now) = ends_in(30);
        let expiry = expiry.issued(Some(now - DAY * 60));
        assert_eq!(expiry.urgency(now), ExpiryUrgency::Within30Days);
    }

    #[test]
    fn what_renews_itself_or_never_ends_warns_nobody() {
        let (expiry, now) = ends_in(1);
        assert_eq!(expiry.auto_refreshed().urgency(now), ExpiryUrgency::None);
        for end in [
            ExpiryTime::Never,
            ExpiryTime::Unknown("not reported".into()),
        ] {
            let expiry = CredentialExpiry::new(CredentialKind::ApiToken, end, "");
            assert_eq!(expiry.urgency(now), ExpiryUrgency::None);
        }
    }
}

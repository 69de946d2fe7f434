//! How webhooks are registered and delivered.

use std::path::PathBuf;

use serde::Deserialize;

use crate::jira::oauth2::HttpsRule;

/// `WebhookSettings::default()` delivers as Jira does: Cloud retries up to five times, Data Center never.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebhookSettings {
    /// Where the URL of a webhook may be plain http. Default: everywhere in Data Center, nowhere in Cloud.
    pub https: Option<HttpsRule>,
    /// PEM file with the CAs of receivers that serve https. Default: none is trusted.
    pub ca_file: Option<PathBuf>,
    /// Whether deliveries have `X-Atlassian-Webhook-Identifier`. It is documented for Cloud only.
    pub identifier: bool,
    /// Milliseconds to connect. Cloud: 5,000.
    pub connect_timeout: u64,
    /// Milliseconds from the connection to the end of the response. Cloud: 20,000.
    pub response_timeout: u64,
    /// Attempts after the first one. Default: five in Cloud, none in Data Center.
    pub retries: Option<u32>,
    /// Shortest pause before another attempt in milliseconds. Cloud: five minutes.
    pub retry_pause_min: u64,
    /// Longest pause before another attempt in milliseconds. Cloud: 15 minutes.
    pub retry_pause_max: u64,
    /// Deliveries of one webhook at a time. With more than one, events of an issue can overtake each other, as in Jira.
    pub in_flight: usize,
    /// Events of one webhook that wait; further ones are dropped.
    pub queue: usize,
    /// Seconds until a webhook of an app expires. Cloud: 30 days.
    pub app_lifetime: u32,
}

impl WebhookSettings {
    pub(super) fn https(&self, cloud: bool) -> HttpsRule {
        self.https.unwrap_or(match cloud {
            true => HttpsRule::Strict,
            false => HttpsRule::Off,
        })
    }

    pub(super) fn retries(&self, cloud: bool) -> u32 {
        self.retries.unwrap_or(match cloud {
            true => RETRIES_OF_CLOUD,
            false => 0,
        })
    }
}

impl Default for WebhookSettings {
    fn default() -> Self {
        Self {
            https: None,
            ca_file: None,
            identifier: true,
            connect_timeout: 5_000,
            response_timeout: 20_000,
            retries: None,
            retry_pause_min: 5 * 60_000,
            retry_pause_max: 15 * 60_000,
            in_flight: 1,
            queue: 10_000,
            app_lifetime: 30 * 86_400,
        }
    }
}

const RETRIES_OF_CLOUD: u32 = 5;

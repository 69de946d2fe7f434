//! The settings of an imitation Cloud.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::jira::{OAuth1Settings, UserSettings, WebhookSettings};

/// `Settings::default()` listens on free loopback ports. It has the sites `acme` and `other`, the
/// account `acme-bot@acme.example` on both, an API token of each kind, no app and no application link.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the token service listens; port 0 takes a free one.
    pub auth_listen: SocketAddr,
    /// Where the API gateway listens.
    pub api_listen: SocketAddr,
    /// Where `ca.pem` and attachments are kept. Default: a temporary directory.
    pub directory: Option<PathBuf>,
    /// Lifetime of an access token in seconds. Cloud: one hour.
    pub access_lifetime: u32,
    /// How long a used refresh token still works, in seconds. Cloud: about ten minutes.
    pub refresh_leeway: u32,
    /// Lifetime of an unused refresh token in seconds. Cloud: 90 days.
    pub refresh_lifetime: u32,
    /// Lifetime of a login in seconds, however often its tokens are refreshed. Cloud: 365 days.
    pub login_lifetime: u32,
    /// Lifetime of an authorization code in seconds.
    pub code_lifetime: u32,
    /// Error for an invalid refresh token.
    pub dead_token: DeadTokenAnswer,
    /// Atlassian accounts that may log in.
    pub accounts: Vec<AtlassianAccount>,
    /// API tokens of the accounts.
    pub api_tokens: Vec<ApiToken>,
    /// OAuth 2.0 (3LO) apps.
    pub apps: Vec<OAuthApp>,
    /// Legacy application links, the same on every site. Each site issues its own tokens. The user of a
    /// two-legged link is an account id.
    pub oauth1: OAuth1Settings,
    /// How webhooks are registered and delivered.
    pub webhooks: WebhookSettings,
    /// Sites; every account is on each of them.
    pub sites: Vec<SiteSettings>,
}

/// An Atlassian account that may log in.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtlassianAccount {
    /// The account's `accountId` in the REST API.
    pub id: String,
    /// Email address, the login name.
    pub email: String,
    /// Password for the consent page.
    pub password: String,
    /// The account's `displayName` in the REST API.
    pub display_name: String,
}

/// An API token of an Atlassian account.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiToken {
    /// The email address of its account.
    pub email: String,
    /// The secret text of the token.
    pub token: String,
    /// Scopes of a token for the API gateway. `None`: a token without scopes, for the site's own URL.
    #[serde(default)]
    pub scopes: Option<Vec<String>>,
}

/// An OAuth 2.0 (3LO) app.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuthApp {
    /// The app's OAuth 2.0 `client_id`.
    pub id: String,
    /// The app's OAuth 2.0 `client_secret`.
    pub secret: String,
    /// The callback URL, which must be sent character for character.
    pub redirect: String,
    /// The permissions of the app, classic and granular; `offline_access` needs none.
    #[serde(default = "common_scopes")]
    pub scopes: Vec<String>,
}

/// The error for an invalid refresh token; Atlassian sends both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadTokenAnswer {
    /// 403 `invalid_grant`, "Unknown or invalid refresh token."
    #[default]
    InvalidGrant,
    /// 403 `unauthorized_client`, "refresh_token is invalid".
    UnauthorizedClient,
}

/// A Jira Cloud site to serve.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteSettings {
    /// `name` of accessible resources.
    pub name: String,
    /// `id` of accessible resources.
    pub cloud_id: String,
    /// Base URL of the site, such as `https://acme.atlassian.net`. Default: its own address.
    #[serde(default)]
    pub url: Option<String>,
    /// Where to listen; port 0 takes a free one.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
}

impl AtlassianAccount {
    /// The account as a user of the site's Jira.
    pub(super) fn user(&self) -> UserSettings {
        UserSettings {
            name: self.id.clone(),
            password: self.password.clone(),
            email: self.email.clone(),
            display_name: self.display_name.clone(),
            groups: vec!["jira-software-users".into()],
        }
    }
}

impl OAuthApp {
    /// An app with the common permissions.
    pub fn new(id: &str, secret: &str, redirect: &str) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
            redirect: redirect.into(),
            scopes: common_scopes(),
        }
    }
}

impl Default for Settings {
    fn default() -> Self {
        let site = |name: &str, cloud_id: &str| SiteSettings {
            name: name.into(),
            cloud_id: cloud_id.into(),
            url: None,
            listen: loopback(),
        };
        let token = |token: &str, scopes| ApiToken {
            email: "acme-bot@acme.example".into(),
            token: token.into(),
            scopes,
        };
        Self {
            auth_listen: loopback(),
            api_listen: loopback(),
            directory: None,
            access_lifetime: 3600,
            refresh_leeway: 600,
            refresh_lifetime: 90 * 86_400,
            login_lifetime: 365 * 86_400,
            code_lifetime: 300,
            dead_token: DeadTokenAnswer::InvalidGrant,
            accounts: vec![AtlassianAccount {
                id: "712020:5b10a2844c20165700ede21g".into(),
                email: "acme-bot@acme.example".into(),
                password: "acme-password".into(),
                display_name: "Acme Bot".into(),
            }],
            api_tokens: vec![
                token("acme-bot-api-token", None),
                token("acme-bot-scoped-token", Some(common_scopes())),
            ],
            apps: Vec::new(),
            oauth1: OAuth1Settings::default(),
            webhooks: WebhookSettings::default(),
            sites: vec![
                site("acme", "11223344-a1b2-4b33-8c44-def123456789"),
                site("other", "55667788-c3d4-4e55-9f66-abc987654321"),
            ],
        }
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn common_scopes() -> Vec<String> {
    COMMON_SCOPES.iter().map(|&scope| scope.into()).collect()
}

const COMMON_SCOPES: &[&str] = &["read:jira-work", "write:jira-work", "read:jira-user"];

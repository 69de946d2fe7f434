//! What an imitation Cloud is told before it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use crate::jira::{OAuth1Settings, UserSettings};

/// Everything that can be set. `Settings::default()` is on free loopback ports and has the sites
/// `acme` and `other`, the account `acme-bot@acme.example` on both, an API token of each kind, no app,
/// and no application link.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where the token service listens; port 0 takes a free one.
    pub auth_listen: SocketAddr,
    /// Where the API gateway listens.
    pub api_listen: SocketAddr,
    /// Where `ca.pem` and attachments are kept. Default: a directory that goes with the process.
    pub directory: Option<PathBuf>,
    /// Life of an access token, seconds. Cloud: one hour.
    pub access_lifetime: u32,
    /// How long a refresh token that was used still works, seconds. Cloud: about ten minutes.
    pub refresh_leeway: u32,
    /// Life of a refresh token that is not used, seconds. Cloud: 90 days.
    pub refresh_lifetime: u32,
    /// Life of a code, seconds.
    pub code_lifetime: u32,
    /// How a dead refresh token is told.
    pub dead_token: DeadTokenAnswer,
    /// Atlassian accounts that may log in.
    pub accounts: Vec<AtlassianAccount>,
    /// API tokens of the accounts.
    pub api_tokens: Vec<ApiToken>,
    /// OAuth 2.0 (3LO) apps.
    pub apps: Vec<OAuthApp>,
    /// Application links, legacy: the same on every site, each of which issues tokens of its own. The
    /// user of a two-legged link is an account id.
    pub oauth1: OAuth1Settings,
    /// Sites; every account is on each of them.
    pub sites: Vec<SiteSettings>,
}

/// An Atlassian account that may log in.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AtlassianAccount {
    /// The account's `accountId` in the REST API.
    pub id: String,
    /// What one logs in with.
    pub email: String,
    /// For the consent page.
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
    /// Absent: a token without scopes, for the site's own URL. Otherwise for the API gateway alone.
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
    /// The permissions of the app; `offline_access` needs none.
    #[serde(default = "common_scopes")]
    pub scopes: Vec<String>,
}

/// How the token service tells that a refresh token is dead; both are seen.
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
    /// Its own idea of its URL, such as `https://acme.atlassian.net`. Default: where it listens.
    #[serde(default)]
    pub url: Option<String>,
    /// Where to listen; port 0 takes a free one.
    #[serde(default = "loopback")]
    pub listen: SocketAddr,
}

impl AtlassianAccount {
    /// As the Jira of a site knows it.
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

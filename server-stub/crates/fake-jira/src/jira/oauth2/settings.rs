//! The settings of the provider.

use serde::Deserialize;

use super::scope::OAuth2Scope;

/// The clients and lifetimes of the OAuth 2.0 provider.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OAuth2Settings {
    /// Clients of the incoming application links.
    pub clients: Vec<OAuth2Client>,
    /// Where plain http is accepted.
    pub https: HttpsRule,
    /// Lifetime of an access token in seconds. Jira: one or two hours.
    pub access_lifetime: u32,
    /// Lifetime of a refresh token in seconds. Jira: 90 days.
    pub refresh_lifetime: u32,
    /// Lifetime of a code in seconds. Jira: 10 to 60.
    pub code_lifetime: u32,
}

/// A client, as an administrator registers it in an application link.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OAuth2Client {
    /// The client's id, sent as `client_id`.
    pub id: String,
    /// The client's secret, sent as `client_secret`.
    pub secret: String,
    /// Redirect URIs; a request must send one of them exactly.
    #[serde(default)]
    pub redirects: Vec<String>,
    /// Permission of the application link: the largest scope of its tokens.
    #[serde(default = "write")]
    pub scope: OAuth2Scope,
    /// Service account for `client_credentials`; absent refuses that grant.
    #[serde(default)]
    pub service_account: Option<String>,
}

/// Whether Jira requires https for its base URL and for redirects. Two system properties relax this.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HttpsRule {
    /// Jira's default: https everywhere.
    #[default]
    Strict,
    /// http is accepted on loopback addresses.
    Loopback,
    /// http is accepted everywhere.
    Off,
}

impl OAuth2Client {
    /// A client with the scope WRITE and no service account.
    pub fn new(id: &str, secret: &str, redirect: &str) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
            redirects: vec![redirect.into()],
            scope: OAuth2Scope::Write,
            service_account: None,
        }
    }
}

impl HttpsRule {
    /// Whether Jira serves or redirects to `url`.
    pub(in crate::jira) fn allows(self, url: &str) -> bool {
        let Ok(url) = url::Url::parse(url) else {
            return false;
        };
        let loopback = match url.host() {
            Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
            Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        url.scheme() == "https"
            || url.scheme() == "http"
                && match self {
                    Self::Strict => false,
                    Self::Loopback => loopback,
                    Self::Off => true,
                }
    }
}

impl Default for OAuth2Settings {
    fn default() -> Self {
        Self {
            clients: Vec::new(),
            https: HttpsRule::Strict,
            access_lifetime: 7200,
            refresh_lifetime: 90 * 86_400,
            code_lifetime: 60,
        }
    }
}

fn write() -> OAuth2Scope {
    OAuth2Scope::Write
}

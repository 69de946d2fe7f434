//! The settings of an imitation Jira: plain values without behavior. The default users and projects
//! are in `defaults`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::defaults;
use super::fault::InjectedFault;
use super::model::JiraPermission;
use super::oauth1::OAuth1Settings;
use super::oauth2::OAuth2Settings;
use super::rate::RateLimit;
use super::webhooks::WebhookSettings;

/// `Settings::default()` is a Jira 10 over plain HTTP on a free loopback port, with two visible
/// projects, a hidden one, and the users `admin`, `acme-bot` and `reader`.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address to listen on; port 0 takes a free port.
    pub listen: SocketAddr,
    /// TLS with a certificate of a new CA; `None` means plain HTTP.
    pub https: Option<HttpsSettings>,
    /// `""` or a path such as `/jira`, without a trailing slash.
    pub context_path: String,
    /// Base URL, used in every `self` and `content` link. Default: the address and context path.
    pub base_url: Option<String>,
    /// Title of the instance, `serverTitle` in the REST API.
    pub title: String,
    /// Version, such as `8.20.30`, `9.12.15`, `10.3.2`, `11.1.0`. It selects the form of `createmeta` and
    /// whether Basic is enabled by default.
    pub version: String,
    /// Where attachments and `ca.pem` are kept. Default: a temporary directory.
    pub directory: Option<PathBuf>,
    /// Whether Basic authentication is enabled. Default: only before Jira 11.
    pub basic: Option<bool>,
    /// Whether `os_username` and `os_password` in query or form log in, as in old Jiras.
    pub query_login: bool,
    /// Failed logins of one user after which a CAPTCHA is required.
    pub captcha_after: u32,
    /// Size limit of an attachment in bytes.
    pub upload_limit: u64,
    /// Whether to serve the control paths `/__stub/…` beside the context path.
    pub control: bool,
    /// Users of the directory.
    pub users: Vec<UserSettings>,
    /// Personal access tokens that exist from the start.
    pub tokens: Vec<TokenSettings>,
    /// Tomcat's connector settings for a proxy in front of Jira; OAuth 1.0a signatures cover that URL.
    pub connector: TomcatConnector,
    /// Consumers and lifetimes of the OAuth 1.0a provider.
    pub oauth1: OAuth1Settings,
    /// Clients and lifetimes of the OAuth 2.0 provider.
    pub oauth2: OAuth2Settings,
    /// Projects that exist from the start.
    pub projects: Vec<ProjectSettings>,
    /// Rate limit per user.
    pub rate_limit: RateLimit,
    /// How webhooks are registered and delivered.
    pub webhooks: WebhookSettings,
    /// Injected faults; can be changed while running.
    pub faults: Vec<InjectedFault>,
}

/// Certificate names and client certificates of Jira's own TLS.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpsSettings {
    /// Names in the certificate beside `localhost`, `127.0.0.1`, `::1` and the base URL's host.
    pub names: Vec<String>,
    /// Whether a client must present a certificate of the same CA.
    pub client_certificate: bool,
}

/// `scheme`, `proxyName` and `proxyPort` of Tomcat's connector. Absent values come from the request:
/// the listener's scheme, and the name and port of `Host`.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TomcatConnector {
    /// Scheme that clients use, `http` or `https`.
    pub scheme: Option<String>,
    /// Host name that clients use.
    pub proxy_name: Option<String>,
    /// Port that clients use.
    pub proxy_port: Option<u16>,
}

/// A user of the directory.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserSettings {
    /// Login name of the user.
    pub name: String,
    /// Password in clear text.
    pub password: String,
    /// Email address; `NAME@corp.example` if empty. In Cloud it is the login name.
    #[serde(default)]
    pub email: String,
    /// `displayName`; the login name if empty.
    #[serde(default)]
    pub display_name: String,
    /// Groups; `jira-administrators` makes an administrator.
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A personal access token.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenSettings {
    /// Login name of the token's owner.
    pub user: String,
    /// The secret, sent after `Bearer `.
    pub token: String,
    /// Shown in the list of tokens.
    #[serde(default)]
    pub name: String,
    /// Seconds from the start until it expires; negative if it has expired; absent means never.
    #[serde(default)]
    pub expires_in: Option<i64>,
}

/// A project that exists from the start.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectSettings {
    /// Project key in upper case.
    pub key: String,
    /// Display name of the project.
    pub name: String,
    /// Login name of the lead, the automatic assignee.
    pub lead: String,
    /// Names of its components.
    #[serde(default)]
    pub components: Vec<String>,
    /// Names of its versions.
    #[serde(default)]
    pub versions: Vec<String>,
    /// The permission scheme. Administrators have every permission in every project.
    pub grants: Vec<PermissionGrant>,
}

/// One line of a permission scheme.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionGrant {
    /// Holder of the permissions.
    pub to: PermissionHolder,
    /// The permissions that are granted.
    pub permissions: Vec<JiraPermission>,
}

/// The users who hold a permission.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PermissionHolder {
    /// Everyone, logged in or not.
    Anyone,
    /// Everyone who is logged in.
    LoggedIn,
    /// The members of a group.
    Group(String),
    /// The user with this login name.
    User(String),
}

impl Settings {
    /// The first number of the version; 0 if there is none.
    pub(crate) fn major(&self) -> u32 {
        self.version_numbers().first().copied().unwrap_or(0)
    }

    pub(crate) fn version_numbers(&self) -> Vec<u32> {
        self.version
            .split('.')
            .map_while(|n| n.parse().ok())
            .collect()
    }

    /// Whether Basic is enabled when Jira starts.
    pub(crate) fn basic_at_start(&self) -> bool {
        self.basic.unwrap_or(self.major() < BASIC_OFF_SINCE)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            https: None,
            context_path: String::new(),
            base_url: None,
            title: "Imitation Jira".into(),
            version: "10.3.2".into(),
            directory: None,
            basic: None,
            query_login: true,
            captcha_after: 3,
            upload_limit: DEFAULT_UPLOAD_LIMIT,
            control: false,
            users: defaults::users(),
            tokens: defaults::tokens(),
            connector: TomcatConnector::default(),
            oauth1: OAuth1Settings::default(),
            oauth2: OAuth2Settings::default(),
            projects: defaults::projects(),
            rate_limit: RateLimit::default(),
            webhooks: WebhookSettings::default(),
            faults: Vec::new(),
        }
    }
}

/// First major version with Basic disabled by default.
const BASIC_OFF_SINCE: u32 = 11;
/// Above the 1 GiB that the tests upload; Jira's own default is 10 MiB.
const DEFAULT_UPLOAD_LIMIT: u64 = 2 << 30;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::jira::FaultKind;

    #[test]
    fn a_settings_file_names_people_projects_and_faults() {
        let settings: Settings = toml::from_str(
            r#"
            context_path = "/jira"
            https = { names = ["jira.corp.example"] }
            rate_limit = { enforce = true, limit = 5 }

            [[users]]
            name = "bot"
            password = "p"

            [[tokens]]
            user = "bot"
            token = "t"
            expires_in = -1

            [[projects]]
            key = "A"
            name = "Alpha"
            lead = "bot"
            grants = [
                { to = "logged_in", permissions = ["BROWSE_PROJECTS"] },
                { to = { user = "bot" }, permissions = ["CREATE_ISSUES"] },
            ]

            [[faults]]
            target = "/attachments"
            kind = "stall"

            [[faults]]
            method = "GET"
            kind = { cut_after = 10 }
            "#,
        )
        .unwrap();
        assert_eq!(
            settings.projects[0].grants[1].to,
            PermissionHolder::User("bot".into())
        );
        assert!(matches!(settings.faults[1].kind, FaultKind::CutAfter(10)));
        assert!(toml::from_str::<Settings>("nope = 1").is_err());
    }
}

//! What an imitation Jira is told before it starts: plain values, no behaviour. The defaults of
//! users and projects are in `defaults`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use serde::Deserialize;

use super::defaults;
use super::fault::InjectedFault;
use super::model::JiraPermission;
use super::oauth1::OAuth1Settings;
use super::oauth2::OAuth2Settings;
use super::rate::RateLimit;

/// Everything that can be set. `Settings::default()` is a Jira 10 over plain HTTP on a free loopback
/// port with two visible projects, one hidden one, and the users `admin`, `acme-bot`, `reader`.
#[derive(Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// TLS with a certificate of an authority made on the spot, or plain HTTP.
    pub https: Option<HttpsSettings>,
    /// `""` or a path such as `/jira`, without a trailing slash.
    pub context_path: String,
    /// Jira's own idea of its URL, which every `self` and `content` link carries. Default: where it
    /// listens.
    pub base_url: Option<String>,
    /// Title of the instance, `serverTitle` in the REST API.
    pub title: String,
    /// `8.20.30`, `9.12.15`, `10.3.2`, `11.1.0`: decides the era of `createmeta` and whether Basic
    /// is on by default.
    pub version: String,
    /// Where attachments and `ca.pem` are kept. Default: a directory that goes with the process.
    pub directory: Option<PathBuf>,
    /// Basic authentication. Default: on before Jira 11, off from 11.
    pub basic: Option<bool>,
    /// Whether `os_username` and `os_password` in query or form log in, as in old Jiras.
    pub query_login: bool,
    /// Failed Basic logins of one user after which the CAPTCHA challenge begins.
    pub captcha_after: u32,
    /// Size limit of an attachment in bytes.
    pub upload_limit: u64,
    /// Serve `/__stub/…` beside the context path: clear a CAPTCHA, set the state, read the record.
    pub control: bool,
    /// Who may log in.
    pub users: Vec<UserSettings>,
    /// Personal access tokens that exist from the start.
    pub tokens: Vec<TokenSettings>,
    /// What Tomcat's connector tells Jira about a proxy in front of it; OAuth 1.0a signs over that.
    pub connector: TomcatConnector,
    /// The OAuth 1.0a provider: consumers, lifetimes.
    pub oauth1: OAuth1Settings,
    /// The OAuth 2.0 provider: clients, lifetimes.
    pub oauth2: OAuth2Settings,
    /// Projects that exist from the start.
    pub projects: Vec<ProjectSettings>,
    /// Rate limit per user.
    pub rate_limit: RateLimit,
    /// Misbehaviour on purpose; can be changed while running.
    pub faults: Vec<InjectedFault>,
}

/// How Jira serves TLS itself.
#[derive(Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpsSettings {
    /// Names in the certificate beside `localhost`, `127.0.0.1`, `::1` and the base URL's host.
    pub names: Vec<String>,
    /// A client must show a certificate of the same authority.
    pub client_certificate: bool,
}

/// `scheme`, `proxyName` and `proxyPort` of Tomcat's connector. What is absent is as the request
/// comes: the listener's scheme, and the name and port of `Host`.
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
    /// Password, in the clear: this is an imitation.
    pub password: String,
    /// Email address; `NAME@corp.example` when empty. In Cloud users log in with it.
    #[serde(default)]
    pub email: String,
    /// `displayName`; the login name when empty.
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
    /// What goes after `Bearer `.
    pub token: String,
    /// Shown in the list of tokens.
    #[serde(default)]
    pub name: String,
    /// Seconds from the start until it expires; negative: expired before; absent: never.
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
    /// Login name of the lead, who gets what is assigned automatically.
    pub lead: String,
    /// Names of its components.
    #[serde(default)]
    pub components: Vec<String>,
    /// Names of its versions.
    #[serde(default)]
    pub versions: Vec<String>,
    /// Who may do what. Administrators may do everything in every project.
    pub grants: Vec<PermissionGrant>,
}

/// One line of a permission scheme.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PermissionGrant {
    /// Who holds the permissions.
    pub to: PermissionHolder,
    /// The permissions that are granted.
    pub permissions: Vec<JiraPermission>,
}

/// Who holds a permission.
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
    /// The first number of the version; 0 when there is none.
    pub(crate) fn major(&self) -> u32 {
        self.version_numbers().first().copied().unwrap_or(0)
    }

    pub(crate) fn version_numbers(&self) -> Vec<u32> {
        self.version
            .split('.')
            .map_while(|n| n.parse().ok())
            .collect()
    }

    /// Whether Basic is on when Jira starts.
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
            faults: Vec::new(),
        }
    }
}

/// The first major version that comes with Basic switched off.
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

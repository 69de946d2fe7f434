//! What OAuth 2.0 needs to know, and the two providers there are.

use crate::{
    secret::SecretFile,
    tokens::{TokenOwner, TokenStore},
    upstream::{self, HttpTarget, UpstreamTarget},
};
use std::time::Duration;

/// `[forward.auth]` with `mode = "oauth2"`.
#[derive(Clone)]
pub struct Settings {
    /// As the provider gave it.
    pub client_id: String,
    /// File with the client's secret.
    pub client_secret_file: SecretFile,
    /// How the first token is obtained.
    pub grant: GrantType,
    /// Requested scopes, separated by spaces.
    pub scope: String,
    /// Where a person consents. Without query.
    pub authorize_url: HttpTarget,
    /// Where tokens are issued and refreshed.
    pub token_url: HttpTarget,
    /// Where tokens are revoked (RFC 7009); Atlassian's Cloud has no such place.
    pub revoke_url: Option<HttpTarget>,
    /// Exactly as it is registered with the client.
    pub redirect_uri: String,
    /// Cloud: the API that the token is for.
    pub audience: Option<String>,
    /// Who issues the tokens and whose protocol rules apply.
    pub provider: TokenIssuer,
    /// File with a first refresh token, for unattended setup.
    pub refresh_token_file: Option<SecretFile>,
    /// Where the tokens live.
    pub store: TokenStore,
    /// The way to the upstream, whose trust the token endpoint shares.
    pub upstream: upstream::Settings,
}

/// How the first token is obtained (RFC 6749 §1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantType {
    /// A person consents once.
    AuthorizationCode,
    /// The client itself is the user: a Data Center service account.
    ClientCredentials,
}

/// Who issues the tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenIssuer {
    /// Jira Data Center's own provider, which uses PKCE.
    DataCenter,
    /// Atlassian's account service: no PKCE, and it asks for consent each time.
    Cloud,
}

impl TokenIssuer {
    /// By the upstream's host.
    pub fn of(target: &HttpTarget) -> Self {
        let host = target.host.to_ascii_lowercase();
        match host == CLOUD_API || host.ends_with(CLOUD_SITES) {
            true => Self::Cloud,
            false => Self::DataCenter,
        }
    }

    /// The scope where none is written: what `ticketing` needs.
    pub fn scope(self) -> &'static str {
        match self {
            Self::DataCenter => "WRITE",
            Self::Cloud => "read:jira-work write:jira-work read:jira-user offline_access",
        }
    }

    /// The audience where none is written.
    pub fn audience(self) -> Option<&'static str> {
        match self {
            Self::DataCenter => None,
            Self::Cloud => Some(CLOUD_API),
        }
    }

    /// How long one consent lasts at most, however often its tokens are refreshed; `None`: the provider sets no such limit.
    pub fn login_life(self) -> Option<Duration> {
        match self {
            Self::DataCenter => None,
            Self::Cloud => Some(Duration::from_secs(365 * 86_400)),
        }
    }

    /// `authorize` or `token` of this provider, for a Jira at `upstream`.
    pub fn endpoint(self, upstream: &HttpTarget, name: &str) -> Option<HttpTarget> {
        match (self, name) {
            (Self::DataCenter, name) => Some(HttpTarget {
                context_path: format!("{}/rest/oauth2/latest/{name}", upstream.context_path),
                ..upstream.clone()
            }),
            (Self::Cloud, "authorize") => cloud("/authorize"),
            (Self::Cloud, "token") => cloud("/oauth/token"),
            (Self::Cloud, _) => None,
        }
    }
}

impl Settings {
    /// Whose tokens are to be used: those of another client or site are not ours.
    pub fn owner(&self) -> TokenOwner {
        TokenOwner {
            mode: "oauth2".to_owned(),
            client: self.client_id.clone(),
            issuer: self.token_url.to_string(),
        }
    }

    /// What to type, for remedies.
    pub fn login_command(&self) -> String {
        format!("agent login {}", self.store.forward())
    }
}

fn cloud(path: &str) -> Option<HttpTarget> {
    match format!("https://{CLOUD_ACCOUNTS}{path}").parse() {
        Ok(UpstreamTarget::Http(target)) => Some(target),
        _ => None,
    }
}

const CLOUD_ACCOUNTS: &str = "auth.atlassian.com";
const CLOUD_API: &str = "api.atlassian.com";
const CLOUD_SITES: &str = ".atlassian.net";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;

    fn target(url: &str) -> HttpTarget {
        match url.parse().unwrap() {
            UpstreamTarget::Http(target) => target,
            UpstreamTarget::Tcp { .. } => panic!("{url}"),
        }
    }

    #[test]
    fn endpoints_follow_from_the_upstream() {
        let jira = target("https://jira.corp.example:8443/jira");
        let of = |provider: TokenIssuer, name| {
            let found = provider.endpoint(&jira, name);
            found.map(|endpoint| endpoint.to_string())
        };
        assert_eq!(
            of(TokenIssuer::of(&jira), "token").unwrap(),
            "https://jira.corp.example:8443/jira/rest/oauth2/latest/token"
        );
        for cloud in [
            "https://acme.atlassian.net",
            "https://api.atlassian.com/ex/jira/1",
        ] {
            assert_eq!(TokenIssuer::of(&target(cloud)), TokenIssuer::Cloud);
        }
        for own in [
            "https://atlassian.net.corp.example",
            "https://notatlassian.net",
        ] {
            assert_eq!(TokenIssuer::of(&target(own)), TokenIssuer::DataCenter);
        }
        let cloud = |name| of(TokenIssuer::Cloud, name);
        assert_eq!(
            cloud("token").unwrap(),
            "https://auth.atlassian.com/oauth/token"
        );
        assert_eq!(
            cloud("authorize").unwrap(),
            "https://auth.atlassian.com/authorize"
        );
        assert_eq!(cloud("revoke"), None);
    }
}

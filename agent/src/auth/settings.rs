//! `[forward.auth]`, parsed.

use super::{oauth1, oauth2};
use crate::secret::SecretFile;
use http::HeaderName;
use std::time::SystemTime;

/// How requests are authenticated to Jira: the section `[forward.auth]`.
#[derive(Clone)]
pub enum Settings {
    /// The vendor's credential goes through untouched.
    PassThrough,
    /// User name and password.
    Basic {
        /// Jira user name; no colon (RFC 7617 §2).
        username: String,
        /// File with the password.
        password_file: SecretFile,
    },
    /// Email address and API token of an Atlassian account.
    ApiToken {
        /// Email address; no colon (RFC 7617 §2).
        email: String,
        /// File with the token.
        token_file: SecretFile,
        /// Whether it is one with scopes, which Cloud takes behind its API gateway alone.
        scoped: bool,
        /// When it ends, if the configuration states it.
        expires: Option<SystemTime>,
    },
    /// Personal access token.
    Pat {
        /// File with the token.
        token_file: SecretFile,
        /// When it ends, if the configuration states it; otherwise Jira is asked.
        expires: Option<SystemTime>,
    },
    /// Header fields of the tool's own.
    Header {
        /// The fields, at least one, each name once.
        fields: Vec<HeaderField>,
        /// When the credential ends, if the configuration states it.
        expires: Option<SystemTime>,
    },
    /// OAuth 2.0, with tokens that the agent stores and refreshes.
    OAuth2(Box<oauth2::Settings>),
    /// Requests signed by OAuth 1.0a, with a private key on this host.
    OAuth1(Box<oauth1::Settings>),
}

/// A header field whose value is a secret.
#[derive(Clone)]
pub struct HeaderField {
    /// Name of the field.
    pub name: HeaderName,
    /// File with its whole value.
    pub value_file: SecretFile,
}

impl Settings {
    /// As in the configuration.
    pub fn mode(&self) -> &'static str {
        match self {
            Self::PassThrough => "pass-through",
            Self::Basic { .. } => "basic",
            Self::Pat { .. } => "pat",
            Self::ApiToken { .. } => "api-token",
            Self::Header { .. } => "header",
            Self::OAuth2(_) => "oauth2",
            Self::OAuth1(_) => "oauth1",
        }
    }

    /// The files with its secrets, as configured.
    pub fn secret_files(&self) -> Vec<SecretFile> {
        match self {
            Self::PassThrough => Vec::new(),
            Self::Basic { password_file, .. } => vec![password_file.clone()],
            Self::Pat { token_file, .. } | Self::ApiToken { token_file, .. } => {
                vec![token_file.clone()]
            }
            Self::Header { fields, .. } => {
                let files = fields.iter().map(|field| field.value_file.clone());
                files.collect()
            }
            Self::OAuth2(settings) => std::iter::once(settings.client_secret_file.clone())
                .chain(settings.refresh_token_file.clone())
                .collect(),
            Self::OAuth1(settings) => match &settings.token {
                oauth1::AccessTokenSource::File(token) => {
                    vec![settings.private_key_file.clone(), token.clone()]
                }
                oauth1::AccessTokenSource::Login(_) | oauth1::AccessTokenSource::TwoLegged => {
                    vec![settings.private_key_file.clone()]
                }
            },
        }
    }

    /// Whether `agent login` is what gives it its tokens.
    pub fn stores_tokens(&self) -> bool {
        match self {
            Self::OAuth2(settings) => settings.grant == oauth2::GrantType::AuthorizationCode,
            Self::OAuth1(settings) => matches!(settings.token, oauth1::AccessTokenSource::Login(_)),
            Self::PassThrough
            | Self::Basic { .. }
            | Self::Pat { .. }
            | Self::Header { .. }
            | Self::ApiToken { .. } => false,
        }
    }
}

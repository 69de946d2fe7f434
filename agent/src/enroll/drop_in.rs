//! Token and answers as a drop-in of the configuration, and the files that it names. `config` validates it.

use super::{AuthAnswers, EnrollmentAnswers, EnrollmentToken};
use serde::Serialize;
use std::path::Path;
use zeroize::Zeroizing;

/// One file that the drop-in names.
pub(super) struct ReferencedFile {
    pub name: &'static str,
    pub text: Zeroizing<String>,
    /// Readable by its owner only.
    pub secret: bool,
}

impl ReferencedFile {
    fn secret(name: &'static str, text: &str) -> Self {
        Self {
            name,
            text: line(text),
            secret: true,
        }
    }

    fn public(name: &'static str, text: &str) -> Self {
        Self {
            name,
            text: line(text),
            secret: false,
        }
    }
}

/// Text files end with a line break.
fn line(text: &str) -> Zeroizing<String> {
    let end = if text.ends_with('\n') { "" } else { "\n" };
    Zeroizing::new(format!("{text}{end}"))
}

/// The files beside the key: known_hosts, CAs and secrets.
pub(super) fn files(token: &EnrollmentToken, answers: &EnrollmentAnswers) -> Vec<ReferencedFile> {
    let mut files = Vec::new();
    if !token.known_hosts.is_empty() {
        files.push(ReferencedFile::public(
            KNOWN_HOSTS,
            &token.known_hosts.join("\n"),
        ));
    }
    if let Some(pem) = &answers.ca {
        files.push(ReferencedFile::public(CA, pem));
    }
    if let Some(pem) = &answers.gateway_ca {
        files.push(ReferencedFile::public(GATEWAY_CA, pem));
    }
    if let Some((_, password)) = answers.proxy.as_ref().and_then(|p| p.login.as_ref()) {
        files.push(ReferencedFile::secret(PROXY_PASSWORD, password));
    }
    match &answers.auth {
        AuthAnswers::PassThrough => {}
        AuthAnswers::Basic { password, .. } => {
            files.push(ReferencedFile::secret(PASSWORD, password))
        }
        AuthAnswers::Pat { token } | AuthAnswers::ApiToken { token, .. } => {
            files.push(ReferencedFile::secret(TOKEN, token));
        }
        AuthAnswers::OAuth2 { secret, .. } => {
            files.push(ReferencedFile::secret(CLIENT_SECRET, secret))
        }
        AuthAnswers::OAuth1 { private_key, .. } => {
            files.push(ReferencedFile::secret(PRIVATE_KEY, private_key))
        }
    }
    files
}

/// The text of the drop-in; `folder` is the folder of its files, relative to that of the configuration.
///
/// # Errors
/// None in practice: it only serializes strings.
pub(super) fn render(
    token: &EnrollmentToken,
    answers: &EnrollmentAnswers,
    folder: &Path,
) -> Result<String, toml::ser::Error> {
    let file = |name: &str| folder.join(name).display().to_string();
    let proxy = answers.proxy.as_ref();
    let login = proxy.and_then(|proxy| proxy.login.as_ref());
    let root = DropInRoot {
        tunnel: DropInTunnel {
            gateways: token.gateways.iter().map(ToString::to_string).collect(),
            user: &token.user,
            identity_file: file(IDENTITY),
            host_keys: &token.host_keys,
            known_hosts_file: (!token.known_hosts.is_empty()).then(|| file(KNOWN_HOSTS)),
            gateway_ca_file: answers.gateway_ca.as_ref().map(|_| file(GATEWAY_CA)),
            proxy: proxy.map(|proxy| proxy.url.as_str()),
            proxy_username: login.map(|(username, _)| username.as_str()),
            proxy_password_file: login.map(|_| file(PROXY_PASSWORD)),
            slots: token.forward.slots.map(|slots| slots.to_string()),
        },
        forward: [DropInForward {
            name: &token.forward.name,
            bind: token.forward.bind.to_string(),
            upstream: &answers.upstream,
            ca_file: answers.ca.as_ref().map(|_| file(CA)),
            auth: auth(&answers.auth, file),
            policy: DropInPolicy {
                presets: &answers.presets,
                allow: &answers.allow,
            },
        }],
    };
    Ok(format!("{HEADER}\n{}", toml::to_string(&root)?))
}

fn auth(auth: &AuthAnswers, file: impl Fn(&str) -> String) -> DropInAuth<'_> {
    let mut section = DropInAuth::default();
    match auth {
        AuthAnswers::PassThrough => section.mode = "pass-through",
        AuthAnswers::Basic { username, .. } => {
            section.mode = "basic";
            section.username = Some(username);
            section.password_file = Some(file(PASSWORD));
        }
        AuthAnswers::Pat { .. } => {
            section.mode = "pat";
            section.token_file = Some(file(TOKEN));
        }
        AuthAnswers::ApiToken { email, .. } => {
            section.mode = "api-token";
            section.email = Some(email);
            section.token_file = Some(file(TOKEN));
        }
        AuthAnswers::OAuth2 { client_id, .. } => {
            section.mode = "oauth2";
            section.client_id = Some(client_id);
            section.client_secret_file = Some(file(CLIENT_SECRET));
        }
        AuthAnswers::OAuth1 { consumer_key, .. } => {
            section.mode = "oauth1";
            section.consumer_key = Some(consumer_key);
            section.private_key_file = Some(file(PRIVATE_KEY));
        }
    }
    section
}

#[derive(Serialize)]
struct DropInRoot<'a> {
    tunnel: DropInTunnel<'a>,
    forward: [DropInForward<'a>; 1],
}

#[derive(Serialize)]
struct DropInTunnel<'a> {
    gateways: Vec<String>,
    user: &'a str,
    identity_file: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    host_keys: &'a [String],
    #[serde(skip_serializing_if = "Option::is_none")]
    known_hosts_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway_ca_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy_password_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slots: Option<String>,
}

#[derive(Serialize)]
struct DropInForward<'a> {
    name: &'a str,
    bind: String,
    upstream: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<String>,
    auth: DropInAuth<'a>,
    policy: DropInPolicy<'a>,
}

#[derive(Default, Serialize)]
struct DropInAuth<'a> {
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    consumer_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret_file: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_key_file: Option<String>,
}

#[derive(Serialize)]
struct DropInPolicy<'a> {
    presets: &'a [String],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    allow: &'a [String],
}

/// The agent's private key.
pub(super) const IDENTITY: &str = "id_ed25519";
const KNOWN_HOSTS: &str = "known_hosts";
const CA: &str = "jira-ca.pem";
const GATEWAY_CA: &str = "gateway-ca.pem";
const PROXY_PASSWORD: &str = "proxy-password";
const PASSWORD: &str = "jira-password";
const TOKEN: &str = "jira-token";
const CLIENT_SECRET: &str = "jira-client-secret";
const PRIVATE_KEY: &str = "jira-private-key.pem";
const HEADER: &str = "\
# Written by agent enroll. Contains no secrets. The next enrollment replaces this file: put your changes in a file with a
# later name, like 50-local.toml, which overrides it.
";

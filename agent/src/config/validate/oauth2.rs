//! Validates `[forward.auth]` with `mode = "oauth2"`.

use super::{
    auth::{AuthContext, required},
    url_for_secret,
};
use crate::{
    auth::oauth2::{GrantType, Settings, TokenIssuer},
    config::{files::FileResolver, merged::MergedSection, problem::ConfigProblems, raw},
    upstream::HttpTarget,
};
use url::{Host, Url};

/// The settings. `None` after a problem, which is reported.
pub(super) fn oauth2(
    raw: raw::RawAuth,
    context: AuthContext<'_>,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Settings> {
    let client_id = required("client_id", raw.client_id, "oauth2", section, problems);
    let secret = raw.client_secret_file;
    let secret = required("client_secret_file", secret, "oauth2", section, problems);
    let secret =
        secret.and_then(|name| files.secret_file(section, "client_secret_file", &name, problems));
    let provider = match &raw.audience {
        Some(_) => TokenIssuer::Cloud,
        None => TokenIssuer::of(context.target),
    };
    let grant = match raw.grant {
        Some(raw::RawGrantType::ClientCredentials) => GrantType::ClientCredentials,
        Some(raw::RawGrantType::AuthorizationCode) | None => GrantType::AuthorizationCode,
    };
    if grant == GrantType::ClientCredentials {
        for key in ["refresh_token_file", "redirect_uri", "authorize_url"] {
            if section.is_written(key) {
                let text = "belongs to grant = \"authorization_code\"; client_credentials uses neither browser nor refresh token; remove this key";
                section.error(key, text, problems);
            }
        }
        if provider == TokenIssuer::Cloud {
            let text = "client_credentials is for Data Center service accounts; Cloud needs grant = \"authorization_code\"";
            section.error("grant", text, problems);
        }
    }
    let scope = raw.scope.unwrap_or_else(|| provider.scope().to_owned());
    if let Err(text) = check_scope(&scope, provider, grant) {
        section.error("scope", text, problems);
    }
    let redirect_uri = raw
        .redirect_uri
        .unwrap_or_else(|| DEFAULT_REDIRECT.to_owned());
    if let Err(text) = check_redirect(&redirect_uri) {
        section.error("redirect_uri", text, problems);
    }
    let refresh_token_file = match &raw.refresh_token_file {
        Some(name) => {
            let file = files.locate_secret(section, "refresh_token_file", name, problems)?;
            // It is valid once, and may have been removed since.
            if file.path().exists() {
                section.value_or_error("refresh_token_file", file.check(), problems)?;
            }
            Some(file)
        }
        None => None,
    };
    let mut url = |key: &str, written: Option<String>, name: &str| match written {
        Some(text) => section.value_or_error(
            key,
            url_for_secret(&text, context.target, "client secret"),
            problems,
        ),
        None => provider.endpoint(context.target, name),
    };
    let authorize_url = url("authorize_url", raw.authorize_url, "authorize");
    let token_url = url("token_url", raw.token_url, "token");
    let token_url = token_url?;
    Some(Settings {
        client_id: client_id?,
        client_secret_file: secret?,
        grant,
        scope,
        authorize_url: authorize_url?,
        revoke_url: revoke_endpoint(&token_url, provider),
        token_url,
        redirect_uri,
        audience: raw
            .audience
            .or_else(|| provider.audience().map(str::to_owned)),
        provider,
        refresh_token_file,
        store: context.store,
        upstream: context.upstream?.clone(),
    })
}

fn check_scope(scope: &str, provider: TokenIssuer, grant: GrantType) -> Result<(), String> {
    let mut words = scope.split(' ');
    if words.any(|word| word.is_empty() || !word.bytes().all(|b| b.is_ascii_graphic())) {
        return Err("expected words separated by one space, like \"WRITE\"".to_owned());
    }
    let mut words = scope.split(' ');
    match provider {
        TokenIssuer::DataCenter => match words.find(|word| !DATA_CENTER_SCOPES.contains(word)) {
            Some(word) => Err(format!(
                "Data Center has no scope {word:?}; use {}",
                DATA_CENTER_SCOPES.join(", ")
            )),
            None => Ok(()),
        },
        TokenIssuer::Cloud
            if grant == GrantType::AuthorizationCode && !words.any(|w| w == OFFLINE_ACCESS) =>
        {
            Err(
                "lacks offline_access, without which the token expires after an hour; add it"
                    .to_owned(),
            )
        }
        TokenIssuer::Cloud => Ok(()),
    }
}

fn check_redirect(text: &str) -> Result<(), &'static str> {
    const EXPECTED: &str = "expected https://…, or http:// to this host like \"http://127.0.0.1:8400/callback\", exactly as registered with the client";
    let url = Url::parse(text).map_err(|_| EXPECTED)?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(EXPECTED),
    };
    match url.scheme() {
        _ if url.fragment().is_some() => {
            Err("must not have a fragment (#…, RFC 6749 §3.1.2); remove it")
        }
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        _ => Err(EXPECTED),
    }
}

/// Data Center has it beside the token endpoint.
fn revoke_endpoint(token_url: &HttpTarget, provider: TokenIssuer) -> Option<HttpTarget> {
    let folder = token_url.context_path.strip_suffix("/token")?;
    (provider == TokenIssuer::DataCenter).then(|| HttpTarget {
        context_path: format!("{folder}/revoke"),
        ..token_url.clone()
    })
}

/// Nothing listens there: the browser shows an error, and the URL to paste in its address bar.
const DEFAULT_REDIRECT: &str = "https://localhost/jira-tunnel-agent";
const DATA_CENTER_SCOPES: [&str; 4] = ["READ", "WRITE", "ADMIN", "SYSTEM_ADMIN"];
const OFFLINE_ACCESS: &str = "offline_access";

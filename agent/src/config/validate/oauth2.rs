//! The keys of `mode = "oauth2"`, judged.

use super::auth::{AuthContext, required};
use crate::{
    auth::oauth2::{GrantType, Settings, TokenIssuer},
    config::{files::FileResolver, merged::MergedSection, problem::ConfigProblems, raw},
    upstream::{HttpTarget, UpstreamTarget},
};
use url::{Host, Url};

/// The settings, if nothing is wrong with them.
pub fn oauth2(
    raw: raw::RawAuth,
    site: AuthContext<'_>,
    place: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Settings> {
    let client_id = required("client_id", raw.client_id, "oauth2", place, problems);
    let secret = raw.client_secret_file;
    let secret = required("client_secret_file", secret, "oauth2", place, problems);
    let secret = secret.and_then(|name| files.secret(place, "client_secret_file", &name, problems));
    let provider = match &raw.audience {
        Some(_) => TokenIssuer::Cloud,
        None => TokenIssuer::of(site.target),
    };
    let grant = match raw.grant {
        Some(raw::RawGrantType::ClientCredentials) => GrantType::ClientCredentials,
        Some(raw::RawGrantType::AuthorizationCode) | None => GrantType::AuthorizationCode,
    };
    if grant == GrantType::ClientCredentials {
        for key in ["refresh_token_file", "redirect_uri", "authorize_url"] {
            if place.is_written(key) {
                let text = "belongs to grant = \"authorization_code\"; client_credentials knows neither browser nor refresh token; remove this key";
                place.error(key, text, problems);
            }
        }
        if provider == TokenIssuer::Cloud {
            let text = "client_credentials is for Data Center service accounts; Cloud needs grant = \"authorization_code\"";
            place.error("grant", text, problems);
        }
    }
    let scope = raw.scope.unwrap_or_else(|| provider.scope().to_owned());
    if let Err(text) = check_scope(&scope, provider, grant) {
        place.error("scope", text, problems);
    }
    let redirect_uri = raw.redirect_uri.unwrap_or_else(|| REDIRECT.to_owned());
    if let Err(text) = check_redirect(&redirect_uri) {
        place.error("redirect_uri", text, problems);
    }
    let refresh_token_file = match &raw.refresh_token_file {
        Some(name) => {
            let file = files.named(place, "refresh_token_file", name, problems)?;
            // It serves once, and may be gone since.
            if file.path().exists() {
                place.value_or_error("refresh_token_file", file.check(), problems)?;
            }
            Some(file)
        }
        None => None,
    };
    let mut url = |key: &str, written: Option<String>, name: &str| match written {
        Some(text) => place.value_or_error(key, endpoint(&text, site.target), problems),
        None => provider.endpoint(site.target, name),
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
        store: site.store,
        upstream: site.upstream?.clone(),
    })
}

fn check_scope(scope: &str, provider: TokenIssuer, grant: GrantType) -> Result<(), String> {
    let mut words = scope.split(' ');
    if words.any(|word| word.is_empty() || !word.bytes().all(|b| b.is_ascii_graphic())) {
        return Err("expected words with one space between them, like \"WRITE\"".to_owned());
    }
    let mut words = scope.split(' ');
    match provider {
        TokenIssuer::DataCenter => match words.find(|word| !SCOPES.contains(word)) {
            Some(word) => Err(format!(
                "Data Center knows no scope {word:?}; it has {}",
                SCOPES.join(", ")
            )),
            None => Ok(()),
        },
        TokenIssuer::Cloud
            if grant == GrantType::AuthorizationCode && !words.any(|w| w == OFFLINE) =>
        {
            Err(
                "lacks offline_access, without which the login ends after an hour; add it"
                    .to_owned(),
            )
        }
        TokenIssuer::Cloud => Ok(()),
    }
}

fn check_redirect(text: &str) -> Result<(), &'static str> {
    const WANTED: &str = "expected https://…, or http:// to this host like \"http://127.0.0.1:8400/callback\", exactly as it is registered with the client";
    let url = Url::parse(text).map_err(|_| WANTED)?;
    let loopback = match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(WANTED),
    };
    match url.scheme() {
        _ if url.fragment().is_some() => Err("may have no fragment (#…), RFC 6749 §3.1.2"),
        "https" => Ok(()),
        "http" if loopback => Ok(()),
        _ => Err(WANTED),
    }
}

fn endpoint(text: &str, upstream: &HttpTarget) -> Result<HttpTarget, String> {
    match text.parse::<UpstreamTarget>() {
        Ok(UpstreamTarget::Http(found)) if !found.tls && upstream.tls => Err(
            "sends the client's secret in the clear although upstream has https://; write https://"
                .to_owned(),
        ),
        Ok(UpstreamTarget::Http(found)) => Ok(found),
        Ok(UpstreamTarget::Tcp { .. }) => Err("expected an https:// URL".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Jira has it beside the token endpoint.
fn revoke_endpoint(token_url: &HttpTarget, provider: TokenIssuer) -> Option<HttpTarget> {
    let folder = token_url.context_path.strip_suffix("/token")?;
    (provider == TokenIssuer::DataCenter).then(|| HttpTarget {
        context_path: format!("{folder}/revoke"),
        ..token_url.clone()
    })
}

/// Nothing listens there: the browser shows an error, and its address line what is to be pasted.
const REDIRECT: &str = "https://localhost/jira-tunnel-agent";
const SCOPES: [&str; 4] = ["READ", "WRITE", "ADMIN", "SYSTEM_ADMIN"];
const OFFLINE: &str = "offline_access";

//! The keys of `mode = "oauth2"`, judged.

use super::{
    effective::Place,
    files::Files,
    judge_auth::{Site, required},
    problem::Problems,
    raw,
};
use crate::{
    auth::oauth2::{Grant, Provider, Settings},
    upstream::{HttpTarget, Target},
};
use url::{Host, Url};

/// The settings, if nothing is wrong with them.
pub fn oauth2(
    raw: raw::Auth,
    site: Site<'_>,
    place: &Place<'_>,
    files: &Files,
    problems: &mut Problems,
) -> Option<Settings> {
    let client_id = required("client_id", raw.client_id, "oauth2", place, problems);
    let secret = raw.client_secret_file;
    let secret = required("client_secret_file", secret, "oauth2", place, problems);
    let secret = secret.and_then(|name| files.secret(place, "client_secret_file", &name, problems));
    let provider = match &raw.audience {
        Some(_) => Provider::Cloud,
        None => Provider::of(site.target),
    };
    let grant = match raw.grant {
        Some(raw::Grant::ClientCredentials) => Grant::ClientCredentials,
        Some(raw::Grant::AuthorizationCode) | None => Grant::AuthorizationCode,
    };
    if grant == Grant::ClientCredentials {
        for key in ["refresh_token_file", "redirect_uri", "authorize_url"] {
            if place.is_written(key) {
                let text = "belongs to grant = \"authorization_code\"; client_credentials knows neither browser nor refresh token; remove this key";
                place.wrong(key, text, problems);
            }
        }
        if provider == Provider::Cloud {
            let text = "client_credentials is for Data Center service accounts; Cloud needs grant = \"authorization_code\"";
            place.wrong("grant", text, problems);
        }
    }
    let scope = raw.scope.unwrap_or_else(|| provider.scope().to_owned());
    if let Err(text) = check_scope(&scope, provider, grant) {
        place.wrong("scope", text, problems);
    }
    let redirect_uri = raw.redirect_uri.unwrap_or_else(|| REDIRECT.to_owned());
    if let Err(text) = check_redirect(&redirect_uri) {
        place.wrong("redirect_uri", text, problems);
    }
    let refresh_token_file = match &raw.refresh_token_file {
        Some(name) => {
            let file = files.named(place, "refresh_token_file", name, problems)?;
            // It serves once, and may be gone since.
            if file.path().exists() {
                place.take("refresh_token_file", file.check(), problems)?;
            }
            Some(file)
        }
        None => None,
    };
    let mut url = |key: &str, written: Option<String>, name: &str| match written {
        Some(text) => place.take(key, endpoint(&text, site.target), problems),
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
        revoke_url: revoke_beside(&token_url, provider),
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

fn check_scope(scope: &str, provider: Provider, grant: Grant) -> Result<(), String> {
    let mut words = scope.split(' ');
    if words.any(|word| word.is_empty() || !word.bytes().all(|b| b.is_ascii_graphic())) {
        return Err("expected words with one space between them, like \"WRITE\"".to_owned());
    }
    let mut words = scope.split(' ');
    match provider {
        Provider::DataCenter => match words.find(|word| !SCOPES.contains(word)) {
            Some(word) => Err(format!(
                "Data Center knows no scope {word:?}; it has {}",
                SCOPES.join(", ")
            )),
            None => Ok(()),
        },
        Provider::Cloud if grant == Grant::AuthorizationCode && !words.any(|w| w == OFFLINE) => {
            Err(
                "lacks offline_access, without which the login ends after an hour; add it"
                    .to_owned(),
            )
        }
        Provider::Cloud => Ok(()),
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
    match text.parse::<Target>() {
        Ok(Target::Http(found)) if !found.tls && upstream.tls => Err(
            "sends the client's secret in the clear although upstream has https://; write https://"
                .to_owned(),
        ),
        Ok(Target::Http(found)) => Ok(found),
        Ok(Target::Tcp { .. }) => Err("expected an https:// URL".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Jira has it beside the token endpoint.
fn revoke_beside(token_url: &HttpTarget, provider: Provider) -> Option<HttpTarget> {
    let folder = token_url.context_path.strip_suffix("/token")?;
    (provider == Provider::DataCenter).then(|| HttpTarget {
        context_path: format!("{folder}/revoke"),
        ..token_url.clone()
    })
}

/// Nothing listens there: the browser shows an error, and its address line what is to be pasted.
const REDIRECT: &str = "https://localhost/jira-tunnel-agent";
const SCOPES: [&str; 4] = ["READ", "WRITE", "ADMIN", "SYSTEM_ADMIN"];
const OFFLINE: &str = "offline_access";

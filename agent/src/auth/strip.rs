//! Removes everything by which the vendor could choose an identity, where the agent injects its own. Headers are removed.
//! A parameter of a query or form cannot be removed without rewriting the request, so the request is refused.

use super::{AuthRefusal, VendorHeaders, form};
use crate::profile::{IdentityRules, ServiceProfile};
use http::{HeaderName, header, request, response};

/// Refuses or strips a request of the vendor. What was taken off is in the head's extensions then, as
/// [`RemovedHeaders`](super::RemovedHeaders).
pub(super) fn request(
    head: &mut request::Parts,
    headers: &VendorHeaders,
) -> Result<(), AuthRefusal> {
    check_query(head, &headers.profile)?;
    form::check(head, &headers.profile)?;
    let removed = headers.apply(&mut head.headers);
    if !removed.0.is_empty() {
        head.extensions.insert(removed);
    }
    Ok(())
}

/// Refuses a query that chooses an identity.
pub(super) fn check_query(
    head: &request::Parts,
    profile: &ServiceProfile,
) -> Result<(), AuthRefusal> {
    let query = head.uri.query().unwrap_or_default();
    match identity_parameter(query.as_bytes(), &profile.identity) {
        Some(parameter) => Err(AuthRefusal::ForeignIdentity(parameter)),
        None => Ok(()),
    }
}

/// Removes Jira's session and everything else that identifies or proves the agent's user: its cookie alone is enough to
/// act as that user. Removes `Trailer` too, which announces such fields.
pub(super) fn response(head: &mut response::Parts, profile: &ServiceProfile) {
    head.headers.remove(header::TRAILER);
    let private: Vec<HeaderName> = head
        .headers
        .keys()
        .filter(|name| {
            is_private_answer(name.as_str()) || profile.answers.private_headers.contains(name)
        })
        .cloned()
        .collect();
    for name in private {
        head.headers.remove(name);
    }
}

fn is_private_answer(name: &str) -> bool {
    PRIVATE_ANSWERS.contains(&name) || name.starts_with("x-seraph-trusted-app")
}

/// Whether a header carries or chooses an identity, by its name in lower case with `-` for `_`. It classifies headers that
/// were removed, and those that the customer cannot let pass. The list of what passes is in [`VendorHeaders`].
pub(super) fn is_identity_header(name: &str) -> bool {
    HEADERS.contains(&name)
        || HEADER_PREFIXES.iter().any(|p| name.starts_with(p))
        || HEADER_PARTS.iter().any(|part| name.contains(part))
}

/// The first parameter of a query or form that chooses an identity, decoded and in lower case.
pub(super) fn identity_parameter(text: &[u8], rules: &IdentityRules) -> Option<String> {
    parameter(text, |name| is_identity_name(name, rules))
}

/// The first parameter whose name, trimmed and in lower case, is `wanted` in whatever encoding.
pub(super) fn parameter(text: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<String> {
    // Tomcat splits at `&` alone; others at `;` too.
    let mut pairs = text.split(|byte| matches!(byte, b'&' | b';'));
    pairs.find_map(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        let mut name = name.to_vec();
        // No known server decodes twice; such an encoding is an attempt to pass a filter.
        for _ in 0..MAX_DECODINGS {
            let trimmed = trim_like_java(&name).to_ascii_lowercase();
            if wanted(&trimmed) {
                return Some(String::from_utf8_lossy(&trimmed).into_owned());
            }
            let decoded = decode(&name);
            if decoded == name {
                return None;
            }
            name = decoded;
        }
        None
    })
}

/// As `String.trim` of Java does: all controls, NUL too.
fn trim_like_java(name: &[u8]) -> &[u8] {
    let is_kept = |byte: &u8| *byte > b' ';
    let from = name.iter().position(is_kept).unwrap_or(name.len());
    let to = name.iter().rposition(is_kept).map_or(from, |at| at + 1);
    &name[from..to]
}

fn is_identity_name(name: &[u8], rules: &IdentityRules) -> bool {
    let (own, prefixes) = (&rules.parameters, &rules.parameter_prefixes);
    PARAMETERS.contains(&name)
        || PARAMETER_PREFIXES.iter().any(|p| name.starts_with(p))
        || own.iter().any(|own| own.as_bytes() == name)
        || prefixes.iter().any(|p| name.starts_with(p.as_bytes()))
}

/// One pass of form decoding; what is malformed stays as it is.
fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        let hex = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
        decoded.push(match (byte, tail) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => byte,
            },
            _ => byte,
        });
    }
    decoded
}

/// HTTP's own, and those by which single sign-on in front of Jira, a gateway's certificate check, or a plugin in Jira is
/// told the user.
const HEADERS: &[&str] = &[
    "eppn",
    "from",
    "iv-creds",
    "iv-groups",
    "iv-user",
    "mail",
    "oam-id",
    "persistent-id",
    "remote-groups",
    "remote-name",
    "smuser",
    "sudo",
    "uid",
    "user",
    "x-sudo",
    "x-user",
    "x-user-group",
    "x-user-groups",
    "x-users",
];

const HEADER_PREFIXES: &[&str] = &[
    "cf-access-",
    "mellon-",
    "oam-",
    "oidc-",
    "shib-",
    "sm-",
    "ssl-client-",
    "tailscale-",
    "x-authentik-",
    "x-consumer-",
    "x-crowd-",
    "x-forwarded-client-",
    "x-forwarded-groups",
    "x-forwarded-tls-client-",
    "x-forwarded-user",
    "x-goog-iap-",
    "x-ms-client-principal",
    "x-oidc-",
    "x-pomerium-",
    // Trusted applications, and whatever else Seraph reads.
    "x-seraph-",
    "x-shib",
    "x-sm-",
    "x-vouch-",
];

const HEADER_PARTS: &[&str] = &[
    "api-key",
    "apikey",
    "assertion",
    "auth-user",
    "authenticat",
    "authoriz",
    "auth-request",
    "ausername",
    "atlassian-user",
    "client-cert",
    "clientcert",
    "cookie",
    "credential",
    "email",
    "forwarded-user",
    "goog-authenticated",
    "impersonat",
    "jwt",
    "ldap-",
    "login",
    "logon",
    "oauth",
    "oidc",
    "on-behalf-of",
    "password",
    "preferred-username",
    "principal",
    "proxy-user",
    "remote-email",
    "remote-user",
    "saml",
    "secret",
    "session",
    "signature",
    "ssl-cert",
    "ssl-client",
    "sso-",
    "token",
    "trusted-app",
    "user-id",
    "user-name",
    "userid",
    "userinfo",
    "username",
    "webauth",
];

/// In Jira's answers: sessions, credentials, and proof of them. `X-ASESSIONID` is the short form of the session's id
/// that Jira's access log shows.
const PRIVATE_ANSWERS: &[&str] = &[
    "authentication-control",
    "authentication-info",
    "authorization",
    "cookie",
    "crowd-token",
    "optional-www-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "set-cookie",
    "set-cookie2",
    "x-access-token",
    "x-asessionid",
    "x-auth-token",
    "x-crowd-token",
    "x-csrf-token",
    "x-jwt-assertion",
    "x-refresh-token",
    "x-session-id",
    "x-subject-token",
    "x-xsrf-token",
];

/// Lower case. Those of one tool are in its profile.
const PARAMETERS: &[&[u8]] = &[b"access_token", b"jwt", b"jsessionid"];

const PARAMETER_PREFIXES: &[&[u8]] = &[b"oauth_", b"xoauth_"];

/// Rounds of percent-decoding that are checked.
const MAX_DECODINGS: usize = 4;

//! Takes away everything by which the vendor could choose an identity, where the agent puts in its
//! own. Headers are removed; what stands in the query or a form cannot be removed without rewriting
//! the request, so it is refused.

use super::{Refusal, form};
use http::{HeaderName, header, request, response};

/// Refuses or strips a request of the vendor.
pub(super) fn request(head: &mut request::Parts) -> Result<(), Refusal> {
    let query = head.uri.query().unwrap_or_default();
    if let Some(parameter) = identity_parameter(query.as_bytes()) {
        return Err(Refusal::ForeignIdentity(parameter));
    }
    form::check(head)?;
    let stripped: Vec<HeaderName> = head
        .headers
        .keys()
        .filter(|name| is_identity_header(name.as_str()))
        .cloned()
        .collect();
    for name in stripped {
        head.headers.remove(name);
    }
    Ok(())
}

/// Keeps Jira's session away from the vendor: with its cookie one is the agent's user.
pub(super) fn response(head: &mut response::Parts) {
    head.headers.remove(header::SET_COOKIE);
    head.headers.remove("set-cookie2");
}

fn is_identity_header(name: &str) -> bool {
    // Servers that hand headers on as variables take `_` and `-` for the same.
    let unified;
    let name = if name.contains('_') {
        unified = name.replace('_', "-");
        unified.as_str()
    } else {
        name
    };
    HEADERS.contains(&name)
        || HEADER_PREFIXES.iter().any(|p| name.starts_with(p))
        || HEADER_PARTS.iter().any(|part| name.contains(part))
}

/// The first parameter of a query or form that chooses an identity, decoded and in lower case.
pub(super) fn identity_parameter(text: &[u8]) -> Option<String> {
    parameter(text, is_identity_name)
}

/// The first parameter whose name, trimmed and in lower case, is `wanted` in whatever encoding.
pub(super) fn parameter(text: &[u8], wanted: impl Fn(&[u8]) -> bool) -> Option<String> {
    // Tomcat splits at `&` alone; others at `;` too.
    let mut pairs = text.split(|byte| matches!(byte, b'&' | b';'));
    pairs.find_map(|pair| {
        let name = pair.split(|byte| *byte == b'=').next().unwrap_or_default();
        let mut name = name.to_vec();
        // Nothing known decodes twice; whoever writes it so means to get past somebody.
        for _ in 0..MAX_DECODINGS {
            let trimmed = name.trim_ascii().to_ascii_lowercase();
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

fn is_identity_name(name: &[u8]) -> bool {
    PARAMETERS.contains(&name) || PARAMETER_PREFIXES.iter().any(|p| name.starts_with(p))
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

/// Headers that carry or choose an identity: HTTP's own, and those by which single sign-on in front
/// of Jira, or a plugin in it, is told the user. `x-atlassian-token` is none: it answers the XSRF check.
const HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "cookie2",
    "iv-user",
    "iv-groups",
    "iv-creds",
    "sm-user",
    "smuser",
    "sm-universalid",
    "sm-serversessionid",
    "uid",
    "user",
    "username",
    "x-user",
    "x-username",
    "x-user-id",
    "x-userid",
    "x-user-email",
    "x-email",
    "x-login",
    "x-principal",
    "x-on-behalf-of",
    "on-behalf-of",
    "x-sudo",
    "sudo",
    "x-access-token",
    "x-auth-token",
    "x-api-key",
    "x-jwt",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-access-token",
    "x-forwarded-client-cert",
    "x-client-cert",
    "x-ssl-cert",
    "client-cert",
    "client-cert-chain",
];

const HEADER_PREFIXES: &[&str] = &[
    // Trusted applications (Seraph), and whatever else Seraph reads.
    "x-seraph-",
    "x-auth-request-",
    "x-crowd-",
    "x-ssl-client-",
    "ssl-client-",
    "cf-access-",
    "x-ms-client-principal",
    "x-goog-authenticated-user",
    "x-goog-iap-",
    "x-amzn-oidc-",
    "oam-",
    "x-saml-",
    "x-oidc-",
    "oidc-",
    "mellon-",
    "x-shib",
    "shib-",
];

const HEADER_PARTS: &[&str] = &[
    "remote-user",
    "forwarded-user",
    "proxy-user",
    "auth-user",
    "webauth-user",
    "authenticated-user",
    "atlassian-user",
    "trusted-app",
    "impersonat",
    "ausername",
    "oauth",
    "sso-",
];

/// Lower case.
const PARAMETERS: &[&[u8]] = &[
    b"os_username",
    b"os_password",
    b"os_cookie",
    b"os_authtype",
    b"os_captcha",
    b"user_id",
    b"access_token",
    b"jwt",
    b"jsessionid",
];

const PARAMETER_PREFIXES: &[&[u8]] = &[b"oauth_", b"xoauth_", b"os_auth", b"crowd.token"];

/// Passes of percent-decoding looked through.
const MAX_DECODINGS: usize = 4;

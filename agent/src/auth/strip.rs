//! Takes away everything by which the vendor could choose an identity, where the agent puts in its
//! own. Headers are removed; what stands in the query or a form cannot be removed without rewriting
//! the request, so it is refused.

use super::Refusal;
use http::{HeaderName, Version, header, request, response};

/// Refuses or strips a request of the vendor.
pub(super) fn request(head: &mut request::Parts) -> Result<(), Refusal> {
    if let Some(parameter) = head.uri.query().and_then(identity_parameter) {
        return Err(Refusal::ForeignIdentity(parameter));
    }
    if has_form_body(head) {
        return Err(Refusal::FormBody);
    }
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

/// The first parameter of a query that chooses an identity, decoded and in lower case.
fn identity_parameter(query: &str) -> Option<String> {
    // Tomcat splits at `&` alone; others at `;` too.
    query.split(['&', ';']).find_map(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let mut name = name.as_bytes().to_vec();
        // Nothing known decodes twice; whoever writes it so means to get past somebody.
        for _ in 0..MAX_DECODINGS {
            let trimmed = name.trim_ascii().to_ascii_lowercase();
            if is_identity_name(&trimmed) {
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

/// Whether Jira could read parameters out of the body. Multipart fields are read by Jira's actions
/// only after the login, and by no login filter.
fn has_form_body(head: &request::Parts) -> bool {
    let is_form = head.headers.get_all(header::CONTENT_TYPE).iter().any(|t| {
        let text = t.as_bytes().to_ascii_lowercase();
        text.windows(FORM.len()).any(|window| window == FORM)
    });
    let length = head.headers.get(header::CONTENT_LENGTH);
    let is_empty = match length {
        Some(length) => length.as_bytes() == b"0",
        // HTTP/2 needs no length for a body.
        None => {
            !head.headers.contains_key(header::TRANSFER_ENCODING) && head.version < Version::HTTP_2
        }
    };
    is_form && !is_empty
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

const FORM: &[u8] = b"x-www-form-urlencoded";
/// Passes of percent-decoding looked through.
const MAX_DECODINGS: usize = 4;

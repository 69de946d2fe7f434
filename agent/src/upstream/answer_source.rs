//! Who gave an answer: Jira, or something before it. Traffic, health probes and `agent check` share this decision, so that
//! they name the same cause.
//!
//! Jira marks each answer of its own (`X-AREQUESTID`, `X-AUSERNAME`, `X-ANODEID`; Cloud `ATL-TraceId`). The marks of other
//! tools are in their profiles; `Jira` here stands for whichever tool is behind the forward.
//! Single sign-on, firewalls and proxies do not, and what they answer proves nothing about Jira.

use crate::profile::ServiceProfile;
use http::{HeaderMap, StatusCode, header, response};

/// Who gave an answer, as far as its head shows. Travels in the extensions of the answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerSource {
    /// Bears a header that only Jira sets.
    Jira,
    /// JSON below `/rest` without such a header: as from Jira behind a proxy that removes them.
    LikeJira,
    /// Something before Jira, or in its place.
    Intermediary(Intermediary),
    /// Any of them; also an answer from a cache, which shows nothing about now.
    Unclear,
}

/// What answers before Jira, or instead of it, by the form of its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Intermediary {
    /// 401 with a challenge that is not Jira's: Negotiate, NTLM, or Basic of a proxy.
    LoginDemanded {
        /// Schemes and realms, printable.
        challenges: String,
    },
    /// 407 (RFC 9110 §15.5.8).
    ProxyLoginDemanded,
    /// A redirect to a login page of the same host.
    LoginPage {
        /// Where it leads, without query.
        location: String,
    },
    /// A redirect to another host, and not for the same path there: an identity provider.
    SingleSignOn {
        /// Where it leads, without query.
        location: String,
    },
    /// A redirect on the same host to something that was not asked for, or back to the same address, as by those that
    /// want a cookie first.
    Detour {
        /// Where it leads, without query.
        location: String,
    },
    /// 511: a network that requires a login (RFC 6585 §6).
    NetworkLoginDemanded,
    /// A redirect to the same thing at another address.
    Moved {
        /// Where it leads, without query.
        location: String,
    },
    /// A web page where Jira's REST interface was asked.
    WebPage,
    /// A web page that refuses the request.
    Firewall(StatusCode),
    /// 429 (Too Many Requests) from something before Jira.
    RateLimit {
        /// Seconds to wait, if the answer names them.
        retry_after: Option<u64>,
    },
}

/// Cause and remedy, one sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// What answered, and how that shows.
    pub cause: String,
    /// What an administrator does about it.
    pub remedy: &'static str,
}

/// The address of a request: the path as sent, and the host as in `Host`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RequestedUri<'a> {
    /// With the context path, without a query.
    pub path: &'a str,
    /// `host` or `host:port`; empty where it is not known.
    pub authority: &'a str,
}

impl AnswerSource {
    /// Reads the source from an answer's head. `profile` is that of the tool that was asked.
    pub fn read(
        profile: &ServiceProfile,
        asked: RequestedUri<'_>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Self {
        if Self::is_from_a_cache(headers) {
            return Self::Unclear;
        }
        let own = &profile.answers.own_headers;
        if own.iter().any(|name| headers.contains_key(name)) {
            return Self::Jira;
        }
        if let Some(intermediary) = Intermediary::read(profile, asked, status, headers) {
            return Self::Intermediary(intermediary);
        }
        // API gateways answer these in JSON, too.
        let refuses = matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS
        );
        let is_api = profile.answers.api.is_empty() || profile.is_api(asked.path);
        if is_api && is_json(headers) && !refuses && !status.is_server_error() {
            return Self::LikeJira;
        }
        Self::Unclear
    }

    /// Whether a cache answered: only caches set `Age` (RFC 9111 §5.1), and those that do not, like nginx, mostly have
    /// another header for it.
    pub(crate) fn is_from_a_cache(headers: &HeaderMap) -> bool {
        let age = headers.get(header::AGE).and_then(|age| age.to_str().ok());
        let aged = age.is_some_and(|age| !age.trim().trim_start_matches('0').is_empty());
        aged || CACHES.iter().any(|name| {
            let mut values = headers.get_all(*name).iter();
            values.any(|value| reports_hit(value.as_bytes()))
        })
    }

    /// Reads the source and stores it in the head's extensions.
    pub(crate) fn note(
        profile: &ServiceProfile,
        asked: RequestedUri<'_>,
        head: &mut response::Parts,
    ) {
        let source = Self::read(profile, asked, head.status, &head.headers);
        head.extensions.insert(source);
    }

    /// The source that the upstream stored when the answer came; else what the head alone shows.
    pub fn noted(head: &response::Parts) -> Self {
        match head.extensions.get::<Self>() {
            Some(noted) => noted.clone(),
            None => {
                let jira = ServiceProfile::jira();
                Self::read(&jira, RequestedUri::default(), head.status, &head.headers)
            }
        }
    }

    /// What answered before Jira, if it was not Jira.
    pub fn intermediary(&self) -> Option<&Intermediary> {
        match self {
            Self::Intermediary(intermediary) => Some(intermediary),
            Self::Jira | Self::LikeJira | Self::Unclear => None,
        }
    }
}

impl Intermediary {
    fn read(
        profile: &ServiceProfile,
        asked: RequestedUri<'_>,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Option<Self> {
        match status {
            StatusCode::PROXY_AUTHENTICATION_REQUIRED => Some(Self::ProxyLoginDemanded),
            StatusCode::NETWORK_AUTHENTICATION_REQUIRED => Some(Self::NetworkLoginDemanded),
            StatusCode::UNAUTHORIZED => {
                let challenges = foreign_challenges(profile, headers)?;
                Some(Self::LoginDemanded { challenges })
            }
            StatusCode::TOO_MANY_REQUESTS => Some(Self::RateLimit {
                retry_after: retry_after(headers),
            }),
            status if status.is_redirection() => redirect(profile, asked, headers),
            // A login page below /secure may be Jira's own.
            status if status.is_success() && profile.is_api(asked.path) && is_html(headers) => {
                Some(Self::WebPage)
            }
            StatusCode::FORBIDDEN | StatusCode::NOT_ACCEPTABLE if is_html(headers) => {
                Some(Self::Firewall(status))
            }
            _ => None,
        }
    }

    /// Whether it requires a login, so that its answer is no answer to the request.
    pub(crate) fn wants_login(&self) -> bool {
        match self {
            Self::LoginDemanded { .. }
            | Self::ProxyLoginDemanded
            | Self::NetworkLoginDemanded
            | Self::LoginPage { .. }
            | Self::SingleSignOn { .. }
            | Self::WebPage => true,
            Self::Detour { .. }
            | Self::Moved { .. }
            | Self::Firewall(_)
            | Self::RateLimit { .. } => false,
        }
    }

    /// Cause and remedy for an administrator.
    pub fn diagnosis(&self) -> Diagnosis {
        let (cause, remedy) = match self {
            Self::LoginDemanded { challenges } => (
                format!(
                    "a proxy before Jira requires its own login (401, WWW-Authenticate: {challenges}); the answer has no header of Jira's"
                ),
                "exempt requests from this host from that login, at least below /rest, or set upstream to Jira's own address behind the proxy; Jira has not seen the agent's credential",
            ),
            Self::ProxyLoginDemanded => (
                "a proxy before Jira requires its own login (407)".to_owned(),
                "exempt requests from this host from that login, or set upstream to Jira's own address behind the proxy",
            ),
            Self::LoginPage { location } => (
                format!("a redirect to a login page came instead of an answer ({location})"),
                "exempt requests below /rest from the login page: check the login filters of the proxy before Jira, and whether this Jira accepts this kind of credential for this path",
            ),
            Self::SingleSignOn { location } => (
                format!("single sign-on before Jira redirects to another host, {location}"),
                "exempt /rest and /status from single sign-on for requests from this host, or set upstream to Jira's own address behind it; never to the other host, which would get the credential",
            ),
            Self::NetworkLoginDemanded => (
                "the network between this host and Jira requires a login (511)".to_owned(),
                "ask the administrator of this network, or of the web proxy before Jira, to exempt this host from the login page",
            ),
            Self::Detour { location } => (
                format!("something before Jira redirects the request to {location}, as Jira does not"),
                "find out what answers (curl -i from this host): a login, a waiting page or a browser check; exempt requests from this host to /rest and /status from it",
            ),
            Self::Moved { location } => (
                format!("Jira redirects to {location}"),
                "if that is Jira's own address, set upstream to it (often https instead of http)",
            ),
            Self::WebPage => (
                "a web page came instead of Jira's answer (text/html, no header of Jira's): single sign-on, a portal or another server answers".to_owned(),
                "look at the page (curl -i from this host); exempt /rest from single sign-on, or check host, port and path in upstream",
            ),
            Self::Firewall(status) => (
                format!(
                    "a firewall or proxy before Jira refuses the request ({}, text/html, no header of Jira's)",
                    status.as_u16()
                ),
                "ask the administrator of the web application firewall to allow requests from this host to Jira's /rest; its page or log names the rule",
            ),
            Self::RateLimit { retry_after } => (
                match retry_after {
                    Some(seconds) => format!("the rate limit is reached (429, retry in {seconds} s)"),
                    None => "the rate limit is reached (429)".to_owned(),
                },
                "wait, or raise the limit for the agent's user (Jira: Administration, System, Rate limiting; or at the proxy before it)",
            ),
        };
        Diagnosis { cause, remedy }
    }
}

/// What a redirect without a header of Jira's is.
fn redirect(
    profile: &ServiceProfile,
    asked: RequestedUri<'_>,
    headers: &HeaderMap,
) -> Option<Intermediary> {
    let location = headers.get(header::LOCATION)?.to_str().ok()?;
    let shown = printable_location(location);
    let (host, path) = match location.split_once("://") {
        Some((_, rest)) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
        None => match location.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())),
            None => ("", location),
        },
    };
    let path = path.split(['?', '#', ';']).next().unwrap_or_default();
    let same_path = path == asked.path;
    let same_place = same_path && host.is_empty();
    let same_host = host.is_empty()
        || asked.authority.is_empty()
        || host_of(host).eq_ignore_ascii_case(host_of(asked.authority));
    let is_login = is_login_path(path);
    let is_known = profile.is_api(asked.path) || profile.is_health_path(asked.path);
    // Below another context path, or another issue.
    let is_alike = profile.is_api(path) || profile.is_health_path(path);
    Some(match (same_path, same_host, is_login) {
        _ if same_place => Intermediary::Detour { location: shown },
        (true, _, _) => Intermediary::Moved { location: shown },
        (_, true, true) => Intermediary::LoginPage { location: shown },
        // An attachment may live elsewhere; REST does not.
        (_, false, _) if is_login || is_known => Intermediary::SingleSignOn { location: shown },
        (_, true, false) if is_known && !is_alike => Intermediary::Detour { location: shown },
        (_, true, false) => Intermediary::Moved { location: shown },
        (_, false, _) => return None,
    })
}

/// Whether a path looks like that of a login page.
pub(crate) fn is_login_path(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    LOGINS.iter().any(|part| path.contains(part))
}

fn host_of(authority: &str) -> &str {
    let authority = authority.rsplit('@').next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// The location without query and user, printable.
fn printable_location(location: &str) -> String {
    let location = location.split(['?', '#', ';']).next().unwrap_or_default();
    match location.contains('@') {
        true => "an address with a user name in it".to_owned(),
        false => printable_text(location),
    }
}

/// As in `HIT`, `TCP_MEM_HIT from proxy`, `STALE`, and `edge; hit` (RFC 9211). An answer marked as revalidated or expired
/// has just come from Jira.
fn reports_hit(value: &[u8]) -> bool {
    let words = value.split(|b| !b.is_ascii_alphanumeric());
    let mut words = words.map(|word| word.to_ascii_lowercase());
    words.any(|word| matches!(&word[..], b"hit" | b"stale" | b"updating"))
}

/// The challenges of a 401, where one of them shows that it is not the tool's: Jira's own is `OAuth`.
fn foreign_challenges(profile: &ServiceProfile, headers: &HeaderMap) -> Option<String> {
    let own = profile.answers.challenges.as_ref()?;
    let all: Vec<_> = headers.get_all(header::WWW_AUTHENTICATE).iter().collect();
    let is_foreign = |value: &&http::HeaderValue| {
        let begins = |own: &String| {
            let start = value.as_bytes().get(..own.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(own.as_bytes()))
        };
        !value.is_empty() && !own.iter().any(begins)
    };
    if !all.iter().any(is_foreign) {
        return None;
    }
    let each: Vec<_> = all
        .iter()
        .map(|value| printable_text(&String::from_utf8_lossy(value.as_bytes())))
        .collect();
    Some(printable_text(&each.join(", ")))
}

fn retry_after(headers: &HeaderMap) -> Option<u64> {
    headers
        .get(header::RETRY_AFTER)?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn is_json(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| {
        kind.eq_ignore_ascii_case(b"application/json") || kind.ends_with(b"+json")
    })
}

fn is_html(headers: &HeaderMap) -> bool {
    media_type(headers).is_some_and(|kind| {
        kind.eq_ignore_ascii_case(b"text/html")
            || kind.eq_ignore_ascii_case(b"application/xhtml+xml")
    })
}

/// The media type without its parameters.
fn media_type(headers: &HeaderMap) -> Option<&[u8]> {
    let kind = headers.get(header::CONTENT_TYPE)?.as_bytes();
    kind.split(|byte| *byte == b';')
        .next()
        .map(<[u8]>::trim_ascii)
}

/// Foreign text for one line: printable ASCII, not too long.
fn printable_text(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic() || *c == ' ')
        .take(MAX_TEXT)
        .collect()
}

/// Headers in which caches report a hit.
const CACHES: [&str; 7] = [
    "cache-status",
    "cf-cache-status",
    "x-cache",
    "x-cache-status",
    "x-nginx-cache",
    "x-proxy-cache",
    "x-varnish-cache",
];
/// Parts of paths, in lower case, that lead to a login.
const LOGINS: [&str; 10] = [
    "login",
    "signin",
    "sign-in",
    "logon",
    "saml",
    "/sso",
    "adfs",
    "oauth2/auth",
    "oidc",
    "openid",
];
/// Characters.
const MAX_TEXT: usize = 200;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const REST: RequestedUri<'_> = RequestedUri {
        path: "/jira/rest/api/2/issue/A-1",
        authority: "jira.corp.example:8443",
    };
    const STATUS: RequestedUri<'_> = RequestedUri {
        path: "/jira/status",
        authority: "jira.corp.example:8443",
    };
    const ATTACHMENT: RequestedUri<'_> = RequestedUri {
        path: "/jira/secure/attachment/1/a.png",
        authority: "jira.corp.example:8443",
    };
    const HTML: (&str, &str) = ("content-type", "text/html;charset=UTF-8");
    const JSON: (&str, &str) = ("content-type", "application/json;charset=UTF-8");

    fn read(asked: RequestedUri<'_>, status: u16, headers: &[(&str, &str)]) -> AnswerSource {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        let head = response.body(()).unwrap().into_parts().0;
        AnswerSource::read(&ServiceProfile::jira(), asked, head.status, &head.headers)
    }

    fn cause(asked: RequestedUri<'_>, status: u16, headers: &[(&str, &str)]) -> String {
        let source = read(asked, status, headers);
        let found = source
            .intermediary()
            .unwrap_or_else(|| panic!("{status} {headers:?}"));
        found.diagnosis().cause
    }

    #[test]
    fn jiras_own_marks_prove_it_whatever_the_status() {
        for mark in [
            ("x-arequestid", "600x1x1"),
            ("x-ausername", "anonymous"),
            ("x-anodeid", "node1"),
            ("atl-traceid", "0f0f"),
        ] {
            for status in [200, 302, 401, 403, 404, 429, 503] {
                let location = ("location", "https://idp.example/saml");
                let source = read(REST, status, &[mark, HTML, location]);
                assert_eq!(source, AnswerSource::Jira, "{status} {mark:?}");
                for kept in [
                    ("age", "12"),
                    ("x-cache", "HIT from squid"),
                    ("x-cache", "TCP_MEM_HIT from a23"),
                    ("x-cache-status", "STALE"),
                    ("x-cache-status", "UPDATING"),
                    ("cf-cache-status", "HIT"),
                    ("cache-status", "edge; hit; ttl=30"),
                ] {
                    assert_eq!(
                        read(REST, status, &[mark, kept]),
                        AnswerSource::Unclear,
                        "a cache says nothing about now: {kept:?}"
                    );
                }
                for asked_jira in [
                    ("age", "0"),
                    ("x-cache", "MISS from squid"),
                    ("x-cache-status", "REVALIDATED"),
                    ("cf-cache-status", "DYNAMIC"),
                    ("cache-status", "edge; fwd=miss; stored"),
                ] {
                    let source = read(REST, status, &[mark, asked_jira]);
                    assert_eq!(source, AnswerSource::Jira, "{asked_jira:?}");
                }
            }
        }
    }

    #[test]
    fn json_below_rest_is_as_jira_answers_unless_it_refuses() {
        for status in [200, 201, 400, 404, 409] {
            assert_eq!(
                read(REST, status, &[JSON]),
                AnswerSource::LikeJira,
                "{status}"
            );
            assert_eq!(read(ATTACHMENT, status, &[JSON]), AnswerSource::Unclear);
        }
        // As API gateways do.
        for status in [401, 403, 500, 502, 503] {
            assert_eq!(
                read(REST, status, &[JSON]),
                AnswerSource::Unclear,
                "{status}"
            );
        }
        assert_eq!(read(REST, 404, &[HTML]), AnswerSource::Unclear);
        assert_eq!(read(ATTACHMENT, 200, &[HTML]), AnswerSource::Unclear);
    }

    #[test]
    fn what_stands_before_jira_is_named_by_what_it_says() {
        let negotiate = [
            ("www-authenticate", "Negotiate"),
            ("www-authenticate", "NTLM"),
            HTML,
        ];
        let idp = [("location", "https://idp.example/saml?SAMLRequest=s3cret")];
        let login = [("location", "/jira/login.jsp?os_destination=%2Fx")];
        let absolute = [("location", "https://jira.corp.example/jira/login.jsp")];
        let bare = [("location", "//idp.example")];
        for (asked, status, headers, part) in [
            (REST, 401, &negotiate[..], "Negotiate, NTLM"),
            (
                REST,
                401,
                &[("www-authenticate", "Basic realm=\"Intranet\"")],
                "Basic realm=\"Intranet\"",
            ),
            (REST, 407, &[], "(407)"),
            (REST, 302, &idp, "another host, https://idp.example/saml"),
            (REST, 302, &bare, "single sign-on"),
            (ATTACHMENT, 302, &idp, "single sign-on"),
            (
                REST,
                302,
                &login,
                "login page came instead of an answer (/jira/login.jsp)",
            ),
            (ATTACHMENT, 303, &absolute, "login page"),
            (REST, 200, &[HTML], "web page came instead"),
            (REST, 511, &[HTML], "requires a login (511)"),
            (
                REST,
                302,
                &[("location", "/jira/rest/api/2/issue/A-1")],
                "as Jira does not",
            ),
            (
                STATUS,
                302,
                &[("location", "/jira/status?bounce=1")],
                "as Jira does not",
            ),
            (
                REST,
                307,
                &[("location", "/idp/auth?x=1")],
                "as Jira does not",
            ),
            (
                STATUS,
                302,
                &[("location", "/waiting-room")],
                "as Jira does not",
            ),
            (REST, 403, &[HTML], "firewall"),
            (REST, 429, &[JSON, ("retry-after", "7")], "in 7 s"),
        ] {
            let told = cause(asked, status, headers);
            assert!(told.contains(part), "{status} {headers:?}: {told}");
            assert!(
                !told.contains("s3cret") && !told.contains("os_destination"),
                "{told}"
            );
        }
    }

    #[test]
    fn the_same_path_at_another_address_is_a_move_and_an_object_store_is_nothing() {
        for location in [
            "https://jira.corp.example/jira/rest/api/2/issue/A-1?x=y",
            "https://issues.corp.example/jira/rest/api/2/issue/A-1",
            "/jira/rest/api/2/issue/B-1",
        ] {
            let source = read(REST, 301, &[("location", location)]);
            let moved = matches!(source.intermediary(), Some(Intermediary::Moved { .. }));
            assert!(moved, "{location}: {source:?}");
        }
        let store = [("location", "https://bucket.example/1?signature=s")];
        assert_eq!(read(ATTACHMENT, 302, &store), AnswerSource::Unclear);
    }

    #[test]
    fn a_refusal_without_any_mark_may_be_jiras() {
        for headers in [
            &[][..],
            &[HTML],
            &[("www-authenticate", "OAuth realm=\"x\"")],
        ] {
            assert_eq!(
                read(REST, 401, headers),
                AnswerSource::Unclear,
                "{headers:?}"
            );
        }
    }
}

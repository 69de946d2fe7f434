//! Injected faults, for tests of a client's reaction.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

/// A fault and the requests that it applies to. The first fault that matches a request applies.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InjectedFault {
    /// Applies only to requests with this method; absent means all.
    #[serde(default)]
    pub method: Option<String>,
    /// Applies only to requests whose raw target contains this; empty means all.
    #[serde(default)]
    pub target: String,
    /// What goes wrong with a matching request.
    pub kind: FaultKind,
}

/// The kinds of misbehavior that can be injected.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Wait this many milliseconds, then serve the request as usual.
    Slow(u64),
    /// Respond with this status at once, without reading the body, while the upload continues.
    AnswerEarly(u16),
    /// Serve the request, but break the connection after this many bytes of the response body.
    CutAfter(u64),
    /// Neither read the body nor respond, as long as the client stays connected.
    Stall,
    /// Serve the request, with its effects, then wait this many milliseconds before responding.
    SlowAnswer(u64),
    /// Serve the request, with its effects, then break the connection without a response.
    HangUpAfter,
    /// Read the whole request, then break the connection without a response.
    HangUp,
    /// A host in front of Jira responds, without any of Jira's headers.
    Intermediary(CannedResponse),
    /// Jira itself responds with this, with its own headers.
    Answer(CannedResponse),
}

/// A fixed response that replaces the one of a resource.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct CannedResponse {
    /// HTTP status code of the response.
    pub status: u16,
    /// Header fields, in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Body of the response, as text.
    #[serde(default)]
    pub body: String,
}

impl CannedResponse {
    /// A fixed response with these parts.
    pub fn new(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            status,
            headers: headers.iter().map(owned).collect(),
            body: body.to_owned(),
        }
    }

    /// The login form of a single sign-on host, 200.
    pub fn login_form() -> Self {
        let form = "<html><form action=\"https://idp.example/login\" method=\"post\">Sign in</form></html>";
        Self::new(200, &[("content-type", "text/html;charset=UTF-8")], form)
    }

    /// A redirect to an identity provider (SAML 2.0, HTTP redirect binding).
    pub fn identity_provider() -> Self {
        let location = "https://idp.example/saml/sso?SAMLRequest=fZFfT8IwFMW%2F&RelayState=x";
        Self::new(302, &[("location", location)], "")
    }

    /// Kerberos before Jira (RFC 4559): Apache's mod_auth_gssapi, IIS.
    pub fn negotiate() -> Self {
        let headers = [
            ("www-authenticate", "Negotiate"),
            ("www-authenticate", "NTLM"),
            ("content-type", "text/html"),
        ];
        Self::new(401, &headers, "<html>Unauthorized</html>")
    }

    /// A reverse proxy that requires Basic authentication, 401.
    pub fn proxy_password() -> Self {
        let headers = [
            ("www-authenticate", "Basic realm=\"Intranet\""),
            ("content-type", "text/html"),
        ];
        Self::new(401, &headers, "<html>Unauthorized</html>")
    }

    /// A forward proxy that requires a login, 407.
    pub fn proxy_login() -> Self {
        let headers = [
            ("proxy-authenticate", "Basic realm=\"proxy\""),
            ("content-type", "text/html"),
        ];
        Self::new(407, &headers, "<html>Proxy Authentication Required</html>")
    }

    /// A web application firewall that blocks the request, 403.
    pub fn firewall() -> Self {
        let page = "<html>The requested URL was rejected. Your support ID is: 4711</html>";
        Self::new(403, &[("content-type", "text/html")], page)
    }

    /// The rate limit of a host in front of Jira, 429.
    pub fn rate_limit() -> Self {
        let headers = [("content-type", "application/json"), ("retry-after", "7")];
        Self::new(429, &headers, "{\"message\":\"Rate limit exceeded.\"}")
    }
}

impl InjectedFault {
    /// A fault for every request whose raw target contains `target`.
    pub fn on(target: &str, kind: FaultKind) -> Self {
        Self {
            method: None,
            target: target.into(),
            kind,
        }
    }

    pub(super) fn applies(&self, method: &Method, target: &str) -> bool {
        self.method
            .as_deref()
            .is_none_or(|m| m.eq_ignore_ascii_case(method.as_str()))
            && target.contains(&self.target)
    }
}

impl FaultKind {
    pub(super) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Slow(milliseconds) => Some(Duration::from_millis(*milliseconds)),
            Self::AnswerEarly(_)
            | Self::CutAfter(_)
            | Self::Stall
            | Self::SlowAnswer(_)
            | Self::HangUpAfter
            | Self::HangUp
            | Self::Intermediary(_)
            | Self::Answer(_) => None,
        }
    }

    pub(super) fn early_status(&self) -> Option<StatusCode> {
        match self {
            Self::AnswerEarly(status) => {
                Some(StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
            }
            Self::Slow(_)
            | Self::CutAfter(_)
            | Self::Stall
            | Self::SlowAnswer(_)
            | Self::HangUpAfter
            | Self::HangUp
            | Self::Intermediary(_)
            | Self::Answer(_) => None,
        }
    }
}

//! Misbehaviour on purpose, so that a test can see what a client makes of it.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

/// What to do wrong, and to which requests. The first fault that matches a request applies.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InjectedFault {
    /// Only requests with this method; absent: all.
    #[serde(default)]
    pub method: Option<String>,
    /// Only requests whose raw target contains this; empty: all.
    #[serde(default)]
    pub target: String,
    /// What goes wrong with a matching request.
    pub kind: FaultKind,
}

/// The kinds of misbehavior that can be injected.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Wait so many milliseconds, then serve the request as usual.
    Slow(u64),
    /// Answer with this status at once, without reading the body, while the upload still runs.
    AnswerEarly(u16),
    /// Serve the request, but break the connection after so many bytes of the answer's body.
    CutAfter(u64),
    /// Read nothing of the body and answer nothing, for as long as the client stays.
    Stall,
    /// Serve the request with all that follows from it, then wait so many milliseconds before
    /// answering.
    SlowAnswer(u64),
    /// Serve the request with all that follows from it, then break the connection without an answer.
    HangUpAfter,
    /// Read the whole request, then break the connection without an answer.
    HangUp,
    /// Something before Jira answers, which never sees the request: none of Jira's headers.
    Intermediary(CannedResponse),
    /// Jira itself answers this, with its own headers.
    Answer(CannedResponse),
}

/// An answer as something else than a resource gives it.
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
    /// An answer with these.
    pub fn new(status: u16, headers: &[(&str, &str)], body: &str) -> Self {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self {
            status,
            headers: headers.iter().map(owned).collect(),
            body: body.to_owned(),
        }
    }

    /// The login form of single sign-on, 200.
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

    /// Basic authentication of a reverse proxy.
    pub fn proxy_password() -> Self {
        let headers = [
            ("www-authenticate", "Basic realm=\"Intranet\""),
            ("content-type", "text/html"),
        ];
        Self::new(401, &headers, "<html>Unauthorized</html>")
    }

    /// A forward proxy that wants a login.
    pub fn proxy_login() -> Self {
        let headers = [
            ("proxy-authenticate", "Basic realm=\"proxy\""),
            ("content-type", "text/html"),
        ];
        Self::new(407, &headers, "<html>Proxy Authentication Required</html>")
    }

    /// A web application firewall that dislikes the request.
    pub fn firewall() -> Self {
        let page = "<html>The requested URL was rejected. Your support ID is: 4711</html>";
        Self::new(403, &[("content-type", "text/html")], page)
    }

    /// A rate limit of something before Jira.
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
            _ => None,
        }
    }

    pub(super) fn early_status(&self) -> Option<StatusCode> {
        match self {
            Self::AnswerEarly(status) => {
                Some(StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
            }
            _ => None,
        }
    }
}

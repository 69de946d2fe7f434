//! Authentication. Each file is one login method: a function that checks whether a request has its
//! kind of credential, and whether it is valid. [`METHODS`] is their order.

mod basic;
mod captcha;
mod oauth1;
mod oauth2;
mod pat;
mod query;
pub(super) mod session;

use axum::response::Response;
use http::request::Parts;
use http::{HeaderMap, header};

pub(super) use captcha::FailedLogins;
pub(super) use session::CookieSessions;

use super::oauth2::OAuth2Scope;
use super::state::JiraState;

/// How a request was logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthKind {
    /// Without a credential, or with one that Jira silently ignores.
    Anonymous,
    /// By user name and password in `Authorization: Basic`.
    Basic,
    /// `Authorization: Bearer` with a personal access token.
    Pat,
    /// A signature of OAuth 1.0a.
    OAuth1,
    /// `Authorization: Bearer` with an OAuth 2.0 access token of this scope.
    OAuth2(OAuth2Scope),
    /// An access token of Cloud's token service.
    CloudToken,
    /// Email address and API token, in Cloud.
    ApiToken,
    /// By the session cookie `JSESSIONID`.
    Session,
    /// `os_username` and `os_password` in query or form.
    Query,
}

/// The authenticated user of a request.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Login name of the user; `None` means anonymous.
    pub user: Option<String>,
    pub kind: AuthKind,
    /// Value of the header `X-Seraph-LoginReason`.
    pub reason: Option<&'static str>,
}

/// The part of a request that login methods see.
pub(super) struct LoginRequest<'a> {
    pub parts: &'a Parts,
    /// The path below the context path.
    pub path: &'a str,
    /// Parameters of the query and of a form body.
    pub parameters: &'a [(String, String)],
}

/// The result of a login method.
pub(super) enum LoginResult {
    /// No credential of this kind.
    NotPresent,
    /// The credential is valid for this user.
    LoggedIn { user: String, kind: AuthKind },
    /// An invalid credential that Jira ignores: the request is anonymous.
    Ignored { reason: Option<&'static str> },
    /// An invalid credential that Jira rejects with this response.
    Refused(Box<Response>),
}

impl LoginRequest<'_> {
    /// The token of `Authorization: Bearer`, in exactly that case and with exactly one space.
    fn bearer_token(&self) -> Option<&str> {
        let value = self.parts.headers.get(header::AUTHORIZATION)?;
        value.to_str().ok()?.strip_prefix("Bearer ")
    }
}

type LoginMethod = fn(&JiraState, &LoginRequest<'_>) -> LoginResult;

/// In this order. The session precedes Basic, as in Seraph: a request with both is the session's.
const METHODS: &[LoginMethod] = &[
    query::attempt,
    oauth1::attempt,
    oauth2::attempt,
    pat::attempt,
    session::attempt,
    basic::attempt,
];

/// For a Cloud site, where the embedding Cloud has checked all other credentials.
const CLOUD_METHODS: &[LoginMethod] = &[oauth1::attempt];

/// Finds the user of a request, or the response that rejects it.
pub(super) fn authenticate(
    shared: &JiraState,
    request: &LoginRequest<'_>,
) -> Result<Caller, Box<Response>> {
    // Set by the embedding Cloud, never by the client.
    if let Some(caller) = request.parts.extensions.get::<Caller>() {
        return Ok(caller.clone());
    }
    let methods = match shared.cloud {
        true => CLOUD_METHODS,
        false => METHODS,
    };
    for method in methods {
        match method(shared, request) {
            LoginResult::NotPresent => {}
            LoginResult::LoggedIn { user, kind } => {
                return Ok(Caller {
                    user: Some(user),
                    kind,
                    reason: Some(OK),
                });
            }
            LoginResult::Ignored { reason } => return Ok(Caller::anonymous(reason)),
            LoginResult::Refused(response) => return Err(response),
        }
    }
    Ok(Caller::anonymous(None))
}

/// Sets the cookies of a response: the session and the XSRF token.
pub(super) fn cookies(
    shared: &JiraState,
    caller: &Caller,
    request: &HeaderMap,
    answer: &mut HeaderMap,
) {
    session::cookies(shared, caller, request, answer);
}

/// Logs in with a name and a password and counts failures, for Basic, the query, the consent page and
/// the session resource.
pub(super) fn with_password(
    shared: &JiraState,
    name: &str,
    password: &str,
) -> Result<String, PasswordError> {
    let user = {
        let model = shared.model.lock();
        let Some(user) = model.users.find_by_login_name(name, model.cloud) else {
            return Err(PasswordError::Unknown);
        };
        let good = user.has_password(password);
        (user.name.clone(), good)
    };
    let (user, good) = user;
    let mut lockouts = shared.lockouts.lock();
    if lockouts.requires_captcha(&user, shared.settings.captcha_after) {
        return Err(PasswordError::CaptchaRequired);
    }
    if good {
        lockouts.clear(&user);
        Ok(user)
    } else {
        lockouts.failed(&user);
        Err(PasswordError::Wrong)
    }
}

/// Why a password did not log in.
pub(super) enum PasswordError {
    /// No user has this name.
    Unknown,
    /// The password does not match.
    Wrong,
    /// A CAPTCHA must be solved first, whatever the password.
    CaptchaRequired,
}

impl Caller {
    fn anonymous(reason: Option<&'static str>) -> Self {
        Self {
            user: None,
            kind: AuthKind::Anonymous,
            reason,
        }
    }

    /// The login name; `None` means anonymous.
    pub(super) fn name(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

const OK: &str = "OK";

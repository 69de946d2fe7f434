//! Who is asking. One file per way to log in, each a function that looks at a request's head and
//! says whether the credential is its kind and whether it is good; [`METHODS`] is the order in which
//! they are asked. A new way is a new file and a line there.

mod basic;
mod captcha;
mod oauth1;
mod oauth2;
mod pat;
mod query;
pub(super) mod session;

use axum::response::Response;
use http::HeaderMap;
use http::request::Parts;

pub(super) use captcha::FailedLogins;
pub(super) use session::CookieSessions;

use super::oauth2::OAuth2Scope;
use super::state::JiraState;

/// How a request was logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthKind {
    /// Not at all, or by a credential that Jira silently ignores.
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

/// Who is asking, as the resources see it.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    /// Login name of the user; `None` means anonymous.
    pub user: Option<String>,
    pub kind: AuthKind,
    /// Value of the header `X-Seraph-LoginReason`.
    pub reason: Option<&'static str>,
}

/// What a way to log in is shown of a request.
pub(super) struct LoginRequest<'a> {
    pub parts: &'a Parts,
    /// The path below the context path.
    pub path: &'a str,
    /// Parameters of the query and of a form body.
    pub parameters: &'a [(String, String)],
}

/// What a way to log in makes of it.
pub(super) enum LoginResult {
    /// No credential of this kind.
    NotPresent,
    /// The credential is valid for this user.
    LoggedIn { user: String, kind: AuthKind },
    /// A bad one that Jira passes over: the request goes on as anonymous.
    Ignored { reason: Option<&'static str> },
    /// A bad one that Jira answers itself.
    Refused(Box<Response>),
}

type LoginMethod = fn(&JiraState, &LoginRequest<'_>) -> LoginResult;

/// In this order. The session before Basic, as Seraph does: whoever sends both is the session's user.
const METHODS: &[LoginMethod] = &[
    query::attempt,
    oauth1::attempt,
    oauth2::attempt,
    pat::attempt,
    session::attempt,
    basic::attempt,
];

/// Of a Cloud's site: what else logs in there, whoever embeds this Jira has looked at already.
const CLOUD_METHODS: &[LoginMethod] = &[oauth1::attempt];

/// Decides who is asking, or what to answer instead.
pub(super) fn authenticate(
    shared: &JiraState,
    request: &LoginRequest<'_>,
) -> Result<Caller, Box<Response>> {
    // Put there by whoever embeds this Jira; nothing of it comes off the wire.
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

/// The cookies of a login or of its absence: a session that really logs in, and the XSRF token.
pub(super) fn cookies(
    shared: &JiraState,
    caller: &Caller,
    request: &HeaderMap,
    answer: &mut HeaderMap,
) {
    session::cookies(shared, caller, request, answer);
}

/// Logs in with a name and a password, counting failures: what Basic, the query and the session
/// resource have in common.
pub(super) fn with_password(
    shared: &JiraState,
    name: &str,
    password: &str,
) -> Result<String, PasswordError> {
    let user = {
        let model = shared.model();
        let Some(user) = model.users.find_by_login_name(name, model.cloud) else {
            return Err(PasswordError::Unknown);
        };
        let good = user.has_password(password);
        (user.name.clone(), good)
    };
    let (user, good) = user;
    let mut lockouts = shared.lockouts();
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
    /// A CAPTCHA has to be solved first, whatever the password.
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

    /// The login name; `None`: anonymous.
    pub fn name(&self) -> Option<&str> {
        self.user.as_deref()
    }
}

const OK: &str = "OK";

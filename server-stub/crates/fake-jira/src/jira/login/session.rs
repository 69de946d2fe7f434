//! The `JSESSIONID` cookie, which every login sets and which is a credential itself, and the XSRF
//! cookie.

use std::collections::{HashMap, VecDeque};

use http::{HeaderMap, HeaderValue, header};
use rand::Rng;

use super::{AuthKind, Caller, LoginRequest, LoginResult};
use crate::jira::state::JiraState;

/// The sessions by cookie.
#[derive(Default)]
pub(in crate::jira) struct CookieSessions {
    users: HashMap<String, String>,
    order: VecDeque<String>,
}

impl CookieSessions {
    /// Opens a session; beyond the limit the oldest one ends.
    pub(crate) fn open(&mut self, user: &str) -> String {
        if self.order.len() == MAX_SESSIONS
            && let Some(oldest) = self.order.pop_front()
        {
            self.users.remove(&oldest);
        }
        let id = format!("{:032X}", rand::rng().random::<u128>());
        self.users.insert(id.clone(), user.to_owned());
        self.order.push_back(id.clone());
        id
    }

    pub(crate) fn user(&self, id: &str) -> Option<&str> {
        self.users.get(id).map(String::as_str)
    }

    /// Ends all sessions, as a restart of Jira does.
    pub(crate) fn close_all(&mut self) {
        self.users.clear();
    }

    /// Ends a session; its id stays in `order`, which is bounded.
    pub(crate) fn close(&mut self, id: &str) {
        self.users.remove(id);
    }
}

pub(super) fn attempt(shared: &JiraState, request: &LoginRequest<'_>) -> LoginResult {
    let Some(id) = cookie(&request.parts.headers) else {
        return LoginResult::NotPresent;
    };
    match shared.sessions.lock().user(&id) {
        Some(user) => LoginResult::LoggedIn {
            user: user.to_owned(),
            kind: AuthKind::Session,
        },
        None => LoginResult::NotPresent,
    }
}

/// Sets the cookies of a response, unless the request came with a session cookie.
pub(super) fn cookies(
    shared: &JiraState,
    caller: &Caller,
    request: &HeaderMap,
    answer: &mut HeaderMap,
) {
    let path = shared.cookie_path();
    let secure = if shared.settings.https.is_some() {
        "; Secure"
    } else {
        ""
    };
    let mut set = |cookie: String| {
        if let Ok(value) = HeaderValue::try_from(cookie) {
            answer.append(header::SET_COOKIE, value);
        }
    };
    if caller.kind == AuthKind::Session {
        return;
    }
    if let Some(user) = caller.name() {
        let id = shared.sessions.lock().open(user);
        set(format!("JSESSIONID={id}; Path={path}{secure}; HttpOnly"));
    }
    let known = request.get_all(header::COOKIE).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.contains(XSRF_COOKIE))
    });
    if !known || caller.user.is_some() {
        let standing = if caller.user.is_some() { "lin" } else { "lout" };
        let token: u128 = rand::rng().random();
        set(format!(
            "{XSRF_COOKIE}=BSTB-IMIT-ATIO-NJRA_{token:032x}_{standing}; Path={path}{secure}"
        ));
    }
}

/// The value of the session cookie.
pub(in crate::jira) fn cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .find_map(|pair| pair.trim().strip_prefix("JSESSIONID="))
        .map(str::to_owned)
}

/// Bounded, because a client that ignores cookies opens a session per request.
const MAX_SESSIONS: usize = 4096;
const XSRF_COOKIE: &str = "atlassian.xsrf.token";

//! The cookies that Jira's side sets for the agent's user: which node of a cluster a load balancer has chosen, and the
//! session there. The vendor neither gets nor sends them. Without them each request would go to any node, whose search
//! indexes lag behind each other, and open another session.
//!
//! Only an answer that Jira gave to the agent as its own user sets any, and never one to a request by which a login
//! could change. They last as long as the secret that they were issued for, across refreshes of its tokens. A session
//! lasts much shorter: Jira checks it before the password (Seraph), so that it would hide a changed password.

use super::credential::sensitive;
use crate::secret::Secret;
use cookie::Cookie;
use http::{HeaderMap, Uri, header, request};
use parking_lot::Mutex;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The cookies of one forward's login.
pub(super) struct UpstreamCookies {
    jar: Mutex<CookieJar>,
    /// Whether they travel inside TLS.
    over_tls: bool,
}

/// By which state of the jar a request was sent, and what its answer may set.
pub(super) struct SentCookies {
    version: u64,
    revision: u64,
    /// A session went with it, which answers in the place of the credential.
    pub(super) by_session: bool,
    /// `None` where the answer may set nothing.
    target: Option<Uri>,
}

#[derive(Default)]
struct CookieJar {
    /// Version of the secret that they were issued for.
    version: u64,
    /// Rises with each change of a cookie.
    revision: u64,
    cookies: Vec<StoredCookie>,
    /// Counts what was set.
    set: u64,
    /// When a request last went without the session, to get another one.
    login_at: Option<Instant>,
}

struct StoredCookie {
    name: String,
    value: Secret,
    path: String,
    /// The count of the jar when it was last set.
    set: u64,
    /// `None`: as long as the secret.
    expires: Option<SystemTime>,
    /// When a session must have been replaced by one that the credential opened.
    session_ends: Option<Instant>,
}

impl UpstreamCookies {
    pub(super) fn new(over_tls: bool) -> Self {
        Self {
            jar: Mutex::default(),
            over_tls,
        }
    }

    /// Puts those into the request that belong to its path, in the place of whatever cookies it has. `version` is
    /// that of the secret behind the credential; a new secret begins without any, a refreshed token does not. `logs_in`: the answer is to show whether Jira takes
    /// the credential, so no session may answer in its place.
    pub(super) fn attach(
        &self,
        head: &mut request::Parts,
        version: u64,
        logs_in: bool,
    ) -> SentCookies {
        let mut jar = self.jar.lock();
        if version > jar.version {
            jar.clear();
            jar.version = version;
        }
        head.headers.remove(header::COOKIE);
        let mut sent = SentCookies {
            version,
            by_session: false,
            revision: jar.revision,
            target: may_set(head.uri.path()).then(|| head.uri.clone()),
        };
        if version == jar.version {
            let path = head.uri.path().to_owned();
            jar.add_to(head, !logs_in);
            sent.by_session = !logs_in && jar.has_session(&path);
        }
        sent
    }

    /// Whether the session should be replaced by another one before it ends: true for one request in a while.
    pub(super) fn is_login_due(&self) -> bool {
        let (mut jar, now) = (self.jar.lock(), Instant::now());
        let is_due = |cookie: &StoredCookie| {
            let end = cookie.session_ends;
            end.is_some_and(|end| now < end && end - now <= SESSION_MAX_AGE - SESSION_RENEWED_AFTER)
        };
        if !jar.cookies.iter().any(is_due) || jar.login_at.is_some_and(|at| now < at + LOGIN_AGAIN)
        {
            return false;
        }
        jar.login_at = Some(now);
        true
    }

    /// Adds them to a request of the agent that carries no credential, so that it reaches the same node and opens no
    /// session. Its answer sets nothing.
    pub(super) fn add_to(&self, head: &mut request::Parts) {
        self.jar.lock().add_to(head, true);
    }

    /// Takes what the answer sets. Jira gave it to us as our user.
    ///
    /// Of several answers to requests that were sent with the same cookies the first one counts: many requests at once
    /// would otherwise keep replacing each other's node and session.
    pub(super) fn take(&self, sent: &SentCookies, headers: &HeaderMap) {
        let Some(target) = &sent.target else { return };
        let mut lines = headers.get_all(header::SET_COOKIE).iter().peekable();
        if lines.peek().is_none() {
            return;
        }
        let mut jar = self.jar.lock();
        if sent.version != jar.version || sent.revision != jar.revision {
            return;
        }
        let now = SystemTime::now();
        let mut changed = false;
        for line in lines.take(MAX_COOKIES) {
            let text = line.to_str().ok().filter(|text| text.len() <= MAX_LINE);
            let cookie = text.and_then(|text| Cookie::parse(text).ok());
            let Some(cookie) = cookie else { continue };
            if cookie.name().is_empty() || is_login_of_its_own(cookie.name()) {
                continue;
            }
            // There is one host, so that `Domain` has no meaning here.
            if cookie.secure() == Some(true) && !self.over_tls {
                continue;
            }
            changed |= jar.set(&cookie, target.path(), now);
        }
        jar.revision += u64::from(changed);
    }

    /// Jira did not take a request with this credential: if a session of ours was to blame, the next one shows it.
    pub(super) fn forget_sessions(&self, sent: &SentCookies) {
        let mut jar = self.jar.lock();
        if sent.version == jar.version {
            jar.cookies.retain(|cookie| cookie.session_ends.is_none());
            jar.revision += 1;
        }
    }

    /// Jira named another user, or an administrator starts over: none can be trusted.
    pub(super) fn forget_all(&self) {
        self.jar.lock().clear();
    }

    /// What a request for this path would carry.
    #[cfg(test)]
    pub(super) fn for_path(&self, path: &str) -> Option<String> {
        let line = self.jar.lock().line(path, true)?;
        Some(String::from_utf8_lossy(line.expose()).into_owned())
    }
}

impl CookieJar {
    fn clear(&mut self) {
        self.cookies.clear();
        self.revision += 1;
    }

    fn add_to(&mut self, head: &mut request::Parts, with_session: bool) {
        if let Some(line) = self.line(head.uri.path(), with_session)
            && let Ok(value) = sensitive(line.expose())
        {
            head.headers.insert(header::COOKIE, value);
        }
    }

    fn has_session(&self, path: &str) -> bool {
        let mut cookies = self.cookies.iter();
        cookies.any(|cookie| cookie.session_ends.is_some() && cookie.belongs_to(path))
    }

    /// The `Cookie` line for a path.
    fn line(&mut self, path: &str, with_session: bool) -> Option<Secret> {
        let now = SystemTime::now();
        self.cookies.retain(|cookie| !cookie.has_expired(now));
        // Room for everything at once: growing would leave unzeroed copies behind.
        let mut line = Vec::with_capacity(MAX_BYTES + 3 * MAX_COOKIES);
        let sent = self.cookies.iter().filter(|cookie| {
            cookie.belongs_to(path) && (with_session || cookie.session_ends.is_none())
        });
        for cookie in sent {
            if !line.is_empty() {
                line.extend_from_slice(b"; ");
            }
            line.extend_from_slice(cookie.name.as_bytes());
            line.push(b'=');
            line.extend_from_slice(cookie.value.expose());
        }
        (!line.is_empty()).then(|| Secret::new(line))
    }

    fn bytes(&self) -> usize {
        self.cookies.iter().map(StoredCookie::size).sum()
    }

    fn drop_oldest(&mut self) {
        let ages = self.cookies.iter().map(|cookie| cookie.set).enumerate();
        if let Some((oldest, _)) = ages.min_by_key(|(_, set)| *set) {
            self.cookies.swap_remove(oldest);
        }
    }

    /// Whether it made a difference.
    fn set(&mut self, cookie: &Cookie<'_>, request_path: &str, now: SystemTime) -> bool {
        let path = match cookie.path() {
            Some(path) if path.starts_with('/') => path,
            _ => default_path(request_path),
        };
        self.set += 1;
        let session_ends = is_session(cookie.name()).then(|| Instant::now() + SESSION_MAX_AGE);
        let mut fresh = StoredCookie {
            name: cookie.name().to_owned(),
            value: Secret::new(cookie.value().as_bytes().to_vec()),
            path: path.to_owned(),
            set: self.set,
            expires: expiry(cookie, now),
            session_ends,
        };
        let is_same = |kept: &StoredCookie| kept.name == fresh.name && kept.path == fresh.path;
        let at = self.cookies.iter().position(is_same);
        let before = at.map(|at| self.cookies.swap_remove(at));
        if fresh.has_expired(now) {
            return before.is_some();
        }
        self.cookies.retain(|cookie| !cookie.has_expired(now));
        if fresh.size() > MAX_BYTES {
            return before.is_some();
        }
        // Names that rotate must not keep a node's cookie out.
        while self.cookies.len() >= MAX_COOKIES || self.bytes() + fresh.size() > MAX_BYTES {
            self.drop_oldest();
        }
        let unchanged = before.filter(|before| before.value.expose() == fresh.value.expose());
        let changed = unchanged.is_none();
        if let Some(before) = unchanged {
            // Said once more, it is the same session.
            fresh.session_ends = before.session_ends;
        }
        self.cookies.push(fresh);
        // RFC 6265 §5.4: longer paths first.
        self.cookies
            .sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
        changed
    }
}

impl StoredCookie {
    fn size(&self) -> usize {
        self.name.len() + self.value.expose().len()
    }

    fn has_expired(&self, now: SystemTime) -> bool {
        self.expires.is_some_and(|end| end <= now)
            || self.session_ends.is_some_and(|end| end <= Instant::now())
    }

    /// RFC 6265 §5.1.4.
    fn belongs_to(&self, path: &str) -> bool {
        path.strip_prefix(&self.path).is_some_and(|rest| {
            rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/')
        })
    }
}

/// RFC 6265 §5.3: `Max-Age` before `Expires`.
fn expiry(cookie: &Cookie<'_>, now: SystemTime) -> Option<SystemTime> {
    if let Some(age) = cookie.max_age() {
        return now.checked_add(Duration::try_from(age).unwrap_or_default());
    }
    cookie.expires_datetime().map(SystemTime::from)
}

/// RFC 6265 §5.1.4.
fn default_path(request_path: &str) -> &str {
    match request_path.rfind('/') {
        None | Some(0) => "/",
        Some(end) => request_path.get(..end).unwrap_or("/"),
    }
}

/// Whether the answer to a request for this path may set cookies: only Jira's REST API logs in by the credential in
/// the request alone, and even there some resources log in or out by what is in the body.
fn may_set(path: &str) -> bool {
    let path = path.to_ascii_lowercase();
    let Some((_, below)) = path.split_once("/rest/") else {
        return false;
    };
    let mut segments = below.split('/');
    !segments.any(|segment| LOGIN_SEGMENTS.iter().any(|part| segment.contains(part)))
}

/// Whether a cookie logs in by itself, apart from the session of the agent's login: remembered logins, tokens of single
/// sign-on, and those of forms, which only a browser needs.
fn is_login_of_its_own(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // Names of pools follow, whatever they are.
    !name.starts_with("bigipserver") && LOGIN_NAMES.iter().any(|part| name.contains(part))
}

/// `JSESSIONID` and its like; not what balancers call by the session that they keep at one node, such as
/// `X-Contour-Session-Affinity`.
fn is_session(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("session") && !NODE_NAMES.iter().any(|part| name.contains(part))
}

const LOGIN_SEGMENTS: &[&str] = &["auth", "login", "logout", "saml", "session", "sso", "sudo"];

const NODE_NAMES: &[&str] = &["affinity", "persist", "sticky"];

const LOGIN_NAMES: &[&str] = &[
    "auth",
    "csrf",
    "iplanetdirectory",
    "jwt",
    "login",
    "ltpa",
    "oidc",
    "rememberme",
    "remember-me",
    "remember_me",
    "saml",
    "shib",
    "smsession",
    "sso",
    "token",
    "xsrf",
];

/// As old as a proof may become: that long a password which was changed in Jira still works, and a session is opened
/// that often instead of by each request.
pub(super) const SESSION_MAX_AGE: Duration = Duration::from_secs(30);
/// A session of this age is replaced while it is still valid.
const SESSION_RENEWED_AFTER: Duration = Duration::from_secs(20);
/// Between two requests that are to bring another session.
const LOGIN_AGAIN: Duration = Duration::from_secs(5);
/// A load balancer or two, a firewall, and Jira set one or two each.
pub(super) const MAX_COOKIES: usize = 16;
/// Names and values together: half of what Tomcat takes as a request head by default.
pub(super) const MAX_BYTES: usize = 4 << 10;
/// One `Set-Cookie` line; RFC 6265 §6.1 asks browsers for as much.
const MAX_LINE: usize = 4 << 10;

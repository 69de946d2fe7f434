//! The Jira layer: interprets `status` and `serverInfo` for an administrator.

pub(super) mod status_page;

use self::status_page::{StatusPageFault, classify_status_page};
use crate::printable::printable;
use crate::{
    status::ProofState,
    upstream::{
        AnswerSource, ControlAnswer, ControlClient, ControlFailure, HttpTarget, Intermediary,
    },
};
use bytes::Bytes;
use http::{StatusCode, header};
use serde::Deserialize;

/// Why the layer is not proven.
#[derive(Debug)]
pub(crate) struct ProbeFailure {
    pub(crate) state: ProofState,
    pub(crate) cause: String,
    pub(crate) remedy: String,
    /// Something other than Jira answered every request, and not with a passing error.
    pub(crate) is_foreign: bool,
    /// How far the probe got.
    pub(crate) reach: ProbeReach,
}

/// How far a probe got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProbeReach {
    /// There was no connection.
    NotConnected,
    /// It was sent, and got no answer in its time.
    Unanswered,
    /// Something answered.
    Answered,
}

impl ProbeReach {
    fn of(failure: &ControlFailure) -> Self {
        match failure.not_sent {
            true => Self::NotConnected,
            false => Self::Unanswered,
        }
    }
}

/// Asks Jira for its state; `Ok` is the detail, as in `RUNNING, version 9.12.4`. `checks_rest`: a request of the vendor
/// failed, waits or is held back, so that REST has to answer as well, whatever the status page shows.
///
/// A proxy may block the page, or demand a login for it, and let REST pass. So if the page is not Jira's, `serverInfo`
/// decides.
pub(crate) async fn probe_jira(
    client: &ControlClient,
    target: &HttpTarget,
    version: &mut Option<String>,
    checks_rest: bool,
) -> Result<String, ProbeFailure> {
    let answer = client
        .send(client.head(status_page(client)), Bytes::new())
        .await
        .map_err(|failure| not_answered(failure, target))?;
    let seen = match classify_status_page(&answer) {
        Err(StatusPageFault::NoState(odd))
            if !target.tls && answer.head.status == StatusCode::BAD_REQUEST =>
        {
            return Err(probe_failure(odd.state, odd.cause, MAYBE_TLS));
        }
        Ok(seen) => seen,
        Err(StatusPageFault::State(failure)) => {
            *version = None;
            return Err(failure);
        }
        Err(StatusPageFault::NoState(failure)) => {
            *version = None;
            confirm_with_server_info(client, target, &answer, failure).await?
        }
    };
    if checks_rest {
        answers_below_rest(client).await?;
    }
    if version.is_none() {
        *version = fetch_version(client).await;
    }
    Ok(match version {
        Some(version) => format!("{seen}, version {version}"),
        None => seen,
    })
}

/// There was no connection, or no answer.
pub(super) fn not_answered(failure: ControlFailure, target: &HttpTarget) -> ProbeFailure {
    // What a port that speaks TLS does with a request in the clear.
    let remedy = match (failure.is_certificate, target.tls || failure.not_sent) {
        (true, _) => CERTIFICATE,
        (false, true) => REACH,
        (false, false) => MAYBE_TLS,
    };
    ProbeFailure {
        reach: ProbeReach::of(&failure),
        ..probe_failure(ProofState::Failed, failure.detail, remedy)
    }
}

/// The status page may be served while nothing else is.
async fn answers_below_rest(client: &ControlClient) -> Result<(), ProbeFailure> {
    let answer = client.send(client.head(SERVER_INFO), Bytes::new()).await;
    let answer = answer.map_err(|failure| ProbeFailure {
        reach: ProbeReach::of(&failure),
        ..probe_failure(ProofState::Degraded, failure.detail, REACH)
    })?;
    match answer.head.status {
        status if matches!(status.as_u16(), 502..=504) => Err(probe_failure(
            ProofState::Degraded,
            format!(
                "Jira, or a proxy before it, answers {status} below /rest, although its status page is healthy"
            ),
            "check Jira's own log; a 502, 503 or 504 usually is a proxy whose Jira is down",
        )),
        _ => Ok(()),
    }
}

/// Whether Jira answers below `/rest`, where its status page is not its own.
async fn confirm_with_server_info(
    client: &ControlClient,
    target: &HttpTarget,
    first: &ControlAnswer,
    odd: ProbeFailure,
) -> Result<String, ProbeFailure> {
    let Ok(answer) = client.send(client.head(SERVER_INFO), Bytes::new()).await else {
        return Err(odd);
    };
    let is_foreign = is_foreign(first) && is_foreign(&answer);
    let (status, first) = (answer.head.status, first.head.status);
    let info: Option<ServerVersion> = serde_json::from_slice(&answer.body).ok();
    let is_jiras = AnswerSource::noted(&answer.head) == AnswerSource::Jira;
    let closed = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    let is_kept = AnswerSource::is_from_a_cache(&answer.head.headers);
    if (info.is_some() && !is_kept) || (is_jiras && (status.is_success() || closed)) {
        return Ok(format!(
            "answers; its status page does not ({})",
            first.as_u16()
        ));
    }
    if status != StatusCode::NOT_FOUND || first != StatusCode::NOT_FOUND {
        return Err(ProbeFailure { is_foreign, ..odd });
    }
    // No request can pass: each goes below this path.
    let (cause, remedy) = match find_context_path(client, target).await {
        Some(path) => (
            format!(
                "Jira is not under {:?} but under {path:?}",
                target.context_path
            ),
            format!(
                "write upstream = \"{}\"",
                HttpTarget {
                    context_path: path,
                    ..target.clone()
                }
            ),
        ),
        None => (odd.cause, odd.remedy),
    };
    Err(ProbeFailure {
        state: ProofState::Failed,
        cause,
        remedy,
        is_foreign,
        reach: ProbeReach::Answered,
    })
}

/// Another context path under which a Jira answers on the same host.
async fn find_context_path(client: &ControlClient, target: &HttpTarget) -> Option<String> {
    let mut paths = vec![String::new(), "/jira".to_owned()];
    paths.extend(redirect_segment(client).await);
    paths.retain(|path| *path != target.context_path);
    for path in paths {
        let answer = get(client, &format!("{path}{SERVER_INFO}")).await?;
        let is_jira = serde_json::from_slice::<ServerVersion>(&answer.body).is_ok();
        if answer.head.status == StatusCode::OK && is_jira {
            return Some(path);
        }
    }
    None
}

/// The first segment of where the host's root redirects to.
async fn redirect_segment(client: &ControlClient) -> Option<String> {
    let answer = get(client, "/").await?;
    let location = answer.head.headers.get(header::LOCATION)?.to_str().ok()?;
    let path = match location.split_once("://") {
        Some((_, rest)) => rest.find('/').map(|at| &rest[at..])?,
        None => location,
    };
    let segment = path.strip_prefix('/')?.split(['/', '?', '#']).next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (!segment.is_empty() && segment.chars().all(plain)).then(|| format!("/{segment}"))
}

/// Whatever the context path, and without a credential.
async fn get(client: &ControlClient, path: &str) -> Option<ControlAnswer> {
    let mut head = client.head("");
    head.uri = path.parse().ok()?;
    client.send(head, Bytes::new()).await.ok()
}

/// Asks a site of Jira Cloud, which keeps no `status` page; behind the API gateway, a refusal shows
/// that it answers.
pub(crate) async fn ask_cloud(client: &ControlClient) -> Result<String, ProbeFailure> {
    let answer = client
        .send(client.head(SERVER_INFO), Bytes::new())
        .await
        .map_err(|failure| {
            let remedy = match failure.is_certificate {
                true => CERTIFICATE,
                false => REACH,
            };
            ProbeFailure {
                reach: ProbeReach::of(&failure),
                ..probe_failure(ProofState::Failed, failure.detail, remedy)
            }
        })?;
    let info: Option<ServerVersion> = serde_json::from_slice(&answer.body).ok();
    match (answer.head.status, info) {
        (StatusCode::OK, Some(_)) => Ok("answers (Jira Cloud)".to_owned()),
        (StatusCode::NOT_FOUND, _) => Err(probe_failure(
            ProofState::Degraded,
            "there is no Jira site at this address (404)".to_owned(),
            "check upstream, and cloud_id if it is written",
        )),
        // The API gateway reveals nothing to anonymous requests.
        (status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _)
            if AnswerSource::noted(&answer.head).intermediary().is_none() =>
        {
            Ok(format!("answers, but does not show its state ({status})"))
        }
        _ => classify_status_page(&answer).map_err(|odd| match odd {
            StatusPageFault::State(failure) => failure,
            StatusPageFault::NoState(failure) => ProbeFailure {
                is_foreign: is_foreign(&answer),
                ..failure
            },
        }),
    }
}

/// As the profile has it.
fn status_page(client: &ControlClient) -> &str {
    let health = client.profile().health.as_ref();
    health.map_or("/status", |health| &health.path)
}

/// `serverInfo` may be closed to anonymous callers; then the version stays unknown, no more.
async fn fetch_version(client: &ControlClient) -> Option<String> {
    let answer = client
        .send(client.head(SERVER_INFO), Bytes::new())
        .await
        .ok()?;
    let info: ServerVersion = serde_json::from_slice(&answer.body).ok()?;
    Some(printable_text(&info.version))
}

pub(super) fn probe_failure(state: ProofState, cause: String, remedy: &str) -> ProbeFailure {
    ProbeFailure {
        state,
        cause,
        remedy: remedy.to_owned(),
        is_foreign: false,
        reach: ProbeReach::Answered,
    }
}

/// Whether something that is not Jira gave this answer in its place: single sign-on, a login, a portal, a firewall. Not a
/// rate limit and not an error of a server, which end by themselves, and not a cache, behind which Jira may be well.
pub(super) fn is_foreign(answer: &ControlAnswer) -> bool {
    let head = &answer.head;
    if AnswerSource::is_from_a_cache(&head.headers) {
        return false;
    }
    match AnswerSource::noted(head) {
        AnswerSource::Jira => false,
        AnswerSource::Intermediary(Intermediary::RateLimit { .. }) => false,
        AnswerSource::Intermediary(_) => true,
        // The caller has already searched for Jira's own content.
        AnswerSource::LikeJira | AnswerSource::Unclear => head.status.is_success(),
    }
}

pub(super) fn printable_text(text: &str) -> String {
    printable(text, MAX_TEXT)
}

#[derive(Deserialize)]
struct ServerVersion {
    version: String,
}

/// Remedy where Jira is not reached at all.
pub(crate) const REACH: &str = "check upstream, and from this host: curl -v with the same address";
/// Remedy where Jira's certificate is refused: the cause names it and the reason.
pub(crate) const CERTIFICATE: &str =
    "follow the cause; agent check shows each certificate that was presented";
const MAYBE_TLS: &str = "is this a port that speaks TLS? Then write https:// in upstream; otherwise check host, port and path, and Jira's log";
const SERVER_INFO: &str = "/rest/api/2/serverInfo";
/// Characters of a foreign text shown.
const MAX_TEXT: usize = 200;

//! The Jira layer: what `status` and `serverInfo` say, in words for an administrator.

use crate::{
    status::State,
    upstream::{ControlAnswer, ControlClient},
};
use bytes::Bytes;
use http::{StatusCode, header};
use serde::Deserialize;

/// Why the layer is not proven.
#[derive(Debug)]
pub(crate) struct Trouble {
    pub(crate) state: State,
    pub(crate) cause: String,
    pub(crate) remedy: String,
}

/// Asks Jira for its state; `Ok` is what was seen, as in `RUNNING, version 9.12.4`.
pub(crate) async fn ask(
    client: &ControlClient,
    version: &mut Option<String>,
) -> Result<String, Trouble> {
    let answer = client
        .send(client.head("/status"), Bytes::new())
        .await
        .map_err(|failure| trouble(State::Failed, failure.detail, REACH))?;
    let seen = judge(&answer).inspect_err(|_| *version = None)?;
    if version.is_none() {
        *version = ask_version(client).await;
    }
    Ok(match version {
        Some(version) => format!("{seen}, version {version}"),
        None => seen,
    })
}

/// Asks a site of Jira Cloud, which keeps no `status` page; behind the API gateway, a refusal shows
/// that it answers.
pub(crate) async fn ask_cloud(client: &ControlClient) -> Result<String, Trouble> {
    let answer = client
        .send(client.head(SERVER_INFO), Bytes::new())
        .await
        .map_err(|failure| trouble(State::Failed, failure.detail, REACH))?;
    let told: Option<ServerInfo> = serde_json::from_slice(&answer.body).ok();
    match (answer.head.status, told) {
        (StatusCode::OK, Some(_)) => Ok("answers (Jira Cloud)".to_owned()),
        (StatusCode::NOT_FOUND, _) => Err(trouble(
            State::Degraded,
            "there is no Jira site at this address (404)".to_owned(),
            "check upstream, and cloud_id if it is written",
        )),
        _ => judge(&answer),
    }
}

/// `serverInfo` may be closed to anonymous callers; then the version stays unknown, no more.
async fn ask_version(client: &ControlClient) -> Option<String> {
    let answer = client
        .send(client.head(SERVER_INFO), Bytes::new())
        .await
        .ok()?;
    let told: ServerInfo = serde_json::from_slice(&answer.body).ok()?;
    Some(readable(&told.version))
}

fn judge(answer: &ControlAnswer) -> Result<String, Trouble> {
    let status = answer.head.status;
    let told: Option<Status> = serde_json::from_slice(&answer.body).ok();
    match (status, told) {
        (_, Some(told)) => judge_state(&readable(&told.state)),
        (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, None) => {
            Ok(format!("answers, but keeps its state to itself ({status})"))
        }
        (StatusCode::NOT_FOUND, None) => Err(trouble(
            State::Degraded,
            "there is no Jira under this context path (404 for status)".to_owned(),
            "compare the path in upstream with the one in Jira's own address in a browser",
        )),
        (status, None) if status.is_redirection() => Err(trouble(
            State::Degraded,
            match location(answer) {
                Some(location) => format!("Jira redirects to {location}"),
                None => format!("Jira redirects elsewhere ({status})"),
            },
            "write the address that Jira redirects to into upstream (often https instead of http)",
        )),
        (status, None) if status.is_server_error() => Err(trouble(
            State::Degraded,
            format!("Jira, or a proxy before it, answers {status}"),
            "look at Jira's own log; a 502, 503 or 504 usually is a proxy whose Jira is down",
        )),
        (status, None) => Err(trouble(
            State::Degraded,
            format!("what answers is no Jira ({status}, without a state)"),
            "check host, port and path in upstream",
        )),
    }
}

fn judge_state(state: &str) -> Result<String, Trouble> {
    let (cause, remedy) = match state {
        "RUNNING" => return Ok(state.to_owned()),
        "STARTING" => (
            "Jira is starting",
            "wait; it takes minutes, longer after an upgrade",
        ),
        "MAINTENANCE" => (
            "Jira is in maintenance: a full re-index or an upgrade runs",
            "wait until it has ended (Administration, System, Indexing)",
        ),
        "FIRST_RUN" => (
            "Jira is not set up yet",
            "finish Jira's set-up in a browser",
        ),
        "STOPPING" => ("Jira is stopping", "start it again if that was not meant"),
        _ => ("Jira reports an error state", "look at Jira's own log"),
    };
    Err(trouble(
        State::Degraded,
        format!("{cause} (state {state})"),
        remedy,
    ))
}

/// Where it leads, without a query, which may hold a session.
fn location(answer: &ControlAnswer) -> Option<String> {
    let location = answer.head.headers.get(header::LOCATION)?.to_str().ok()?;
    let location = location.split(['?', '#', ';']).next()?;
    // A user name in it would be before an `@`.
    (!location.contains('@')).then(|| readable(location))
}

fn trouble(state: State, cause: String, remedy: &str) -> Trouble {
    Trouble {
        state,
        cause,
        remedy: remedy.to_owned(),
    }
}

fn readable(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(MAX_TEXT)
        .collect()
}

#[derive(Deserialize)]
struct Status {
    state: String,
}

#[derive(Deserialize)]
struct ServerInfo {
    version: String,
}

/// Remedy where Jira is not reached at all.
pub(crate) const REACH: &str = "check upstream, and from this host: curl -v with the same address";
const SERVER_INFO: &str = "/rest/api/2/serverInfo";
/// Characters of a foreign text shown.
const MAX_TEXT: usize = 200;

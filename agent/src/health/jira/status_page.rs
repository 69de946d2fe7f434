//! What Jira's status page says, or what answers in its place.

use super::{ProbeFailure, printable_text, probe_failure};
use crate::{
    status::ProofState,
    upstream::{AnswerSource, ControlAnswer},
};
use http::{StatusCode, header};
use serde::Deserialize;

/// What is odd about the answer for the status page.
pub(super) enum StatusPageFault {
    /// Jira itself reports it.
    State(ProbeFailure),
    /// There is no state in it.
    NoState(ProbeFailure),
}

pub(super) fn classify_status_page(answer: &ControlAnswer) -> Result<String, StatusPageFault> {
    let status = answer.head.status;
    let odd = |cause, remedy| {
        Err(StatusPageFault::NoState(probe_failure(
            ProofState::Degraded,
            cause,
            remedy,
        )))
    };
    if AnswerSource::is_from_a_cache(&answer.head.headers) {
        return odd(
            "a cache in front of Jira answers for it, so its current state is unknown".to_owned(),
            "configure the proxy in front of Jira not to cache /status and /rest",
        );
    }
    let page: Option<JiraStatusPage> = serde_json::from_slice(&answer.body).ok();
    if let Some(page) = page {
        return check_jira_state(&printable_text(&page.state)).map_err(StatusPageFault::State);
    }
    let source = AnswerSource::noted(&answer.head);
    let closed = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if closed && source == AnswerSource::Jira {
        return Ok(format!("answers, but does not show its state ({status})"));
    }
    if let Some(intermediary) = source.intermediary() {
        let diagnosis = intermediary.diagnosis();
        return odd(diagnosis.cause, diagnosis.remedy);
    }
    match status {
        StatusCode::NOT_FOUND => odd(
            "there is no Jira under this context path (404 for status)".to_owned(),
            "compare the path in upstream with the one in Jira's own address in a browser",
        ),
        status if status.is_redirection() => odd(
            match location(answer) {
                Some(location) => format!("Jira redirects to {location}"),
                None => format!("Jira redirects elsewhere ({status})"),
            },
            "if that is Jira's own address, set upstream to it (often https instead of http)",
        ),
        status if status.is_server_error() => odd(
            format!("Jira, or a proxy before it, answers {status}"),
            "check Jira's own log; a 502, 503 or 504 usually is a proxy whose Jira is down",
        ),
        status if closed => odd(
            format!(
                "something in front of Jira refuses the request ({status}, no header of Jira's)"
            ),
            "find out what answers (curl -i from this host), and let it pass requests to Jira's /rest",
        ),
        status => odd(
            format!("what answers is not Jira ({status}, without a state)"),
            "check host, port and path in upstream",
        ),
    }
}

fn check_jira_state(state: &str) -> Result<String, ProbeFailure> {
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
        "STOPPING" => (
            "Jira is stopping",
            "start it again if this was not intended",
        ),
        _ => ("Jira reports an error state", "check Jira's own log"),
    };
    Err(probe_failure(
        ProofState::Degraded,
        format!("{cause} (state {state})"),
        remedy,
    ))
}

/// The target of a redirect, without its query, which may contain a session.
pub(in crate::health) fn location(answer: &ControlAnswer) -> Option<String> {
    let location = answer.head.headers.get(header::LOCATION)?.to_str().ok()?;
    let location = location.split(['?', '#', ';']).next()?;
    // A user name in it would come before an `@`.
    (!location.contains('@')).then(|| printable_text(location))
}

#[derive(Deserialize)]
struct JiraStatusPage {
    state: String,
}

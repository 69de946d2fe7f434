//! The layer of a tool that is not Jira: asks for what its profile says, and compares.

use super::jira::{
    ProbeFailure, is_foreign, not_answered, printable_text, probe_failure, status_page::location,
};
use crate::{
    profile::HealthProof,
    status::ProofState,
    upstream::{AnswerSource, ControlAnswer, ControlClient, HttpTarget},
};
use bytes::Bytes;
use http::StatusCode;
use serde_json::Value;

/// Asks the tool for its health; `Ok` is the detail, as in `answers 200, version 9.12.4`.
pub(crate) async fn probe_service(
    client: &ControlClient,
    target: &HttpTarget,
) -> Result<String, ProbeFailure> {
    let profile = client.profile();
    // The configuration refuses a profile without one.
    let Some(health) = &profile.health else {
        let cause = "the profile of this service has no health".to_owned();
        return Err(probe_failure(ProofState::Unknown, cause, CONFIGURE));
    };
    let answer = client
        .send(client.head(&health.path), Bytes::new())
        .await
        .map_err(|failure| not_answered(failure, target))?;
    let title = &profile.title;
    classify(health, &answer).map_err(|(cause, remedy)| ProbeFailure {
        is_foreign: is_foreign(&answer),
        ..probe_failure(
            ProofState::Degraded,
            profile.reword(&cause).into_owned(),
            &format!(
                "{} ({title}: {})",
                profile.reword(&remedy),
                profile.documentation
            ),
        )
    })
}

/// The detail, or cause and remedy. The sentences speak of Jira; the caller puts in the name of the tool.
fn classify(health: &HealthProof, answer: &ControlAnswer) -> Result<String, (String, String)> {
    let status = answer.head.status;
    let problem = |cause: String, remedy: &str| Err((cause, remedy.to_owned()));
    if AnswerSource::is_from_a_cache(&answer.head.headers) {
        return problem(
            "a cache in front of Jira answers for it, so its current state is unknown".to_owned(),
            "configure the proxy in front of Jira not to cache this path",
        );
    }
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let wrong_member = health.member.as_ref().and_then(|member| {
        let found = body.as_ref().and_then(|body| body.pointer(&member.at));
        let is_right = body.as_ref().is_some_and(|body| member.is_in(body));
        (!is_right).then(|| match (found, &member.is) {
            (Some(Value::String(found)), Some(wanted)) => format!(
                "{} is {:?}, not {wanted:?}",
                member.at,
                printable_text(found)
            ),
            _ => format!("the answer has no member {}", member.at),
        })
    });
    let lacks_header = health
        .header
        .as_ref()
        .filter(|name| !answer.head.headers.contains_key(*name));
    let is_expected = health.status.contains(&status.as_u16());
    if is_expected && wrong_member.is_none() && lacks_header.is_none() {
        let version = health.version.as_ref();
        let version = version.and_then(|at| body.as_ref()?.pointer(at)?.as_str());
        let version = version.map(|version| format!(", version {}", printable_text(version)));
        return Ok(format!(
            "answers {}{}",
            status.as_u16(),
            version.unwrap_or_default()
        ));
    }
    if let Some(intermediary) = AnswerSource::noted(&answer.head).intermediary() {
        let diagnosis = intermediary.diagnosis();
        return problem(diagnosis.cause, diagnosis.remedy);
    }
    let path = &health.path;
    match status {
        // Its own words about a start or a maintenance come with such a status.
        status if status.is_server_error() => problem(
            match wrong_member.filter(|_| body.is_some()) {
                Some(wrong) => format!("Jira answers {}: {wrong}", status.as_u16()),
                None => format!("Jira, or a proxy before it, answers {}", status.as_u16()),
            },
            "check its own log; a 502, 503 or 504 usually is a proxy whose service is down",
        ),
        StatusCode::NOT_FOUND => problem(
            format!("there is no Jira under this path (404 for {path})"),
            "compare the path in upstream with the tool's own address in a browser",
        ),
        status if status.is_redirection() => problem(
            match location(answer) {
                Some(location) => format!("Jira redirects to {location}"),
                None => format!("Jira redirects elsewhere ({})", status.as_u16()),
            },
            "if that is the tool's own address, set upstream to it (often https instead of http)",
        ),
        _ if !is_expected => problem(
            format!("{path} answers {}, not {}", status.as_u16(), list(health)),
            "check host, port and path in upstream, and what answers (curl -i from this host)",
        ),
        _ => problem(
            match (wrong_member, lacks_header) {
                (Some(wrong), _) => format!("Jira is not ready: {wrong}"),
                (None, Some(name)) => {
                    format!(
                        "what answers is not Jira ({}, without {name})",
                        status.as_u16()
                    )
                }
                (None, None) => "the answer is not the expected one".to_owned(),
            },
            "wait if it starts; otherwise check what answers (curl -i from this host)",
        ),
    }
}

fn list(health: &HealthProof) -> String {
    let all: Vec<_> = health.status.iter().map(u16::to_string).collect();
    all.join(" or ")
}

const CONFIGURE: &str = "set health = { path = \"/health\", status = 200 } in the forward";

//! The way out: does the outlet listen, does the gateway permit its target, does the vendor's host answer.

use super::step::{CheckStep, StepRecorder, StepResult};
use crate::{
    outlet::{ListenerCondition, Settings},
    upstream::{Delivery, FailedStep, SendError, Upstream, UpstreamBody, UpstreamTarget},
};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};

/// The steps of one outlet, inside the running agent: `HEAD /` goes the way of a request.
pub async fn outlet(
    settings: &Settings,
    condition: ListenerCondition,
    upstream: &Upstream,
) -> Vec<CheckStep> {
    let mut steps = StepRecorder::new(Some(&settings.name));
    steps.add("listener", listener(settings, condition));
    let to = target(settings);
    let sent = steps.run("permission", async {
        let mut request = Request::new(empty());
        *request.method_mut() = Method::HEAD;
        match upstream.send_over_new_connection(request).await {
            Ok(answer) => {
                let found = StepResult::ok(format!("the gateway permits {to}"));
                (found, Some(Ok(answer.status())))
            }
            Err(error) => permission(&to, error),
        }
    });
    match sent.await {
        Some(Ok(status)) => {
            let seen = format!("{to} answers HEAD / with {}", status.as_u16());
            steps.add("answer", StepResult::ok(seen));
        }
        Some(Err(error)) => steps.add("answer", unanswered(&error)),
        None => steps.add("answer", StepResult::skipped("no channel was opened")),
    }
    steps.into_vec()
}

/// The steps while no agent runs: only it has sessions.
pub fn outlet_standalone(name: &str) -> Vec<CheckStep> {
    let mut steps = StepRecorder::new(Some(name));
    let why = "the agent is not running; start it, then: agent check";
    steps.add("listener", StepResult::skipped(why));
    steps.into_vec()
}

fn listener(settings: &Settings, condition: ListenerCondition) -> StepResult {
    match condition {
        ListenerCondition::Listening(at) => {
            let how = if settings.tls.is_some() {
                "TLS"
            } else {
                "HTTP"
            };
            StepResult::ok(format!("{at}, {how}"))
        }
        ListenerCondition::Starting => StepResult::warn("not tried yet", "try again in a second"),
        ListenerCondition::Failed(cause) => {
            StepResult::fail(cause, "free the address, or change listen of the outlet")
        }
    }
}

/// What a failure says of the permission; the failure goes on to the next step if that is another matter.
fn permission(
    to: &str,
    error: SendError,
) -> (StepResult, Option<Result<http::StatusCode, SendError>>) {
    match error.kind {
        FailedStep::Prohibited => {
            let remedy = format!(
                "ask the vendor for one line at the gateway, for the agent's user: PermitOpen {to}"
            );
            (StepResult::fail(error.detail, remedy), None)
        }
        FailedStep::NoSession => {
            let remedy = "see the steps of the gateways";
            (StepResult::fail(error.detail, remedy), None)
        }
        FailedStep::Descriptors | FailedStep::PoolExhausted => {
            (StepResult::fail(error.detail, "try again"), None)
        }
        FailedStep::Resolve
        | FailedStep::Connect
        | FailedStep::Tls
        | FailedStep::HeldBack
        | FailedStep::JiraPause
        | FailedStep::RateLimit
        | FailedStep::ResponseTimeout
        | FailedStep::Exchange
        | FailedStep::KeptConnection
        | FailedStep::AnswerHead
        | FailedStep::RequestBody => {
            let seen = format!("the gateway permits {to}");
            (StepResult::ok(seen), Some(Err(error)))
        }
    }
}

fn unanswered(error: &SendError) -> StepResult {
    let remedy = match (error.kind, error.delivery) {
        (FailedStep::Tls, _) => {
            "check ca_file and server_name of the outlet, and the certificate of the vendor's host"
        }
        (_, Delivery::NotSent) => {
            "ask the vendor whether this host and port serve, seen from the gateway"
        }
        (_, Delivery::MaybeSent | Delivery::Answered) => {
            "ask the vendor to look at this host's log at this time"
        }
    };
    StepResult::fail(error.detail.clone(), remedy)
}

/// As `PermitOpen` wants it.
fn target(settings: &Settings) -> String {
    match &settings.upstream.target {
        UpstreamTarget::Http(target) if target.host.contains(':') => {
            format!("[{}]:{}", target.host, target.port)
        }
        UpstreamTarget::Http(target) => format!("{}:{}", target.host, target.port),
        UpstreamTarget::Tcp { host, port } => format!("{host}:{port}"),
    }
}

fn empty() -> UpstreamBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

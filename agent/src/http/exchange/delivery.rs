//! Sends a request to Jira and gets the head of the answer, or says how far the request got.

use super::RejectedRequest;
use crate::{
    http::{
        body::{UploadBody, UploadProgress},
        error_body,
        forward::HttpForward,
        problem::{HttpProblem, ProblemKind},
    },
    upstream::{Delivery, FailedStep, SendError, StallReason, UpstreamBody},
    vendor_text::VendorText,
};
use bytes::Bytes;
use http::{Request, Response, response};

/// The answer to one sending of the request.
pub(super) struct JiraAnswer {
    pub(super) head: response::Parts,
    /// How the body of a refusal begins, for the login to read; else empty.
    pub(super) start: Bytes,
    /// The whole body, `start` included.
    pub(super) body: UpstreamBody,
}

/// Sends the request; gives up when the vendor's body stalls for too long.
pub(super) async fn send(
    forward: &HttpForward,
    request: Request<UpstreamBody>,
    progress: Option<&UploadProgress>,
) -> Result<JiraAnswer, RejectedRequest> {
    let sent = match progress {
        None => forward.upstream().send(request).await,
        Some(progress) => tokio::select! {
            biased;
            sent = forward.upstream().send(request) => sent,
            reason = progress.activity.too_slow(forward.limits().into()) => {
                let problem = upload_stalled(forward, reason);
                return Err(RejectedRequest::failed(problem, Some(progress)));
            }
        },
    };
    receive(forward, sent, progress).await
}

/// Sends a request a second time with a body that is all here. `progress` is that of the first sending.
pub(super) async fn resend(
    forward: &HttpForward,
    request: Request<Bytes>,
    progress: Option<&UploadProgress>,
) -> Result<JiraAnswer, RejectedRequest> {
    let request = request.map(|body| UploadBody::whole(body).0);
    let sent = forward.upstream().send(request).await;
    receive(forward, sent, progress).await
}

async fn receive(
    forward: &HttpForward,
    sent: Result<Response<UpstreamBody>, SendError>,
    progress: Option<&UploadProgress>,
) -> Result<JiraAnswer, RejectedRequest> {
    let answer =
        sent.map_err(|error| RejectedRequest::failed(send_failed(forward, &error), progress))?;
    let (head, body) = answer.into_parts();
    forward.on_answer(&head);
    let (start, body) = error_body::peek(forward, &head, body).await;
    Ok(JiraAnswer { head, start, body })
}

fn send_failed(forward: &HttpForward, error: &SendError) -> HttpProblem {
    let kind = problem_kind(error.kind);
    let remedy = match error.kind {
        FailedStep::AnswerHead => FIND_ODD_HEADER,
        FailedStep::Resolve
        | FailedStep::Connect
        | FailedStep::Tls
        | FailedStep::PoolExhausted
        | FailedStep::ResponseTimeout
        | FailedStep::Exchange
        | FailedStep::RequestBody => kind.customer_remedy(),
    };
    forward.on_send_error(error, remedy);
    HttpProblem {
        delivery: error.delivery,
        cause: Some(error.to_string()),
        ..HttpProblem::not_sent(kind, failure_detail(error.kind))
    }
}

fn upload_stalled(forward: &HttpForward, reason: StallReason) -> HttpProblem {
    let limits = forward.limits();
    let detail = match reason {
        StallReason::Stalled => VendorText::of(&[
            &"nothing of the request body came for ",
            &limits.stall_timeout,
        ]),
        StallReason::BelowMinRate => VendorText::of(&[
            &"the request body came slower than ",
            &(limits.min_body_rate as usize),
            &" bytes a second",
        ]),
    };
    HttpProblem {
        delivery: Delivery::MaybeSent,
        ..HttpProblem::not_sent(ProblemKind::UploadStalled, detail)
    }
}

fn problem_kind(step: FailedStep) -> ProblemKind {
    match step {
        FailedStep::Resolve => ProblemKind::JiraUnresolved,
        FailedStep::Connect => ProblemKind::JiraUnreachable,
        FailedStep::Tls => ProblemKind::JiraTls,
        FailedStep::PoolExhausted => ProblemKind::JiraBusy,
        FailedStep::ResponseTimeout => ProblemKind::JiraTimeout,
        FailedStep::Exchange | FailedStep::AnswerHead => ProblemKind::JiraBroke,
        FailedStep::RequestBody => ProblemKind::UploadBroken,
    }
}

/// For the vendor's engineer; the exact cause is the customer's to know.
fn failure_detail(step: FailedStep) -> &'static str {
    match step {
        FailedStep::Resolve => {
            "the customer's agent cannot resolve the name of Jira; nothing was sent to it"
        }
        FailedStep::Connect => {
            "the customer's agent cannot connect to Jira; nothing was sent to it"
        }
        FailedStep::Tls => {
            "the customer's agent and Jira cannot agree on TLS; nothing was sent to it"
        }
        FailedStep::PoolExhausted => {
            "all connections of the customer's agent to Jira stayed busy; nothing was sent to it"
        }
        FailedStep::ResponseTimeout => {
            "Jira did not take the whole request, or did not begin to answer, in time"
        }
        FailedStep::Exchange | FailedStep::AnswerHead => {
            "the connection to Jira broke before an answer, or the answer was no HTTP"
        }
        FailedStep::RequestBody => "the request body was incomplete",
    }
}

const FIND_ODD_HEADER: &str = "Find out what sends that header (curl -sv from this machine, | cat -v) and correct it: an app in Jira, or a proxy before it.";

//! Sends a request to Jira and gets the head of the answer, or says how far the request got.

use super::RejectedRequest;
use crate::{
    descriptors,
    http::{
        body::{UploadBody, UploadEnd, UploadProgress},
        error_body,
        forward::HttpForward,
        gate::too_large,
        problem::{HttpProblem, ProblemKind},
    },
    upstream::{Delivery, FailedStep, SendError, StallReason, UpstreamBody},
    vendor_text::VendorText,
};
use bytes::Bytes;
use http::{Request, Response, response};
use std::{num::NonZeroU32, time::Duration};

/// The answer to one sending of the request.
pub(super) struct JiraAnswer {
    pub(super) head: response::Parts,
    /// How the body of a refusal begins, for the login to read; else empty.
    pub(super) start: Bytes,
    /// The whole body, `start` included.
    pub(super) body: UpstreamBody,
}

/// Why a request got no answer.
pub(super) enum DeliveryFailure {
    /// A kept-alive connection broke before a byte of the answer came: an idempotent request may be sent once more.
    Unanswered(SendError),
    /// The vendor gets this answer.
    Rejected(RejectedRequest),
}

impl DeliveryFailure {
    /// The answer to the vendor, if the request is not sent once more.
    pub(super) fn reject(
        self,
        forward: &HttpForward,
        progress: Option<&UploadProgress>,
    ) -> RejectedRequest {
        match self {
            Self::Unanswered(error) => {
                RejectedRequest::failed(send_failed(forward, &error, progress), progress)
            }
            Self::Rejected(rejected) => rejected,
        }
    }
}

/// Sends the request; gives up when the vendor's body stalls for too long.
pub(super) async fn send(
    forward: &HttpForward,
    request: Request<UpstreamBody>,
    progress: Option<&UploadProgress>,
) -> Result<JiraAnswer, DeliveryFailure> {
    let sent = match progress {
        None => forward.upstream().send(request).await,
        Some(progress) => tokio::select! {
            biased;
            sent = forward.upstream().send(request) => sent,
            reason = progress.activity.too_slow(forward.limits().into()) => {
                let problem = upload_stalled(forward, reason);
                let rejected = RejectedRequest::failed(problem, Some(progress));
                return Err(DeliveryFailure::Rejected(rejected));
            }
        },
    };
    match sent {
        Err(error) if error.kind == FailedStep::KeptConnection => {
            Err(DeliveryFailure::Unanswered(error))
        }
        sent => receive(forward, sent, progress)
            .await
            .map_err(DeliveryFailure::Rejected),
    }
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

/// Sends an idempotent request once more, over a new connection, after its first sending ended with `first`.
pub(super) async fn repeat(
    forward: &HttpForward,
    request: Request<Bytes>,
    first: SendError,
    progress: Option<&UploadProgress>,
) -> Result<JiraAnswer, RejectedRequest> {
    forward.traffic().count_repeated();
    let request = request.map(|body| UploadBody::whole(body).0);
    let sent = forward.upstream().send_over_new_connection(request).await;
    let sent = match sent {
        // Of the first sending something may have arrived.
        Err(second) if second.delivery == Delivery::NotSent => Err(first),
        sent => sent,
    };
    receive(forward, sent, progress).await
}

async fn receive(
    forward: &HttpForward,
    sent: Result<Response<UpstreamBody>, SendError>,
    progress: Option<&UploadProgress>,
) -> Result<JiraAnswer, RejectedRequest> {
    let answer = sent.map_err(|error| {
        RejectedRequest::failed(send_failed(forward, &error, progress), progress)
    })?;
    let (head, body) = answer.into_parts();
    forward.on_answer(&head);
    let (start, body) = error_body::peek(forward, &head, body).await;
    Ok(JiraAnswer { head, start, body })
}

fn send_failed(
    forward: &HttpForward,
    error: &SendError,
    progress: Option<&UploadProgress>,
) -> HttpProblem {
    if let (Some(gate), Some(UploadEnd::TooLarge)) =
        (forward.gate(), progress.map(UploadProgress::end))
    {
        return HttpProblem {
            delivery: error.delivery,
            ..HttpProblem::not_sent(ProblemKind::BodyTooLarge, too_large(gate.max_body()))
        };
    }
    let kind = match forward.is_outward() {
        false => problem_kind(error.kind),
        true => outward_problem_kind(error.kind),
    };
    let detail = match forward.is_outward() {
        false => failure_detail(error.kind),
        true => outward_failure_detail(error.kind),
    };
    forward.on_send_error(error, remedy(error.kind, kind));
    HttpProblem {
        delivery: error.delivery,
        cause: Some(error.to_string()),
        retry_after: error.retry_after.map(whole_seconds),
        ..HttpProblem::not_sent(kind, detail)
    }
}

/// For the customer's administrator.
fn remedy(step: FailedStep, kind: ProblemKind) -> &'static str {
    match step {
        FailedStep::AnswerHead if !kind.is_outward() => FIND_ODD_HEADER,
        FailedStep::Descriptors => descriptors::REMEDY,
        FailedStep::Resolve
        | FailedStep::Connect
        | FailedStep::NoSession
        | FailedStep::Prohibited
        | FailedStep::Tls
        | FailedStep::PoolExhausted
        | FailedStep::HeldBack
        | FailedStep::JiraPause
        | FailedStep::RateLimit
        | FailedStep::ResponseTimeout
        | FailedStep::Exchange
        | FailedStep::KeptConnection
        | FailedStep::AnswerHead
        | FailedStep::RequestBody => kind.customer_remedy(),
    }
}

/// Rounded up: a second too early would meet the same answer.
fn whole_seconds(after: Duration) -> NonZeroU32 {
    let seconds = after.as_millis().div_ceil(1000);
    let seconds = u32::try_from(seconds).ok().and_then(NonZeroU32::new);
    seconds.unwrap_or(NonZeroU32::MIN)
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
        FailedStep::Descriptors => ProblemKind::Overloaded,
        FailedStep::Resolve => ProblemKind::JiraUnresolved,
        FailedStep::Connect => ProblemKind::JiraUnreachable,
        FailedStep::NoSession => ProblemKind::TunnelDown,
        FailedStep::Prohibited => ProblemKind::GatewayRefused,
        FailedStep::Tls => ProblemKind::JiraTls,
        FailedStep::PoolExhausted => ProblemKind::JiraBusy,
        FailedStep::HeldBack | FailedStep::JiraPause => ProblemKind::JiraUnavailable,
        FailedStep::RateLimit => ProblemKind::JiraRateLimit,
        FailedStep::ResponseTimeout => ProblemKind::JiraTimeout,
        FailedStep::Exchange | FailedStep::KeptConnection | FailedStep::AnswerHead => {
            ProblemKind::JiraBroke
        }
        FailedStep::RequestBody => ProblemKind::UploadBroken,
    }
}

/// What the administrator does about a failed step on the way to the vendor.
pub(in crate::http) fn outward_remedy(step: FailedStep) -> &'static str {
    remedy(step, outward_problem_kind(step))
}

/// The same step on the way to the vendor.
fn outward_problem_kind(step: FailedStep) -> ProblemKind {
    match step {
        FailedStep::Descriptors => ProblemKind::Overloaded,
        FailedStep::Resolve | FailedStep::Connect => ProblemKind::VendorUnreachable,
        FailedStep::NoSession => ProblemKind::TunnelDown,
        FailedStep::Prohibited => ProblemKind::GatewayRefused,
        FailedStep::Tls => ProblemKind::VendorTls,
        FailedStep::PoolExhausted => ProblemKind::VendorBusy,
        FailedStep::HeldBack | FailedStep::JiraPause => ProblemKind::VendorUnavailable,
        FailedStep::RateLimit => ProblemKind::VendorRateLimit,
        FailedStep::ResponseTimeout => ProblemKind::VendorTimeout,
        FailedStep::Exchange | FailedStep::KeptConnection | FailedStep::AnswerHead => {
            ProblemKind::VendorBroke
        }
        FailedStep::RequestBody => ProblemKind::UploadBroken,
    }
}

/// For the administrator of Jira, who sees what Jira logs of the answer.
fn outward_failure_detail(step: FailedStep) -> &'static str {
    match step {
        FailedStep::Descriptors => {
            "the agent has as many files open as it may; nothing was sent to the vendor"
        }
        FailedStep::Resolve | FailedStep::Connect => {
            "the gateway cannot connect to the vendor's host; nothing was sent to it"
        }
        FailedStep::NoSession => {
            "no session to a gateway is open and answers; nothing was sent to the vendor"
        }
        FailedStep::Prohibited => {
            "the gateway does not permit the agent to call the vendor's host; nothing was sent to it"
        }
        FailedStep::Tls => {
            "the agent and the vendor's host cannot agree on TLS; nothing was sent to it"
        }
        FailedStep::PoolExhausted => {
            "all connections to the vendor's host are busy, and there would be none in time; nothing was sent to it"
        }
        FailedStep::HeldBack => {
            "the vendor's host takes requests and answers none, so that the agent sends it no more until a trial is answered; nothing was sent to it"
        }
        FailedStep::JiraPause => {
            "the vendor's host asked to be called again later; nothing was sent to it"
        }
        FailedStep::RateLimit => {
            "the vendor's rate limit is reached, and it asked to be called again later; nothing was sent to it"
        }
        FailedStep::ResponseTimeout => {
            "the vendor's host did not take the whole request, or did not begin to answer, in time"
        }
        FailedStep::Exchange | FailedStep::KeptConnection | FailedStep::AnswerHead => {
            "the connection to the vendor's host broke before an answer, or the answer was no HTTP"
        }
        FailedStep::RequestBody => "the request body was incomplete",
    }
}

/// For the vendor's engineer; the exact cause is the customer's to know.
fn failure_detail(step: FailedStep) -> &'static str {
    match step {
        FailedStep::Descriptors => {
            "the customer's agent has as many files open as it may; nothing was sent to Jira"
        }
        FailedStep::Resolve => {
            "the customer's agent cannot resolve the name of Jira; nothing was sent to it"
        }
        FailedStep::Connect => {
            "the customer's agent cannot connect to Jira; nothing was sent to it"
        }
        FailedStep::NoSession | FailedStep::Prohibited => {
            "the customer's agent cannot reach Jira's network; nothing was sent to it"
        }
        FailedStep::Tls => {
            "the customer's agent and Jira cannot agree on TLS; nothing was sent to it"
        }
        FailedStep::PoolExhausted => {
            "all connections of the customer's agent to Jira are busy, and there would be none in time; nothing was sent to it"
        }
        FailedStep::HeldBack => {
            "Jira takes requests and answers none, so that the customer's agent sends it no more until a trial is answered; nothing was sent to it"
        }
        FailedStep::JiraPause => {
            "Jira, or something in front of it, asked to be called again later; nothing was sent to it"
        }
        FailedStep::RateLimit => {
            "Jira's rate limit is reached, and Jira asked to be called again later; nothing was sent to it"
        }
        FailedStep::ResponseTimeout => {
            "Jira did not take the whole request, or did not begin to answer, in time"
        }
        FailedStep::Exchange | FailedStep::KeptConnection | FailedStep::AnswerHead => {
            "the connection to Jira broke before an answer, or the answer was no HTTP"
        }
        FailedStep::RequestBody => "the request body was incomplete",
    }
}

const FIND_ODD_HEADER: &str = "Find out what sends that header (curl -sv from this machine, | cat -v) and correct it: an app in Jira, or a proxy before it.";

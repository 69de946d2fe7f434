//! The request's body before it is sent: waited for, read ahead where it is a form, or drained.

use super::{RejectedRequest, admission::refuse_while_paused, credential};
use crate::{
    auth::{self, FormBody},
    http::{
        body::{self, ReadAheadError, UploadBody, UploadEnd, UploadProgress, VendorBody},
        forward::HttpForward,
        gate::too_large,
        problem::{HttpProblem, ProblemKind},
        replay::ReplayableRequest,
    },
    upstream::UpstreamBody,
    vendor_text::VendorText,
};
use bytes::Bytes;
use http::request;
use http_body::Body;
use http_body_util::BodyExt;
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Waits for the body's first part. A form in a mode that looks into forms is taken whole, and put into the head's
/// extensions as well.
pub(super) async fn receive(
    forward: &HttpForward,
    head: &mut request::Parts,
    body: &mut Option<VendorBody>,
) -> Result<Option<Bytes>, RejectedRequest> {
    let reads_form = forward.login().reads_form(head);
    if !reads_form.map_err(credential::refused)? {
        await_first_part(forward, body).await?;
        return Ok(None);
    }
    let form = read_form(forward, body.take()).await?;
    head.extensions.insert(FormBody(form.clone()));
    Ok(Some(form))
}

/// Waits for the first part of the body, or for its end, within the time that any body may stand still: a body that
/// never begins must take neither a connection to Jira nor the turn of a login that others wait for.
async fn await_first_part(
    forward: &HttpForward,
    body: &mut Option<VendorBody>,
) -> Result<(), RejectedRequest> {
    let Some(incoming) = body.as_mut().filter(|body| !body.is_end_stream()) else {
        return Ok(());
    };
    let limit = forward.limits().stall_timeout;
    let rejected = match timeout(limit, incoming.await_first_part()).await {
        // The customer may have paused the forward since.
        Ok(Ok(())) => return refuse_while_paused(forward),
        Ok(Err((end, detail))) => RejectedRequest {
            // The request has ended with its body, and is no refusal.
            outcome: end.outcome(),
            ..broken(end, detail)
        },
        Err(_) => RejectedRequest {
            outcome: UploadEnd::Running.outcome(),
            ..stalled("nothing of the request body came for ", limit)
        },
    };
    // The rest of it is not waited for.
    *body = None;
    Err(rejected)
}

/// Takes the whole form, which must be short, within the time that any body may stand still.
async fn read_form(
    forward: &HttpForward,
    body: Option<VendorBody>,
) -> Result<Bytes, RejectedRequest> {
    let body = body.ok_or_else(no_body)?;
    let limit = forward.limits().stall_timeout;
    match timeout(limit, body::collect(body, auth::MAX_FORM)).await {
        Ok(Ok(form)) => Ok(form),
        Ok(Err(ReadAheadError::TooLong)) => Err(RejectedRequest {
            upload: UploadEnd::Running,
            ..credential::refused(forward.login().form_too_long())
        }),
        Ok(Err(ReadAheadError::Broke(end, detail))) => {
            let mut rejected = broken(end, detail);
            if end == UploadEnd::Gone {
                rejected.outcome = end.outcome();
            }
            Err(rejected)
        }
        Err(_) => Err(stalled("the form was not complete within ", limit)),
    }
}

/// Takes a whole body of at most `most` bytes, within the time that any body may stand still.
pub(super) async fn read_whole(
    forward: &HttpForward,
    body: Option<VendorBody>,
    most: u64,
) -> Result<Bytes, RejectedRequest> {
    let body = body.ok_or_else(no_body)?;
    let limit = forward.limits().stall_timeout;
    let longest = usize::try_from(most).unwrap_or(usize::MAX);
    let rejected = match timeout(limit, body::collect(body, longest)).await {
        Ok(Ok(whole)) => return Ok(whole),
        Ok(Err(ReadAheadError::TooLong)) => RejectedRequest {
            upload: UploadEnd::TooLarge,
            ..HttpProblem::not_sent(ProblemKind::BodyTooLarge, too_large(most)).into()
        },
        Ok(Err(ReadAheadError::Broke(end, detail))) => RejectedRequest {
            outcome: end.outcome(),
            ..broken(end, detail)
        },
        Err(_) => RejectedRequest {
            outcome: UploadEnd::Running.outcome(),
            ..stalled("the body was not complete within ", limit)
        },
    };
    Err(rejected)
}

/// The body as it goes to Jira, with its progress where there is one to send.
pub(super) fn into_upload(
    form: Option<Bytes>,
    body: Option<VendorBody>,
    replay: Option<&ReplayableRequest>,
    most: Option<u64>,
) -> Result<(UpstreamBody, Option<Arc<UploadProgress>>), RejectedRequest> {
    match (form, body) {
        (Some(form), _) => Ok(UploadBody::whole(form)),
        (None, Some(body)) => Ok(UploadBody::streaming(
            body,
            replay.and_then(ReplayableRequest::copy),
            most,
        )),
        (None, None) => Err(no_body()),
    }
}

/// Reads the rest of a small body, so that the channel can be kept for the next request. False where some of it is left.
pub(super) async fn drain(mut body: VendorBody) -> bool {
    if body.is_end_stream() {
        return true;
    }
    let length = body.size_hint().exact();
    if length.is_none_or(|length| length > MAX_DRAINED) {
        return false;
    }
    let rest = async {
        loop {
            match body.frame().await {
                Some(Ok(_)) => {}
                Some(Err(_)) => return false,
                None => return true,
            }
        }
    };
    timeout(DRAIN_TIMEOUT, rest).await.unwrap_or(false)
}

fn no_body() -> RejectedRequest {
    HttpProblem::not_sent(ProblemKind::UploadBroken, "no body").into()
}

fn broken(end: UploadEnd, detail: &'static str) -> RejectedRequest {
    RejectedRequest {
        upload: end,
        ..HttpProblem::not_sent(ProblemKind::UploadBroken, detail).into()
    }
}

fn stalled(what: &'static str, limit: Duration) -> RejectedRequest {
    let detail = VendorText::of(&[&what, &limit]);
    RejectedRequest {
        upload: UploadEnd::Running,
        ..HttpProblem::not_sent(ProblemKind::UploadStalled, detail).into()
    }
}

/// Bytes: the size of a ticket. Reading more costs more than a new channel.
const MAX_DRAINED: u64 = 64 << 10;
/// It has been sent already.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

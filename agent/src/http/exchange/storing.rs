//! The end of a request to an outlet of mode `store`: its whole body is read and stored, and Jira gets 202.

use super::{
    ForwardedRequest, RejectedRequest, RequestContext, admission::refuse_while_paused, target,
    vendor_body,
};
use crate::{
    http::{
        body::{UploadBody, VendorBody},
        event_sink::{EventIntake, IncomingEvent},
        forward::RequestPermit,
        gate::RequestGate,
        pending_record::PendingRecord,
        problem::{HttpProblem, ProblemKind},
    },
    upstream::UpstreamBody,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request};
use http_body::Body;
use std::time::Duration;
use tokio::time::timeout;

/// Reads and stores the event. Answers once it is on the disk.
pub(super) async fn store(
    context: &RequestContext,
    intake: &EventIntake,
    record: &mut PendingRecord,
    head: request::Parts,
    body: &mut Option<VendorBody>,
    in_flight: RequestPermit,
) -> Result<ForwardedRequest, RejectedRequest> {
    let forward = &*context.forward;
    let most = forward.gate().map_or(0, RequestGate::max_body);
    let announced = body.as_ref().and_then(|body| body.size_hint().exact());
    // A longer one than may leave was refused with the head.
    let memory = intake.reserve(announced.unwrap_or(most).min(most));
    let Ok(Some(memory)) = timeout(MEMORY_WAIT, memory).await else {
        let detail = "other events take all the memory for bodies; nothing was stored";
        return Err(HttpProblem::not_sent(ProblemKind::Overloaded, detail).into());
    };
    let body = vendor_body::read_whole(forward, body.take(), most).await?;
    // The administrator may have paused the outlet since.
    refuse_while_paused(forward)?;
    let (_, upload) = UploadBody::whole(body.clone());
    let length = body.len() as u64;
    let event = IncomingEvent {
        method: head.method.clone(),
        target: target(&head).to_owned(),
        headers: end_to_end(head.headers),
        originator: context.originator.clone(),
        body,
    };
    let stored = intake.sink.accept(event).await;
    drop(memory);
    let id = stored.map_err(|refusal| RejectedRequest {
        uploaded: length,
        ..refusal.into_problem().into()
    })?;
    record.set_event(id.as_str().into());
    Ok(ForwardedRequest {
        answer: accepted(&id),
        upload,
        in_flight,
    })
}

/// Without what describes this connection and the framing of this message: the event is sent in a message of its own.
fn end_to_end(mut headers: HeaderMap) -> HeaderMap {
    for name in [
        header::CONNECTION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::CONTENT_LENGTH,
        header::EXPECT,
        header::HOST,
    ] {
        headers.remove(name);
    }
    headers
}

fn accepted(id: &str) -> Response<UpstreamBody> {
    // The id has no character that JSON escapes.
    let text = Bytes::from(format!("{{\"id\":\"{id}\"}}"));
    let length = HeaderValue::from(text.len());
    let mut response = Response::new(UploadBody::whole(text).0);
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CONTENT_LENGTH, length);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// As long as Jira's calls wait for a session in mode `pass`.
const MEMORY_WAIT: Duration = Duration::from_secs(5);

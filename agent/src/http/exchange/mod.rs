//! One request, from its head to the last byte of its answer.
//!
//! [`handle`] frames the work and opens the audit record; [`forward_request`] below it is the request's path, one stage a
//! file: `admission` decides whether it may pass, `vendor_body` waits for its body, `credential` adds the agent's,
//! `delivery` sends it and gets Jira's answer, `jira_answer` reads from that whether Jira accepted the credential.
//! `storing` takes the place of the last three where an outlet stores what it gets. `rejection` is every way to end with the
//! agent's own answer instead.

mod admission;
mod credential;
mod delivery;
mod jira_answer;
mod rejection;
mod storing;
mod vendor_body;

pub(super) use delivery::outward_remedy;
pub(super) use rejection::audit_unread_refusals;

use self::{delivery::DeliveryFailure, rejection::RejectedRequest};
use super::{
    RequestGate,
    body::{DownloadBody, ResponseBody, UploadEnd, UploadProgress, VendorBody},
    forward::{HttpForward, RequestPermit},
    framing::{ExchangeGuard, ExchangeNote, FramingFault},
    health, hop_by_hop, own_headers,
    pending_record::PendingRecord,
    replay::ReplayableRequest,
    request_id::RequestIds,
    trailers,
};
use crate::{
    audit::{AuditRecord, RedactedTarget, RequestOutcome},
    tunnel::ListeningPlace,
    upstream::{ActivityClock, Delivery, RawTarget, RequesterKey, UpstreamBody},
};
use http::{HeaderValue, Request, Response, Uri, Version, header, request};
use hyper::body::{Body, Incoming};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// The forward, the connection and the client that a request belongs to.
pub(super) struct RequestContext {
    /// Answers this request, also where a reload has replaced it since.
    pub(super) forward: Arc<HttpForward>,
    pub(super) originator: Arc<str>,
    pub(super) connection: usize,
    /// Where the gateway listens for the channel.
    pub(super) place: Option<Arc<ListeningPlace>>,
    /// The channel is about to end, or another session has replaced this one.
    pub(super) draining: bool,
    /// Cancelled when requests in flight have had their time.
    pub(super) abort: CancellationToken,
}

/// What the channel hands over with a request and takes back when the answer has ended.
pub(super) struct ResponseGuard {
    /// Watched by the task that drives the channel, or the HTTP/2 stream.
    pub(super) activity: Arc<ActivityClock>,
    /// Holds the next request of the channel back until this answer has ended; HTTP/1.1 only.
    pub(super) exchange: Option<ExchangeGuard>,
    /// What of the request went past hyper.
    pub(super) note: Option<ExchangeNote>,
}

/// Answers one request. Every request gets an answer and an audit record, whatever happens to it.
pub(super) async fn handle(
    context: &RequestContext,
    guard: ResponseGuard,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    if !context.forward.is_outward() && health::is_health_request(&guard, &request) {
        return health::answer(context, guard, &request);
    }
    context.forward.count_request();
    let (mut head, body) = request.into_parts();
    let ids = RequestIds::of(&head.headers);
    if head.version == Version::HTTP_2 {
        to_origin_form(&mut head);
    }
    let ResponseGuard {
        activity,
        exchange,
        note,
    } = guard;
    let mut fault = match note {
        Some(ExchangeNote::Fault(fault)) => Some(fault),
        Some(ExchangeNote::Target(target)) => {
            head.extensions.insert(RawTarget(target));
            None
        }
        None => None,
    };
    // Before the record is opened: the target may hold a secret.
    if let Some(gate) = context.forward.gate() {
        let hides = gate.hides_targets();
        match &mut fault {
            Some(fault) if hides => fault.target = RedactedTarget::unknown(),
            Some(_) => {}
            None => {
                let admitted = gate.admit(&mut head, &context.originator);
                fault = admitted.err().map(|refusal| refusal.fault(&head, hides));
            }
        }
    }
    let is_unexpected = context.forward.rejects_unexpected(&ids.shown, &head);
    let mut record = context.open_record(&head, fault.as_ref(), &ids);
    let method = head.method.clone();
    let expects_continue = head.headers.contains_key(header::EXPECT);
    let mut body = Some(VendorBody::new(body));
    let span = tracing::error_span!(
        "request",
        forward = &**context.forward.name(),
        request_id = ids.shown.to_str().unwrap_or_default(),
    );
    let forwarded = tokio::select! {
        biased;
        // On the heap, and freed before the answer begins: a stream or channel whose answer is not taken keeps what
        // this function needs until then (the test below says how much).
        forwarded = Box::pin(forward_request(context, &mut record, head, &mut body, fault).instrument(span)),
            if !is_unexpected => forwarded,
        () = context.abort.cancelled(), if !is_unexpected => Err(RejectedRequest::aborted(record.delivery())),
        else => Err(RejectedRequest::not_running()),
    };
    match forwarded {
        Ok(forwarded) => {
            let (mut head, jira_body) = forwarded.answer.into_parts();
            head.version = Version::HTTP_11;
            if context.forward.intake().is_some() {
                own_headers::mark_as_own(&mut head.headers, &ids.shown);
            } else if !context.forward.is_outward() {
                own_headers::mark_as_from_jira(&mut head.headers, &ids.shown);
            }
            // What the vendor answers passes to Jira as it is.
            record.set_status(head.status);
            let download = DownloadBody::new(
                jira_body,
                record,
                forwarded.upload,
                activity,
                forwarded.in_flight,
            );
            Response::from_parts(head, ResponseBody::jira(download, exchange))
        }
        Err(rejected) => {
            let ends_channel = rejected.problem.kind.ends_channel();
            let rejected = rejected.limit(&context.forward, &mut record);
            let rejected = rejected.for_reader(&context.forward);
            let problem = &rejected.problem;
            let unread = match body.take() {
                Some(body) if expects_continue && !body.is_asked_for() => !body.is_end_stream(),
                Some(body) if body.is_end_stream() => false,
                Some(body) => !Box::pin(vendor_body::drain(body)).await,
                None => rejected.upload != UploadEnd::Complete,
            };
            record.set_problem(problem, rejected.outcome);
            let tool = context.forward.tool_in(problem.kind);
            let mut response = problem.response(context.forward.name(), tool, &method, &ids);
            if exchange.is_some() && (unread || ends_channel) {
                // The next request would begin somewhere within this one.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            record.set_status(response.status());
            record.set_bytes(rejected.uploaded, response.body().len() as u64);
            response.map(|bytes| ResponseBody::own(bytes, activity, exchange))
        }
    }
}

/// A request that Jira answered as our user, or that was stored.
struct ForwardedRequest {
    answer: Response<UpstreamBody>,
    upload: Option<Arc<UploadProgress>>,
    in_flight: RequestPermit,
}

/// The path of one request to Jira and of the answer's head back. `body` is taken out once it is sent to Jira.
async fn forward_request(
    context: &RequestContext,
    record: &mut PendingRecord,
    mut head: request::Parts,
    body: &mut Option<VendorBody>,
    fault: Option<FramingFault>,
) -> Result<ForwardedRequest, RejectedRequest> {
    let forward = &*context.forward;
    // A process that takes over answers nothing before the one before it has handed over.
    forward.pauses_known().await;
    let in_flight = admission::admit(forward, record, &head, fault)?;
    hop_by_hop::strip_request(&mut head);
    if let Some(intake) = forward.intake() {
        return storing::store(context, intake, record, head, body, in_flight).await;
    }
    let form = vendor_body::receive(forward, &mut head, body).await?;
    let length = body.as_ref().and_then(|body| body.size_hint().exact());
    let mut replay = ReplayableRequest::capture(forward.login(), &head, length);
    let mut attempt = credential::add(forward, &mut head).await?;
    let most = forward.gate().map(RequestGate::max_body);
    let (upload, progress) = vendor_body::into_upload(form, body.take(), replay.as_ref(), most)?;
    let agent_logs_in = forward.login().injects();
    if !agent_logs_in {
        let requester = RequesterKey::of(&head.headers);
        head.extensions.insert(requester);
    }
    let request = Request::from_parts(head, trailers::filtered(upload, agent_logs_in));

    record.set_sending();
    let mut answer = match delivery::send(forward, request, progress.as_deref()).await {
        Ok(answer) => answer,
        Err(DeliveryFailure::Unanswered(first))
            if let Some((mut again, body)) =
                replay.take().and_then(ReplayableRequest::repetition)
                && let Ok(next) = forward.login().prepare(&mut again).await =>
        {
            attempt = next;
            let request = Request::from_parts(again, body);
            delivery::repeat(forward, request, first, progress.as_deref()).await?
        }
        Err(failure) => return Err(failure.reject(forward, progress.as_deref())),
    };
    let mut refreshed = attempt
        .refresh_if_rejected(&answer.head, &answer.start)
        .await;
    if refreshed
        && let Some((mut again, body)) =
            replay.and_then(|replay| replay.into_request(answer.head.status))
        && let Ok(next) = forward.login().prepare(&mut again).await
    {
        attempt = next;
        refreshed = false;
        // Frees the connection for the second sending.
        drop(answer.body);
        let request = Request::from_parts(again, body);
        answer = delivery::resend(forward, request, progress.as_deref()).await?;
    }
    let accepted = jira_answer::accept(answer, attempt, record).map_err(|refusal| {
        let problem = credential::login_failed(refreshed, &refusal.cause, &refusal.remedy);
        RejectedRequest::failed(problem, progress.as_deref())
    })?;
    Ok(ForwardedRequest {
        answer: accepted.map(|body| trailers::filtered(body, agent_logs_in)),
        upload: progress,
        in_flight,
    })
}

impl RequestContext {
    fn open_record(
        &self,
        head: &request::Parts,
        fault: Option<&FramingFault>,
        ids: &RequestIds,
    ) -> PendingRecord {
        let (method, target) = match fault {
            Some(fault) => (fault.method.clone(), fault.target.clone()),
            None => (
                Some(head.method.clone()),
                RedactedTarget::redact(target(head)),
            ),
        };
        PendingRecord::new(
            self.forward.audit().clone(),
            self.forward.traffic().clone(),
            AuditRecord {
                time: SystemTime::now(),
                request_id: ids.shown.clone(),
                agent_request_id: ids.own.clone(),
                forward: self.forward.name().clone(),
                direction: self.forward.direction(),
                connection: self.connection,
                originator: self.originator.clone(),
                method,
                target,
                allowed: false,
                rule: None,
                error: None,
                cause: None,
                status: None,
                request_bytes: 0,
                response_bytes: 0,
                duration: Duration::ZERO,
                first_byte: None,
                delivery: Delivery::NotSent,
                outcome: RequestOutcome::VendorGone,
                user: None,
                event: None,
            },
        )
    }
}

/// HTTP/2 carries scheme and authority in the URI; the path keeps its bytes.
fn to_origin_form(head: &mut request::Parts) {
    let uri = std::mem::take(&mut head.uri).into_parts();
    head.uri = uri.path_and_query.map_or_else(Uri::default, Uri::from);
}

/// The request target as the vendor wrote it.
pub(super) fn target(head: &request::Parts) -> &str {
    if let Some(RawTarget(target)) = head.extensions.get() {
        return target;
    }
    head.uri
        .path_and_query()
        .map_or("", |target| target.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size<A, B, C, F: Future>(_: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A refused request that is not taken keeps this much of the agent's own, besides its answer's head and text.
    /// `docs/operate.md` reckons with it.
    #[test]
    fn a_request_that_waits_for_its_vendor_is_small() {
        let waiting = size(|context: &'static RequestContext, guard, request| {
            handle(context, guard, request)
        });
        assert!(waiting <= 2048, "{waiting} bytes");
    }
}

//! The way of one request, from its head to the last byte of its answer.

use super::{
    body::{
        self, DownloadBody, ReadAheadError, ResponseBody, UploadBody, UploadEnd, UploadProgress,
        VendorBody,
    },
    error_body,
    forward::{HttpForward, RequestPermit},
    framing::{ExchangeGuard, ExchangeNote, FramingFault},
    hop_by_hop, own_headers,
    pending_record::PendingRecord,
    precheck,
    problem::{HttpProblem, ProblemKind},
    replay::ReplayableRequest,
    request_id::RequestIds,
    stall::{ActivityClock, StallReason},
    trailers,
};
use crate::{
    audit::{AuditRecord, AuditUnavailable, RedactedTarget, RequestOutcome},
    auth::{self, AuthVerdict, FormBody, RemovedHeaders},
    policy::PolicyDecision,
    upstream::{Delivery, FailedStep, RawTarget},
    vendor_text::VendorText,
};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header, request};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// What a request knows of where it came by.
pub(super) struct RequestContext {
    /// Answers it, whoever has the seat meanwhile.
    pub(super) forward: Arc<HttpForward>,
    pub(super) originator: Arc<str>,
    pub(super) connection: usize,
    /// Cancelled when the time for what is under way is over.
    pub(super) abort: CancellationToken,
}

/// Whose answer this is, and by what it is held back or broken off.
pub(super) struct ResponseGuard {
    /// Watched by whoever drives the channel.
    pub(super) activity: Arc<ActivityClock>,
    /// Keeps the next request of the channel back until this answer has ended; HTTP/1.1 only.
    pub(super) exchange: Option<ExchangeGuard>,
    /// What of the request went past hyper.
    pub(super) note: Option<ExchangeNote>,
}

/// Answers one request. Every request gets an answer and an audit record, whatever becomes of it.
pub(super) async fn handle(
    channel: &RequestContext,
    hold: ResponseGuard,
    request: Request<Incoming>,
) -> Response<ResponseBody> {
    channel.forward.count();
    let (mut head, body) = request.into_parts();
    let ids = RequestIds::of(&head.headers);
    if head.version == Version::HTTP_2 {
        origin_form(&mut head);
    }
    let ResponseGuard {
        activity: pulse,
        exchange: turn,
        note: aside,
    } = hold;
    let fault = match aside {
        Some(ExchangeNote::Fault(fault)) => Some(fault),
        Some(ExchangeNote::Target(target)) => {
            head.extensions.insert(RawTarget(target));
            None
        }
        None => None,
    };
    let turned_away = channel.forward.rejects_unexpected(&ids.shown, &head);
    let mut draft = channel.draft(&head, fault.as_ref(), &ids);
    let method = head.method.clone();
    let expects_continue = head.headers.contains_key(header::EXPECT);
    let mut body = Some(VendorBody::new(body));
    let passed = tokio::select! {
        biased;
        // On the heap, and freed before the answer begins: a stream or channel whose answer is not taken keeps what
        // this function needs until then (the test below says how much).
        passed = Box::pin(forward_request(channel, &mut draft, head, &mut body, fault)), if !turned_away => passed,
        () = channel.abort.cancelled(), if !turned_away => Err(RejectedRequest::aborted(draft.delivery())),
        else => Err(not_running()),
    };
    match passed {
        Ok(passed) => {
            let (mut head, jira_body) = passed.answer.into_parts();
            head.version = Version::HTTP_11;
            own_headers::mark_as_from_jira(&mut head.headers, &ids.shown);
            draft.status(head.status);
            let download = DownloadBody {
                inner: jira_body,
                record: draft,
                upload: passed.upload,
                activity: pulse,
                bytes: 0,
                broke: false,
                complete: false,
                _in_flight: passed.in_flight,
            };
            Response::from_parts(head, ResponseBody::jira(download, turn))
        }
        Err(stopped) => {
            let ends_channel = stopped.problem.kind.ends_channel();
            let stopped = channel.forward.limit_refusals(stopped, &mut draft);
            let problem = &stopped.problem;
            let unread = match body.take() {
                Some(body) if expects_continue && !body.is_asked_for() => !body.is_end_stream(),
                Some(body) if body.is_end_stream() => false,
                Some(body) => !Box::pin(drain(body)).await,
                None => stopped.upload != UploadEnd::Complete,
            };
            draft.problem(problem.kind.code(), problem.delivery, stopped.outcome);
            draft.cause(problem.cause.as_deref());
            let mut response = problem.response(channel.forward.name(), &method, &ids);
            if turn.is_some() && (unread || ends_channel) {
                // The next request would begin somewhere within this one.
                let close = HeaderValue::from_static("close");
                response.headers_mut().insert(header::CONNECTION, close);
            }
            draft.status(response.status());
            draft.bytes(stopped.uploaded, response.body().len() as u64);
            response.map(|bytes| ResponseBody::own(bytes, pulse, turn))
        }
    }
}

/// Audits requests that were refused before they could be read. What is past the forward's limit of refusals costs the
/// same, however many there are.
pub(super) fn audit_unread_refusal(
    channel: &RequestContext,
    kind: ProblemKind,
    detail: &'static str,
    count: u64,
) {
    let forward = &channel.forward;
    let recorded = (0..count).take_while(|_| forward.refusal_limit().take());
    let recorded = recorded.map(|_| refuse_one_unseen(channel, kind, detail));
    let rest = count - recorded.count() as u64;
    if rest > 0 {
        forward.refused_unseen(kind.code(), rest);
    }
}

fn refuse_one_unseen(channel: &RequestContext, kind: ProblemKind, detail: &'static str) {
    channel.forward.count();
    let ids = RequestIds::of(&http::HeaderMap::new());
    let fault = FramingFault {
        kind,
        detail: detail.into(),
        method: None,
        target: RedactedTarget::unknown(),
    };
    let (head, ()) = Request::new(()).into_parts();
    let mut draft = channel.draft(&head, Some(&fault), &ids);
    draft.problem(kind.code(), Delivery::NotSent, RequestOutcome::Refused);
}

/// A check stands in for the agent, and only its own request is answered.
fn not_running() -> RejectedRequest {
    let detail = "the customer's agent is being set up; nothing was sent to Jira";
    HttpProblem::not_sent(ProblemKind::Paused, detail).into()
}

/// Why is the customer's own business, and stays in status and log.
fn audit_unavailable(_: AuditUnavailable) -> RejectedRequest {
    let detail = "the customer's agent sends nothing that it cannot record, and cannot record now; nothing was sent to Jira";
    HttpProblem::not_sent(ProblemKind::AuditUnavailable, detail).into()
}

impl HttpForward {
    /// What the agent answers by itself gets an audit line of its own only up to a number in a minute; of the rest one
    /// line says how many there were. Past that number, what policy and framing refuse is answered so. Requests that
    /// are allowed never come here.
    fn limit_refusals(
        &self,
        mut stopped: RejectedRequest,
        draft: &mut PendingRecord,
    ) -> RejectedRequest {
        let kind = stopped.problem.kind;
        if kind == ProblemKind::AuditUnavailable {
            draft.summarize(kind.code());
            return stopped;
        }
        if stopped.problem.delivery != Delivery::NotSent
            || !kind.is_effortless()
            || self.refusal_limit().take()
        {
            return stopped;
        }
        draft.summarize(kind.code());
        if kind.is_refusal() {
            let most = self.limits().refusals_per_minute;
            stopped.problem = stopped.problem.into_one_too_many(most);
        }
        stopped
    }
}

/// A request that Jira answered as our user.
struct ForwardedRequest {
    answer: Response<crate::upstream::UpstreamBody>,
    upload: Option<Arc<UploadProgress>>,
    in_flight: RequestPermit,
}

/// A request that ends with the agent's own answer.
struct RejectedRequest {
    problem: HttpProblem,
    outcome: RequestOutcome,
    /// How far its body got, once that was on its way to Jira.
    upload: UploadEnd,
    uploaded: u64,
}

impl RejectedRequest {
    /// Jira gave no answer that may pass.
    fn failed(problem: HttpProblem, progress: Option<&UploadProgress>) -> Self {
        let upload = progress.map_or(UploadEnd::Complete, UploadProgress::end);
        Self {
            problem,
            outcome: match upload {
                UploadEnd::Gone => RequestOutcome::VendorGone,
                _ => RequestOutcome::Failed,
            },
            upload,
            uploaded: progress.map_or(0, UploadProgress::bytes),
        }
    }
}

impl RejectedRequest {
    /// The agent stops.
    fn aborted(delivery: Delivery) -> Self {
        let detail = "the agent stops, and this request has had its time";
        let problem = HttpProblem {
            delivery,
            ..HttpProblem::not_sent(ProblemKind::Stopping, detail)
        };
        Self {
            outcome: RequestOutcome::Failed,
            upload: UploadEnd::Running,
            ..problem.into()
        }
    }
}

impl From<HttpProblem> for RejectedRequest {
    fn from(problem: HttpProblem) -> Self {
        Self {
            problem,
            outcome: RequestOutcome::Refused,
            upload: UploadEnd::Complete,
            uploaded: 0,
        }
    }
}

/// `body` is taken out once it is on its way to Jira.
async fn forward_request(
    channel: &RequestContext,
    draft: &mut PendingRecord,
    mut head: request::Parts,
    body: &mut Option<VendorBody>,
    fault: Option<FramingFault>,
) -> Result<ForwardedRequest, RejectedRequest> {
    let forward = &*channel.forward;
    if let Some(fault) = fault {
        return Err(HttpProblem::not_sent(fault.kind, fault.detail).into());
    }
    // From here on its record has a place, whatever becomes of the request.
    let place = forward.audit().reserve().map_err(audit_unavailable)?;
    draft.set_place(place);
    precheck::check(&head)?;
    refuse_while_paused(forward)?;
    let Some(in_flight) = forward.enter() else {
        let most = forward.limits().max_concurrent;
        let detail = VendorText::of(&[
            &most,
            &" requests are being answered on this forward already",
        ]);
        return Err(HttpProblem::not_sent(ProblemKind::Overloaded, detail).into());
    };
    match forward.policy().decide(&head.method, target(&head)) {
        PolicyDecision::Allow { rule } => draft.allow(rule),
        PolicyDecision::Refuse(refusal) => {
            draft.rule(refusal.rule);
            let kind = match refusal.code {
                "ambiguous-target" => ProblemKind::AmbiguousTarget,
                _ => ProblemKind::PolicyRefused,
            };
            let mut problem = HttpProblem::not_sent(kind, refusal.detail);
            problem.reason = Some(refusal.code);
            problem.remedy = Some(refusal.remedy);
            return Err(problem.into());
        }
    }
    hop_by_hop::strip_request(&mut head);
    let reads_form = forward.login().reads_form(&head).map_err(login_refused)?;
    let read = match reads_form {
        true => {
            let form = read_ahead(forward, body).await?;
            head.extensions.insert(FormBody(form.clone()));
            Some(form)
        }
        false => {
            await_begin(forward, body).await?;
            None
        }
    };
    let length = body.as_ref().and_then(|body| body.size_hint().exact());
    let second = ReplayableRequest::capture(forward.login(), &head, length);
    let attempt = forward.login().prepare(&mut head).await;
    if let Some(removed) = head.extensions.remove::<RemovedHeaders>() {
        forward.removed(&removed);
    }
    let mut attempt = attempt.map_err(login_refused)?;
    let (upload, progress) = match (read, body.take()) {
        (Some(form), _) => UploadBody::whole(form),
        (None, Some(incoming)) => {
            UploadBody::begin(incoming, second.as_ref().and_then(ReplayableRequest::copy))
        }
        (None, None) => {
            return Err(HttpProblem::not_sent(ProblemKind::UploadBroken, "no body").into());
        }
    };
    let agent_logs_in = forward.login().injects();
    let upload = trailers::filtered(upload, agent_logs_in);
    draft.sending();
    let request = Request::from_parts(head, upload);
    let sent = send(forward, request, progress.as_deref()).await;
    let answer = sent.map_err(|problem| RejectedRequest::failed(problem, progress.as_deref()))?;
    let (mut head, jira_body) = answer.into_parts();
    forward.answered(&head);
    let (mut words, mut jira_body) = error_body::peek(forward, &head, jira_body).await;
    let mut renewed = attempt.refresh_if_rejected(&head, &words).await;
    if renewed
        && let Some((mut again, body)) = second.and_then(|second| second.into_replay(head.status))
        && let Ok(next) = forward.login().prepare(&mut again).await
    {
        attempt = next;
        renewed = false;
        // Frees the connection for the second sending.
        drop(jira_body);
        let (body, _) = UploadBody::whole(body);
        let sent = send(forward, Request::from_parts(again, body), None).await;
        let answer =
            sent.map_err(|problem| RejectedRequest::failed(problem, progress.as_deref()))?;
        let second = answer.into_parts();
        head = second.0;
        forward.answered(&head);
        (words, jira_body) = error_body::peek(forward, &head, second.1).await;
    }
    let user = head.headers.get(X_AUSERNAME);
    draft.answered(user.or(head.headers.get(X_AACCOUNTID)).cloned());
    if let AuthVerdict::LoginFailed { cause, remedy } =
        attempt.on_response_with_body(&mut head, &words)
    {
        let problem = login_failed(renewed, &cause, &remedy);
        return Err(RejectedRequest::failed(problem, progress.as_deref()));
    }
    hop_by_hop::strip_response(&mut head);
    if matches!(
        head.status,
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) {
        // There is no body (RFC 9110 §6.4.1), so a length would be one of something else.
        head.headers.remove(header::CONTENT_LENGTH);
    }
    Ok(ForwardedRequest {
        answer: Response::from_parts(head, trailers::filtered(jira_body, agent_logs_in)),
        upload: progress,
        in_flight,
    })
}

fn refuse_while_paused(forward: &HttpForward) -> Result<(), RejectedRequest> {
    if !forward.paused() {
        return Ok(());
    }
    // Why is the customer's own business, and stays in status, log and audit.
    let detail = "the customer has paused this forward; nothing was sent to Jira";
    Err(HttpProblem::not_sent(ProblemKind::Paused, detail).into())
}

/// Waits for the first part of the body, or for its end, within the time that any body may stand still: a body that
/// never begins must take neither a connection to Jira nor the turn of a login that others wait for.
async fn await_begin(
    forward: &HttpForward,
    body: &mut Option<VendorBody>,
) -> Result<(), RejectedRequest> {
    let Some(incoming) = body else {
        return Ok(());
    };
    if incoming.is_end_stream() {
        return Ok(());
    }
    let limit = forward.limits().stall_timeout;
    let (problem, upload) = match tokio::time::timeout(limit, incoming.begin()).await {
        // The customer may have paused it meanwhile.
        Ok(Ok(())) => return refuse_while_paused(forward),
        Ok(Err((end, detail))) => (
            HttpProblem::not_sent(ProblemKind::UploadBroken, detail),
            end,
        ),
        Err(_) => {
            let detail = VendorText::of(&[&"nothing of the request body came for ", &limit]);
            let problem = HttpProblem::not_sent(ProblemKind::UploadStalled, detail);
            (problem, UploadEnd::Running)
        }
    };
    // What is left of it is not waited for.
    *body = None;
    Err(RejectedRequest {
        outcome: match upload {
            UploadEnd::Gone => RequestOutcome::VendorGone,
            _ => RequestOutcome::Failed,
        },
        upload,
        ..RejectedRequest::from(problem)
    })
}

/// Takes the whole body, which must be short, within the time that any body may stand still.
async fn read_ahead(
    forward: &HttpForward,
    body: &mut Option<VendorBody>,
) -> Result<Bytes, RejectedRequest> {
    let Some(incoming) = body.take() else {
        return Err(HttpProblem::not_sent(ProblemKind::UploadBroken, "no body").into());
    };
    let stopped = |problem, upload| RejectedRequest {
        upload,
        ..RejectedRequest::from(problem)
    };
    let limit = forward.limits().stall_timeout;
    match tokio::time::timeout(limit, body::collect(incoming, auth::MAX_FORM)).await {
        Ok(Ok(form)) => Ok(form),
        Ok(Err(ReadAheadError::TooLong)) => {
            let refused = login_refused(forward.login().form_too_long());
            Err(RejectedRequest {
                upload: UploadEnd::Running,
                ..refused
            })
        }
        Ok(Err(ReadAheadError::Broke(end, detail))) => {
            let mut stopped = stopped(
                HttpProblem::not_sent(ProblemKind::UploadBroken, detail),
                end,
            );
            if end == UploadEnd::Gone {
                stopped.outcome = RequestOutcome::VendorGone;
            }
            Err(stopped)
        }
        Err(_) => {
            let detail = VendorText::of(&[&"the form was not complete within ", &limit]);
            let problem = HttpProblem::not_sent(ProblemKind::UploadStalled, detail);
            Err(stopped(problem, UploadEnd::Running))
        }
    }
}

/// Sends it on, and gives up when the vendor's own body has stood still for too long.
async fn send(
    forward: &HttpForward,
    request: Request<crate::upstream::UpstreamBody>,
    progress: Option<&UploadProgress>,
) -> Result<Response<crate::upstream::UpstreamBody>, HttpProblem> {
    let limit = forward.limits().stall_timeout;
    let sent = forward.upstream().send(request);
    let result = match progress {
        None => sent.await,
        Some(progress) => tokio::select! {
            biased;
            result = sent => result,
            why = progress.activity.too_slow(forward.limits().into()) => {
                let detail = match why {
                    StallReason::Stalled => {
                        VendorText::of(&[&"nothing of the request body came for ", &limit])
                    }
                    StallReason::BelowMinRate => VendorText::of(&[
                        &"the request body came slower than ",
                        &(forward.limits().min_body_rate as usize),
                        &" bytes a second",
                    ]),
                };
                let mut problem = HttpProblem::not_sent(ProblemKind::UploadStalled, detail);
                problem.delivery = Delivery::MaybeSent;
                return Err(problem);
            }
        },
    };
    result.map_err(|error| {
        let kind = kind_of(error.kind);
        let remedy = match error.kind {
            FailedStep::AnswerHead => ODD_HEADER,
            _ => kind.customer_remedy(),
        };
        forward.failed(&error, remedy);
        HttpProblem {
            delivery: error.delivery,
            cause: Some(error.to_string()),
            ..HttpProblem::not_sent(kind, failure_detail(error.kind))
        }
    })
}

impl RequestContext {
    fn draft(
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
            },
        )
    }
}

fn kind_of(step: FailedStep) -> ProblemKind {
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

/// For the vendor's engineer; what it was in detail is the customer's to know.
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
            "Jira did not take the whole request, or did not begin to answer, in the time it has"
        }
        FailedStep::Exchange | FailedStep::AnswerHead => {
            "the connection to Jira broke before an answer, or what came was no HTTP"
        }
        FailedStep::RequestBody => "the request's own body broke off on its way",
    }
}

fn login_refused(refusal: auth::AuthRefusal) -> RejectedRequest {
    let detail = refusal.vendor_text();
    match refusal {
        auth::AuthRefusal::ForeignIdentity(_) => {
            HttpProblem::not_sent(ProblemKind::ForeignIdentity, detail).into()
        }
        auth::AuthRefusal::FormBody(_) => {
            HttpProblem::not_sent(ProblemKind::FormBody, detail).into()
        }
        auth::AuthRefusal::AmbiguousQuery(_) => {
            HttpProblem::not_sent(ProblemKind::AmbiguousTarget, detail).into()
        }
        auth::AuthRefusal::Unavailable(unavailable) => RejectedRequest::failed(
            HttpProblem {
                cause: Some(cause_of(&unavailable.cause, &unavailable.remedy)),
                ..HttpProblem::not_sent(ProblemKind::LoginUnavailable, detail)
            },
            None,
        ),
    }
}

/// `renewed`: there is another credential since, but this request could not be sent a second time.
fn login_failed(renewed: bool, cause: &str, remedy: &str) -> HttpProblem {
    let (detail, vendors) = match renewed {
        false => (
            "Jira did not take the agent's login for this request; its answer is withheld",
            None,
        ),
        true => (
            "Jira did not take the agent's login for this request; it has been renewed since",
            Some("Look whether it was carried out, then send it again.".into()),
        ),
    };
    HttpProblem {
        remedy: vendors,
        delivery: Delivery::Answered,
        cause: Some(cause_of(cause, remedy)),
        ..HttpProblem::not_sent(ProblemKind::LoginFailed, detail)
    }
}

fn cause_of(cause: &str, remedy: &str) -> String {
    format!("{cause}; {remedy}")
}

/// Reads what is left of a small body, so that the channel can be kept for the next request. False
/// where it was not all read.
async fn drain(mut body: VendorBody) -> bool {
    if body.is_end_stream() {
        return true;
    }
    if body
        .size_hint()
        .exact()
        .is_none_or(|length| length > DRAIN_MOST)
    {
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
    tokio::time::timeout(DRAIN_LONGEST, rest)
        .await
        .unwrap_or(false)
}

/// HTTP/2 carries scheme and authority in the URI; the path keeps its bytes.
fn origin_form(head: &mut request::Parts) {
    let uri = std::mem::take(&mut head.uri).into_parts();
    head.uri = uri.path_and_query.map_or_else(Uri::default, Uri::from);
}

/// As the vendor wrote it.
pub(super) fn target(head: &request::Parts) -> &str {
    if let Some(RawTarget(target)) = head.extensions.get() {
        return target;
    }
    head.uri
        .path_and_query()
        .map_or("", |target| target.as_str())
}

/// The user as Jira names it.
const X_AUSERNAME: HeaderName = HeaderName::from_static("x-ausername");
/// Jira Cloud's.
const X_AACCOUNTID: HeaderName = HeaderName::from_static("x-aaccountid");
/// A ticket's worth; more is not worth reading for nothing.
const DRAIN_MOST: u64 = 64 << 10;
/// It is on its way already.
const DRAIN_LONGEST: Duration = Duration::from_secs(1);

const ODD_HEADER: &str = "Find out who sends that header (curl -sv from this machine, | cat -v) and correct it: an app in Jira, or a proxy before it.";

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
        let waiting =
            size(|channel: &'static RequestContext, hold, request| handle(channel, hold, request));
        assert!(waiting <= 1536, "{waiting} bytes");
    }
}

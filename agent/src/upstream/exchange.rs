//! One request and its answer on one connection: framing, deadline, and whether the connection is kept.

use super::{
    ActivityClock, BodyError, Delivery, ExpectedFlow, FailedStep, SendError, StallLimits,
    UpstreamBody, explain, pool::ConnectionLease,
};
use crate::printable::printable;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::{
    error::Error as StdError,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

/// Why an exchange ended without an answer.
pub(super) enum ExchangeFailure {
    /// hyper returned the request: not one byte of it was written.
    Unsent(Box<UnsentRequest>),
    /// The connection ended before a byte of the answer came; Jira may have read the request.
    Unanswered(SendError),
    /// It failed in another way.
    Lost(SendError),
}

/// An untouched request whose connection turned out to be dead.
pub(super) struct UnsentRequest {
    pub(super) lease: ConnectionLease,
    pub(super) request: Request<TrackedBody>,
    pub(super) error: SendError,
}

/// The request as it goes on the wire: origin-form, Jira's `Host`, everything else as it came.
pub(super) fn outgoing(request: Request<UpstreamBody>, host: &HeaderValue) -> Request<TrackedBody> {
    let (mut head, body) = request.into_parts();
    if head.uri.authority().is_some() {
        // HTTP/2 requests carry scheme and authority; `PathAndQuery` keeps its bytes.
        head.uri = match head.uri.into_parts().path_and_query {
            Some(target) => Uri::from(target),
            None => Uri::default(),
        };
    }
    head.version = Version::HTTP_11;
    head.headers.insert(header::HOST, host.clone());
    let framed = head.headers.contains_key(header::CONTENT_LENGTH)
        || head.headers.contains_key(header::TRANSFER_ENCODING);
    let bodiless = matches!(head.method, Method::GET | Method::HEAD);
    if bodiless && !framed && !body.is_end_stream() && body.size_hint().exact().is_none() {
        // Without this hyper would drop the body of a GET whose length is not known.
        head.headers.insert(
            header::TRANSFER_ENCODING,
            HeaderValue::from_static("chunked"),
        );
    }
    Request::from_parts(head, TrackedBody::new(body))
}

/// Sends the request and waits for the head of the answer. The answer's body keeps the lease.
pub(super) async fn run(
    mut lease: ConnectionLease,
    request: Request<TrackedBody>,
    limit: Duration,
) -> Result<Response<UpstreamBody>, ExchangeFailure> {
    let progress = request.body().progress.clone();
    lease.prepare(&request, &progress);
    let Some(sender) = lease.sender() else {
        return Err(ExchangeFailure::Lost(lost(
            FailedStep::Exchange,
            "no connection".to_owned(),
        )));
    };
    progress.restart();
    let answer = sender.try_send_request(request);
    let outcome = tokio::select! {
        biased;
        outcome = answer => outcome,
        () = progress.overdue(limit) => {
            return Err(ExchangeFailure::Lost(lost(
                FailedStep::ResponseTimeout,
                format!("Jira took the request and did not begin to answer within {limit:?}"),
            )));
        }
    };
    if let Ok(response) = &outcome {
        lease
            .permit()
            .answered(response.status(), response.headers());
    }
    match outcome {
        Ok(response) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            Err(ExchangeFailure::Lost(lost(
                FailedStep::Exchange,
                "Jira switched protocols without being asked".to_owned(),
            )))
        }
        Ok(response)
            if !response.body().is_end_stream() && has_unknown_coding(response.headers()) =>
        {
            Err(ExchangeFailure::Lost(lost(
                FailedStep::AnswerHead,
                unknown_coding(response.headers()),
            )))
        }
        Ok(response) => {
            Ok(response.map(|body| LeasedBody::new(body, lease, progress).boxed_unsync()))
        }
        Err(mut error) => {
            let returned = error.take_message();
            let error = error.into_error();
            let (kind, detail) = match lease.invalid_header().filter(|_| error.is_parse()) {
                Some(name) => (FailedStep::AnswerHead, invalid_header(&name)),
                None => describe(&error, &progress),
            };
            let mut failed = lost(kind, detail);
            match returned {
                Some(request) => {
                    failed.delivery = Delivery::NotSent;
                    Err(ExchangeFailure::Unsent(Box::new(UnsentRequest {
                        lease,
                        request,
                        error: failed,
                    })))
                }
                None => {
                    if explain::wants_client_certificate(&error) {
                        failed.delivery = Delivery::NotSent;
                    } else if failed.kind == FailedStep::Exchange && !lease.answer_has_begun() {
                        return Err(ExchangeFailure::Unanswered(failed));
                    }
                    Err(ExchangeFailure::Lost(failed))
                }
            }
        }
    }
}

fn describe(error: &hyper::Error, progress: &SendProgress) -> (FailedStep, String) {
    if progress.waiting_for() == WaitingFor::Broken || error.is_body_write_aborted() {
        let why = error.source().map(ToString::to_string);
        let why = why.unwrap_or_else(|| "it was shorter than announced".to_owned());
        return (
            FailedStep::RequestBody,
            format!("the request's own body broke off: {why}"),
        );
    }
    explain::exchange(error)
}

fn invalid_header(name: &str) -> String {
    format!(
        "Jira's answer is no valid HTTP: its header {name} contains a NUL or a CR without LF, which RFC 9110 §5.5 forbids"
    )
}

/// Whether the body has a transfer coding that is not removed here: any but one `chunked` (RFC 9112 §6.1). None was asked
/// for, and without the header the bytes would pass for the content itself.
fn has_unknown_coding(headers: &HeaderMap) -> bool {
    let mut chunked = 0;
    for value in headers.get_all(header::TRANSFER_ENCODING) {
        for coding in value.as_bytes().split(|byte| *byte == b',') {
            let coding = coding.trim_ascii();
            if coding.eq_ignore_ascii_case(b"chunked") {
                chunked += 1;
            } else if !coding.is_empty() && !coding.eq_ignore_ascii_case(b"identity") {
                return true;
            }
        }
    }
    chunked > 1
}

fn unknown_coding(headers: &HeaderMap) -> String {
    let values = headers.get_all(header::TRANSFER_ENCODING).iter();
    let values: Vec<_> = values
        .map(|value| String::from_utf8_lossy(value.as_bytes()))
        .collect();
    format!(
        "Jira's answer has a transfer coding that was not asked for (Transfer-Encoding: {}); RFC 9112 §7.4 allows only chunked",
        printable(&values.join(", "), MAX_CODINGS)
    )
}

fn lost(kind: FailedStep, detail: String) -> SendError {
    SendError {
        kind,
        detail,
        delivery: Delivery::MaybeSent,
        retry_after: None,
    }
}

/// A request body that reports its progress.
pub(super) struct TrackedBody {
    inner: UpstreamBody,
    progress: Arc<SendProgress>,
    /// Bytes still to come, where the length is known.
    remaining: Option<u64>,
}

impl TrackedBody {
    fn new(inner: UpstreamBody) -> Self {
        let waiting_for = if inner.is_end_stream() {
            WaitingFor::Done
        } else {
            WaitingFor::Jira
        };
        Self {
            remaining: inner.size_hint().exact(),
            progress: Arc::new(SendProgress::new(waiting_for)),
            inner,
        }
    }

    #[cfg(test)]
    pub(super) fn progress(&self) -> Arc<SendProgress> {
        self.progress.clone()
    }
}

impl HttpBody for TrackedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = Pin::new(&mut self.inner).poll_frame(cx);
        let waiting_for = match &polled {
            Poll::Pending => WaitingFor::Vendor,
            Poll::Ready(None) => WaitingFor::Done,
            Poll::Ready(Some(Err(_))) => WaitingFor::Broken,
            Poll::Ready(Some(Ok(frame))) => {
                if let (Some(left), Some(data)) = (&mut self.remaining, frame.data_ref()) {
                    *left = left.saturating_sub(data.len() as u64);
                }
                let over =
                    frame.is_trailers() || self.remaining == Some(0) || self.inner.is_end_stream();
                if over {
                    WaitingFor::Done
                } else {
                    WaitingFor::Jira
                }
            }
        };
        self.progress.set(waiting_for);
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// What a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WaitingFor {
    /// Jira's side has to take more of the body.
    Jira = 0,
    /// The vendor's side has to send more of it; `http` limits that wait.
    Vendor = 1,
    /// The request is complete.
    Done = 2,
    /// The vendor's side broke off.
    Broken = 3,
}

/// What a request waits for, and since when Jira's side lets it wait: shared between its body and its exchange.
pub(super) struct SendProgress {
    clock: ActivityClock,
    waiting_for: AtomicU8,
}

impl SendProgress {
    fn new(waiting_for: WaitingFor) -> Self {
        Self {
            clock: ActivityClock::default(),
            waiting_for: AtomicU8::new(waiting_for as u8),
        }
    }

    fn set(&self, waiting_for: WaitingFor) {
        self.waiting_for.store(waiting_for as u8, Ordering::Release);
        match waiting_for {
            WaitingFor::Jira | WaitingFor::Done => self.clock.begin(ExpectedFlow::Jira),
            WaitingFor::Vendor | WaitingFor::Broken => self.clock.end(ExpectedFlow::Jira),
        }
    }

    /// Starts the clock; waiting for a connection does not count against Jira.
    pub(super) fn restart(&self) {
        self.set(self.waiting_for());
    }

    fn waiting_for(&self) -> WaitingFor {
        match self.waiting_for.load(Ordering::Acquire) {
            0 => WaitingFor::Jira,
            1 => WaitingFor::Vendor,
            2 => WaitingFor::Done,
            _ => WaitingFor::Broken,
        }
    }

    /// For how long Jira's side has let the request wait; `None` while the vendor is the one to act.
    pub(super) fn waited_for_jira(&self) -> Option<Duration> {
        self.clock.waited()
    }

    /// The same once the request is sent whole. An upload that Jira does not read says nothing of how many Jira can answer.
    pub(super) fn waited_for_answer(&self) -> Option<Duration> {
        (self.waiting_for() == WaitingFor::Done)
            .then(|| self.clock.waited())
            .flatten()
    }

    /// Completes once Jira's side has let the request wait for `limit` since the last byte it took.
    pub(super) async fn overdue(&self, limit: Duration) {
        self.clock.too_slow(StallLimits::without_rate(limit)).await;
    }
}

/// The answer's body. It holds the connection and decides at its end whether to keep it.
struct LeasedBody {
    inner: Incoming,
    lease: Option<ConnectionLease>,
    progress: Arc<SendProgress>,
}

impl LeasedBody {
    fn new(inner: Incoming, lease: ConnectionLease, progress: Arc<SendProgress>) -> Self {
        let mut body = Self {
            inner,
            lease: Some(lease),
            progress,
        };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The answer is complete. The connection is kept if the request is complete too. If Jira answered early, it is closed,
    /// which also stops the upload.
    fn finish(&mut self) {
        if let Some(lease) = self.lease.take()
            && self.progress.waiting_for() == WaitingFor::Done
        {
            lease.give_back();
        }
    }
}

impl HttpBody for LeasedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
            Some(Ok(frame)) => {
                if self.inner.is_end_stream() {
                    self.finish();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.lease = None;
                let (_, detail) = explain::exchange(&error);
                Poll::Ready(Some(Err(detail.into())))
            }
            None => {
                self.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// Characters of the header that an error shows.
const MAX_CODINGS: usize = 64;

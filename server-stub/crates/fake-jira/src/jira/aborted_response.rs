//! Responses that break the connection: truncated, or never sent.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::Body as _;
use http_body_util::BodyExt;

/// Marks a response that must not be sent: the connection ends instead.
#[derive(Clone)]
struct HangUpMark;

/// A response that [`is_abort`] recognizes.
pub(crate) fn abort_response() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(HangUpMark);
    response
}

/// Whether to end the connection instead of sending this response.
pub(super) fn is_abort(response: &Response) -> bool {
    response.extensions().get::<HangUpMark>().is_some()
}

/// The same response, with its full `Content-Length`, whose body breaks the connection after `bytes`.
pub(super) fn truncated(response: Response, bytes: u64) -> Response {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts
            .headers
            .entry(header::CONTENT_LENGTH)
            .or_insert(HeaderValue::from(length));
    }
    let stream = futures_util::stream::unfold((body, bytes), |(mut body, left)| async move {
        if left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            let mut data = frame.into_data().unwrap_or_default();
            data.truncate(usize::try_from(left).unwrap_or(usize::MAX));
            let left = left - data.len() as u64;
            return Some((Ok(data), (body, left)));
        }
        // hyper flushes its buffer during this pause; then the error ends the connection.
        tokio::time::sleep(FLUSH_DELAY).await;
        let end: Result<Bytes, std::io::Error> = Err(std::io::ErrorKind::ConnectionAborted.into());
        Some((end, (body, left)))
    });
    Response::from_parts(parts, Body::from_stream(stream))
}

const FLUSH_DELAY: std::time::Duration = std::time::Duration::from_millis(50);

//! Answers that go wrong on the connection: cut in the middle, or never begun.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::Body as _;
use http_body_util::BodyExt;

/// Mark on an answer that must not be sent: the connection ends instead.
#[derive(Clone)]
struct HangUp;

/// An answer that [`must_hang_up`] recognises.
pub(super) fn hang_up() -> Response {
    let mut response = Response::default();
    response.extensions_mut().insert(HangUp);
    response
}

/// Whether to end the connection instead of sending this.
pub(super) fn must_hang_up(response: &Response) -> bool {
    response.extensions().get::<HangUp>().is_some()
}

/// The same answer, promising its whole length, whose body breaks the connection after `bytes`.
pub(super) fn cut(response: Response, bytes: u64) -> Response {
    let (mut parts, mut body) = response.into_parts();
    if let Some(length) = body.size_hint().exact() {
        parts
            .headers
            .entry(header::CONTENT_LENGTH)
            .or_insert(HeaderValue::from(length));
    }
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, std::io::Error>>(1);
    tokio::spawn(async move {
        let mut left = bytes;
        while left > 0
            && let Some(Ok(frame)) = body.frame().await
        {
            if let Ok(data) = frame.into_data() {
                let part =
                    data.slice(..data.len().min(usize::try_from(left).unwrap_or(usize::MAX)));
                left -= part.len() as u64;
                if sender.send(Ok(part)).await.is_err() {
                    return;
                }
            }
        }
        // Give the part that was sent time to leave before the error takes the connection down.
        tokio::time::sleep(LEAVE).await;
        let _ = sender
            .send(Err(std::io::ErrorKind::ConnectionAborted.into()))
            .await;
    });
    let stream = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    });
    Response::from_parts(parts, Body::from_stream(stream))
}

const LEAVE: std::time::Duration = std::time::Duration::from_millis(50);

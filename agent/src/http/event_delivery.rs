//! Sends stored events to the vendor's host.

use super::{HttpForward, exchange, framing};
use crate::upstream::{RawTarget, SendError, UpstreamBody};
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, header, response, uri::PathAndQuery,
};
use http_body_util::{BodyExt, Full};
use std::time::Duration;
use tokio::time::timeout;

/// What the vendor's host has answered to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventAnswer {
    /// Its status.
    pub status: StatusCode,
    /// After which it wants the event again.
    pub retry_after: Option<Duration>,
}

impl HttpForward {
    /// Sends an event to the vendor's host, takes the end of the answer's body off the connection, and updates the status.
    ///
    /// # Errors
    /// There was no answer. `delivery` of the error tells whether the vendor's host may have seen the event.
    pub async fn send_event(&self, event: Request<Bytes>) -> Result<EventAnswer, SendError> {
        let request = event.map(|body| -> UpstreamBody {
            Full::new(body)
                .map_err(|never| match never {})
                .boxed_unsync()
        });
        let answer = match self.upstream().send(request).await {
            Ok(answer) => answer,
            Err(error) => {
                self.on_send_error(&error, exchange::outward_remedy(error.kind));
                return Err(error);
            }
        };
        let (head, mut body) = answer.into_parts();
        self.on_answer(&head);
        // The rest of a long body would cost more than a new connection, which dropping it causes.
        let rest = async {
            let mut taken = 0;
            while let Some(Ok(frame)) = body.frame().await {
                taken += frame.data_ref().map_or(0, Bytes::len);
                if taken > LONGEST_ANSWER {
                    break;
                }
            }
        };
        let _ = timeout(ANSWER_TIMEOUT, rest).await;
        Ok(EventAnswer {
            status: head.status,
            retry_after: retry_after(&head),
        })
    }
}

/// The request that carries an event, with its target as Jira sent it. `None`: the stored values make no request, which
/// framing would have refused.
pub fn event_request(
    method: &str,
    target: &str,
    headers: HeaderMap,
    body: Bytes,
) -> Option<Request<Bytes>> {
    let method = Method::from_bytes(method.as_bytes()).ok()?;
    let (uri, raw) = match PathAndQuery::try_from(target) {
        Ok(target) => (Uri::from(target), None),
        Err(_) => {
            let head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n");
            let raw = framing::inspect(head.as_bytes(), usize::MAX).ok()?.raw?;
            let uri = Uri::from(PathAndQuery::try_from(raw.encoded).ok()?);
            (uri, Some(RawTarget(raw.target)))
        }
    };
    let length = HeaderValue::from(body.len());
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request.headers_mut().insert(header::CONTENT_LENGTH, length);
    if let Some(raw) = raw {
        request.extensions_mut().insert(raw);
    }
    Some(request)
}

/// Seconds only: a date depends on two clocks.
fn retry_after(head: &response::Parts) -> Option<Duration> {
    let value = head.headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}

/// Bytes: webhooks are answered with a few.
const LONGEST_ANSWER: usize = 64 << 10;
/// The status has been read; the rest only keeps the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_target_of_an_event_keeps_its_bytes() {
        let made = |target: &str| {
            event_request("POST", target, HeaderMap::new(), Bytes::from_static(b"{}"))
        };
        let request = made("/hooks/jira?a=%20b").unwrap();
        assert_eq!(request.uri(), "/hooks/jira?a=%20b");
        assert_eq!(request.headers()[header::CONTENT_LENGTH], "2");
        let request = made("/hooks?q=\"a\"").unwrap();
        assert_eq!(request.uri(), "/hooks?q=%22a%22");
        let RawTarget(raw) = request.extensions().get().unwrap();
        assert_eq!(&**raw, "/hooks?q=\"a\"");
        assert!(made("/a b").is_none() && made("/a\r\nb: c").is_none());
    }
}

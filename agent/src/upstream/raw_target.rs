//! Targets that hyper's `Uri` cannot hold, put on the wire as the vendor wrote them.
//!
//! Jira's own Tomcat takes `"`, `<` and `>` raw in a query; the `http` crate does not. hyper is given the request with these
//! percent-encoded, which means the same to all who judge it. Below hyper the request line, the first bytes of the next
//! write, is exchanged for one with the vendor's own query. Where those are other bytes, nothing is written at all.

use http::Request;
use parking_lot::Mutex;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The whole target of a request as it came, in its extensions; only its query may differ from that of the URI.
#[derive(Clone, Debug)]
pub struct RawTarget(pub Arc<str>);

/// The request line that is to be exchanged on one connection, if any.
#[derive(Clone, Default)]
pub(super) struct RequestLineSwap(Arc<SwapShared>);

#[derive(Default)]
struct SwapShared {
    is_set: AtomicBool,
    line: Mutex<Option<PendingSwap>>,
}

struct PendingSwap {
    substitute: String,
    original: String,
}

/// The bytes to write instead of the first `taken` of those that hyper wrote.
pub(super) struct SwappedBytes {
    pub(super) line: Vec<u8>,
    pub(super) taken: usize,
}

impl RequestLineSwap {
    /// To be called before the request is handed to hyper, on a connection that no other request uses.
    pub(super) fn prepare<B>(&self, request: &Request<B>) {
        let Some(RawTarget(raw)) = request.extensions().get() else {
            return;
        };
        let Some((_, query)) = raw.split_once('?') else {
            return;
        };
        let (method, uri) = (request.method(), request.uri());
        let exchange = PendingSwap {
            substitute: format!("{method} {uri} HTTP/1.1\r\n"),
            original: format!("{method} {}?{query} HTTP/1.1\r\n", uri.path()),
        };
        *self.0.line.lock() = Some(exchange);
        self.0.is_set.store(true, Ordering::Release);
    }

    /// Looks at the beginning of a write. An error where it is not the request line that is waited for.
    pub(super) fn swap(&self, bytes: &[u8]) -> io::Result<Option<SwappedBytes>> {
        if !self.0.is_set.load(Ordering::Acquire) {
            return Ok(None);
        }
        let mut line = self.0.line.lock();
        match &*line {
            Some(PendingSwap {
                substitute: hypers,
                original: ours,
            }) if bytes.starts_with(hypers.as_bytes()) => {
                let exchanged = SwappedBytes {
                    line: ours.as_bytes().to_vec(),
                    taken: hypers.len(),
                };
                self.0.is_set.store(false, Ordering::Release);
                *line = None;
                Ok(Some(exchanged))
            }
            _ => Err(io::Error::other(
                "the request line was not the first that was written",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn prepared() -> RequestLineSwap {
        let mut request = Request::get("/ex/jira/search?jql=a%22b").body(()).unwrap();
        let raw = RawTarget("/search?jql=a\"b".into());
        request.extensions_mut().insert(raw);
        let line = RequestLineSwap::default();
        line.prepare(&request);
        line
    }

    #[test]
    fn the_request_line_is_exchanged_once_and_only_its_query() {
        let line = prepared();
        let head = b"GET /ex/jira/search?jql=a%22b HTTP/1.1\r\nhost: x\r\n\r\n";
        let exchanged = line.swap(head).unwrap().unwrap();
        assert_eq!(exchanged.line, b"GET /ex/jira/search?jql=a\"b HTTP/1.1\r\n");
        assert_eq!(&head[exchanged.taken..], b"host: x\r\n\r\n");
        assert!(line.swap(head).unwrap().is_none());
    }

    #[test]
    fn other_bytes_than_the_request_line_are_not_written() {
        assert!(prepared().swap(b"0\r\n\r\nGET /").is_err());
        assert!(prepared().swap(b"GET /ex/jira/sea").is_err());
    }
}

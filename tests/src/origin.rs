//! A small HTTP origin in the place of Jira, for speed and bytes: it costs little, so that the tunnel is measured.

use crate::tcp_server::TcpServer;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use std::{convert::Infallible, net::SocketAddr};

/// A running origin; stops when dropped.
pub struct OriginServer {
    /// Address on which the origin listens.
    pub addr: SocketAddr,
    _server: TcpServer,
}

type OriginBody = BoxBody<Bytes, Infallible>;

impl OriginServer {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> anyhow::Result<Self> {
        let server = TcpServer::http(answer).await?;
        Ok(Self {
            addr: server.addr,
            _server: server,
        })
    }
}

/// `GET /rest/api/2/issue/…` is a small document, `GET /secure/attachment/BYTES/…` that many bytes, a `POST` is read
/// to its end and answered with its length.
async fn answer(request: Request<Incoming>) -> Result<Response<OriginBody>, Infallible> {
    let path = request.uri().path().to_owned();
    let (kind, body): (_, OriginBody) = if request.method() == Method::POST {
        let mut body = request.into_body();
        let mut length = 0u64;
        while let Some(Ok(frame)) = body.frame().await {
            length += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        (
            "text/plain",
            Full::new(Bytes::from(length.to_string())).boxed(),
        )
    } else if let Some(length) = path.strip_prefix("/secure/attachment/") {
        let length = length
            .split('/')
            .next()
            .and_then(|n| n.parse().ok())
            .unwrap_or(0);
        ("application/octet-stream", zeros(length))
    } else {
        (
            "application/json",
            Full::new(Bytes::from_static(ISSUE)).boxed(),
        )
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    headers.insert("x-ausername", header::HeaderValue::from_static("acme-bot"));
    Ok(response)
}

/// A body of `length` bytes that costs no copying to make.
pub fn zeros(length: u64) -> OriginBody {
    let block = Bytes::from_static(&[0; 64 << 10]);
    let frames = stream::unfold(length, move |left| {
        let block = block.clone();
        async move {
            let n = left.min(block.len() as u64);
            (n > 0).then(|| (Ok(Frame::data(block.slice(..n as usize))), left - n))
        }
    });
    BodyExt::boxed(SizedStream {
        frames: StreamBody::new(Box::pin(frames)),
        length,
    })
}

struct SizedStream<S> {
    frames: StreamBody<S>,
    length: u64,
}

impl<S> hyper::body::Body for SizedStream<S>
where
    S: futures_util::Stream<Item = Result<Frame<Bytes>, Infallible>> + Unpin,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        std::pin::Pin::new(&mut self.frames).poll_frame(cx)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.length)
    }
}

/// Like Jira's answer for one issue with few fields.
const ISSUE: &[u8] = br#"{"id":"10001","key":"DEMO-1","self":"http://jira/rest/api/2/issue/10001","fields":{"summary":"Printer on fire","status":{"name":"To Do","id":"1"},"issuetype":{"name":"Bug","id":"1"},"project":{"key":"DEMO","id":"10000"},"assignee":{"name":"acme-bot"},"created":"2026-01-01T00:00:00.000+0000"}}"#;

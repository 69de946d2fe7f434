//! A vendor's service in a test: one HTTP/1.1 connection, every failure is reported, nothing is repeated.

use crate::ssh_pair::{hash, pattern};
use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use std::{convert::Infallible, net::SocketAddr};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// An HTTP client with one kept-alive connection.
pub struct HttpCaller {
    sender: SendRequest<CallerBody>,
}

type CallerBody = BoxBody<Bytes, Infallible>;

impl HttpCaller {
    /// Opens one HTTP/1.1 connection over TCP, without Nagle's delay.
    pub async fn connect(addr: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Self::over(stream).await
    }

    /// Uses an existing connection.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self { sender })
    }

    /// Sends a GET and reads the whole answer.
    pub async fn get(&mut self, path: &str) -> Result<Response<String>> {
        let request = Request::get(path).body(Empty::new().boxed())?;
        whole(self.send(request).await?).await
    }

    /// Posts a JSON document and reads the whole answer.
    pub async fn post(&mut self, path: &str, json: &str) -> Result<Response<String>> {
        let request = Request::post(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(json.to_owned())).boxed())?;
        whole(self.send(request).await?).await
    }

    /// Asks for `length` bytes of the pattern and reads none of them yet.
    pub async fn begin_download(&mut self, length: u64) -> Result<Incoming> {
        let path = format!("/secure/attachment/{length}/blob.bin");
        let response = self
            .send(Request::get(path).body(Empty::new().boxed())?)
            .await?;
        ensure!(
            response.status().is_success(),
            "answered {}",
            response.status()
        );
        Ok(response.into_body())
    }

    /// Downloads `length` bytes of the pattern; returns their digest.
    pub async fn download(&mut self, length: u64) -> Result<String> {
        Ok(hash(self.begin_download(length).await?).await?)
    }

    /// Attaches `length` bytes of the pattern to an issue; returns the digest of what arrived.
    pub async fn upload(&mut self, key: &str, length: u64) -> Result<String> {
        let request = Request::post(format!("/rest/api/2/issue/{key}/attachments"))
            .header(header::CONTENT_LENGTH, length)
            .header(header::CONTENT_TYPE, "multipart/form-data; boundary=x")
            .header("x-atlassian-token", "no-check")
            .body(StreamBody::new(pattern(length)).boxed())?;
        let answer = whole(self.send(request).await?).await?;
        ensure!(answer.status().is_success(), "{answer:?}");
        Ok(answer.into_body())
    }

    async fn send(&mut self, mut request: Request<CallerBody>) -> Result<Response<Incoming>> {
        let host = HeaderValue::from_static("gateway.vendor.example");
        request.headers_mut().insert(header::HOST, host);
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }
}

async fn whole(response: Response<Incoming>) -> Result<Response<String>> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    let text = String::from_utf8_lossy(&body).into_owned();
    Ok(Response::from_parts(head, text))
}

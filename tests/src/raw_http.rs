//! HTTP written by hand over TCP, for requests that no well-behaved client sends.

use crate::wait::soon;
use anyhow::Result;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An answer as it came over the wire, complete or not.
#[derive(Debug, Clone)]
pub struct RawResponse {
    /// HTTP status of the response.
    pub status: u16,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body as far as it arrived.
    pub body: Vec<u8>,
    /// Whether the whole body arrived.
    pub complete: bool,
}

impl RawResponse {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// The last part of the problem's `type`; empty where the answer is not the agent's own.
    pub fn problem(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let kind = body["type"].as_str().unwrap_or_default();
        kind.rsplit(':').next().unwrap_or_default().to_owned()
    }
}

/// One parsed request, as a client sent it.
#[derive(Debug, Clone)]
pub struct RawRequest {
    /// HTTP method of the request.
    pub method: String,
    /// Request target as sent, not decoded.
    pub target: String,
    /// Names, in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body without chunk framing.
    pub body: Vec<u8>,
}

/// Sends `bytes` over a new connection and reads until the other side closes it. The last request must make it do so, by
/// `Connection: close` or by bad framing.
pub async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Result<Vec<RawResponse>> {
    let mut stream = TcpStream::connect(addr).await?;
    let mut received = Vec::new();
    let both = async {
        // A request refused at its first bytes may not be read to its end.
        let _ = stream.write_all(bytes).await;
        let mut buffer = [0; 16 << 10];
        while let Ok(n @ 1..) = stream.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..n]);
        }
    };
    soon(both).await;
    Ok(answers(&received))
}

/// A GET with `Connection: close`; the target is sent as it is.
pub fn get(target: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: vendor\r\nConnection: close\r\n\r\n").into_bytes()
}

/// Parses consecutive answers; none of them may be to a HEAD.
pub fn answers(mut bytes: &[u8]) -> Vec<RawResponse> {
    let mut found = Vec::new();
    while let Some((answer, rest)) = first(bytes) {
        bytes = rest;
        // Interim answers (1xx) do not count.
        if answer.status >= 200 {
            found.push(answer);
        }
    }
    found
}

/// Parses consecutive requests of one client.
pub fn requests(mut bytes: &[u8]) -> Vec<RawRequest> {
    let mut found = Vec::new();
    while let Some((message, rest)) = RawMessage::first(bytes) {
        bytes = rest;
        let mut words = message.line.split(' ');
        found.push(RawRequest {
            method: words.next().unwrap_or_default().to_owned(),
            target: words.next().unwrap_or_default().to_owned(),
            headers: message.headers,
            body: message.body,
        });
    }
    found
}

fn first(bytes: &[u8]) -> Option<(RawResponse, &[u8])> {
    let (message, rest) = RawMessage::first(bytes)?;
    let answer = RawResponse {
        status: message.line.split(' ').nth(1)?.parse().ok()?,
        headers: message.headers,
        body: message.body,
        complete: message.complete,
    };
    Some((answer, rest))
}

/// The common parts of requests and answers.
struct RawMessage {
    line: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    complete: bool,
}

impl RawMessage {
    fn first(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let rest = &bytes[end + 4..];
        let mut lines = head.split("\r\n");
        let line = lines.next()?.to_owned();
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let value = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v);
        let (body, rest, complete) = if value("transfer-encoding").is_some() {
            chunked(rest)
        } else {
            let length = value("content-length").map_or(0, |v| v.parse().unwrap_or(0));
            let here = rest.len().min(length);
            (rest[..here].to_vec(), &rest[here..], here == length)
        };
        let message = Self {
            line,
            headers,
            body,
            complete,
        };
        Some((message, rest))
    }
}

fn chunked(mut bytes: &[u8]) -> (Vec<u8>, &[u8], bool) {
    let mut body = Vec::new();
    loop {
        let Some(end) = bytes.windows(2).position(|w| w == b"\r\n") else {
            return (body, &[], false);
        };
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let size = line.split(';').next().unwrap_or_default();
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else {
            return (body, &[], false);
        };
        bytes = &bytes[end + 2..];
        if size == 0 {
            let after = bytes.windows(2).position(|w| w == b"\r\n");
            return (
                body,
                after.map_or(&[], |at| &bytes[at + 2..]),
                after.is_some(),
            );
        }
        if bytes.len() < size + 2 {
            body.extend_from_slice(&bytes[..bytes.len().min(size)]);
            return (body, &[], false);
        }
        body.extend_from_slice(&bytes[..size]);
        bytes = &bytes[size + 2..];
    }
}

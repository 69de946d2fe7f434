//! A vendor that writes bytes, an agent's forward, and a Jira that answers as it is told.

use crate::{
    audit::{AuditHandle, CapturedAudit},
    auth::{Settings as Auth, UpstreamAuth, VendorHeaders},
    http::{
        ChannelOrigin, CurrentForward, HttpForward, HttpLimits, ShutdownTokens, VendorStream, serve,
    },
    pause::PauseRegistry,
    policy::{CompiledPolicy, Settings as PolicySettings},
    status::StatusLayer,
    tunnel::ListeningPlace,
    upstream::{self, Delivery, TrustRoots, Upstream},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

pub(super) type JiraBody = BoxBody<Bytes, Infallible>;

/// Nothing in these tests takes this long; it only ends a test that hangs.
pub(super) const LIVENESS: Duration = Duration::from_secs(30);

/// A forward with its Jira, and the records of its audit.
pub(super) struct Agent {
    pub(super) forward: Arc<HttpForward>,
    pub(super) records: CapturedAudit,
    pub(super) jira: Arc<StatusLayer>,
    pub(super) current: CurrentForward,
    pub(super) place: Arc<ListeningPlace>,
    pub(super) drain: CancellationToken,
    pub(super) replaced: CancellationToken,
    pub(super) abort: CancellationToken,
}

/// What differs between tests.
pub(super) struct Options {
    pub(super) limits: HttpLimits,
    pub(super) auth: Auth,
    pub(super) pass: VendorHeaders,
    pub(super) response_timeout: Duration,
    pub(super) pool_wait: Duration,
    pub(super) max_connections: usize,
    pub(super) scheme: &'static str,
    /// What policy allows.
    pub(super) allow: &'static str,
    /// Answers only the request that a check expects.
    pub(super) only_expected: bool,
    /// Sends nothing without a place for its record.
    pub(super) audit_required: bool,
    pub(super) pauses: PauseRegistry,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: HttpLimits::default(),
            auth: Auth::PassThrough,
            pass: VendorHeaders::default(),
            response_timeout: Duration::from_secs(60),
            pool_wait: Duration::from_secs(10),
            max_connections: 64,
            scheme: "http",
            allow: "* /**",
            only_expected: false,
            audit_required: false,
            pauses: PauseRegistry::default(),
        }
    }
}

impl Agent {
    /// `jira` is `host:port`. Policy allows everything but `/secret`.
    pub(super) fn new(jira: &str, options: Options) -> Self {
        let target = format!("{}://{jira}", options.scheme).parse().unwrap();
        let mut settings = upstream::Settings::new(target);
        settings.tls.roots = TrustRoots::Webpki;
        settings.response_timeout = options.response_timeout;
        settings.pool_wait = options.pool_wait;
        settings.max_connections = options.max_connections;
        let policy = CompiledPolicy::new(&PolicySettings {
            allow: vec![options.allow.to_owned()],
            deny: vec!["* /secret".to_owned()],
            ..PolicySettings::default()
        });
        let (audit, records) = AuditHandle::captured_with(options.audit_required);
        let layer = Arc::new(StatusLayer::default());
        let forward = HttpForward::new(
            "jira".into(),
            policy.unwrap(),
            UpstreamAuth::new(options.auth, Arc::default()).with_vendor_headers(options.pass),
            Upstream::new(settings).unwrap(),
            audit,
            options.limits,
            layer.clone(),
        );
        let forward = forward.pausable(options.pauses);
        let forward = Arc::new(match options.only_expected {
            true => forward.only_expected(),
            false => forward,
        });
        Self {
            current: Arc::clone(&forward).into(),
            place: Arc::new(ListeningPlace::new("/s/jira-0.sock".parse().unwrap())),
            forward,
            records,
            jira: layer,
            drain: CancellationToken::new(),
            replaced: CancellationToken::new(),
            abort: CancellationToken::new(),
        }
    }

    /// Opens a channel.
    pub(super) fn channel(&self) -> Vendor {
        let (io, channel) = tokio::io::duplex(64 << 10);
        Vendor {
            served: self.serve(channel),
            io,
            read: Vec::new(),
        }
    }

    /// Opens a channel whose vendor leaves when the token is cancelled, whatever is unread.
    pub(super) fn leaving_channel(&self, left: CancellationToken) -> Vendor {
        let (io, stream) = tokio::io::duplex(64 << 10);
        Vendor {
            served: self.serve(TestStream {
                stream,
                left: Some(left),
            }),
            io,
            read: Vec::new(),
        }
    }

    pub(super) fn serve(&self, channel: impl Into<TestStream>) -> JoinHandle<()> {
        let shutdown = ShutdownTokens {
            drain: self.drain.clone(),
            replaced: self.replaced.clone(),
            abort: self.abort.clone(),
        };
        tokio::spawn(serve(
            channel.into(),
            self.current.clone(),
            ChannelOrigin {
                originator: "192.0.2.7:55000".into(),
                connection: 1,
                place: Some(self.place.clone()),
            },
            shutdown,
        ))
    }
}

/// A channel without SSH.
pub(super) struct TestStream {
    stream: DuplexStream,
    left: Option<CancellationToken>,
}

impl From<DuplexStream> for TestStream {
    fn from(stream: DuplexStream) -> Self {
        Self { stream, left: None }
    }
}

impl VendorStream for TestStream {
    fn disconnected(&self) -> impl Future<Output = ()> + Send + 'static {
        let left = self.left.clone();
        async move {
            match left {
                Some(left) => left.cancelled().await,
                None => std::future::pending().await,
            }
        }
    }
}

impl AsyncRead for TestStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for TestStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A Jira on a port of its own that answers each request by `handler`.
pub(super) async fn jira<F, R>(handler: F) -> String
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<JiraBody>> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let handler = handler.clone();
            tokio::spawn(async move {
                let service = hyper::service::service_fn(move |request| {
                    let answer = handler(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                let _ = hyper::server::conn::http1::Builder::new()
                    .half_close(true)
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    address
}

/// A Jira whose connections are given to `script` as bytes.
pub(super) async fn raw_jira<F, R>(script: F) -> String
where
    F: Fn(TcpStream) -> R + Send + 'static,
    R: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(script(stream));
        }
    });
    address
}

/// Says back what it got: method, target and headers, then the body, its trailers as `NAME: VALUE!`.
pub(super) async fn echo(request: Request<Incoming>) -> Response<JiraBody> {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {}\n", head.method, head.uri);
    for (name, value) in &head.headers {
        text += &format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes()));
    }
    text.push('\n');
    let collected = body.collect().await.unwrap();
    let trailers = collected.trailers().cloned();
    text += &String::from_utf8_lossy(&collected.to_bytes());
    for (name, value) in trailers.iter().flatten() {
        text += &format!("{name}: {}!", value.to_str().unwrap());
    }
    Response::new(full(text))
}

pub(super) fn full(text: impl Into<Bytes>) -> JiraBody {
    Full::new(text.into()).boxed()
}

/// Reads a request head from a raw connection. Returns it as text.
pub(super) async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// The vendor's end of a channel.
pub(super) struct Vendor {
    pub(super) io: DuplexStream,
    pub(super) served: JoinHandle<()>,
    pub(super) read: Vec<u8>,
}

/// One answer as it came.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
    pub(super) trailers: String,
}

impl Reply {
    /// The only value of a header.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} twice in {self:?}");
        value
    }

    pub(super) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// Asserts that it is the agent's own answer of this kind, whole and as documented.
    #[track_caller]
    pub(super) fn assert_problem(&self, code: &str, delivery: &str) -> serde_json::Value {
        let kind = crate::http::problem::ProblemKind::ALL
            .into_iter()
            .find(|kind| kind.code() == code)
            .unwrap();
        let sent = match delivery {
            "not_sent" => Delivery::NotSent,
            _ => Delivery::MaybeSent,
        };
        assert_eq!(self.status, kind.status(sent).as_u16(), "{self:?}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json")
        );
        let status = self.header("proxy-status").unwrap();
        assert!(
            status.starts_with(&format!(
                "jira-tunnel-agent; error={}; details=\"",
                kind.proxy_error()
            )),
            "{status}"
        );
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap();
        assert_eq!(
            body["type"],
            format!("urn:jira-tunnel-agent:problem:{code}")
        );
        assert_eq!(body["delivery"], delivery, "{body}");
        assert_eq!(body["request_id"], self.header("x-request-id").unwrap());
        body
    }
}

impl Vendor {
    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.io.write_all(bytes.as_ref()).await.unwrap();
    }

    /// A request without a body.
    pub(super) async fn get(&mut self, target: &str) -> Reply {
        self.send(format!("GET {target} HTTP/1.1\r\nhost: x\r\n\r\n"))
            .await;
        self.reply().await
    }

    /// The next answer.
    pub(super) async fn reply(&mut self) -> Reply {
        self.reply_to("GET").await
    }

    pub(super) async fn reply_to(&mut self, method: &str) -> Reply {
        self.try_reply(method).await.expect("a whole answer")
    }

    /// The next answer, or what there was of it before the channel ended.
    pub(super) async fn try_reply(&mut self, method: &str) -> Result<Reply, String> {
        let answer = self.read_reply(method);
        match tokio::time::timeout(LIVENESS * 100, answer).await {
            Ok(Some(reply)) => Ok(reply),
            Ok(None) => Err(String::from_utf8_lossy(&self.read).into_owned()),
            Err(_) => panic!("no answer in time"),
        }
    }

    async fn read_reply(&mut self, method: &str) -> Option<Reply> {
        let head = self.take_until(b"\r\n\r\n").await?;
        let head = String::from_utf8(head).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status: u16 = lines.next()?.split(' ').nth(1)?.parse().unwrap();
        let headers: Vec<(String, String)> = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        let mut reply = Reply {
            status,
            headers,
            body: Vec::new(),
            trailers: String::new(),
        };
        if method == "HEAD" || matches!(status, 100..=199 | 204 | 304) {
            return Some(reply);
        }
        if let Some(length) = reply.header("content-length") {
            let length = length.parse().unwrap();
            reply.body = self.take(length).await?;
        } else {
            assert_eq!(
                reply.header("transfer-encoding"),
                Some("chunked"),
                "{reply:?}"
            );
            loop {
                let line = self.take_until(b"\r\n").await?;
                let size = std::str::from_utf8(&line).unwrap().trim();
                let size = usize::from_str_radix(size, 16).unwrap();
                if size == 0 {
                    break;
                }
                reply.body.extend(self.take(size).await?);
                self.take(2).await?;
            }
            loop {
                let line = self.take_until(b"\r\n").await?;
                if line == b"\r\n" {
                    break;
                }
                reply.trailers += std::str::from_utf8(&line).unwrap();
            }
        }
        Some(reply)
    }

    /// What comes up to and with `end`; `None` where the channel ends first.
    pub(super) async fn take_until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|w| w == end) {
                return Some(self.read.drain(..at + end.len()).collect());
            }
            self.fill().await?;
        }
    }

    async fn take(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.read.len() < length {
            self.fill().await?;
        }
        Some(self.read.drain(..length).collect())
    }

    /// `None` at the end of the channel.
    async fn fill(&mut self) -> Option<()> {
        match self.io.read_buf(&mut self.read).await {
            Ok(1..) => Some(()),
            _ => None,
        }
    }

    /// Waits for the end of the channel. Returns what came before it.
    pub(super) async fn end(mut self) -> Vec<u8> {
        let rest = async {
            while self.fill().await.is_some() {}
            self.served.await.unwrap();
            self.read
        };
        tokio::time::timeout(LIVENESS * 100, rest)
            .await
            .expect("the channel ends")
    }
}

//! A Jira that answers as it is told, and the probes of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod answers;
mod cadence;
mod logins;

use super::*;
use crate::{
    auth,
    expiry::{ExpiryTime, timestamps},
    secret::SecretFile,
    upstream::TrustRoots,
};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{ServerConfig, pki_types::PrivatePkcs8KeyDer};
use std::{collections::HashMap, net::SocketAddr, os::unix::fs::PermissionsExt};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// A Jira that answers paths as it is told, and remembers what it was asked.
#[derive(Clone, Default)]
struct Jira {
    answers: Arc<Mutex<HashMap<&'static str, String>>>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Jira {
    /// A healthy one that knows `acme-bot`.
    fn healthy() -> Self {
        let jira = Self::default();
        jira.answers("/jira/status", 200, "", r#"{"state":"RUNNING"}"#);
        jira.answers(
            "/jira/rest/api/2/serverInfo",
            200,
            "",
            r#"{"version":"9.12.4"}"#,
        );
        jira.answers(
            "/jira/rest/api/2/myself",
            200,
            "x-ausername: acme-bot\r\n",
            "{}",
        );
        jira.answers(
            "/jira/rest/pat/latest/tokens",
            200,
            "",
            r#"[{"expiringAt":"2099-01-31T00:00:00.000+0000"}]"#,
        );
        jira
    }

    fn answers(&self, path: &'static str, status: u16, headers: &str, body: &str) {
        let text = format!(
            "HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        );
        lock(&self.answers).insert(path, text);
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.asked))
    }

    async fn serve(&self, tls: Option<Arc<ServerConfig>>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let jira = self.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (jira, tls) = (jira.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(config) => {
                            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                                jira.answer(stream).await;
                            }
                        }
                        None => jira.answer(stream).await,
                    }
                });
            }
        });
        address
    }

    /// From now on this path is read and not answered.
    fn hangs(&self, path: &'static str) {
        lock(&self.answers).insert(path, HANGS.to_owned());
    }

    async fn answer(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap().to_owned();
        lock(&self.asked).push(head);
        let answer = lock(&self.answers).get(path.as_str()).cloned();
        let missing = "HTTP/1.1 404 X\r\ncontent-length: 4\r\n\r\nnope".to_owned();
        let answer = answer.unwrap_or(missing);
        if answer == HANGS {
            std::future::pending::<()>().await;
        }
        // The agent may have read enough before the end.
        let _ = stream.write_all(answer.as_bytes()).await;
        let _ = stream.shutdown().await;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> parking_lot::MutexGuard<'_, T> {
    mutex.lock()
}

struct Fixture {
    health: HealthProber,
    jira: Arc<StatusLayer>,
    login: Arc<StatusLayer>,
    folder: tempfile::TempDir,
}

enum Mode {
    PassThrough,
    Basic,
    Pat,
}

fn settings(address: SocketAddr) -> upstream::Settings {
    let mut settings = upstream::Settings::new("http://jira.test/jira".parse().unwrap());
    settings.address = Some(address);
    settings
}

fn health(settings: upstream::Settings, mode: Mode) -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, "s3cret").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = SecretFile::new(path);
    let auth = match mode {
        Mode::PassThrough => auth::Settings::PassThrough,
        Mode::Basic => auth::Settings::Basic {
            username: "acme-bot".to_owned(),
            password_file: file,
        },
        Mode::Pat => auth::Settings::Pat {
            token_file: file,
            expires: None,
        },
    };
    let (jira, login) = (
        Arc::new(StatusLayer::default()),
        Arc::new(StatusLayer::default()),
    );
    let health = HealthProber::new(
        "jira".into(),
        settings,
        UpstreamAuth::new(auth, login.clone()),
        jira.clone(),
        login.clone(),
    );
    Fixture {
        health: health.unwrap(),
        jira,
        login,
        folder,
    }
}

/// Only while nothing waits for a socket: a paused clock runs ahead of those.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn closed_port() -> SocketAddr {
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    reserved.local_addr().unwrap()
}

async fn open_breaker(upstream: &Upstream) {
    for _ in 0..3 {
        assert!(upstream.send(read()).await.is_err());
    }
    assert!(upstream.protection().breaker_open);
}

fn read() -> http::Request<upstream::UpstreamBody> {
    let body: upstream::UpstreamBody = http_body_util::Empty::new()
        .map_err(|never| -> upstream::BodyError { match never {} })
        .boxed_unsync();
    let mut request = http::Request::new(body);
    *request.uri_mut() = "/x".parse().unwrap();
    request
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

const HANGS: &str = "hangs";
const MYSELF: &str = "/jira/rest/api/2/myself";

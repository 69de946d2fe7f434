//! A gateway in a temporary folder, OpenSSH clients of it, and an HTTP origin behind them.

use agent_base::printable::hex;
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Frame, Incoming},
    service::service_fn,
};
use russh::keys::{
    PrivateKey,
    ssh_key::{LineEnding, private::Ed25519Keypair},
};
use sha2::{Digest, Sha256};
use std::{
    convert::Infallible,
    fs,
    future::Future,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};
use stub_gateway::{Gateway, GatewayLimits, GatewaySnapshot, RunningGateway, Settings};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::TcpListener,
    process::{Child, ChildStderr, Command},
};

/// Everything is on loopback: whatever takes longer hangs.
pub(crate) const LIVENESS: Duration = Duration::from_secs(30);

pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIVENESS, what)
        .await
        .expect("it should not take so long")
}

pub(crate) struct TestGateway {
    pub running: RunningGateway,
    pub dir: TempDir,
}

impl TestGateway {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(limits: impl FnOnce(&mut GatewayLimits)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let running = Gateway::start(settings(dir.path(), limits)).await.unwrap();
        Self { running, dir }
    }

    /// The agent's folder, as the gateway names it.
    pub(crate) fn folder(&self, agent: &str) -> PathBuf {
        let agents = self.dir.path().canonicalize().unwrap().join("agents");
        agents.join(agent)
    }

    /// Authorizes a new key for `agent` and returns its path.
    pub(crate) fn authorize(&self, agent: &str) -> PathBuf {
        self.authorize_with(agent, "")
    }

    pub(crate) fn authorize_with(&self, agent: &str, options: &str) -> PathBuf {
        let (path, public) = self.key(agent);
        let folder = self.folder(agent);
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join("authorized_keys"),
            format!("{options}{public}\n"),
        )
        .unwrap();
        path
    }

    /// A key pair that no agent has yet.
    pub(crate) fn key(&self, name: &str) -> (PathBuf, String) {
        let key = PrivateKey::from(Ed25519Keypair::from_seed(&rand::random()));
        let path = self.dir.path().join(format!("{name}.key"));
        fs::write(&path, key.to_openssh(LineEnding::LF).unwrap()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let public = key.public_key().to_openssh().unwrap();
        fs::write(self.dir.path().join(format!("{name}.key.pub")), &public).unwrap();
        (path, public)
    }

    pub(crate) fn ssh(&self, agent: &str, key: &Path, arguments: &[&str]) -> Ssh {
        let known_hosts = self.dir.path().join("known_hosts");
        fs::write(&known_hosts, format!("{}\n", self.running.known_hosts_line)).unwrap();
        let mut command = Command::new("ssh");
        command
            .args([
                "-F",
                "none",
                "-p",
                &self.running.ssh_addr.port().to_string(),
            ])
            .arg("-i")
            .arg(key);
        for option in [
            &format!("UserKnownHostsFile={}", known_hosts.display()),
            "GlobalKnownHostsFile=/dev/null",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "IdentityAgent=none",
            "ExitOnForwardFailure=yes",
            "BatchMode=yes",
        ] {
            command.args(["-o", option]);
        }
        command
            .args(arguments)
            .arg(format!("{agent}@127.0.0.1"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap()).lines();
        Ssh { child, stderr }
    }

    /// `ssh -N -R bind:127.0.0.1:origin`, once a new session serves a forward.
    pub(crate) async fn forward(
        &self,
        agent: &str,
        key: &Path,
        bind: &str,
        origin: &Origin,
    ) -> Ssh {
        let serving = |gateway: &GatewaySnapshot| {
            let forwards = gateway.agent(agent).map(|agent| agent.forwards.clone());
            let serving = forwards.into_iter().flatten().flat_map(|f| f.sessions);
            serving.max().unwrap_or_default()
        };
        let before = serving(&self.running.snapshot());
        let mut ssh = self.ssh(agent, key, &["-N", "-R", &spec(bind, origin)]);
        tokio::select! {
            _ = self.wait_until(|gateway| serving(gateway) > before) => ssh,
            (_, text) = ssh.ended() => panic!("ssh ended: {text}"),
        }
    }

    pub(crate) async fn wait_until(
        &self,
        wanted: impl Fn(&GatewaySnapshot) -> bool,
    ) -> GatewaySnapshot {
        in_time(self.running.wait_until(wanted)).await
    }

    /// A request over the HTTP listener.
    pub(crate) fn request(
        &self,
        method: reqwest::Method,
        host: &str,
        path: &str,
    ) -> reqwest::RequestBuilder {
        let url = format!("http://{}{path}", self.running.http_addr);
        client().request(method, url).header("host", host)
    }

    pub(crate) async fn get(&self, host: &str, path: &str) -> reqwest::Response {
        let sent = self.request(reqwest::Method::GET, host, path).send();
        in_time(sent).await.unwrap()
    }
}

pub(crate) fn settings(dir: &Path, limits: impl FnOnce(&mut GatewayLimits)) -> Settings {
    let mut settings = Settings::new(dir);
    settings.ssh = ([127, 0, 0, 1], 0).into();
    settings.http = ([127, 0, 0, 1], 0).into();
    limits(&mut settings.limits);
    settings
}

pub(crate) fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

pub(crate) fn spec(bind: &str, origin: &Origin) -> String {
    format!("{bind}:127.0.0.1:{}", origin.address.port())
}

/// A port that was free a moment ago.
pub(crate) async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// One `ssh` process.
pub(crate) struct Ssh {
    pub child: Child,
    pub stderr: Lines<BufReader<ChildStderr>>,
}

impl Ssh {
    /// Waits for the end; returns exit code and output.
    pub(crate) async fn ended(&mut self) -> (i32, String) {
        let mut text = String::new();
        while let Ok(Some(line)) = in_time(self.stderr.next_line()).await {
            text += &line;
            text.push('\n');
        }
        let status = in_time(self.child.wait()).await.unwrap();
        (status.code().unwrap_or(-1), text)
    }

    pub(crate) async fn line_with(&mut self, wanted: &str) -> String {
        loop {
            let line = in_time(self.stderr.next_line()).await.unwrap();
            let line = line.unwrap_or_else(|| panic!("ssh never said {wanted:?}"));
            if line.contains(wanted) {
                return line;
            }
        }
    }

    /// Stops the process: a peer that is connected and sends nothing.
    pub(crate) async fn freeze(&self) {
        let id = self.child.id().unwrap().to_string();
        let status = Command::new("kill").args(["-STOP", &id]).status().await;
        assert!(status.unwrap().success());
    }
}

/// An HTTP server that responds with its name.
pub(crate) struct Origin {
    pub address: SocketAddr,
    pub connections: Arc<AtomicUsize>,
    pub requests: Arc<AtomicUsize>,
    task: tokio::task::AbortHandle,
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Origin {
    pub(crate) async fn start(name: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let requests = Arc::new(AtomicUsize::new(0));
        let (opened, asked) = (connections.clone(), requests.clone());
        let task = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                opened.fetch_add(1, SeqCst);
                let asked = asked.clone();
                tokio::spawn(async move {
                    let service = service_fn(|request| {
                        asked.fetch_add(1, SeqCst);
                        answer(name, request)
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(hyper_util::rt::TokioIo::new(socket), service)
                        .await;
                });
            }
        });
        Self {
            address,
            connections,
            requests,
            task: task.abort_handle(),
        }
    }
}

type Body = BoxBody<Bytes, Infallible>;

async fn answer(
    name: &'static str,
    request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let text = |text: String| Full::new(Bytes::from(text)).boxed();
    let body = match path.split('/').nth(1).unwrap_or_default() {
        "seen" => {
            let mut seen = format!("{} {}\n", request.method(), request.uri());
            for (name, value) in request.headers() {
                seen += &format!("{name}: {}\n", value.to_str().unwrap_or("?"));
            }
            text(seen)
        }
        "digest" => {
            let mut body = request.into_body();
            let mut digest = Sha256::new();
            let mut length = 0;
            while let Some(frame) = body.frame().await {
                if let Ok(data) = frame?.into_data() {
                    length += data.len();
                    digest.update(&data);
                }
            }
            text(format!("{length} {}", hex(&digest.finalize())))
        }
        "bytes" => {
            let pieces: u64 = path.rsplit('/').next().unwrap().parse().unwrap();
            let frames = (0..pieces).map(|at| Ok(Frame::data(piece(at))));
            StreamBody::new(futures_util::stream::iter(frames)).boxed()
        }
        "hang" => std::future::pending().await,
        "slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            text(name.to_owned())
        }
        _ => text(name.to_owned()),
    };
    Ok(Response::new(body))
}

/// 64 KiB that differ from piece to piece.
pub(crate) fn piece(at: u64) -> Bytes {
    let mut bytes = vec![0; PIECE];
    for (place, byte) in bytes.iter_mut().enumerate() {
        *byte = (place as u64)
            .wrapping_mul(31)
            .wrapping_add(at.wrapping_mul(17)) as u8;
    }
    bytes.into()
}

pub(crate) const PIECE: usize = 64 << 10;

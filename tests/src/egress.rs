//! Proxies and TLS terminators of a company network: real squid, dante, microsocks, stunnel and HAProxy, each with its own
//! folder and a free port of 127.0.0.1.

use crate::{
    agent::write_secret,
    process::ChildProcess,
    sshd::{free_port, signal},
    wait::{until_listening, until_true},
};
use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A running proxy or TLS terminator; ends when dropped.
pub struct NetworkPart {
    port: u16,
    folder: TempDir,
    process: ChildProcess,
}

/// The user name that [`squid`] and [`microsocks`] accept.
pub const USER: &str = "acme";
/// The password of [`USER`]. Many passwords contain a colon; user names cannot.
pub const PASSWORD: &str = "s3cret: word";
/// Hash of [`PASSWORD`] as htpasswd writes it.
const HASH: &str = "$apr1$abcdefgh$IZ0NLFaBNhQPu8Ewiv.YH.";

/// squid, which permits CONNECT only to the ports `allowed`; `with_login`: only to users of `basic_ncsa_auth`.
pub async fn squid(allowed: &[u16], with_login: bool) -> Result<NetworkPart> {
    let ports: Vec<String> = allowed.iter().map(u16::to_string).collect();
    let (login, who) = match with_login {
        true => (
            "auth_param basic program /usr/lib/squid/basic_ncsa_auth {dir}/passwd\nacl known proxy_auth REQUIRED\n",
            "known",
        ),
        false => ("", "all"),
    };
    let config = format!(
        "http_port 127.0.0.1:{{port}}\npid_filename none\nvisible_hostname proxy.test\ncache deny all\n\
         access_log stdio:{{dir}}/access.log\ncache_log {{dir}}/cache.log\ncoredump_dir {{dir}}\n\
         shutdown_lifetime 0 seconds\nconnect_retries 0\n{login}acl gateways port {}\n\
         http_access deny !gateways\nhttp_access allow CONNECT {who}\nhttp_access deny all\n",
        ports.join(" ")
    );
    let passwd = ("passwd", format!("{USER}:{HASH}\n"));
    NetworkPart::start(&config, &[passwd], |dir, _| {
        let mut command = Command::new("squid");
        command.arg("-N").arg("-f").arg(dir.join("config"));
        command
    })
    .await
}

/// dante without authentication, which permits connections only to the port `allowed`.
pub async fn dante(allowed: u16) -> Result<NetworkPart> {
    let config = format!(
        "logoutput: {{dir}}/access.log\ninternal: 127.0.0.1 port = {{port}}\nexternal: 127.0.0.1\n\
         clientmethod: none\nsocksmethod: none\nuser.privileged: root\nuser.unprivileged: nobody\n\
         client pass {{ from: 127.0.0.0/8 to: 0.0.0.0/0 }}\n\
         socks pass {{ from: 127.0.0.0/8 to: 127.0.0.1/32 port = {allowed} log: connect }}\n\
         socks block {{ from: 0.0.0.0/0 to: 0.0.0.0/0 log: connect }}\n"
    );
    NetworkPart::start(&config, &[], |dir, _| {
        let mut command = Command::new("danted");
        command.arg("-f").arg(dir.join("config"));
        command.arg("-p").arg(dir.join("pid"));
        command
    })
    .await
}

/// Starts microsocks, a SOCKS5 proxy, with a login.
pub async fn microsocks() -> Result<NetworkPart> {
    NetworkPart::start("", &[], |_, port| {
        let mut command = Command::new("microsocks");
        command.args(["-i", "127.0.0.1", "-p", &port.to_string()]);
        command.args(["-u", USER, "-P", PASSWORD]);
        command
    })
    .await
}

/// stunnel in front of a gateway, with a certificate for 127.0.0.1 from this CA.
pub async fn stunnel(gateway: u16, ca: &TestCa) -> Result<NetworkPart> {
    stunnel_named(gateway, ca, "127.0.0.1").await
}

/// As [`stunnel`], in front of the service on any port, with a certificate for this name or address.
pub async fn stunnel_named(service: u16, ca: &TestCa, name: &str) -> Result<NetworkPart> {
    let config = format!(
        "foreground = yes\npid =\nsyslog = no\noutput = {{dir}}/access.log\n[tls]\naccept = 127.0.0.1:{{port}}\n\
         connect = 127.0.0.1:{service}\ncert = {{dir}}/certificate\nkey = {{dir}}/key\n"
    );
    let (certificate, key) = ca.issue(name)?;
    let files = [("certificate", certificate), ("key", key)];
    NetworkPart::start(&config, &files, |dir, _| {
        let mut command = Command::new("stunnel");
        command.arg(dir.join("config"));
        command
    })
    .await
}

/// HAProxy in place of [`stunnel`].
pub async fn haproxy(gateway: u16, ca: &TestCa) -> Result<NetworkPart> {
    let config = format!(
        "frontend ssh_in_tls\n    mode tcp\n    bind 127.0.0.1:{{port}} ssl crt {{dir}}/both.pem\n    timeout client 1h\n    \
         default_backend sshd\nbackend sshd\n    mode tcp\n    timeout connect 5s\n    timeout server 1h\n    \
         server sshd 127.0.0.1:{gateway}\n"
    );
    let (certificate, key) = ca.issue("127.0.0.1")?;
    start_haproxy(&config, &[("both.pem", certificate + &key)]).await
}

/// HAProxy with this configuration, which listens on `{port}`.
pub async fn haproxy_with(config: &str) -> Result<NetworkPart> {
    start_haproxy(config, &[]).await
}

async fn start_haproxy(config: &str, files: &[(&str, String)]) -> Result<NetworkPart> {
    NetworkPart::start(config, files, |dir, _| {
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(dir.join("config"));
        command
    })
    .await
}

/// HAProxy in front of a forward, with the health check `GET path`.
pub async fn haproxy_http(forward: SocketAddr, path: &str) -> Result<NetworkPart> {
    let config = format!(
        "global\n    log stdout format raw local0\ndefaults\n    mode http\n    log global\n    option log-health-checks\n    timeout connect 5s\n    \
         timeout client 1m\n    timeout server 1m\nfrontend vendor\n    bind 127.0.0.1:{{port}}\n    \
         default_backend customer\nbackend customer\n    option httpchk GET {path}\n    \
         server agent {forward} check inter 200ms\n"
    );
    start_haproxy(&config, &[]).await
}

impl NetworkPart {
    async fn start(
        config: &str,
        files: &[(&str, String)],
        command: impl Fn(&Path, u16) -> Command,
    ) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("egress-").tempdir()?;
        let dir = folder.path().to_owned();
        // Some of them drop root privileges.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777))?;
        for (name, text) in files {
            fs::write(dir.join(name), text)?;
        }
        let port = free_port()?;
        let config = config.replace("{dir}", &dir.display().to_string());
        let config = config.replace("{port}", &port.to_string());
        fs::write(dir.join("config"), config)?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = command(&dir, port);
        command.env("PATH", format!("{path}:/usr/sbin"));
        let mut part = Self {
            process: ChildProcess::spawn(command, &dir.join("output"))?,
            port,
            folder,
        };
        let listening = until_listening(("127.0.0.1", port), || part.process.is_running()).await;
        listening.with_context(|| part.log())?;
        Ok(part)
    }

    /// Address on which the part listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// TCP port on which the part listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Waits until it has logged `text`.
    pub async fn logged(&self, text: &str) -> Result<()> {
        self.logged_times(text, 1).await
    }

    /// Waits until its log contains `text` this often: it may be written after the answer.
    pub async fn logged_times(&self, text: &str, times: usize) -> Result<()> {
        let what = format!("{times} log lines with {text:?}");
        until_true(&what, || self.log().matches(text).count() >= times).await
    }

    /// Its output and log files so far.
    pub fn log(&self) -> String {
        let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        read("output") + &read("cache.log") + &read("access.log")
    }
}

impl Drop for NetworkPart {
    fn drop(&mut self) {
        // SIGTERM first, so that dante and squid end their own children too.
        let _ = signal(self.process.pid(), "TERM");
        let deadline = Instant::now() + STOP_TIMEOUT;
        while self.process.is_running() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        if std::thread::panicking() {
            eprintln!("---- the part's log ----\n{}", self.log());
        }
    }
}

/// A CA for one test.
pub struct TestCa {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl TestCa {
    /// Creates a CA with this common name.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate()?;
        let pem = params.self_signed(&key)?.pem();
        let issuer = Issuer::new(params, key);
        Ok(Self { pem, issuer })
    }

    /// Writes its certificate as `ca.pem`, for `gateway_ca_file` and `ca_file`.
    pub fn write(&self, folder: &Path) -> Result<PathBuf> {
        let path = folder.join("ca.pem");
        fs::write(&path, &self.pem).context("writing the CA")?;
        Ok(path)
    }

    fn issue(&self, name: &str) -> Result<(String, String)> {
        let key = KeyPair::generate()?;
        let params = CertificateParams::new(vec![name.to_owned()])?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }
}

/// Writes a password file; returns its path.
pub fn password(folder: &Path, password: &str) -> Result<String> {
    let path = folder.join("proxy-password");
    write_secret(&path, password)?;
    Ok(path.display().to_string())
}

const STOP_TIMEOUT: Duration = Duration::from_secs(3);

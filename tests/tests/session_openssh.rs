//! One SSH session of the agent against a stock OpenSSH sshd.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    secret::{Secret, SecretFile},
    tunnel::{
        BindAddress, ChannelAcceptor, RemoteForward, Settings, ignore,
        session::{
            ForwardError, HostKeyRefusalReason, HostKeys, RetryPace, Session, SessionOpenError,
            SessionOpenStep, SshIdentity,
        },
    },
};
use e2e::{
    sshd::{Sshd, certify, fingerprint, free_addr, keygen},
    tcp_server::TcpServer,
    tunnel::{EchoForwards, PATIENCE, echo, echo_at, identity, settings},
    wait::until_true,
};
use std::{fs, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    time::timeout,
};

async fn open(settings: Settings) -> Result<Session, SessionOpenError> {
    open_with(settings, Arc::new(EchoForwards::default())).await
}

async fn open_with(
    settings: Settings,
    accept: Arc<dyn ChannelAcceptor>,
) -> Result<Session, SessionOpenError> {
    let gateway = settings.gateways[0].clone();
    Session::open(Arc::new(settings), gateway, 0, accept, ignore()).await
}

fn known_hosts(text: &str) -> Arc<HostKeys> {
    Arc::new(HostKeys::new(vec![], Some((Path::new("known_hosts"), text))).unwrap())
}

fn line(hosts: &str, public_key: &Path) -> String {
    format!("{hosts} {}", fs::read_to_string(public_key).unwrap())
}

fn refused(outcome: Result<Session, SessionOpenError>) -> agent::tunnel::session::HostKeyRefusal {
    match outcome {
        Err(SessionOpenError::HostKey(refused)) => *refused,
        Err(other) => panic!("another error: {other}"),
        Ok(_) => panic!("the host key was accepted"),
    }
}

#[tokio::test]
async fn a_tcp_forward_carries_bytes_both_ways_over_the_best_algorithms() {
    let sshd = Sshd::start().unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    let forward = settings.forwards[0].clone();
    let accept = Arc::new(EchoForwards::default());
    let session = open_with(settings, accept.clone()).await.unwrap();
    let facts = session.negotiated().unwrap().clone();
    assert_eq!(facts.host_key, sshd.fingerprint().unwrap());
    assert_eq!(facts.cipher, "aes128-gcm@openssh.com");
    assert!(
        ["mlkem768x25519-sha256", "curve25519-sha256"].contains(&facts.key_exchange.as_str()),
        "{facts:?}"
    );
    assert!(facts.strict, "strict key exchange");
    let bound = session.forward(&forward).await.unwrap();
    let BindAddress::Tcp { port, .. } = bound.0 else {
        panic!("{bound:?}")
    };
    assert_ne!(port, 0, "the port that was given");
    echo_at(&bound.to_string(), "hello").await.unwrap();
    let (name, connection, originator) = accept.seen().remove(0);
    assert_eq!((name.as_str(), connection), ("f0", 0));
    assert!(originator.starts_with("127.0.0.1:"), "{originator}");
    session.probe(PATIENCE).await.unwrap();

    session.cancel_forward(&forward.name).await.unwrap();
    assert!(TcpStream::connect(bound.to_string()).await.is_err());
    session.disconnect().await;
    assert_eq!(
        session.ended().await,
        agent::tunnel::session::SessionEnd::ByUs,
        "{}",
        sshd.log()
    );
}

#[tokio::test]
async fn a_named_port_and_a_socket_are_bound_side_by_side() {
    let sshd = Sshd::start().unwrap();
    let tcp = free_addr().unwrap().to_string();
    let socket = sshd.folder().join("forward.sock");
    let socket = socket.to_str().unwrap();
    let settings = settings(&sshd, &[&tcp, socket]).unwrap();
    let forwards = settings.forwards.clone();
    let accept = Arc::new(EchoForwards::default());
    let session = open_with(settings, accept.clone()).await.unwrap();
    assert_eq!(
        session.forward(&forwards[0]).await.unwrap().to_string(),
        tcp
    );
    assert_eq!(
        session.forward(&forwards[1]).await.unwrap().to_string(),
        socket
    );
    echo_at(&tcp, "by port").await.unwrap();
    echo(UnixStream::connect(socket).await.unwrap(), "by socket")
        .await
        .unwrap();
    let by: Vec<String> = accept.seen().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(by, ["f0", "f1"]);
    assert_eq!(accept.seen()[1].2, "unix");
}

#[tokio::test]
async fn a_forward_that_is_not_permitted_is_refused_and_the_session_stays() {
    let allowed = free_addr().unwrap().to_string();
    let permit = format!("PermitListen {allowed}");
    let sshd = Sshd::with(&[&permit]).unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0", &allowed]).unwrap();
    let forwards = settings.forwards.clone();
    let session = open(settings).await.unwrap();
    let error = session.forward(&forwards[0]).await.unwrap_err();
    assert!(matches!(error, ForwardError::Refused(_)), "{error}");
    assert!(
        error.remedy().contains("permitlisten"),
        "{}",
        error.remedy()
    );
    session.probe(PATIENCE).await.unwrap();
    session.forward(&forwards[1]).await.unwrap();
    echo_at(&allowed, "permitted").await.unwrap();
}

#[tokio::test]
async fn more_channels_than_allowed_are_refused_and_those_open_go_on() {
    let sshd = Sshd::start().unwrap();
    let mut settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    settings.max_channels = 2;
    let forward = settings.forwards[0].clone();
    let session = open(settings).await.unwrap();
    let bound = session.forward(&forward).await.unwrap().to_string();
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(&bound).await.unwrap();
        stream.write_all(b"x").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        held.push(stream);
    }
    assert!(echo_at(&bound, "one too many").await.is_err());
    assert_eq!(session.refused_channels(), 1);
    echo(held.remove(0), "still there").await.unwrap();
}

/// An sshd with a host certificate made by `ca` with these ssh-keygen options.
fn with_host_certificate(options: &[&str]) -> Sshd {
    let prepare = |dir: &Path| {
        keygen(&dir.join("ca"), &["-t", "ed25519"], "")?;
        let mut all = vec!["-h"];
        all.extend(options);
        certify(&dir.join("ca"), &dir.join("host.pub"), &all)
    };
    Sshd::prepare(prepare, &["HostCertificate {dir}/host-cert.pub"]).unwrap()
}

async fn open_trusting_ca(sshd: &Sshd, more: &str) -> Result<Session, SessionOpenError> {
    let mut settings = settings(sshd, &[]).unwrap();
    let ca = line("@cert-authority *", &sshd.folder().join("ca.pub"));
    settings.host_keys = known_hosts(&(ca + more));
    open(settings).await
}

#[tokio::test]
async fn a_host_certificate_of_a_trusted_authority_is_accepted() {
    let sshd = with_host_certificate(&["-n", "127.0.0.1,gw.vendor.example"]);
    let session = open_trusting_ca(&sshd, "").await.unwrap();
    session.probe(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn an_expired_host_certificate_is_refused() {
    let sshd = with_host_certificate(&["-n", "127.0.0.1", "-V", "20200101:20210101"]);
    let refused = refused(open_trusting_ca(&sshd, "").await);
    assert!(
        matches!(refused.reason, HostKeyRefusalReason::Expired(_)),
        "{refused}"
    );
    assert!(refused.to_string().contains("2021-01-01"), "{refused}");
}

#[tokio::test]
async fn a_host_certificate_for_another_name_is_refused() {
    let sshd = with_host_certificate(&["-n", "gw.vendor.example"]);
    let refused = refused(open_trusting_ca(&sshd, "").await);
    assert_eq!(
        refused.reason,
        HostKeyRefusalReason::WrongPrincipal(vec!["gw.vendor.example".to_owned()])
    );
    assert!(refused.remedy().contains("gw.vendor.example"));
}

#[tokio::test]
async fn a_host_certificate_of_a_revoked_authority_or_key_is_refused() {
    let sshd = with_host_certificate(&["-n", "127.0.0.1"]);
    for revoked in ["ca.pub", "host.pub"] {
        let revocation = line("@revoked *", &sshd.folder().join(revoked));
        let refused = refused(open_trusting_ca(&sshd, &revocation).await);
        assert_eq!(refused.reason, HostKeyRefusalReason::Revoked, "{revoked}");
    }
}

#[tokio::test]
async fn a_hashed_known_hosts_line_is_understood() {
    let sshd = Sshd::start().unwrap();
    let hosts = format!("[127.0.0.1]:{}", sshd.port());
    let file = sshd.folder().join("hashed");
    fs::write(&file, line(&hosts, &sshd.folder().join("host.pub"))).unwrap();
    let done = std::process::Command::new("ssh-keygen")
        .args(["-q", "-H", "-f"])
        .arg(&file)
        .status()
        .unwrap();
    assert!(done.success());
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("|1|"), "{text}");
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.host_keys = known_hosts(&text);
    open(settings).await.unwrap();
}

#[tokio::test]
async fn a_wrong_host_key_is_refused_with_both_fingerprints_and_retried_slowly() {
    let sshd = Sshd::start().unwrap();
    let other = fingerprint(&sshd.folder().join("id.pub")).unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.host_keys = Arc::new(HostKeys::new(vec![other.clone()], None).unwrap());
    let error = open(settings).await.err().unwrap();
    let text = error.to_string();
    assert!(text.contains(&other), "{text}");
    assert!(text.contains(&sshd.fingerprint().unwrap()), "{text}");
    assert_eq!(error.retry(), RetryPace::Slow);
}

#[tokio::test]
async fn the_key_type_that_known_hosts_names_is_asked_for() {
    let prepare = |dir: &Path| keygen(&dir.join("rsa"), &["-t", "rsa", "-b", "3072"], "");
    let sshd = Sshd::prepare(prepare, &["HostKey {dir}/rsa", "HostKey {dir}/host"]).unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.host_keys = known_hosts(&line("*", &sshd.folder().join("rsa.pub")));
    let session = open(settings).await.unwrap();
    let rsa = fingerprint(&sshd.folder().join("rsa.pub")).unwrap();
    assert_eq!(session.negotiated().unwrap().host_key, rsa);
}

#[tokio::test]
async fn an_unauthorized_key_is_refused_with_details_for_the_vendor() {
    let sshd = Sshd::start().unwrap();
    let stranger = sshd.folder().join("stranger");
    keygen(&stranger, &["-t", "ed25519"], "").unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.identity = identity(&stranger).unwrap();
    let error = open(settings).await.err().unwrap();
    let text = error.to_string();
    assert!(
        matches!(error, SessionOpenError::LoginRefused { .. }),
        "{text}"
    );
    assert!(text.contains(&sshd.user()), "{text}");
    let print = fingerprint(&stranger.with_extension("pub")).unwrap();
    assert!(text.contains(&print), "{text}");
    assert!(text.contains("offers publickey"), "{text}");
    assert_eq!(error.retry(), RetryPace::Slow);
}

#[tokio::test]
async fn ecdsa_and_rsa_keys_log_in_and_rsa_signs_with_sha2() {
    let sshd = Sshd::start().unwrap();
    for (name, kind) in [
        ("ecdsa256", ["-t", "ecdsa", "-b", "256"]),
        ("ecdsa521", ["-t", "ecdsa", "-b", "521"]),
        ("rsa", ["-t", "rsa", "-b", "2048"]),
    ] {
        let key = sshd.folder().join(name);
        keygen(&key, &kind, "").unwrap();
        sshd.authorize(&key.with_extension("pub"), "").unwrap();
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.identity = identity(&key).unwrap();
        let session = open(settings)
            .await
            .unwrap_or_else(|e| panic!("{name}: {e}"));
        session.probe(PATIENCE).await.unwrap();
    }
}

#[tokio::test]
async fn an_encrypted_key_logs_in_with_its_passphrase() {
    let sshd = Sshd::start().unwrap();
    let key = sshd.folder().join("locked");
    keygen(&key, &["-t", "ed25519"], "correct horse").unwrap();
    sshd.authorize(&key.with_extension("pub"), "").unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    let phrase = Secret::new(b"correct horse".to_vec());
    let identity = SshIdentity::load(&SecretFile::new(&key), Some(&phrase)).unwrap();
    settings.identity = Arc::new(identity);
    open(settings).await.unwrap();
}

#[test]
fn a_short_rsa_key_is_refused_before_anything_is_sent() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("short");
    keygen(&key, &["-t", "rsa", "-b", "1024"], "").unwrap();
    let error = SshIdentity::load(&SecretFile::new(&key), None).unwrap_err();
    assert!(error.to_string().contains("less than 2048"), "{error}");
}

/// An sshd that trusts user certificates of the key `ca`.
fn trusting_user_ca() -> Sshd {
    let prepare = |dir: &Path| keygen(&dir.join("ca"), &["-t", "ed25519"], "");
    Sshd::prepare(prepare, &["TrustedUserCAKeys {dir}/ca.pub"]).unwrap()
}

#[tokio::test]
async fn user_certificates_log_in_for_ed25519_and_rsa_keys() {
    for kind in [["-t", "ed25519"].as_slice(), &["-t", "rsa", "-b", "2048"]] {
        let sshd = trusting_user_ca();
        let dir = sshd.folder();
        let key = dir.join("certified");
        keygen(&key, kind, "").unwrap();
        let public = key.with_extension("pub");
        certify(&dir.join("ca"), &public, &["-n", &sshd.user()]).unwrap();
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.identity = identity(&key).unwrap();
        open(settings)
            .await
            .unwrap_or_else(|e| panic!("{kind:?}: {e}\n{}", sshd.log()));
        sshd.logged("Accepted certificate ID \"test\"")
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn an_expired_user_certificate_is_named_in_the_error() {
    let sshd = trusting_user_ca();
    let key = sshd.folder().join("late");
    keygen(&key, &["-t", "ed25519"], "").unwrap();
    let user = sshd.user();
    let options = ["-n", user.as_str(), "-V", "20200101:20210101"];
    let ca = sshd.folder().join("ca");
    certify(&ca, &key.with_extension("pub"), &options).unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.identity = identity(&key).unwrap();
    let error = open(settings).await.err().unwrap().to_string();
    assert!(error.contains("EXPIRED 2021-01-01"), "{error}");
}

/// Certificates that sshd refuses without a reason: each has its own remedy.
#[tokio::test]
async fn each_certificate_that_sshd_refuses_has_a_remedy_of_its_own() {
    let ed25519 = ["-t", "ed25519"].as_slice();
    let rsa = &["-t", "rsa", "-b", "2048"];
    let sha1 = "PubkeyAcceptedAlgorithms ssh-ed25519,ssh-rsa-cert-v01@openssh.com";
    let mut wrong = Vec::new();
    for (kind, ca, options, line, remedy) in [
        (
            ed25519,
            "ca",
            &["-n", "USER", "-V", "20200101:20210101"][..],
            "",
            "the certificate has expired",
        ),
        (
            ed25519,
            "ca",
            &["-n", "USER", "-V", "20990101:21000101"],
            "",
            "not valid yet: compare this host's clock (timedatectl)",
        ),
        (
            ed25519,
            "ca",
            &["-n", "globex"],
            "",
            "the certificate is for [\"globex\"]: set tunnel.user to one of these",
        ),
        (ed25519, "ca", &[], "", "the certificate names nobody"),
        (
            ed25519,
            "ca",
            &["-n", "USER", "-O", "source-address=192.0.2.0/24"],
            "",
            "good from 192.0.2.0/24 only",
        ),
        (rsa, "other", &["-n", "USER"], "", "TrustedUserCAKeys"),
        // As OpenSSH before 7.8 does.
        (rsa, "ca", &["-n", "USER"], sha1, "OpenSSH before 7.8"),
        // Nothing is visibly wrong: the key or its CA must be authorized.
        (ed25519, "other", &["-n", "USER"], "", "authorise this key"),
    ] {
        let prepare = |dir: &Path| {
            keygen(&dir.join("ca"), &["-t", "ed25519"], "")?;
            keygen(&dir.join("other"), &["-t", "ed25519"], "")
        };
        let sshd = Sshd::prepare(prepare, &["TrustedUserCAKeys {dir}/ca.pub", line]).unwrap();
        let key = sshd.folder().join("key");
        keygen(&key, kind, "").unwrap();
        let user = sshd.user();
        let options: Vec<_> = options.iter().map(|o| o.replace("USER", &user)).collect();
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let public = key.with_extension("pub");
        certify(&sshd.folder().join(ca), &public, &options).unwrap();
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.identity = identity(&key).unwrap();
        let error = open(settings).await.err().unwrap();
        let told = error.remedy();
        if !told.contains(remedy) || told.contains("  ") || error.retry() != RetryPace::Slow {
            wrong.push(format!("{remedy}: {error}: {told}\n{}", sshd.log()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn a_certificate_beside_an_authorised_key_does_not_keep_it_out() {
    let sshd = Sshd::start().unwrap();
    let ca = sshd.folder().join("unknown-ca");
    keygen(&ca, &["-t", "ed25519"], "").unwrap();
    certify(&ca, &sshd.folder().join("id.pub"), &["-n", "somebody"]).unwrap();
    open(settings(&sshd, &[]).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_killed_gateway_ends_the_session_and_what_is_asked_of_it() {
    let mut sshd = Sshd::start().unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    let forward = settings.forwards[0].clone();
    let session = open(settings).await.unwrap();
    sshd.kill();
    let ended = timeout(PATIENCE, session.ended()).await.unwrap();
    assert!(!ended.to_string().is_empty());
    assert!(session.probe(PATIENCE).await.is_err());
    let error = session.forward(&forward).await.unwrap_err();
    assert!(matches!(error, ForwardError::Lost(_)), "{error}");
}

#[tokio::test]
async fn a_silent_gateway_is_noticed_by_keep_alive_or_stall_timer() {
    let sshd = Sshd::start().unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.keepalive_interval = Duration::from_millis(200);
    settings.keepalive_max = 2;
    settings.stall_timeout = Duration::from_secs(1);
    let session = open(settings).await.unwrap();
    sshd.signal("STOP").unwrap();
    let ended = timeout(PATIENCE, session.ended()).await;
    sshd.signal("CONT").unwrap();
    let text = ended.unwrap().to_string();
    assert!(
        text.contains("keep-alives") || text.contains("stalled"),
        "{text}"
    );
}

/// A server that sends `greeting` to everybody and then says nothing.
async fn impostor(greeting: &'static [u8]) -> TcpServer {
    let server = TcpServer::start(move |mut stream| async move {
        let _ = stream.write_all(greeting).await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    });
    server.await.unwrap()
}

async fn open_at(sshd: &Sshd, server: &TcpServer) -> SessionOpenError {
    let mut settings = settings(sshd, &[]).unwrap();
    settings.gateways = vec![server.addr.to_string().parse().unwrap()];
    settings.login_timeout = Duration::from_secs(2);
    open(settings).await.err().unwrap()
}

#[tokio::test]
async fn what_is_not_ssh_is_told_by_what_it_said() {
    let sshd = Sshd::start().unwrap();
    let http = impostor(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").await;
    let error = open_at(&sshd, &http).await;
    assert!(matches!(error, SessionOpenError::NotSsh { .. }), "{error}");
    assert!(error.to_string().contains("HTTP/1.1 400"), "{error}");
    assert_eq!(error.retry(), RetryPace::Soon);
}

/// A server that is silent from the start or after its banner runs into the deadline of that step.
#[tokio::test]
async fn a_silent_server_runs_into_the_deadline() {
    let sshd = Sshd::start().unwrap();
    for (greeting, expected) in [
        (b"".as_slice(), SessionOpenStep::Banner),
        (b"SSH-2.0-Mute\r\n", SessionOpenStep::KeyExchange),
    ] {
        match open_at(&sshd, &impostor(greeting).await).await {
            SessionOpenError::Timeout { step, .. } => assert_eq!(step, expected),
            other => panic!("{other}"),
        }
    }
}

#[tokio::test]
async fn a_gateway_with_old_algorithms_only_is_told_apart() {
    let sshd = Sshd::with(&["Ciphers aes128-cbc"]).unwrap();
    let error = open(settings(&sshd, &[]).unwrap()).await.err().unwrap();
    assert!(
        matches!(error, SessionOpenError::KeyExchange { .. }),
        "{error}"
    );
    assert!(error.to_string().contains("aes128-cbc"), "{error}");
}

#[tokio::test]
async fn a_session_given_up_while_it_opens_leaves_nothing_behind() {
    let mute = impostor(b"SSH-2.0-Mute\r\n").await;
    let sshd = Sshd::start().unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.gateways = vec![mute.addr.to_string().parse().unwrap()];
    // No other timer may end it first.
    settings.keepalive_interval = Duration::from_secs(3600);
    settings.login_timeout = Duration::from_secs(3600);
    settings.stall_timeout = Duration::from_secs(3600);
    let runtime = tokio::runtime::Handle::current().metrics();
    let before = runtime.num_alive_tasks();
    let opening = open(settings);
    assert!(timeout(Duration::from_millis(300), opening).await.is_err());
    let ended = || runtime.num_alive_tasks() <= before;
    until_true("its tasks to end", ended).await.unwrap();
}

#[tokio::test]
async fn forwards_with_equal_names_are_not_mixed_up_after_a_refusal() {
    // First our listener takes the port, and the forward is refused; then it is bound on the same session.
    let sshd = Sshd::start().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let forward = RemoteForward {
        name: "f0".into(),
        bind: address.parse().unwrap(),
    };
    let session = open(settings(&sshd, &[]).unwrap()).await.unwrap();
    assert!(matches!(
        session.forward(&forward).await,
        Err(ForwardError::Refused(_))
    ));
    drop(taken);
    session.forward(&forward).await.unwrap();
    echo_at(&address, "now").await.unwrap();
}

/// sshd with host keys of three types; it presents the first that the client asks for.
fn three_host_keys() -> Sshd {
    Sshd::prepare(
        |dir| {
            keygen(&dir.join("rsa"), &["-t", "rsa", "-b", "2048"], "")?;
            keygen(&dir.join("ecdsa"), &["-t", "ecdsa"], "")
        },
        &["HostKey {dir}/rsa", "HostKey {dir}/ecdsa"],
    )
    .unwrap()
}

fn connections(sshd: &Sshd) -> usize {
    sshd.log().matches("Connection from").count()
}

#[tokio::test]
async fn a_pinned_key_of_any_type_is_asked_for_before_any_alarm() {
    for name in ["rsa", "ecdsa", "host"] {
        let sshd = three_host_keys();
        let print = fingerprint(&sshd.folder().join(format!("{name}.pub"))).unwrap();
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.host_keys = Arc::new(HostKeys::new(vec![print.clone()], None).unwrap());
        let session = open(settings.clone()).await.unwrap();
        assert_eq!(session.negotiated().unwrap().host_key, print, "{name}");
        let before = connections(&sshd);
        let _again = open(settings).await.unwrap();
        assert_eq!(
            connections(&sshd),
            before + 1,
            "{name}: asked for first now"
        );
    }
}

/// The error names the key of each type.
#[tokio::test]
async fn an_unpinned_key_is_refused_in_every_type() {
    let sshd = three_host_keys();
    let other = fingerprint(&sshd.folder().join("id.pub")).unwrap();
    let mut settings = settings(&sshd, &[]).unwrap();
    settings.host_keys = Arc::new(HostKeys::new(vec![other], None).unwrap());
    let refused = refused(open(settings).await);
    assert_eq!(refused.reason, HostKeyRefusalReason::Changed);
    for name in ["rsa", "ecdsa", "host"] {
        let print = fingerprint(&sshd.folder().join(format!("{name}.pub"))).unwrap();
        assert!(refused.presented.contains(&print), "{name}: {refused}");
    }
    assert!(!sshd.log().contains("Accepted"), "{}", sshd.log());
}

#[tokio::test]
async fn a_certificate_that_permits_no_forward_is_named_as_the_reason() {
    let sshd = Sshd::prepare(
        |dir| {
            keygen(&dir.join("ca"), &["-t", "ed25519"], "")?;
            let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
            certify(
                &dir.join("ca"),
                &dir.join("id.pub"),
                &["-n", &user, "-O", "clear"],
            )?;
            fs::write(dir.join("authorized_keys"), "")?;
            Ok(())
        },
        &["TrustedUserCAKeys {dir}/ca.pub"],
    )
    .unwrap();
    let settings = settings(&sshd, &["127.0.0.1:0"]).unwrap();
    let forward = settings.forwards[0].clone();
    let session = open(settings).await.unwrap();
    let error = session.forward(&forward).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not permit port forwarding"),
        "{error}"
    );
    assert!(
        error.remedy().contains("permit-port-forwarding"),
        "{}",
        error.remedy()
    );
}

#[tokio::test]
async fn foreign_lines_in_known_hosts_are_skipped_as_ssh_does() {
    let sshd = Sshd::start().unwrap();
    let key = line(
        &format!("[127.0.0.1]:{}", sshd.port()),
        &sshd.folder().join("host.pub"),
    );
    let foreign: [&[u8]; 6] = [
        b"old.example 1024 35 1234567890123",
        b"pq.example ssh-xmss@openssh.com AAAAFHNzaC14bXNzQG9wZW5zc2guY29tAAAAAA==",
        b"<<<<<<< HEAD",
        b"# f\xfcr Jira",
        b"\xef\xbb\xbf# saved by an editor",
        b"half.example ssh-ed25519",
    ];
    for foreign in foreign {
        let text = [foreign, b"\n", key.as_bytes()].concat();
        let path = sshd.folder().join("hosts");
        fs::write(&path, &text).unwrap();
        let mut ssh = std::process::Command::new("ssh");
        ssh.args(["-F", "none", "-p", &sshd.port().to_string(), "-N"]);
        for option in [
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "PreferredAuthentications=none",
            &format!("UserKnownHostsFile={}", path.display()),
        ] {
            ssh.args(["-o", option]);
        }
        ssh.arg("127.0.0.1");
        let said = String::from_utf8_lossy(&ssh.output().unwrap().stderr).into_owned();
        assert!(
            said.contains("Permission denied"),
            "ssh trusts the host: {said}"
        );
        let mut settings = settings(&sshd, &[]).unwrap();
        settings.host_keys = known_hosts(&String::from_utf8_lossy(&text));
        open(settings).await.unwrap();
    }
}

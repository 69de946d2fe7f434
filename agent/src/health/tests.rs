#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
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

#[tokio::test]
async fn both_layers_are_proven_by_what_jira_says() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    assert!(fixture.health.probe().await);
    let told = fixture.jira.snapshot();
    assert_eq!(told.state, ProofState::Proven);
    assert_eq!(told.detail.unwrap(), "RUNNING, version 9.12.4");
    let told = fixture.login.snapshot();
    assert_eq!(told.state, ProofState::Proven);
    assert_eq!(told.detail.unwrap(), "user acme-bot");
    let asked = jira.asked();
    assert_eq!(asked.len(), 4);
    for head in &asked {
        assert!(head.contains("host: jira.test\r\n"), "{head}");
        assert_eq!(
            head.contains("authorization: Bearer s3cret\r\n"),
            head.contains("/myself") || head.contains("/rest/pat/"),
            "the credential goes where it is needed alone: {head}"
        );
    }
}

#[tokio::test]
async fn all_probes_meet_one_node_and_no_session_answers_for_the_credential() {
    let jira = Jira::healthy();
    jira.answers(
        "/jira/rest/api/2/myself",
        200,
        "x-ausername: acme-bot\r\nset-cookie: SERVERID=n1; path=/\r\n\
         set-cookie: JSESSIONID=S1; Path=/jira; HttpOnly\r\n",
        r#"{"name":"acme-bot"}"#,
    );
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    assert!(fixture.health.probe().await);
    jira.asked();
    fixture.jira.failed(ProofState::Degraded, "x", "y");
    fixture.login.failed(ProofState::Failed, "x", "y");
    assert!(fixture.health.probe().await);
    let asked = jira.asked();
    assert!(asked.len() >= 2, "{asked:?}");
    for head in &asked {
        let cookies = match head.contains("authorization:") {
            true => "cookie: SERVERID=n1\r\n",
            false => "cookie: JSESSIONID=S1; SERVERID=n1\r\n",
        };
        assert!(head.contains(cookies), "{head}");
    }
}

/// Only while nothing waits for a socket: a paused clock runs ahead of those.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn when_a_token_ends_is_asked_a_few_times_a_day_and_at_once_for_a_new_one() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    let http = fixture.health.http.as_ref().unwrap();
    let login = http.login.clone();
    assert!(matches!(login.expiries()[0].end, ExpiryTime::Unknown(_)));
    let asked = || {
        let asked = jira.asked();
        asked.iter().filter(|h| h.contains("/rest/pat/")).count()
    };
    assert!(fixture.health.probe().await);
    assert_eq!(asked(), 1);
    let end = login.expiries()[0].end.clone();
    assert_eq!(Some(end), timestamps::day("2099-01-31").map(ExpiryTime::At));
    fixture.health.probe().await;
    assert_eq!(asked(), 0);

    // A Jira that refuses this says nothing about the login.
    jira.answers("/jira/rest/pat/latest/tokens", 401, "", "");
    pass(Duration::from_secs(6 * 3600)).await;
    assert!(fixture.health.probe().await);
    assert_eq!(asked(), 1);
    assert!(matches!(&login.expiries()[0].end, ExpiryTime::Unknown(why) if why.contains("401")));
    assert_eq!(login.refused(), None);

    let new = fixture.folder.path().join("new");
    std::fs::write(&new, "an0ther").unwrap();
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(&new, fixture.folder.path().join("secret")).unwrap();
    pass(LONGEST_INTERVAL * 2).await;
    fixture.login.failed(ProofState::Failed, "x", "y");
    assert!(fixture.health.probe().await);
    assert_eq!(asked(), 1);
    fixture.health.probe().await;
    assert_eq!(asked(), 0);
}

#[tokio::test]
async fn what_traffic_has_just_proven_is_not_asked() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    // Whether Jira takes the credential at all is the probe's to find out, once.
    assert!(fixture.health.probe().await);
    jira.asked();
    pass(LONGEST_INTERVAL).await;
    fixture.jira.proven(None);
    fixture.login.proven(None);
    pass(ProbeCadence::JIRA.jira_fresh / 2).await;
    assert!(fixture.health.probe().await);
    assert!(jira.asked().is_empty());
    pass(Duration::from_secs(6 * 3600)).await;
    fixture.jira.proven(None);
    fixture.login.proven(None);
    assert!(fixture.health.probe().await);
    // But when the token ends no traffic tells.
    let asked = jira.asked();
    assert!(asked.iter().all(|h| h.contains("/rest/pat/")), "{asked:?}");
    fixture.login.failed(ProofState::Failed, "x", "y");
    assert!(fixture.health.probe().await);
    // Jira beside the login, which may wait for long.
    let asked = jira.asked();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().any(|head| head.contains("/myself")));
}

#[tokio::test]
async fn in_pass_through_mode_nobody_logs_in() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::PassThrough);
    assert!(fixture.health.probe().await);
    assert!(jira.asked().iter().all(|head| !head.contains("/myself")));
    assert_eq!(fixture.login.snapshot().state, ProofState::Unknown);
}

#[tokio::test]
async fn each_condition_of_jira_has_its_cause_and_remedy() {
    for (status, headers, body, cause, remedy) in [
        (200, "", r#"{"state":"STARTING"}"#, "is starting", "wait"),
        (503, "", r#"{"state":"STARTING"}"#, "is starting", "wait"),
        (
            503,
            "",
            r#"{"state":"MAINTENANCE"}"#,
            "maintenance",
            "Indexing",
        ),
        (500, "", r#"{"state":"ERROR"}"#, "error state", "log"),
        (502, "", "<html>", "502", "proxy"),
        (404, "", "nope", "context path", "upstream"),
        (200, "", "<html>It works!", "not Jira", "host, port"),
        (
            302,
            "location: https://jira.corp.example/jira/status?token=s3cret\r\n",
            "",
            "redirects to https://jira.corp.example/jira/status",
            "https",
        ),
    ] {
        let jira = Jira::healthy();
        jira.answers("/jira/status", status, headers, body);
        // What answers for the status page answers for the rest, too.
        jira.answers("/jira/rest/api/2/serverInfo", status, headers, body);
        let mut fixture = health(settings(jira.serve(None).await), Mode::PassThrough);
        assert!(!fixture.health.probe().await);
        let told = fixture.jira.snapshot();
        let state = match status {
            // No request can pass.
            404 => ProofState::Failed,
            _ => ProofState::Degraded,
        };
        assert_eq!(told.state, state);
        let (told_cause, told_remedy) = (told.cause.unwrap(), told.remedy.unwrap());
        assert!(told_cause.contains(cause), "{told_cause}");
        assert!(told_remedy.contains(remedy), "{told_remedy}");
        assert!(!told_cause.contains("s3cret"), "{told_cause}");
    }
}

#[tokio::test]
async fn a_status_page_that_is_not_jiras_proves_nothing_and_spoils_nothing() {
    let html = "content-type: text/html\r\n";
    for (status, headers) in [
        (302, "location: https://idp.example/saml\r\n"),
        (401, "www-authenticate: Negotiate\r\n"),
        (403, html),
        (404, ""),
        (429, "retry-after: 7\r\n"),
    ] {
        let jira = Jira::healthy();
        jira.answers("/jira/status", status, headers, "");
        let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
        assert!(fixture.health.probe().await);
        let told = fixture.jira.snapshot();
        assert_eq!(told.state, ProofState::Proven);
        let detail = told.detail.unwrap();
        assert!(detail.contains(&format!("does not ({status})")), "{detail}");
        assert!(detail.contains("version 9.12.4"), "{detail}");
    }
}

/// Jira names the user in each answer for `myself`. What looks like a success and names nobody is no proof of the login.
#[tokio::test]
async fn a_success_that_names_nobody_proves_no_login() {
    let json = "content-type: application/json\r\n";
    for (status, headers, body) in [
        (200, json, "{}"),
        (200, json, r#"{"error":"blocked","support_id":"17"}"#),
        (
            200,
            "content-type: application/json\r\nx-arequestid: 1x1x1\r\n",
            "[]",
        ),
        (
            200,
            "content-type: text/html\r\nx-arequestid: 1x1x1\r\n",
            "<html><form>",
        ),
        (200, "", ""),
        (204, "", ""),
    ] {
        for mode in [Mode::Pat, Mode::Basic] {
            let jira = Jira::healthy();
            jira.answers("/jira/rest/api/2/myself", status, headers, body);
            let mut fixture = health(settings(jira.serve(None).await), mode);
            assert!(!fixture.health.probe().await, "{status} {headers} {body}");
            let told = fixture.login.snapshot();
            assert_eq!(told.state, ProofState::Unknown, "{status} {headers} {body}");
            let cause = told.cause.unwrap();
            assert!(cause.contains("names no user"), "{cause}");
            assert_eq!(told.detail, None);
        }
    }
}

#[tokio::test]
async fn what_a_cache_kept_proves_nothing() {
    for kept in [
        "age: 3600\r\nx-arequestid: 1x1x1\r\n",
        "x-cache-status: HIT\r\nx-arequestid: 1x1x1\r\n",
        "x-cache: HIT from squid\r\n",
    ] {
        let jira = Jira::healthy();
        let ours = format!("{kept}x-ausername: acme-bot\r\n");
        jira.answers("/jira/status", 200, kept, r#"{"state":"RUNNING"}"#);
        jira.answers(
            "/jira/rest/api/2/myself",
            200,
            &ours,
            r#"{"name":"acme-bot"}"#,
        );
        // Jira itself, behind the cache.
        for (below_rest, jiras, proven) in [
            (200, "", ProofState::Proven),
            (504, "", ProofState::Degraded),
            (200, kept, ProofState::Degraded),
        ] {
            let info = "/jira/rest/api/2/serverInfo";
            let body = match below_rest {
                200 => r#"{"version":"9.12.4"}"#,
                _ => "<html>",
            };
            jira.answers(info, below_rest, jiras, body);
            let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
            fixture.health.probe().await;
            let told = fixture.jira.snapshot();
            assert_eq!(told.state, proven, "{kept} {below_rest} {jiras}");
            if proven != ProofState::Proven {
                assert!(told.cause.unwrap().contains("a cache in front of Jira"));
            }
            let told = fixture.login.snapshot();
            assert_eq!(told.state, ProofState::Unknown, "{kept}");
            assert!(told.cause.unwrap().contains("a cache in front of Jira"));
        }
    }
}

/// A request of the vendor met a failure: the status page alone may be well.
#[tokio::test]
async fn a_doubted_jira_is_asked_below_rest_as_well() {
    let jira = Jira::healthy();
    let mut fixture = health(settings(jira.serve(None).await), Mode::PassThrough);
    assert!(fixture.health.probe().await);
    jira.answers("/jira/rest/api/2/serverInfo", 503, "", "<html>");
    fixture.jira.doubt();
    assert!(!fixture.health.probe().await);
    let told = fixture.jira.snapshot();
    assert_eq!(told.state, ProofState::Degraded);
    let cause = told.cause.unwrap();
    assert!(cause.contains("below /rest"), "{cause}");
}

#[tokio::test]
async fn what_stands_before_jira_is_named_for_both_layers_alike() {
    for (status, headers, body, part, login, then) in [
        (
            302,
            "location: https://idp.example/saml?x=s3cret\r\n",
            "",
            "single sign-on",
            ProofState::Unknown,
            ProofState::Failed,
        ),
        (
            200,
            "content-type: text/html\r\n",
            "<html>",
            "not Jira",
            ProofState::Unknown,
            ProofState::Failed,
        ),
        (
            401,
            "www-authenticate: Negotiate\r\nwww-authenticate: NTLM\r\n",
            "<html>",
            "Negotiate, NTLM",
            ProofState::Failed,
            // The login layer says already that nothing passes.
            ProofState::Degraded,
        ),
        (
            403,
            "content-type: text/html\r\n",
            "<html>",
            "firewall",
            ProofState::Unknown,
            ProofState::Failed,
        ),
        (
            429,
            "retry-after: 7\r\n",
            "{}",
            "in 7 s",
            ProofState::Unknown,
            ProofState::Degraded,
        ),
        (
            503,
            "",
            "",
            "answers 503",
            ProofState::Unknown,
            ProofState::Degraded,
        ),
        (
            407,
            "",
            "",
            "(407)",
            ProofState::Unknown,
            ProofState::Failed,
        ),
    ] {
        let jira = Jira::default();
        for path in [
            "/jira/status",
            "/jira/rest/api/2/serverInfo",
            "/jira/rest/api/2/myself",
        ] {
            jira.answers(path, status, headers, body);
        }
        let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
        assert!(!fixture.health.probe().await);
        let (jira, told) = (fixture.jira.snapshot(), fixture.login.snapshot());
        assert_eq!(
            (jira.state, told.state),
            (ProofState::Degraded, login),
            "{status}"
        );
        // What lasts is no odd answer: no request can pass.
        assert!(!fixture.health.probe().await);
        let after = fixture.jira.snapshot();
        assert_eq!(after.state, then, "{status}");
        assert_eq!((&after.cause, &after.remedy), (&jira.cause, &jira.remedy));
        let cause = jira.cause.unwrap();
        assert!(cause.contains(part), "{cause}");
        let login_cause = told.cause.unwrap();
        let same = match status {
            200 => "web page",
            503 => "503",
            _ => part,
        };
        assert!(login_cause.contains(same), "{login_cause}");
        for remedy in [jira.remedy, told.remedy] {
            let remedy = remedy.unwrap();
            assert!(!remedy.is_empty() && !remedy.contains("s3cret"), "{remedy}");
            assert!(!remedy.contains("Personal Access Tokens"), "{remedy}");
        }
    }
}

/// Where our own credential brings an answer of Jira's, requests pass; so they may with the vendor's own.
#[tokio::test]
async fn single_sign_on_before_the_status_page_alone_is_degraded_for_as_long_as_it_lasts() {
    for mode in [Mode::Pat, Mode::PassThrough] {
        let injects = matches!(mode, Mode::Pat);
        let jira = Jira::default();
        let idp = "location: https://idp.example/saml\r\n";
        for path in ["/jira/status", "/jira/rest/api/2/serverInfo"] {
            jira.answers(path, 302, idp, "");
        }
        match injects {
            true => jira.answers(MYSELF, 200, "x-ausername: acme-bot\r\n", "{}"),
            false => jira.answers(MYSELF, 302, idp, ""),
        }
        let mut fixture = health(settings(jira.serve(None).await), mode);
        for _ in 0..4 {
            assert!(!fixture.health.probe().await);
            assert_eq!(
                fixture.jira.snapshot().state,
                ProofState::Degraded,
                "{injects}"
            );
        }
    }
}

#[tokio::test]
async fn a_round_that_jira_answered_breaks_the_row_of_those_that_it_did_not() {
    let jira = Jira::default();
    let idp = "location: https://idp.example/saml\r\n";
    let paths = ["/jira/status", "/jira/rest/api/2/serverInfo", MYSELF];
    let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
    for _ in 0..3 {
        for path in paths {
            jira.answers(path, 302, idp, "");
        }
        assert!(!fixture.health.probe().await);
        assert_eq!(fixture.jira.snapshot().state, ProofState::Degraded);
        jira.answers(MYSELF, 200, "x-ausername: acme-bot\r\n", "{}");
        fixture.login.unknown("once more", "");
        assert!(!fixture.health.probe().await);
        assert_eq!(fixture.jira.snapshot().state, ProofState::Degraded);
        fixture.login.unknown("once more", "");
    }
}

/// As nginx and Tomcat answer, and as a server that just hangs up.
#[tokio::test]
async fn plain_http_to_a_port_that_speaks_tls_is_asked_about() {
    for text in [
        "HTTP/1.1 400 X\r\ncontent-length: 0\r\n\r\n",
        "",
        "\x15\x03\x01\0\x02\x02\x0a",
    ] {
        let jira = Jira::healthy();
        lock(&jira.answers).insert("/jira/status", text.to_owned());
        let mut fixture = health(settings(jira.serve(None).await), Mode::Pat);
        assert!(!fixture.health.probe().await);
        let remedy = fixture.jira.snapshot().remedy.unwrap();
        assert!(
            remedy.contains("https:// in upstream"),
            "{text:?}: {remedy}"
        );
    }
}

#[tokio::test]
async fn a_wrong_context_path_is_a_failure_with_the_line_to_write() {
    let jira = Jira::healthy();
    let address = jira.serve(None).await;
    let mut settings = upstream::Settings::new("http://jira.test/wrong".parse().unwrap());
    settings.address = Some(address);
    let mut fixture = health(settings, Mode::Pat);
    assert!(!fixture.health.probe().await);
    let told = fixture.jira.snapshot();
    assert_eq!(told.state, ProofState::Failed);
    assert_eq!(
        told.remedy.unwrap(),
        "write upstream = \"http://jira.test/jira\""
    );
}

#[tokio::test]
async fn a_changed_secret_is_unproven_and_probed_within_two_seconds_either_way() {
    let jira = Jira::healthy();
    let Fixture {
        health,
        login: layer,
        folder,
        ..
    } = health(settings(jira.serve(None).await), Mode::Pat);
    let stop = CancellationToken::new();
    let probing = tokio::spawn(health.run(stop.clone()));
    let reaches = async |state| {
        let reached = async {
            while layer.snapshot().state != state {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(15), reached)
            .await
            .unwrap_or_else(|_| panic!("never {state:?}: {:?}", layer.snapshot()));
    };
    reaches(ProofState::Proven).await;
    for (status, state) in [(401, ProofState::Failed), (200, ProofState::Proven)] {
        jira.answers(
            "/jira/rest/api/2/myself",
            status,
            "x-arequestid: 1x1x1\r\n",
            r#"{"name":"acme-bot"}"#,
        );
        let new = folder.path().join("new");
        std::fs::write(&new, format!("secret-for-{status}")).unwrap();
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::rename(&new, folder.path().join("secret")).unwrap();
        let begun = std::time::Instant::now();
        reaches(state).await;
        // Two seconds on a quiet machine; far below the half minute of the regular probe on any.
        assert!(begun.elapsed() < Duration::from_secs(10), "{state:?}");
    }
    stop.cancel();
    probing.await.unwrap();
}

#[tokio::test]
async fn a_jira_that_is_not_reached_is_told_with_the_step_that_failed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let unresolved = upstream::Settings::new("http://no-such-host.invalid/jira".parse().unwrap());
    for (settings, cause) in [
        (settings(address), "refused the connection"),
        (unresolved, "\"no-such-host.invalid\" does not resolve"),
    ] {
        let mut fixture = health(settings, Mode::Pat);
        assert!(!fixture.health.probe().await);
        let told = fixture.jira.snapshot();
        assert_eq!(told.state, ProofState::Failed);
        assert!(told.cause.as_ref().unwrap().contains(cause), "{told:?}");
        // Nothing is known of the login.
        assert_eq!(fixture.login.snapshot().state, ProofState::Unknown);
    }
}

#[tokio::test]
async fn a_refused_password_is_sent_once_however_often_is_probed() {
    let jira = Jira::healthy();
    jira.answers(
        "/jira/rest/api/2/myself",
        401,
        "x-seraph-loginreason: AUTHENTICATED_FAILED\r\n",
        "",
    );
    let mut fixture = health(settings(jira.serve(None).await), Mode::Basic);
    for _ in 0..5 {
        assert!(!fixture.health.probe().await);
    }
    let logins = jira.asked();
    let logins = logins.iter().filter(|head| head.contains("/myself"));
    assert_eq!(logins.count(), 1);
    assert_eq!(fixture.login.snapshot().state, ProofState::Failed);
}

#[tokio::test]
async fn basic_switched_off_is_named_from_the_body() {
    let jira = Jira::healthy();
    jira.answers(
        "/jira/rest/api/2/myself",
        403,
        "content-type: text/plain\r\n",
        r#"{"message":"Basic Authentication has been disabled on this instance."}"#,
    );
    let mut fixture = health(settings(jira.serve(None).await), Mode::Basic);
    assert!(!fixture.health.probe().await);
    let told = fixture.login.snapshot();
    assert!(told.cause.unwrap().contains("switched off"));
    assert!(told.remedy.unwrap().contains("pat"));
}

#[tokio::test]
async fn where_a_proxy_takes_the_user_header_away_the_body_names_the_user() {
    let jira = Jira::healthy();
    jira.answers("/jira/rest/api/2/myself", 200, "", r#"{"name":"acme-bot"}"#);
    let address = jira.serve(None).await;
    let mut fixture = health(settings(address), Mode::Basic);
    assert!(fixture.health.probe().await);
    assert_eq!(fixture.login.snapshot().detail.unwrap(), "user acme-bot");
    jira.answers("/jira/rest/api/2/myself", 200, "", r#"{"name":"admin"}"#);
    let mut fixture = health(settings(address), Mode::Basic);
    assert!(!fixture.health.probe().await);
    assert!(fixture.login.snapshot().cause.unwrap().contains("admin"));
}

#[tokio::test]
async fn an_endless_answer_is_read_to_its_bound_alone() {
    let jira = Jira::default();
    // More is announced than ever comes: whoever reads on meets a broken answer.
    let endless = format!(
        "HTTP/1.1 200 X\r\ncontent-length: 99999999\r\n\r\n{}",
        "x".repeat(1 << 20)
    );
    lock(&jira.answers).insert("/jira/status", endless);
    let mut fixture = health(settings(jira.serve(None).await), Mode::PassThrough);
    assert!(!fixture.health.probe().await);
    assert!(fixture.jira.snapshot().cause.unwrap().contains("not Jira"));
}

#[tokio::test]
async fn tls_is_verified_as_on_the_path_with_name_and_address_overridden() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&key).unwrap().der().clone();
    let issuer = Issuer::new(params, key);
    let leaf_key = KeyPair::generate().unwrap();
    for (name, url, overridden) in [
        ("jira.test", "https://jira.test/jira", None),
        ("inner.test", "https://jira.test/jira", Some("inner.test")),
        ("inner.test", "https://192.0.2.1/jira", Some("inner.test")),
        ("192.0.2.1", "https://192.0.2.1/jira", None),
    ] {
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let leaf = leaf.signed_by(&leaf_key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![leaf.der().clone()],
                PrivatePkcs8KeyDer::from(leaf_key.serialize_der()).into(),
            )
            .unwrap();
        let jira = Jira::healthy();
        let mut settings = upstream::Settings::new(url.parse().unwrap());
        settings.address = Some(jira.serve(Some(config.into())).await);
        settings.tls.roots = TrustRoots::None;
        settings.tls.extra_roots = vec![ca.clone()];
        settings.tls.server_name = overridden.map(str::to_owned);
        let mut fixture = health(settings.clone(), Mode::Pat);
        assert!(
            fixture.health.probe().await,
            "{url}: {:?}",
            fixture.jira.snapshot()
        );
        settings.tls.server_name = Some("other.test".to_owned());
        let mut fixture = health(settings, Mode::Pat);
        assert!(!fixture.health.probe().await);
        let cause = fixture.jira.snapshot().cause.unwrap();
        assert!(cause.contains("\"other.test\""), "{cause}");
    }
}

#[tokio::test]
async fn a_tcp_upstream_is_connected_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = upstream::Settings::new(format!("tcp://{address}").parse().unwrap());
    let mut fixture = health(settings.clone(), Mode::PassThrough);
    assert!(fixture.health.probe().await);
    assert_eq!(
        fixture.jira.snapshot().detail.unwrap(),
        "accepts connections"
    );
    drop(listener);
    let mut fixture = health(settings, Mode::PassThrough);
    assert!(!fixture.health.probe().await);
}

#[tokio::test]
async fn it_probes_at_once_and_stops_when_told() {
    let jira = Jira::healthy();
    let fixture = health(settings(jira.serve(None).await), Mode::Pat);
    let stop = CancellationToken::new();
    let running = tokio::spawn(fixture.health.run(stop.clone()));
    let proven = async {
        while fixture.login.snapshot().state != ProofState::Proven {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), proven)
        .await
        .unwrap();
    stop.cancel();
    tokio::time::timeout(Duration::from_secs(20), running)
        .await
        .unwrap()
        .unwrap();
}

#[test]
fn after_failures_it_looks_sooner_and_then_less_and_less_often() {
    let seconds: Vec<u64> = (1..8)
        .map(|failures| RETRY.after(failures).as_secs())
        .collect();
    assert_eq!(seconds, [2, 4, 8, 16, 30, 30, 30]);
    assert_eq!(RETRY.after(u32::MAX).as_secs(), 30);
}

/// Whenever traffic proved it last, a Jira that hangs from then on is probed early enough to be named within 10 s.
#[test]
fn jira_is_probed_before_its_proof_is_six_seconds_old() {
    let cadence = ProbeCadence::JIRA;
    for tenths in 0..=50 {
        for random in [0.0, 0.5, 1.0] {
            let age = Duration::from_millis(tenths * 100);
            // A probe that is due while the proof is fresh is skipped.
            let pause = match age < cadence.jira_fresh {
                true => cadence.pause(age, random),
                false => Duration::ZERO,
            };
            assert!(age + pause <= Duration::from_secs(6), "{age:?} {pause:?}");
            assert!(age + pause >= cadence.jira_fresh, "{age:?} {pause:?}");
        }
    }
}

/// One line in Jira's access log every five seconds, and the credential no more often than with the other cadence.
#[test]
fn the_status_page_is_probed_often_and_the_credential_seldom() {
    let probes = |cadence: ProbeCadence| {
        let (mut jira, mut login, mut counts) = (Duration::ZERO, Duration::ZERO, (0, 0));
        let mut now = Duration::ZERO;
        while now < Duration::from_secs(600) {
            now += cadence.pause(now - jira, 1.0);
            if now - jira >= cadence.jira_fresh {
                (jira, counts.0) = (now, counts.0 + 1);
            }
            if now - login >= cadence.login_fresh {
                (login, counts.1) = (now, counts.1 + 1);
            }
        }
        counts
    };
    assert_eq!(probes(ProbeCadence::JIRA), (120, 24));
    assert_eq!(probes(ProbeCadence::SELDOM), (20, 20));
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

/// Jira is back, and its database is cold: neither the layer nor the vendor waits for the login.
#[tokio::test]
async fn what_jira_answers_counts_before_the_login_is_answered() {
    let jira = Jira::healthy();
    jira.hangs(MYSELF);
    let address = jira.serve(None).await;
    let upstream = Arc::new(Upstream::new(settings(closed_port().await)).unwrap());
    open_breaker(&upstream).await;
    let fixture = health(settings(address), Mode::Pat);
    let mut health = fixture.health.watching(Some(upstream.clone()));
    tokio::select! {
        _ = health.probe() => panic!("the login was answered"),
        () = until(|| {
            fixture.jira.snapshot().state == ProofState::Proven
                && !upstream.protection().breaker_open
        }) => {}
    }
}

async fn until(is_so: impl Fn() -> bool) {
    while !is_so() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Cloud, which is probed seldom while all is well.
#[tokio::test]
async fn while_requests_are_held_back_cloud_is_probed_every_few_seconds_too() {
    let mut settings = settings(closed_port().await);
    settings.cloud = Some(upstream::CloudRoute::Site);
    let upstream = Arc::new(Upstream::new(settings.clone()).unwrap());
    let fixture = health(settings, Mode::PassThrough);
    let health = fixture.health.watching(Some(upstream.clone()));
    fixture.jira.failed(ProofState::Failed, "x", "y");
    assert_eq!(health.pause_after(9), LONGEST_INTERVAL);
    open_breaker(&upstream).await;
    assert_eq!(health.pause_after(9), ProbeCadence::JIRA.interval);
    assert_eq!(health.pause_after(1), FIRST_PAUSE);
}

/// The status page may be answered while nothing else is: it alone ends no silence and no pause.
#[tokio::test]
async fn while_requests_are_held_back_the_probe_asks_rest_too() {
    let jira = Jira::healthy();
    let address = jira.serve(None).await;
    let upstream = Arc::new(Upstream::new(settings(closed_port().await)).unwrap());
    let Fixture {
        health,
        jira: layer,
        folder: _folder,
        ..
    } = health(settings(address), Mode::PassThrough);
    let mut health = health.watching(Some(upstream.clone()));
    let asked_rest = || {
        let asked = jira.asked();
        asked.iter().any(|head| head.contains("/serverInfo"))
    };
    // For the version, once.
    assert!(health.probe().await);
    assert!(asked_rest());
    layer.failed(ProofState::Degraded, "x", "y");
    assert!(health.probe().await);
    assert!(!asked_rest());
    open_breaker(&upstream).await;
    layer.failed(ProofState::Degraded, "x", "y");
    assert!(health.probe().await);
    assert!(asked_rest());
    assert!(!upstream.protection().breaker_open);
}

#[test]
fn what_waits_and_what_is_held_back_asks_more_than_the_status_page() {
    assert!(!proves_too_little(&ProtectionSnapshot::default()));
    let held = Some((1, Duration::from_secs(9)));
    for busy in [
        ProtectionSnapshot {
            unanswered: 1,
            ..ProtectionSnapshot::default()
        },
        ProtectionSnapshot {
            breaker_open: true,
            ..ProtectionSnapshot::default()
        },
        ProtectionSnapshot {
            held,
            ..ProtectionSnapshot::default()
        },
    ] {
        assert!(proves_too_little(&busy), "{busy:?}");
    }
}

/// However fresh the proof is that it throws doubt on.
#[tokio::test]
async fn what_a_request_met_is_looked_at_within_seconds() {
    let jira = Jira::healthy();
    let Fixture {
        health,
        jira: layer,
        folder: _folder,
        ..
    } = health(settings(jira.serve(None).await), Mode::PassThrough);
    let stop = CancellationToken::new();
    let probing = tokio::spawn(health.run(stop.clone()));
    let until = async |state| {
        while layer.snapshot().state != state {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    until(ProofState::Proven).await;
    jira.answers("/jira/status", 503, "", r#"{"state":"MAINTENANCE"}"#);
    layer.doubt();
    let seen = tokio::time::timeout(LONGEST_INTERVAL / 4, until(ProofState::Degraded)).await;
    assert!(seen.is_ok());
    stop.cancel();
    probing.await.unwrap();
}

#[tokio::test]
async fn an_administrators_word_is_probed_at_once() {
    let jira = Jira::healthy();
    let Fixture {
        health,
        login: layer,
        folder: _folder,
        ..
    } = health(settings(jira.serve(None).await), Mode::Pat);
    let login = health.http.as_ref().unwrap().login.clone();
    let stop = CancellationToken::new();
    let probing = tokio::spawn(health.run(stop.clone()));
    let proven = async || {
        while layer.snapshot().state != ProofState::Proven {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    proven().await;
    // Well before the next regular probe.
    layer.failed(ProofState::Failed, "the former failure", "wait");
    login.reset();
    let waited = tokio::time::timeout(LONGEST_INTERVAL / 3, proven()).await;
    assert!(waited.is_ok());
    stop.cancel();
    probing.await.unwrap();
}

const HANGS: &str = "hangs";
const MYSELF: &str = "/jira/rest/api/2/myself";

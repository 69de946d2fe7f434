//! The vendor's gateway of `deploy/gateway-openssh`: stock OpenSSH and HAProxy for many customers, with real agents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use agent::{
    enroll::EnrollmentToken,
    status::{ForwardState, LayerState, StatusReport},
};
use e2e::{
    enrollment::{CustomerHost, answers, jira},
    gateway::{DOMAIN, InstalledGateway, SOCKET},
    login::output_text,
    process::ChildProcess,
    raw_http::{self, RawResponse},
    recording_origin::{RecordingOrigin, issue},
    setup::RunningAgent,
    sshd::signal,
    test_env::vendor,
    wait::{until, until_true},
};
use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt,
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// A gateway with two connected customers.
struct Two {
    gateway: InstalledGateway,
    acme: RunningAgent,
    bolt: RunningAgent,
    jira_of_acme: RecordingOrigin,
    jira_of_bolt: RecordingOrigin,
}

impl Two {
    async fn start() -> Self {
        let gateway = InstalledGateway::start().unwrap();
        let jira_of_acme = RecordingOrigin::start().await.unwrap();
        let jira_of_bolt = RecordingOrigin::start().await.unwrap();
        let (acme, _) = gateway.add("acme").unwrap();
        let (bolt, _) = gateway.add("bolt").unwrap();
        let acme = gateway
            .agent("acme", &acme, &jira_of_acme.url())
            .start()
            .unwrap();
        let bolt = gateway
            .agent("bolt", &bolt, &jira_of_bolt.url())
            .start()
            .unwrap();
        acme.until_proven().await.unwrap();
        bolt.until_proven().await.unwrap();
        Self {
            gateway,
            acme,
            bolt,
            jira_of_acme,
            jira_of_bolt,
        }
    }
}

async fn ask(at: SocketAddr, host: &str, target: &str) -> RawResponse {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut answers = raw_http::exchange(at, request.as_bytes()).await.unwrap();
    answers.pop().expect("no answer at all")
}

fn host(customer: &str) -> String {
    format!("{customer}.{DOMAIN}")
}

fn comment(customer: &str, key: &str) -> String {
    format!(
        "POST /rest/api/2/issue/{key}/comment HTTP/1.1\r\nHost: {}\r\nContent-Length: 13\r\n\r\n{{\"body\":\"hi\"}}",
        host(customer)
    )
}

/// Status, type and delivery of the gateway's own answer.
fn told(answer: &RawResponse) -> (u16, String, String) {
    let body: serde_json::Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&answer.body)));
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert!(
        answer
            .header("proxy-status")
            .unwrap()
            .starts_with("jira-tunnel-gateway; error=")
    );
    assert_eq!(body["status"], answer.status);
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
    assert!(
        body["type"]
            .as_str()
            .unwrap()
            .starts_with("urn:jira-tunnel-gateway:problem:")
    );
    // The member that Jira clients show.
    let shown = body["errorMessages"][0].as_str().unwrap();
    assert!(shown.contains(body["title"].as_str().unwrap()), "{body}");
    assert!(
        body["errors"].is_object() && body["message"] == shown,
        "{body}"
    );
    let delivery = body["delivery"].as_str().unwrap().to_owned();
    (answer.status, answer.problem(), delivery)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_customer_is_reached_by_its_name_and_by_no_other() {
    let two = Two::start().await;
    let at = two.gateway.services();
    for (name, asked, other) in [
        ("acme", &two.jira_of_acme, &two.jira_of_bolt),
        ("bolt", &two.jira_of_bolt, &two.jira_of_acme),
    ] {
        let url = format!("http://{at}/rest/api/2/issue/{name}-1/comment");
        let sent = vendor()
            .post(url)
            .header("host", host(name))
            .body("{}")
            .send();
        assert_eq!(
            sent.await.unwrap().text().await.unwrap(),
            issue(&format!("{name}-1"))
        );
        assert_eq!(asked.comments().len(), 1);
        assert_eq!(other.comments().get(&format!("{name}-1")), None);
    }
    // Upper case and a port do not matter.
    let answer = ask(
        at,
        &format!("ACME.{DOMAIN}:8080"),
        "/rest/api/2/issue/DEMO-7",
    )
    .await;
    assert_eq!(String::from_utf8_lossy(&answer.body), issue("DEMO-7"));

    for stranger in ["eve", "acme.bolt", "customer-acme", "unknown"] {
        let answer = ask(at, &host(stranger), "/rest/api/2/issue/DEMO-7").await;
        assert_eq!(
            told(&answer),
            (421, "unknown-host".into(), "not_sent".into()),
            "{stranger}"
        );
    }
    let listed = two.gateway.customer(&["list"]).unwrap();
    assert_eq!(listed.matches("connected").count(), 2, "{listed}");
    let health = ask(two.gateway.monitoring(), "any", "/healthz").await;
    assert_eq!(health.status, 200);
    let metrics = ask(two.gateway.monitoring(), "any", "/metrics").await;
    assert!(String::from_utf8_lossy(&metrics.body).contains(r#"proxy="customer-acme""#));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_passes_as_the_service_sent_it() {
    let gateway = InstalledGateway::start().unwrap();
    let (key, _) = gateway.add("acme").unwrap();
    let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let to = origin.local_addr().unwrap();
    let ssh = gateway.ssh("acme", &key, &["-N", "-R", &format!("{SOCKET}:{to}")], &[]);
    let log = tempfile::NamedTempFile::new().unwrap();
    let _ssh = ChildProcess::spawn(ssh, log.path()).unwrap();
    let socket = gateway.path("/srv/jira-gateway/acme/s/jira.sock");
    until_true("the socket", || socket.exists()).await.unwrap();

    let head = format!(
        "POST /jira/rest/api/2/search?jql=a%2Fb+c&x=%7e&y=//..;z HTTP/1.1\r\nHost: {}:8080\r\n\
         Authorization: OAuth oauth_nonce=\"n%2F\", oauth_signature=\"a%2Bb%3D\"\r\nX-Twice: one\r\nX-Twice: Two,  three\r\n\
         Content-Type: application/json\r\nContent-Length: 4\r\n\r\n",
        host("acme")
    );
    let mut stream = TcpStream::connect(gateway.services()).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(b"body").await.unwrap();

    let (mut arrived, _) = origin.accept().await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\nbody") {
        assert_ne!(arrived.read_buf(&mut bytes).await.unwrap(), 0);
    }
    let lines = |text: &str| -> Vec<String> {
        // A header's name may change its case.
        let lines = text.lines().map(|line| match line.split_once(": ") {
            Some((name, value)) => format!("{}: {value}", name.to_lowercase()),
            None => line.to_owned(),
        });
        lines.collect()
    };
    let bytes = String::from_utf8(bytes).unwrap();
    assert_eq!(lines(&bytes), lines(&format!("{head}body")));

    // And the answer.
    let answer = "HTTP/1.1 201 Created\r\nX-Jira: One\r\nContent-Length: 2\r\n\r\n{}";
    arrived.write_all(answer.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"{}") {
        assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
    }
    let bytes = String::from_utf8(bytes).unwrap();
    assert_eq!(lines(&bytes), lines(answer));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_can_bind_its_own_socket_and_nothing_else() {
    let two = Two::start().await;
    let key = two.gateway.path("/etc/jira-gateway/keys/acme");
    let line = fs::read_to_string(key).unwrap();
    assert!(
        line.starts_with("restrict,port-forwarding ssh-ed25519 "),
        "{line}"
    );
    let folder = fs::metadata(two.gateway.path("/srv/jira-gateway/bolt/s")).unwrap();
    assert_eq!(folder.mode() & 0o7777, 0o2710);
    let socket = fs::metadata(two.gateway.path("/srv/jira-gateway/bolt/s/jira.sock")).unwrap();
    assert_eq!((socket.mode() & 0o777, socket.gid()), (0o660, folder.gid()));

    let (key, _) = two.gateway.add("acme").unwrap();
    // A permitted bind first: the refusals below are not caused by the test.
    refused_or_bound(&two.gateway, &key, "/s/other.sock", ForwardState::Bound).await;
    for bind in [
        "127.0.0.1:0",
        "127.0.0.1:18080",
        "[::1]:18080",
        "/bolt/s/jira.sock",
        "/srv/jira-gateway/bolt/s/jira.sock",
        "/s/../../bolt/s/jira.sock",
        "/jira.sock",
        "/tmp/jira.sock",
        "/run/jira.sock",
    ] {
        refused_or_bound(&two.gateway, &key, bind, ForwardState::Refused).await;
    }
    // No connection from the gateway, no command and no other user name is permitted.
    let inside = format!("127.0.0.1:{}", two.gateway.monitoring().port());
    let asked: [(&str, &[&str], &[&str]); 5] = [
        ("acme", &["-W", &inside], &[]),
        ("acme", &["-T"], &["true"]),
        ("acme", &["-s"], &["sftp"]),
        ("bolt", &["-N"], &[]),
        ("root", &["-N"], &[]),
    ];
    for (user, options, command) in asked {
        let mut ssh = two.gateway.ssh(user, &key, options, command);
        let done = ssh.stdin(Stdio::null()).output().unwrap();
        assert_eq!(
            done.status.code(),
            Some(255),
            "{user} {options:?} {command:?}: {done:?}"
        );
    }
    let answer = ask(
        two.gateway.services(),
        &host("bolt"),
        "/rest/api/2/issue/DEMO-7",
    )
    .await;
    assert_eq!(
        String::from_utf8_lossy(&answer.body),
        issue("DEMO-7"),
        "bolt is as it was"
    );
}

async fn refused_or_bound(
    gateway: &InstalledGateway,
    key: &Path,
    bind: &str,
    wanted: ForwardState,
) {
    let agent = gateway.agent_with_bind("acme", key, bind).start().unwrap();
    let settled = |r: &StatusReport| {
        matches!(
            r.connections[0].forwards[0].state,
            ForwardState::Bound | ForwardState::Refused
        )
    };
    let report = agent
        .until_status("an answer to the bind", settled)
        .await
        .unwrap();
    assert_eq!(report.connections[0].forwards[0].state, wanted, "{bind}");
}

/// Requests for an offline agent are answered `not_sent` while other customers are served; the agent takes its socket
/// over again.
#[tokio::test(flavor = "multi_thread")]
async fn an_offline_agent_is_reported_and_retakes_its_socket() {
    let mut two = Two::start().await;
    let at = two.gateway.services();
    two.acme.process().kill();
    let answer = offline(at).await;
    assert_eq!(
        told(&answer),
        (503, "agent-offline".into(), "not_sent".into())
    );
    assert_eq!(answer.header("retry-after"), Some("5"));
    let other = ask(at, &host("bolt"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(String::from_utf8_lossy(&other.body), issue("DEMO-7"));

    // The stale socket does not matter.
    assert!(
        two.gateway
            .path("/srv/jira-gateway/acme/s/jira.sock")
            .exists()
    );
    two.acme.restart().unwrap();
    two.acme.until_proven().await.unwrap();
    let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(String::from_utf8_lossy(&answer.body), issue("DEMO-7"));

    // A connected but dead twin does not matter either.
    signal(two.acme.process().pid(), "STOP").unwrap();
    let (key, _) = two.gateway.add("acme").unwrap();
    let new = two
        .gateway
        .agent("acme", &key, &two.jira_of_acme.url())
        .start()
        .unwrap();
    new.until_proven().await.unwrap();
    let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-8").await;
    assert_eq!(String::from_utf8_lossy(&answer.body), issue("DEMO-8"));
    drop(two.bolt);
}

/// Asks until sshd has noticed that the agent has ended.
async fn offline(at: SocketAddr) -> RawResponse {
    loop {
        let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
        if answer.status == 503 {
            return answer;
        }
        assert_eq!(told(&answer).2, "maybe_sent", "while it is noticed");
    }
}

/// A connection that breaks after the request was sent is answered `maybe_sent`, and the gateway sends nothing twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lost_after_sending_is_maybe_sent() {
    let mut two = Two::start().await;
    let at = two.gateway.services();
    // Also on a reused connection: by default HAProxy would close it silently, and the service's HTTP client might send
    // the request again.
    let mut first = kept_alive(at, &["HELD-1"]).await;
    let mut second = kept_alive(at, &["DEMO-1", "HELD-2"]).await;
    two.jira_of_acme.wait_until_held(2).await.unwrap();
    two.acme.process().kill();
    for stream in [&mut first, &mut second] {
        let answer = answer_of(stream).await;
        assert_eq!(
            told(&answer),
            (502, "agent-lost".into(), "maybe_sent".into())
        );
        assert_eq!(answer.header("retry-after"), None);
    }
    two.acme.restart().unwrap();
    two.acme.until_proven().await.unwrap();
    let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(answer.status, 200);
    let comments = two.jira_of_acme.comments();
    for key in ["HELD-1", "DEMO-1", "HELD-2"] {
        assert_eq!(comments.get(key), Some(&1), "{comments:?}");
    }
}

/// A connection on which these comments were sent one after the other; all but the last are answered.
async fn kept_alive(at: SocketAddr, keys: &[&str]) -> TcpStream {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let (last, before) = keys.split_last().unwrap();
    for key in before {
        stream
            .write_all(comment("acme", key).as_bytes())
            .await
            .unwrap();
        let answer = answer_of(&mut stream).await;
        assert_eq!(String::from_utf8_lossy(&answer.body), issue(key));
    }
    stream
        .write_all(comment("acme", last).as_bytes())
        .await
        .unwrap();
    stream
}

/// Reads one answer.
async fn answer_of(stream: &mut TcpStream) -> RawResponse {
    let mut bytes = Vec::new();
    loop {
        let read = stream.read_buf(&mut bytes).await.unwrap();
        assert_ne!(read, 0, "closed without an answer");
        if let Some(answer) = raw_http::answers(&bytes)
            .pop()
            .filter(|answer| answer.complete)
        {
            return answer;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_that_is_removed_is_cut_off_and_leaves_nothing() {
    let two = Two::start().await;
    let (gateway, at) = (&two.gateway, two.gateway.services());
    // Adding the same customer again does not affect its tunnel.
    gateway.add("acme").unwrap();
    let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(answer.status, 200);
    let before: JoinHandle<_> = tokio::spawn(slow_download(at));

    gateway.customer(&["remove", "acme"]).unwrap();
    // HAProxy loads the new list a moment later; until then the customer is offline.
    let forgotten = async || {
        let answer = ask(at, &host("acme"), "/rest/api/2/issue/DEMO-7").await;
        match told(&answer) {
            (421, kind, delivery) => Some((kind, delivery)),
            told => {
                assert_eq!(told, (503, "agent-offline".into(), "not_sent".into()));
                None
            }
        }
    };
    let forgotten = until("the new list", forgotten).await.unwrap();
    assert_eq!(forgotten, ("unknown-host".into(), "not_sent".into()));
    let refused = |r: &StatusReport| r.layers.tunnel.state == LayerState::Failed;
    let refused = two.acme.until_status("the login to be refused", refused);
    refused.await.unwrap();
    assert!(!before.await.unwrap(), "what was under way has ended");
    for path in [
        "/srv/jira-gateway/acme",
        "/etc/jira-gateway/keys/acme",
        "/etc/jira-gateway/customers/acme.cfg",
    ] {
        assert!(!gateway.path(path).exists(), "{path}");
    }
    let users = fs::read_to_string(gateway.path("/etc/passwd")).unwrap();
    assert!(!users.contains("acme") && users.contains("bolt"));
    gateway.customer(&["remove", "acme"]).unwrap();
    let answer = ask(at, &host("bolt"), "/rest/api/2/issue/DEMO-7").await;
    assert_eq!(answer.status, 200);
}

/// Whether a long download completes.
async fn slow_download(at: SocketAddr) -> bool {
    let url = format!("http://{at}/secure/attachment/500000000/x");
    let answer = vendor().get(url).header("host", host("acme")).send().await;
    match answer {
        Ok(answer) => answer
            .bytes()
            .await
            .is_ok_and(|bytes| bytes.len() == 500_000_000),
        Err(_) => false,
    }
}

#[test]
fn the_token_of_the_script_is_one_that_agent_enroll_reads() {
    let gateway = InstalledGateway::start().unwrap();
    let said = gateway.customer(&[
        "token",
        "acme",
        "gw1.vendor.example:443",
        "tls://[::1]:8443",
    ]);
    let token = EnrollmentToken::parse(&said.unwrap()).unwrap();
    let gateways: Vec<_> = token.gateways.iter().map(ToString::to_string).collect();
    assert_eq!(gateways, ["gw1.vendor.example:443", "tls://[::1]:8443"]);
    assert_eq!(token.user, "acme");
    assert_eq!(token.forward.bind.to_string(), SOCKET);
    let (_, said) = gateway.add("acme").unwrap();
    assert!(said.contains(&token.host_keys[0]), "{said}");
    assert!(token.secret.is_none());
    let week = Duration::from_secs(7 * 24 * 3600);
    token
        .check_expiry(SystemTime::now() + week - Duration::from_secs(600))
        .unwrap();
    token
        .check_expiry(SystemTime::now() + week + Duration::from_secs(600))
        .unwrap_err();
    let refused = gateway
        .customer(&["token", "acme", "gw1\",\"x:443"])
        .unwrap_err();
    assert!(
        refused.to_string().contains("is not HOST:PORT"),
        "{refused}"
    );
}

/// From the token to the first request, with the commands of the README alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_enrollment_works_from_token_to_request() {
    let (gateway, jira) = (InstalledGateway::start().unwrap(), jira().await.unwrap());
    let address = gateway.ssh_address();
    let token = gateway.customer(&["token", "hosp", &address]).unwrap();
    let customer = CustomerHost::new().unwrap();
    let text = customer.enroll_ok(token.trim(), &answers(&jira)).unwrap();
    let line = text.lines().find(|line| line.starts_with("restrict,"));
    let line = line.unwrap_or_else(|| panic!("no line for the vendor: {text}"));
    // With a line end as mail programs on Windows may add it.
    let added = gateway.customer_reads(&["add", "hosp", "-"], &format!("{line}\r\n"));
    assert!(added.unwrap().contains("hosp"));
    gateway.add("never").unwrap();

    let agent = customer.run().unwrap();
    let report = agent.until_proven().await.unwrap();
    assert_eq!(report.connections.len(), 1, "one session for one socket");
    let answer = ask(
        gateway.services(),
        &host("hosp"),
        "/jira/rest/api/2/serverInfo",
    )
    .await;
    assert_eq!(answer.status, 200);

    let checked = agent.run(&["check", "--json"]).unwrap();
    let text = output_text(&checked);
    assert_eq!(checked.status.code(), Some(0), "{text}");
    let checked: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    let steps = checked["steps"].as_array().unwrap();
    let trip = steps.iter().find(|step| step["step"] == "round-trip");
    assert_eq!(trip.unwrap()["verdict"], "skipped", "{checked:#}");

    // The metrics show who is connected.
    let shown = async || {
        let both = (up(&gateway, "hosp").await, up(&gateway, "never").await);
        (both == (Some(true), Some(false))).then_some(())
    };
    until("metrics of who is connected", shown).await.unwrap();
}

/// Whether a customer is up according to the metrics.
async fn up(gateway: &InstalledGateway, customer: &str) -> Option<bool> {
    let metrics = ask(gateway.monitoring(), "any", "/metrics").await;
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    let name = format!("haproxy_backend_status{{proxy=\"customer-{customer}\",state=\"UP\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map(|value| value == "1")
}

#[test]
fn harmful_customer_names_and_keys_are_refused() {
    let gateway = InstalledGateway::start().unwrap();
    let (key, said) = gateway.add("acme").unwrap();
    assert!(
        said.contains("/s/jira.sock") && said.contains("SHA256:"),
        "{said}"
    );
    let public = key.with_extension("pub");
    let public = public.display().to_string();
    let listed = gateway.customer(&["list"]).unwrap();
    let folder = key.parent().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let line = fs::read_to_string(&public).unwrap();
    let with_options = file("options", &format!("command=\"/bin/sh\",pty {line}"));
    let two_keys = file("two", &format!("{line}{line}"));
    let damaged = file("damaged", &line.replacen("AAAA", "AAAB", 1));
    let private = key.display().to_string();
    for (arguments, why) in [
        (["add", "root", &public], "a user of this machine already"),
        (["add", "../x", &public], "a name is"),
        (["add", "Acme", &public], "a name is"),
        (["add", "a b", &public], "a name is"),
        (["add", "-x", &public], "a name is"),
        (
            ["add", "bolt", &with_options],
            "not one line with a public key",
        ),
        (["add", "bolt", &two_keys], "not one line with a public key"),
        (["add", "bolt", &damaged], "damaged"),
        (["add", "bolt", &private], "not one line with a public key"),
        (["add", "bolt", "/nowhere"], "cannot be read"),
    ] {
        let refused = gateway
            .customer(&arguments)
            .expect_err(&format!("{arguments:?}"));
        assert!(
            refused.to_string().contains(why),
            "{arguments:?}: {refused}"
        );
    }
    let refused = gateway
        .customer(&["remove", "root"])
        .unwrap_err()
        .to_string();
    assert!(refused.contains("no customer"), "{refused}");
    assert_eq!(gateway.customer(&["list"]).unwrap(), listed);
    assert!(
        !fs::read_to_string(gateway.path("/etc/passwd"))
            .unwrap()
            .contains("bolt")
    );
}

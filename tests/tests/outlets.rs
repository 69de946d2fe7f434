//! The way out: requests of Jira to the vendor through the agent's own sessions, with a stock OpenSSH sshd and with
//! `server-stub gateway`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    check::StepVerdict,
    status::{LayerState, OverallState, StatusReport},
};
use bytes::Bytes;
use e2e::{
    agent::{records, write_secret},
    recording_origin::RecordingOrigin,
    setup::{AgentSetup, RecordedTunnel, RunningAgent},
    sshd::{Sshd, free_addr, keygen},
    tcp_server::TcpServer,
    wait::{soon, until_true},
};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    fs,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// What the vendor's receiver got: request line, `Host`, body.
type Received = Arc<Mutex<Vec<(String, String, Bytes)>>>;

/// The vendor's receiver: redirects GET, answers POST with the length of its body.
async fn receiver() -> (TcpServer, Received) {
    let received = Received::default();
    let seen = Arc::clone(&received);
    let answer = move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap_or_default().to_bytes();
            let length = body.len();
            let host = head.headers[header::HOST].to_str().unwrap().to_owned();
            let line = format!("{} {}", head.method, head.uri);
            seen.lock().push((line, host, body));
            let answer = match head.method.as_str() {
                "GET" => Response::builder()
                    .status(302)
                    .header("location", "/done?x=%2F"),
                _ => Response::builder().header("x-request-id", "the-vendors-own"),
            };
            Ok::<_, Infallible>(
                answer
                    .body(Full::new(Bytes::from(length.to_string())))
                    .unwrap(),
            )
        }
    };
    (TcpServer::http(answer).await.unwrap(), received)
}

/// Jira's client: follows nothing.
fn jira() -> reqwest::Client {
    let builder = reqwest::Client::builder().redirect(Policy::none());
    builder.no_proxy().build().unwrap()
}

fn outlet(report: &StatusReport) -> &agent::status::OutletReport {
    &report.outlets[0]
}

/// Where the outlet listens.
async fn listening(agent: &RunningAgent) -> String {
    agent.until_proven().await.unwrap();
    let listens = |r: &StatusReport| outlet(r).listener.state == LayerState::Proven;
    let report = agent.until_status("the outlet to listen", listens).await;
    outlet(&report.unwrap()).listen.clone()
}

async fn problem(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["x-tunnel-answered-by"], "agent");
    let document: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let kind = document["type"].as_str().unwrap().rsplit(':').next();
    (status, kind.unwrap().to_owned())
}

fn steps(agent: &RunningAgent) -> Vec<(String, StepVerdict, String)> {
    let (report, _) = agent.check(&["events"]).unwrap();
    let steps = report
        .steps
        .into_iter()
        .filter(|s| s.forward.as_deref() == Some("events"));
    steps
        .map(|s| (s.step, s.verdict, s.remedy.or(s.detail).unwrap_or_default()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callbacks_pass_a_stock_sshd_with_one_line() {
    let (vendor, received) = receiver().await;
    let permit = format!("PermitOpen {}", vendor.addr);
    let mut sshd = Sshd::with(&["AllowTcpForwarding yes", &permit]).unwrap();
    let origin = RecordingOrigin::start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let audit = folder.path().join("audit.jsonl");
    let variables = [
        ("JIRA_TUNNEL_AGENT__AUDIT__SINK", "file"),
        ("JIRA_TUNNEL_AGENT__AUDIT__FILE", audit.to_str().unwrap()),
    ];
    let keys = [
        ("max_body", json!("64KiB")),
        ("content_types", json!(["application/json"])),
    ];
    let agent = AgentSetup::for_sshd(&sshd)
        .unwrap()
        .forward("jira", &free_addr().unwrap().to_string(), &origin.url())
        .outlet("events", "127.0.0.1:0", &vendor.addr.to_string(), &keys)
        .start_with(&variables)
        .unwrap();
    let base = format!("http://{}", listening(&agent).await);
    let jira = jira();
    let get = |path: &str| soon(jira.get(format!("{base}{path}")).send());
    let post = |path: &str, kind: &'static str, body: Vec<u8>| {
        let request = jira
            .post(format!("{base}{path}"))
            .header("content-type", kind);
        soon(request.body(body).send())
    };

    // Request and answer pass as they are.
    let callback = "/hooks/oauth?oauth_token=abc%2Bd&oauth_verifier=xyz";
    let answer = get(callback).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), &answer.headers()["location"]),
        (302, &"/done?x=%2F".parse().unwrap())
    );
    assert!(!answer.headers().contains_key("x-tunnel-answered-by"));
    let answer = post("/hooks/jira", "application/json", vec![b'x'; 60 << 10])
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-request-id"], "the-vendors-own");
    assert_eq!(answer.text().await.unwrap(), "61440");
    let seen: Vec<_> = received
        .lock()
        .iter()
        .map(|(line, host, _)| (line.clone(), host.clone()))
        .collect();
    let host = vendor.addr.to_string();
    assert_eq!(
        seen,
        [
            (format!("GET {callback}"), host.clone()),
            ("POST /hooks/jira".to_owned(), host)
        ]
    );

    // Nothing else does.
    let refused = [
        (get("/other").await, (403, "policy-refused")),
        (
            get("/.well-known/jira-tunnel-agent/health").await,
            (403, "policy-refused"),
        ),
        (
            post("/hooks/jira", "text/xml", b"<x/>".to_vec()).await,
            (415, "content-type-refused"),
        ),
        (
            post("/hooks/jira", "application/json", vec![b'x'; 65 << 10]).await,
            (413, "body-too-large"),
        ),
    ];
    for (answer, (status, kind)) in refused {
        assert_eq!(problem(answer.unwrap()).await, (status, kind.to_owned()));
    }
    let chunks =
        futures_util::stream::iter((0..20).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 8 << 10])));
    let endless = jira
        .post(format!("{base}/hooks/jira"))
        .header("content-type", "application/json");
    let answer = soon(endless.body(reqwest::Body::wrap_stream(chunks)).send())
        .await
        .unwrap();
    assert_eq!(problem(answer).await, (413, "body-too-large".to_owned()));

    agent
        .succeed(&["pause", "events", "--reason", "maintenance"])
        .unwrap();
    assert_eq!(
        problem(get(callback).await.unwrap()).await,
        (503, "paused".to_owned())
    );
    let report = agent.status().await.unwrap();
    assert!(outlet(&report).paused.is_some());
    assert_eq!(report.overall, OverallState::Degraded);
    agent.succeed(&["resume", "events"]).unwrap();
    assert_eq!(get(callback).await.unwrap().status(), 302);

    let found = steps(&agent);
    let verdicts: Vec<_> = found
        .iter()
        .map(|(step, verdict, _)| (step.as_str(), *verdict))
        .collect();
    assert_eq!(
        verdicts,
        ["listener", "permission", "answer"].map(|step| (step, StepVerdict::Ok)),
        "{found:?}"
    );
    let (shown, _) = agent.status_output().unwrap();
    assert!(
        shown.contains("outlets") && shown.contains("events  127.0.0.1:"),
        "{shown}"
    );
    let metrics = agent.succeed(&["metrics"]).unwrap();
    assert!(
        metrics.contains("jira_tunnel_agent_requests_total{class=\"3xx\",forward=\"events\""),
        "{metrics}"
    );

    // A reload takes the outlet away and brings it back at another address.
    let other = free_addr().unwrap();
    agent
        .edit_config(|text| text.replace("\"GET,POST /hooks/**\"", "\"POST /hooks/**\""))
        .unwrap();
    let changes = agent.succeed(&["reload"]).unwrap();
    assert!(changes.contains("outlet events: changed"), "{changes}");
    let answer = until_answered(&jira, &format!("{base}{callback}")).await;
    assert_eq!(problem(answer).await, (403, "policy-refused".to_owned()));
    agent
        .edit_config(|text| {
            text.replace("listen = \"127.0.0.1:0\"", &format!("listen = \"{other}\""))
        })
        .unwrap();
    agent.succeed(&["reload"]).unwrap();
    until_true("the old address to be closed", || {
        std::net::TcpStream::connect(base.trim_start_matches("http://")).is_err()
    })
    .await
    .unwrap();
    let moved = format!("http://{other}/hooks/jira");
    let answer = until_answered(&jira, &moved).await;
    assert_eq!(answer.status(), 403, "GET is no longer allowed");

    // Without a gateway the answer says so.
    sshd.kill();
    let answer = soon(
        jira.post(&moved)
            .header("content-type", "application/json")
            .body("{}")
            .send(),
    )
    .await
    .unwrap();
    assert_eq!(problem(answer).await, (503, "tunnel-down".to_owned()));

    let written = || {
        records(&audit)
            .iter()
            .any(|line| line["error"] == "tunnel-down")
    };
    until_true("the audit line", written).await.unwrap();
    let lines = records(&audit);
    let outward: Vec<_> = lines
        .iter()
        .filter(|line| line["direction"] == "out")
        .collect();
    assert!(outward.len() >= 11, "{outward:#?}");
    let first = outward[0];
    assert_eq!(first["forward"], "events");
    assert_eq!(first["connection"], Value::Null);
    assert_eq!(first["status"], 302);
}

/// The answer, once the address takes connections.
async fn until_answered(jira: &reqwest::Client, url: &str) -> reqwest::Response {
    let answered = async || jira.get(url).send().await.ok();
    e2e::wait::until("an answer", answered).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_a_certificate_and_a_permission_let_a_request_out() {
    let (vendor, received) = receiver().await;
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let mut settings = server_stub::gateway::Settings::new(folder.path());
    settings.ssh = ([127, 0, 0, 1], 0).into();
    settings.http = ([127, 0, 0, 1], 0).into();
    let gateway = server_stub::gateway::Gateway::start(settings)
        .await
        .unwrap();
    keygen(&folder.path().join("acme"), &["-t", "ed25519"], "").unwrap();
    let agents = folder.path().join("agents/acme");
    fs::create_dir_all(&agents).unwrap();
    fs::copy(path("acme.pub"), agents.join("authorized_keys")).unwrap();

    let secret = "0123456789abcdef0123";
    write_secret(&folder.path().join("path-secret"), secret).unwrap();
    let server = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let person = rcgen::generate_simple_self_signed(["jira".to_owned()]).unwrap();
    fs::write(path("server.pem"), server.cert.pem()).unwrap();
    fs::write(path("clients.pem"), person.cert.pem()).unwrap();
    write_secret(
        &folder.path().join("server.key"),
        &server.signing_key.serialize_pem(),
    )
    .unwrap();
    let origin = RecordingOrigin::start().await.unwrap();
    let keys = [
        ("path_secret_file", json!(path("path-secret"))),
        ("certificate_file", json!(path("server.pem"))),
        ("key_file", json!(path("server.key"))),
        ("client_ca_file", json!(path("clients.pem"))),
        ("sources", json!(["127.0.0.0/8"])),
    ];
    let (narrow, audit) = (free_addr().unwrap(), folder.path().join("audit.jsonl"));
    let elsewhere = [
        ("path_secret_file", json!(path("path-secret"))),
        ("sources", json!(["192.0.2.1"])),
    ];
    let agent = AgentSetup::new(
        &gateway.ssh_addr.to_string(),
        "acme",
        &folder.path().join("acme"),
    )
    .tunnel("host_keys", vec![gateway.host_key_fingerprint.clone()])
    .forward("jira", &free_addr().unwrap().to_string(), &origin.url())
    .outlet("events", "127.0.0.1:0", &vendor.addr.to_string(), &keys)
    .outlet(
        "narrow",
        &narrow.to_string(),
        &vendor.addr.to_string(),
        &elsewhere,
    )
    .start_with(&[
        ("JIRA_TUNNEL_AGENT__AUDIT__SINK", "file"),
        ("JIRA_TUNNEL_AGENT__AUDIT__FILE", audit.to_str().unwrap()),
    ])
    .unwrap();
    let base = format!("https://{}", listening(&agent).await);
    let trusting = || {
        let ca = reqwest::Certificate::from_pem(server.cert.pem().as_bytes()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([ca])
    };
    let pem = person.cert.pem() + &person.signing_key.serialize_pem();
    let known = reqwest::Identity::from_pem(pem.as_bytes()).unwrap();
    let jira = trusting().identity(known).build().unwrap();
    let url = format!("{base}/{secret}/hooks/jira");

    let stranger = trusting().build().unwrap();
    assert!(
        soon(stranger.get(&url).send()).await.is_err(),
        "no certificate, no request"
    );
    let answer = soon(
        jira.post(format!("{base}/wrong-0123456789/hooks/jira"))
            .send(),
    )
    .await
    .unwrap();
    assert_eq!(problem(answer).await, (403, "source-refused".to_owned()));

    // The vendor has not permitted it yet.
    let answer = soon(jira.post(&url).send()).await.unwrap();
    assert_eq!(problem(answer).await, (502, "gateway-refused".to_owned()));
    let (step, verdict, remedy) = steps(&agent).remove(1);
    assert_eq!((step.as_str(), verdict), ("permission", StepVerdict::Fail));
    assert!(
        remedy.contains(&format!("PermitOpen {}", vendor.addr)),
        "{remedy}"
    );
    let report = agent.status().await.unwrap();
    assert_eq!(outlet(&report).vendor.state, LayerState::Failed);

    fs::write(agents.join("permit_open"), vendor.addr.to_string()).unwrap();
    // The breaker may be open after the refusals.
    let passed = async || {
        let answer = jira.post(&url).body("{}").send().await.ok()?;
        (answer.status() == 200).then_some(())
    };
    e2e::wait::until("the event to pass", passed).await.unwrap();
    let (line, _, body) = received.lock().last().cloned().unwrap();
    assert_eq!((line.as_str(), &body[..]), ("POST /hooks/jira", &b"{}"[..]));
    // A refusal of the address, and of a request that two servers could read differently, come before the secret is read.
    let url = format!("http://{narrow}/{secret}/hooks/jira");
    let answer = soon(self::jira().post(url).send()).await.unwrap();
    assert_eq!(problem(answer).await, (403, "source-refused".to_owned()));
    let request = format!(
        "POST /{secret}/hooks/jira HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"
    );
    let mut ambiguous = TcpStream::connect(narrow).await.unwrap();
    ambiguous.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let _ = soon(ambiguous.read_to_string(&mut answer)).await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    let refused = || {
        records(&audit)
            .iter()
            .filter(|r| r["forward"] == "narrow")
            .count()
            == 2
    };
    until_true("both refusals in the audit", refused)
        .await
        .unwrap();
    let written = fs::read_to_string(&audit).unwrap();
    assert!(written.contains("/hooks/jira"), "{written}");
    assert!(!written.contains(secret), "{written}");
    assert!(!agent.log().contains(secret));
    let report = agent.status().await.unwrap();
    assert_eq!(outlet(&report).vendor.state, LayerState::Proven);
}

/// The new process listens as soon as the old one has closed its listener, and no request is lost in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upgrade_closes_the_listener_for_a_moment_only() {
    let (vendor, _) = receiver().await;
    let permit = format!("PermitOpen {}", vendor.addr);
    let sshd = Sshd::with(&["AllowTcpForwarding yes", &permit]).unwrap();
    let listen = free_addr().unwrap();
    let to = vendor.addr.to_string();
    let outlet = |setup: AgentSetup, _: &RecordingOrigin| {
        setup.outlet("events", &listen.to_string(), &to, &[])
    };
    let mut env = RecordedTunnel::start_at(sshd, &[], outlet).await.unwrap();
    let program = env.agent.use_replaceable_program().unwrap();
    env.agent.restart().unwrap();
    let url = format!("http://{}/hooks/jira", listening(&env.agent).await);
    let jira = jira();

    let stop = CancellationToken::new();
    let calling = {
        let (jira, url, stop) = (jira.clone(), url.clone(), stop.clone());
        tokio::spawn(async move {
            let (mut longest, mut since, mut broken) =
                (Duration::ZERO, None::<Instant>, Vec::new());
            while !stop.is_cancelled() {
                match jira.post(&url).body("{}").send().await {
                    Ok(answer) if answer.status() == 200 => since = None,
                    Err(error) if error.is_connect() => {
                        let begun = *since.get_or_insert_with(Instant::now);
                        longest = longest.max(begun.elapsed());
                    }
                    other => broken.push(format!("{other:?}")),
                }
            }
            (longest, broken)
        })
    };
    let before = env.agent.status().await.unwrap().agent.pid;
    let build = fs::read(&program).unwrap();
    fs::write(program.with_extension("new"), build).unwrap();
    let mode = fs::metadata(&program).unwrap().permissions();
    fs::set_permissions(program.with_extension("new"), mode).unwrap();
    fs::rename(program.with_extension("new"), &program).unwrap();
    env.agent.succeed(&["upgrade"]).unwrap();
    let other = |r: &StatusReport| {
        r.agent.pid != before
            && r.upgrade.is_none()
            && outlet_of(r).is_some_and(|o| o.listener.state == LayerState::Proven)
    };
    env.agent
        .until_status("the new process", other)
        .await
        .unwrap();
    assert_eq!(
        soon(jira.post(&url).body("{}").send())
            .await
            .unwrap()
            .status(),
        200
    );
    stop.cancel();
    let (longest, broken) = soon(calling).await.unwrap();
    println!("refused for {longest:?}");
    assert!(broken.is_empty(), "{broken:?}\n{}", env.agent.log());
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

fn outlet_of(report: &StatusReport) -> Option<&agent::status::OutletReport> {
    report.outlets.first()
}

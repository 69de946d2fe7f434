//! The vendor's side of an outlet: TLS that ends at the vendor's host, and a second gateway when the first is lost.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    check::StepVerdict,
    status::{ConnectionPhase, LayerState, OutletReport, StatusReport},
};
use bytes::Bytes;
use e2e::{
    egress::{NetworkPart, TestCa, stunnel, stunnel_named},
    recording_origin::RecordingOrigin,
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_addr},
    tcp_server::TcpServer,
    wait::{soon, until_true},
};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use reqwest::Client;
use serde_json::{Value, json};
use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// `Host` and body of each request.
type Received = Arc<Mutex<Vec<(String, String)>>>;

/// The vendor's receiver: answers each request with an empty 200.
async fn receiver() -> (TcpServer, Received) {
    let received = Received::default();
    let seen = Arc::clone(&received);
    let answer = move |request: Request<Incoming>| {
        let seen = Arc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap_or_default().to_bytes();
            let host = head.headers[header::HOST].to_str().unwrap().to_owned();
            let body = String::from_utf8(body.into()).unwrap();
            seen.lock().push((host, body));
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::new())))
        }
    };
    (TcpServer::http(answer).await.unwrap(), received)
}

fn jira() -> Client {
    Client::builder().no_proxy().build().unwrap()
}

/// Type (its last part) and delivery of the agent's own answer; its texts do not speak of Jira as the far side.
async fn problem(answer: reqwest::Response) -> (String, String) {
    assert_eq!(answer.headers()["x-tunnel-answered-by"], "agent");
    let document: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let detail = document["detail"].as_str().unwrap();
    assert!(!detail.contains("Jira"), "{document}");
    let text = |member: &str| document[member].as_str().unwrap().to_owned();
    let kind = text("type").rsplit(':').next().unwrap().to_owned();
    (kind, text("delivery"))
}

/// Outlets `right`, `renamed`, `wrong-ca` and `wrong-name`, at these addresses.
struct TlsOutlets {
    agent: RunningAgent,
    listen: [SocketAddr; 4],
    received: Received,
    by_address: NetworkPart,
    /// Its certificate names `events.vendor.example`.
    by_name: NetworkPart,
    _vendor: TcpServer,
    _sshd: Sshd,
    _origin: RecordingOrigin,
    _folder: tempfile::TempDir,
}

const NAMES: [&str; 4] = ["right", "renamed", "wrong-ca", "wrong-name"];
const VENDOR: &str = "events.vendor.example";

impl TlsOutlets {
    async fn start() -> Self {
        let (vendor, received) = receiver().await;
        let folder = tempfile::tempdir().unwrap();
        let file_of = |ca: &TestCa, name: &str| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            json!(ca.write(&folder).unwrap())
        };
        let (own, other) = (
            TestCa::new("Vendor CA").unwrap(),
            TestCa::new("Other CA").unwrap(),
        );
        let (own_file, other_file) = (file_of(&own, "own"), file_of(&other, "other"));
        let port = vendor.addr.port();
        let by_address = stunnel(port, &own).await.unwrap();
        let by_name = stunnel_named(port, &own, VENDOR).await.unwrap();
        let permit = format!("PermitOpen {} {}", by_address.address(), by_name.address());
        let sshd = Sshd::with(&["AllowTcpForwarding yes", &permit]).unwrap();
        let origin = RecordingOrigin::start().await.unwrap();
        let listen = [(); 4].map(|()| free_addr().unwrap());
        let named = ("server_name", json!(VENDOR));
        let outlets: [(&NetworkPart, Vec<(&str, Value)>); 4] = [
            (&by_address, vec![("ca_file", own_file.clone())]),
            (&by_name, vec![("ca_file", own_file.clone()), named]),
            (&by_address, vec![("ca_file", other_file)]),
            (&by_name, vec![("ca_file", own_file)]),
        ];
        let mut setup = AgentSetup::for_sshd(&sshd).unwrap().forward(
            "jira",
            &free_addr().unwrap().to_string(),
            &origin.url(),
        );
        for ((name, at), (part, keys)) in NAMES.iter().zip(listen).zip(outlets) {
            let to = format!("https://{}", part.address());
            setup = setup.outlet(name, &at.to_string(), &to, &keys);
        }
        let agent = setup.start().unwrap();
        let listening = |report: &StatusReport| {
            let mut outlets = report.outlets.iter();
            outlets.len() == 4 && outlets.all(|o| o.listener.state == LayerState::Proven)
        };
        agent.until_proven().await.unwrap();
        agent
            .until_status("four outlets to listen", listening)
            .await
            .unwrap();
        Self {
            agent,
            listen,
            received,
            by_address,
            by_name,
            _vendor: vendor,
            _sshd: sshd,
            _origin: origin,
            _folder: folder,
        }
    }

    async fn post(&self, index: usize, body: &str) -> reqwest::Response {
        let url = format!("http://{}/hooks/jira", self.listen[index]);
        soon(jira().post(url).body(body.to_owned()).send())
            .await
            .unwrap()
    }

    async fn report(&self, index: usize) -> OutletReport {
        self.agent.status().await.unwrap().outlets.remove(index)
    }
}

/// Only the vendor's host, shown by its certificate, gets a request. Each refusal names what is wrong and which key to look at.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_ends_at_the_vendor_and_its_certificate_is_verified_here() {
    let outlets = TlsOutlets::start().await;
    for (index, body) in [(0, "by address"), (1, "by name")] {
        let answer = outlets.post(index, body).await;
        assert_eq!(answer.status(), 200, "{}", outlets.agent.log());
        assert!(!answer.headers().contains_key("x-tunnel-answered-by"));
        let vendor = outlets.report(index).await.vendor;
        assert_eq!(vendor.state, LayerState::Proven, "{vendor:?}");
    }
    let expected = [
        (outlets.by_address.address(), "by address".to_owned()),
        (outlets.by_name.address(), "by name".to_owned()),
    ];
    assert_eq!(*outlets.received.lock(), expected);

    let presented = format!("is for {VENDOR}, not for \"127.0.0.1\"");
    let refused = [
        (2, ["issued by \"Vendor CA\"", "ca_file of this outlet"]),
        (3, [presented.as_str(), "set server_name"]),
    ];
    for (index, parts) in refused {
        let answer = outlets.post(index, "must not arrive").await;
        assert_eq!(answer.status(), 502);
        let seen = problem(answer).await;
        assert_eq!(seen, ("vendor-tls".to_owned(), "not_sent".to_owned()));
        let vendor = outlets.report(index).await.vendor;
        assert_eq!(vendor.state, LayerState::Failed);
        let cause = vendor.cause.unwrap();
        for part in parts {
            assert!(cause.contains(part), "{part:?} is missing in {cause:?}");
        }
        assert!(!cause.contains("Jira"), "{cause}");

        let (report, _) = outlets.agent.check(&[NAMES[index]]).unwrap();
        let step = |name: &str| {
            let mut steps = report.steps.iter();
            let of_outlet =
                |step: &&agent::check::CheckStep| step.forward.as_deref() == Some(NAMES[index]);
            steps
                .find(|step| of_outlet(step) && step.step == name)
                .unwrap()
        };
        assert_eq!(step("permission").verdict, StepVerdict::Ok);
        assert_eq!(step("answer").verdict, StepVerdict::Fail);
        let remedy = step("answer").remedy.as_deref().unwrap();
        assert!(
            remedy.contains("ca_file and server_name of the outlet"),
            "{remedy}"
        );
    }
    assert_eq!(*outlets.received.lock(), expected);
}

/// What became of one event of Jira's: its number, and the delivery that the agent's own answer names.
type EventOutcome = (usize, Option<String>);

/// Sends one event after the other, as Jira does, and keeps what became of each.
async fn send_events(
    url: String,
    stop: CancellationToken,
    passed: Arc<AtomicUsize>,
) -> Vec<EventOutcome> {
    let jira = jira();
    let mut outcomes = Vec::new();
    for number in 0.. {
        if stop.is_cancelled() {
            break;
        }
        let answer = soon(jira.post(&url).body(number.to_string()).send()).await;
        let answer = answer.unwrap();
        if answer.status() == 200 {
            passed.fetch_add(1, Ordering::SeqCst);
            outcomes.push((number, None));
        } else {
            outcomes.push((number, Some(problem(answer).await.1)));
        }
    }
    outcomes
}

/// The two gateways are lost one after the other, so that each has been the only one. What the agent says of each event is
/// what has happened to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_gateway_takes_over_when_the_first_dies() {
    let (vendor, received) = receiver().await;
    let permit = format!("PermitOpen {}", vendor.addr);
    let lines = ["AllowTcpForwarding yes", &permit];
    let (mut first, mut second) = (Sshd::with(&lines).unwrap(), Sshd::with(&lines).unwrap());
    let key = first.identity().with_extension("pub");
    second.authorize(&key, "").unwrap();
    let pins = vec![first.fingerprint().unwrap(), second.fingerprint().unwrap()];
    let origin = RecordingOrigin::start().await.unwrap();
    let listen = free_addr().unwrap();
    let agent = AgentSetup::for_sshd(&first)
        .unwrap()
        .tunnel("gateways", vec![first.address(), second.address()])
        .tunnel("host_keys", pins)
        .forward("jira", "127.0.0.1:0", &origin.url())
        .outlet("events", &listen.to_string(), &vendor.addr.to_string(), &[])
        .start()
        .unwrap();
    let gateways = [first.address(), second.address()];
    let both = |report: &StatusReport| {
        let serves = |gateway: &String| {
            let mut connections = report.connections.iter();
            connections.any(|c| c.gateway == *gateway && c.phase == ConnectionPhase::Serving)
        };
        gateways.iter().all(serves) && report.outlets[0].listener.state == LayerState::Proven
    };
    agent.until_status("a session at each", both).await.unwrap();

    let (stop, passed) = (CancellationToken::new(), Arc::<AtomicUsize>::default());
    let url = format!("http://{listen}/hooks/jira");
    let sending = tokio::spawn(send_events(url, stop.clone(), Arc::clone(&passed)));
    // More than those that were sent on the lost session.
    let some_pass = async |when: &str| {
        let before = passed.load(Ordering::SeqCst);
        let more = || passed.load(Ordering::SeqCst) >= before + 20;
        until_true(when, more).await.unwrap();
    };
    some_pass("events to pass").await;
    first.kill();
    some_pass("events to pass by the second gateway").await;
    first.restart().unwrap();
    agent
        .until_status("the first gateway's session", both)
        .await
        .unwrap();
    second.kill();
    some_pass("events to pass by the first gateway").await;
    stop.cancel();
    let outcomes = soon(sending).await.unwrap();

    let arrived = |number: usize| {
        let text = number.to_string();
        let received = received.lock();
        received.iter().filter(|(_, body)| *body == text).count()
    };
    let (mut wrong, mut lost) = (Vec::new(), 0);
    for (number, delivery) in &outcomes {
        let times = arrived(*number);
        let is_right = match delivery.as_deref() {
            None => times == 1,
            Some("not_sent") => times == 0,
            Some(_) => times <= 1,
        };
        lost += usize::from(delivery.is_some());
        if !is_right {
            wrong.push((number, delivery, times));
        }
    }
    println!(
        "{} events, {lost} of them not answered by the vendor",
        outcomes.len()
    );
    assert!(wrong.is_empty(), "{wrong:?}\n{}", agent.log());
    // One event at a time is sent, so that a lost gateway can take one with it.
    assert!(lost <= 2, "{outcomes:?}");
}

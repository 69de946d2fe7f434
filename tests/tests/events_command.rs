//! `agent events`, and what status, check and metrics say of outlets of mode `store`: with a stock sshd and a receiver that
//! refuses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    check::StepVerdict,
    control::{EventList, EventRow, EventRowState},
    status::{LayerState, OverallState, QueueReport, StatusReport},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use e2e::{
    agent::{binary, command, records, write_secret},
    recording_origin::RecordingOrigin,
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_addr},
    tcp_server::TcpServer,
    wait::{soon, until_true},
};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use parking_lot::Mutex;
use serde_json::json;
use std::{
    convert::Infallible,
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
};
use tempfile::TempDir;

/// Parts of an event that no command may show.
const CANARIES: [&str; 3] = [
    "canary-in-the-body",
    "canary-in-the-query",
    "canary-in-a-header",
];

/// The vendor's receiver: answers each event with this status, and remembers the ids of those that it has accepted.
struct Receiver {
    server: TcpServer,
    status: Arc<AtomicU16>,
    accepted: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn start(status: u16) -> Self {
        let status = Arc::new(AtomicU16::new(status));
        let accepted = Arc::<Mutex<Vec<String>>>::default();
        let (now, ids) = (Arc::clone(&status), Arc::clone(&accepted));
        let answer = move |request: Request<Incoming>| {
            let (now, ids) = (Arc::clone(&now), Arc::clone(&ids));
            async move {
                let (head, body) = request.into_parts();
                let _ = body.collect().await;
                let status = now.load(Ordering::Relaxed);
                if let (200, Some(id)) = (status, head.headers.get("webhook-id")) {
                    ids.lock().push(id.to_str().unwrap().to_owned());
                }
                let answer = Response::builder().status(status);
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::new())).unwrap())
            }
        };
        Self {
            server: TcpServer::http(answer).await.unwrap(),
            status,
            accepted,
        }
    }

    fn has_accepted(&self, id: &str) -> bool {
        self.accepted.lock().iter().any(|accepted| accepted == id)
    }
}

/// An agent with two outlets that store: `events` retries for days, `strict` gives up after a second.
struct StoringAgent {
    agent: RunningAgent,
    receiver: Receiver,
    _sshd: Sshd,
    _jira: RecordingOrigin,
    folder: TempDir,
    /// Where `events` and `strict` listen.
    listen: [String; 2],
}

impl StoringAgent {
    async fn start(answer: u16) -> Self {
        let receiver = Receiver::start(answer).await;
        let to = receiver.server.addr.to_string();
        let permit = format!("PermitOpen {to}");
        let sshd = Sshd::with(&["AllowTcpForwarding yes", &permit]).unwrap();
        let jira = RecordingOrigin::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let secret = format!("whsec_{}", STANDARD.encode([7; 32]));
        write_secret(&folder.path().join("events-secret"), &secret).unwrap();
        let keys = [
            ("mode", json!("store")),
            ("secret_file", json!(folder.path().join("events-secret"))),
        ];
        let strict = [&keys[..], &[("retry_for", json!("1s"))]].concat();
        let listen = [free_addr().unwrap(), free_addr().unwrap()].map(|addr| addr.to_string());
        let audit = folder.path().join("audit.jsonl");
        let agent = AgentSetup::for_sshd(&sshd)
            .unwrap()
            .forward("jira", &free_addr().unwrap().to_string(), &jira.url())
            .outlet("events", &listen[0], &to, &keys)
            .outlet("strict", &listen[1], &to, &strict)
            .start_with(&[
                ("JIRA_TUNNEL_AGENT__AUDIT__SINK", "file"),
                ("JIRA_TUNNEL_AGENT__AUDIT__FILE", audit.to_str().unwrap()),
            ])
            .unwrap();
        let ready = |r: &StatusReport| {
            let open = |o: &agent::status::OutletReport| {
                let queue = o.queue.as_ref().map(|queue| queue.state);
                (o.listener.state, queue) == (LayerState::Proven, Some(LayerState::Proven))
            };
            r.outlets.iter().all(open) && r.layers.tunnel.state == LayerState::Proven
        };
        agent.until_status("both outlets", ready).await.unwrap();
        Self {
            agent,
            receiver,
            _sshd: sshd,
            _jira: jira,
            folder,
            listen,
        }
    }

    /// Jira sends an event of this issue to `events` (0) or `strict` (1); returns its id.
    async fn event(&self, outlet: usize, issue: u32) -> String {
        let [body, query, header] = CANARIES;
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let event = json!({
            "webhookEvent": "jira:issue_updated",
            "issue": {
                "id": (10_000 + issue).to_string(),
                "key": format!("SEC-{issue}"),
                "fields": { "project": { "key": "SEC" }, "summary": body },
            },
        });
        let url = format!("http://{}/hooks/jira?token={query}", self.listen[outlet]);
        let sent = client
            .post(url)
            .header("x-canary", header)
            .json(&event)
            .send();
        let answer = soon(sent).await.unwrap();
        assert_eq!(answer.status(), 202);
        let answer: serde_json::Value = answer.json().await.unwrap();
        answer["id"].as_str().unwrap().to_owned()
    }

    fn events(&self, arguments: &[&str]) -> Vec<EventRow> {
        let arguments = [&["events"], arguments, &["--json"]].concat();
        let text = self.agent.succeed(&arguments).unwrap();
        no_canary(&text);
        let list: EventList = serde_json::from_str(&text).unwrap();
        let outlets = list.outlets.into_iter();
        outlets.flat_map(|outlet| outlet.events).collect()
    }

    /// Waits until the event is in this state.
    async fn until(&self, id: &str, state: EventRowState) {
        let what = format!("{id} to be {state:?}");
        let reached = || {
            let rows = self.events(&["list"]);
            rows.iter().any(|row| row.id == id && row.state == state)
        };
        until_true(&what, reached).await.unwrap();
    }

    /// Runs the command in a pseudo terminal of 80 columns, with this input.
    fn in_terminal(&self, arguments: &str, typed: &str) -> (String, Option<i32>) {
        let line = format!("stty cols 80; {} {arguments}", binary("agent").display());
        let mut script = command(
            Command::new("script"),
            self.agent.dir(),
            &["-qec", &line, "/dev/null"],
        );
        let mut child = script
            .env("TERM", "dumb")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(typed.as_bytes()).unwrap();
        drop(stdin);
        let done = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&done.stdout).replace('\r', "");
        no_canary(&text);
        (text, done.status.code())
    }

    fn audit(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    async fn queue(&self, outlet: usize, wanted: impl Fn(&QueueReport) -> bool) -> StatusReport {
        let wanted = |r: &StatusReport| r.outlets[outlet].queue.as_ref().is_some_and(&wanted);
        self.agent.until_status("the queue", wanted).await.unwrap()
    }
}

fn no_canary(text: &str) {
    for canary in CANARIES {
        assert!(!text.contains(canary), "{canary} is in:\n{text}");
    }
}

fn text(output: &Output) -> String {
    let shown = [&output.stdout[..], &output.stderr].concat();
    let shown = String::from_utf8(shown).unwrap();
    no_canary(&shown);
    shown
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_shown_retried_and_dropped() {
    let site = StoringAgent::start(500).await;
    let run = |arguments: &[&str]| site.agent.run(&[&["events"], arguments].concat()).unwrap();
    let empty = text(&run(&[]));
    assert_eq!(
        empty,
        "outlet events: no event waits, no dead letter\n\noutlet strict: no event waits, no dead letter\n"
    );
    let waiting = site.event(0, 1).await;
    site.until(&waiting, EventRowState::Waiting).await;
    let behind = site.event(0, 1).await;
    let mut dead = Vec::new();
    for issue in 2..=4 {
        dead.push(site.event(1, issue).await);
    }
    for id in &dead {
        site.until(id, EventRowState::Dead).await;
    }

    // The list.
    let rows = site.events(&[]);
    let of = |id: &str| rows.iter().find(|row| row.id == id).unwrap();
    assert_eq!(of(&behind).state, EventRowState::Queued);
    let row = of(&dead[0]);
    assert_eq!(
        (
            row.lane.as_str(),
            row.issue_key.as_deref(),
            row.event_type.as_deref()
        ),
        ("issue:10002", Some("SEC-2"), Some("jira:issue_updated"))
    );
    assert_eq!(row.source, "127.0.0.1");
    assert!(row.attempts > 0 && row.given_up.is_some());
    assert!(row.last_error.as_ref().unwrap().contains("500"), "{row:?}");
    let list = text(&run(&[]));
    for part in [
        "outlet events: 2 events wait, no dead letter",
        "outlet strict: no event waits, 3 dead letters",
        &format!("{}  DEAD        SEC-2  jira:issue_updated", dead[0]),
        &format!("{behind}  queued      SEC-1"),
        "HTTP 500",
    ] {
        assert!(list.contains(part), "{part} is missing in:\n{list}");
    }
    let ids = |rows: Vec<EventRow>| rows.into_iter().map(|row| row.id).collect::<Vec<_>>();
    assert_eq!(ids(site.events(&["--dead"])).len(), 3);
    assert_eq!(
        ids(site.events(&["list", "--outlet", "events"])),
        [waiting.clone(), behind.clone()]
    );
    // In parts.
    let first = text(&run(&["--outlet", "strict", "--limit", "2"]));
    let more = first.lines().last().unwrap().trim();
    assert!(
        more.starts_with("1 more: agent events --outlet strict --after msg_"),
        "{first}"
    );
    let after = more.rsplit(' ').next().unwrap();
    let rest = ids(site.events(&["--outlet", "strict", "--after", after]));
    assert_eq!(rest.len(), 1);
    assert!(!first.contains(&rest[0]), "{first}");

    // One of them.
    let shown = text(&run(&["show", &dead[0]]));
    for part in ["SEC-2", "dead letter", "not shown", "127.0.0.1", "HTTP 500"] {
        assert!(shown.contains(part), "{part} is missing in:\n{shown}");
    }
    assert_eq!(ids(site.events(&["show", &dead[1]])), [dead[1].clone()]);

    // What status, check and metrics say.
    let report = site.queue(1, |queue| queue.dead_letters == 3).await;
    assert_eq!(report.overall, OverallState::Degraded);
    let queue = report.outlets[1].queue.as_ref().unwrap();
    assert_eq!(
        (queue.state, queue.stored, queue.given_up),
        (LayerState::Degraded, 3, 3)
    );
    assert!(queue.cause.as_ref().unwrap().starts_with("3 dead letters"));
    let queue = report.outlets[0].queue.as_ref().unwrap();
    assert_eq!((queue.state, queue.events), (LayerState::Proven, 2));
    assert!(queue.last_error.as_ref().unwrap().contains("500") && queue.failed_attempts > 0);
    assert!(queue.oldest_received.is_some() && queue.bytes > 0);
    let (status, code) = site.agent.status_output().unwrap();
    no_canary(&status);
    assert_eq!(code, 1);
    for part in [
        "2 events wait",
        "3 dead letters: agent events --outlet strict --dead",
    ] {
        assert!(status.contains(part), "{part} is missing in:\n{status}");
    }
    let verdict = |name: &str| {
        let (report, _) = site.agent.check(&[name]).unwrap();
        let steps = report.steps.into_iter();
        let mut queue = steps.filter(|s| s.step == "queue" && s.forward.as_deref() == Some(name));
        let step = queue.next().unwrap();
        (step.verdict, step.detail.unwrap())
    };
    let (seen, detail) = verdict("strict");
    assert_eq!(seen, StepVerdict::Warn);
    assert!(detail.starts_with("empty; 3 dead letters"), "{detail}");
    let (seen, detail) = verdict("events");
    assert!(
        detail.starts_with("2 events wait, the oldest for "),
        "{seen:?} {detail}"
    );
    let metrics = site.agent.succeed(&["metrics"]).unwrap();
    for line in [
        "outlet_queue_events{forward=\"events\"} 2",
        "outlet_dead_letters{forward=\"strict\"} 3",
        "outlet_events_given_up_total{forward=\"strict\"} 3",
        "outlet_events_stored_total{forward=\"events\"} 2",
        "layer_state{forward=\"strict\",layer=\"queue\",state=\"degraded\"} 1",
        "layer_state{forward=\"events\",layer=\"listener\",state=\"proven\"} 1",
    ] {
        let line = format!("\njira_tunnel_agent_{line}\n");
        assert!(metrics.contains(&line), "{line} is missing in:\n{metrics}");
    }

    // One is dropped, by its id and without a question.
    let dropped = text(&run(&["drop", &dead[1], "--yes"]));
    assert_eq!(dropped, format!("dropped {}\n", dead[1]));
    assert_eq!(run(&["show", &dead[1]]).status.code(), Some(1));
    let uid = rustix::process::getuid().as_raw();
    let line = format!(
        "an event was dropped (outlet strict, event id {}, by uid {uid})",
        dead[1]
    );
    site.agent.logged(&line).await.unwrap();
    let recorded = || {
        let lines = records(&site.audit());
        lines.iter().any(|line| {
            line["event_id"] == dead[1].as_str()
                && line["outcome"] == "dropped"
                && line["cause"]
                    .as_str()
                    .is_some_and(|cause| cause.contains("administrator"))
        })
    };
    until_true("the record of the dropped event", recorded)
        .await
        .unwrap();

    // The others are delivered once the receiver takes events, each on its order.
    site.receiver.status.store(200, Ordering::Relaxed);
    let retried = text(&run(&["retry", &dead[0]]));
    assert!(
        retried.starts_with(&format!("{} is tried again", dead[0])),
        "{retried}"
    );
    until_true("the retried event", || site.receiver.has_accepted(&dead[0]))
        .await
        .unwrap();
    let retried = text(&run(&["retry", "--all"]));
    assert_eq!(retried, "1 dead letter is tried again\n");
    until_true("the last dead letter", || {
        site.receiver.has_accepted(&dead[2])
    })
    .await
    .unwrap();
    // Its own next attempt may have come first.
    let retried = text(&run(&["retry", &waiting]));
    let is_expected = retried.starts_with(&waiting) || retried.contains("delivered");
    assert!(is_expected, "{retried}");
    until_true("both events of the issue", || {
        site.receiver.has_accepted(&behind)
    })
    .await
    .unwrap();
    assert!(!site.receiver.has_accepted(&dead[1]));
    assert_eq!(text(&run(&["retry", "--all"])), "there is no dead letter\n");
    let report = site.queue(1, |queue| queue.delivered == 2).await;
    let queue = report.outlets[1].queue.as_ref().unwrap();
    assert_eq!((queue.state, queue.dropped), (LayerState::Proven, 1));
    assert_eq!(site.events(&[]), []);
    site.agent.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drop_asks_at_a_terminal_and_a_list_fits_into_it() {
    let site = StoringAgent::start(500).await;
    let waiting = site.event(0, 1).await;
    let dead = site.event(1, 2).await;
    site.until(&waiting, EventRowState::Waiting).await;
    site.until(&dead, EventRowState::Dead).await;

    for arguments in ["events", "status", "events --dead"] {
        let (shown, _) = site.in_terminal(arguments, "");
        assert!(shown.contains("dead letter"), "{shown}");
        let long = shown.lines().find(|line| line.chars().count() > 80);
        assert_eq!(long, None, "{shown}");
    }
    let one = format!("events drop {dead}");
    for order in [&one[..], "events drop --all"] {
        let (shown, code) = site.in_terminal(order, "n\n");
        assert!(
            shown.contains("[y/N]") && shown.contains("Nothing was dropped."),
            "{shown}"
        );
        assert_eq!(code, Some(1));
    }
    assert_eq!(site.events(&["--dead"]).len(), 1);
    let (shown, code) = site.in_terminal("events drop --all", "y\n");
    assert!(shown.contains("Drop 1 dead letter?") && shown.contains("dropped 1 dead letter"));
    assert_eq!(code, Some(0));
    let (shown, code) = site.in_terminal("events drop --all", "");
    assert!(shown.contains("there is no dead letter"), "{shown}");
    assert_eq!(code, Some(0));
    // What waits was left alone.
    assert_eq!(site.events(&[]).len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_exist_and_what_is_not_confirmed_is_refused() {
    let site = StoringAgent::start(500).await;
    let id = site.event(0, 1).await;
    let unknown = "msg_0123456789abcdef0123456789abcdef";
    for (arguments, code, part) in [
        (
            &["events", "--outlet", "none"][..],
            64,
            "it has events, strict",
        ),
        (
            &["events", "--outlet", "jira"],
            64,
            "no outlet \"jira\" that stores",
        ),
        (&["events", "--limit", "1001"], 64, "from 1 to 1000"),
        (&["events", "--after", unknown], 64, "--outlet"),
        (&["events", "show", "SEC-1"], 64, "msg_"),
        (&["events", "show", unknown], 1, "no event msg_0123"),
        (
            &["events", "retry", unknown],
            1,
            "it was delivered or dropped",
        ),
        (&["events", "retry"], 64, "--all"),
        (
            &["events", "retry", &id, "--all"],
            64,
            "cannot be used with",
        ),
        (&["events", "drop", &id], 64, "pass --yes"),
        (&["events", "drop", "--all"], 64, "pass --yes"),
        (
            &["events", "drop", &id, "--outlet", "strict", "--yes"],
            1,
            "no event",
        ),
    ] {
        let done = site.agent.run(arguments).unwrap();
        let shown = text(&done);
        assert_eq!(done.status.code(), Some(code), "{arguments:?}: {shown}");
        assert!(shown.contains(part), "{arguments:?}: {shown}");
    }
    assert_eq!(site.events(&[]).len(), 1);

    // Nothing of it works without a running agent.
    let mut site = site;
    site.agent.process().kill();
    let done = site.agent.run(&["events"]).unwrap();
    assert_eq!(done.status.code(), Some(3), "{}", text(&done));
}

//! A forward that stores requests: what its sink gets, and what the sender gets.

use super::support::*;
use crate::{
    http::{AdmissionRefusal, EventRefusal, EventSink, HttpForward, IncomingEvent, RequestGate},
    pause::{PauseRegistry, PauseRequest},
    status::StatusLayer,
};
use futures_util::future::BoxFuture;
use http::request;
use parking_lot::Mutex;
use std::sync::Arc;

/// Lets in what is not longer than 64 bytes.
struct ShortBodies;

impl RequestGate for ShortBodies {
    fn admit(&self, _: &mut request::Parts, _: &str) -> Result<(), AdmissionRefusal> {
        Ok(())
    }

    fn hides_targets(&self) -> bool {
        false
    }

    fn max_body(&self) -> u64 {
        64
    }
}

/// Keeps what it gets, or refuses it.
#[derive(Default)]
struct TestSink {
    refusal: Mutex<Option<EventRefusal>>,
    events: Mutex<Vec<IncomingEvent>>,
}

impl EventSink for TestSink {
    fn accept(&self, event: IncomingEvent) -> BoxFuture<'_, Result<String, EventRefusal>> {
        let answer = match self.refusal.lock().clone() {
            Some(refusal) => Err(refusal),
            None => {
                self.events.lock().push(event);
                Ok("msg_0123".to_owned())
            }
        };
        Box::pin(std::future::ready(answer))
    }
}

async fn storing(options: Options) -> (Agent, Arc<TestSink>) {
    let jira = raw_jira(|_| async { panic!("it was sent on") }).await;
    let pauses = options.pauses.clone();
    let mut agent = Agent::new(&jira, options);
    let sink = Arc::new(TestSink::default());
    let forward = HttpForward::new(
        "events".into(),
        crate::policy::CompiledPolicy::new(&crate::policy::Settings {
            allow: vec!["POST /hooks/**".to_owned()],
            ..Default::default()
        })
        .unwrap(),
        crate::auth::UpstreamAuth::new(crate::auth::Settings::PassThrough, Arc::default()),
        Arc::clone(agent.forward.upstream()),
        agent.forward.audit().clone(),
        agent.forward.limits().clone(),
        Arc::new(StatusLayer::default()),
    )
    .pausable(pauses)
    .outward(Arc::new(ShortBodies))
    .storing(Arc::<TestSink>::clone(&sink));
    agent.forward = Arc::new(forward);
    agent.current.replace(Arc::clone(&agent.forward));
    (agent, sink)
}

const EVENT: &str = "POST /hooks/jira?a=%2F HTTP/1.1\r\nhost: x\r\nconnection: close, x-hop\r\nx-hop: 1\r\n\
    x-hub-signature: sha256=00\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";

#[tokio::test]
async fn an_event_is_stored_whole_and_answered_with_its_id() {
    let (mut agent, sink) = storing(Options::default()).await;
    let mut jira = agent.channel();
    jira.send(EVENT).await;
    // The body is asked for.
    let head = jira.take_until(b"\r\n\r\n").await.unwrap();
    assert!(head.starts_with(b"HTTP/1.1 100 "));
    jira.send("{}").await;
    let reply = jira.reply_to("POST").await;
    assert_eq!((reply.status, reply.text()), (202, r#"{"id":"msg_0123"}"#));
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-tunnel-answered-by"), Some("agent"));
    let event = sink.events.lock().pop().unwrap();
    assert_eq!(
        (event.method.as_str(), &*event.target),
        ("POST", "/hooks/jira?a=%2F")
    );
    assert_eq!(
        (&event.body[..], &*event.originator),
        (&b"{}"[..], "192.0.2.7:55000")
    );
    let names: Vec<_> = event.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["x-hub-signature"]);
    let record = agent.records.next().await;
    assert_eq!(record["request_id"], reply.header("x-request-id").unwrap());
    for (member, value) in [
        ("status", 202.into()),
        ("outcome", "complete".into()),
        ("delivery", "not_sent".into()),
        ("decision", "allowed".into()),
        ("direction", "out".into()),
        ("event_id", "msg_0123".into()),
        ("attempts", serde_json::Value::Null),
        ("request_bytes", 2.into()),
    ] {
        assert_eq!(record[member], value, "{member}");
    }
}

#[tokio::test]
async fn what_the_sink_refuses_has_a_type_of_its_own_and_the_connection_is_kept() {
    let (mut agent, sink) = storing(Options::default()).await;
    let mut jira = agent.channel();
    for (refusal, code) in [
        (EventRefusal::Signature("no"), "signature-refused"),
        (EventRefusal::OutOfScope("no"), "scope-refused"),
        (EventRefusal::Undecidable("no"), "scope-undecidable"),
        (EventRefusal::Full("no"), "queue-full"),
        (
            EventRefusal::Failed {
                detail: "no",
                cause: "/var/lib/CANARY".to_owned(),
            },
            "store-failed",
        ),
    ] {
        *sink.refusal.lock() = Some(refusal);
        jira.send("POST /hooks/jira HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
            .await;
        let reply = jira.reply_to("POST").await;
        reply.assert_problem(code, "not_sent");
        assert!(!reply.text().contains("CANARY"));
        let record = agent.records.next().await;
        assert_eq!(
            (&record["error"], &record["request_bytes"]),
            (&code.into(), &2.into())
        );
        assert_eq!(record["event_id"], serde_json::Value::Null);
        let cause = record["cause"].as_str().unwrap_or_default();
        assert_eq!(cause.contains("CANARY"), code == "store-failed");
    }
}

#[tokio::test]
async fn long_bodies_other_paths_and_pauses_store_nothing() {
    let pauses = PauseRegistry::default();
    let options = Options {
        pauses: pauses.clone(),
        ..Options::default()
    };
    let (agent, sink) = storing(options).await;
    let mut jira = agent.channel();
    jira.send("POST /other HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        .await;
    jira.reply_to("POST")
        .await
        .assert_problem("policy-refused", "not_sent");
    let chunks = format!("41\r\n{}\r\n0\r\n\r\n", "x".repeat(0x41));
    jira.send("POST /hooks/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    jira.send(chunks).await;
    jira.reply_to("POST")
        .await
        .assert_problem("body-too-large", "not_sent");
    // Paused while the body comes.
    let mut jira = agent.channel();
    jira.send("POST /hooks/a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{")
        .await;
    while agent.forward.in_flight() == 0 {
        tokio::task::yield_now().await;
    }
    pauses.pause(PauseRequest::default(), None).await.unwrap();
    jira.send("}").await;
    jira.reply_to("POST")
        .await
        .assert_problem("paused", "not_sent");
    assert!(sink.events.lock().is_empty());
}

//! A receiver of the vendor, a gateway, and an agent with an outlet that stores.

use agent::secret::Secret;
use agent_events::{SigningSecrets, hub_signature};
use bytes::Bytes;
use e2e::{
    agent::{records, write_secret},
    recording_origin::RecordingOrigin,
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_addr},
    tcp_server::TcpServer,
    wait::{soon, until_true},
};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

pub(super) const SIGNING_SECRET: &str = "whsec_Q0FOQVJZLXNpZ25pbmctc2VjcmV0LW9mLXRlc3RzLTE=";
pub(super) const OTHER_SECRET: &str = "whsec_Q0FOQVJZLXNpZ25pbmctc2VjcmV0LW9mLXRlc3RzLTI=";
pub(super) const JIRA_SECRET: &str = "CANARY-jira-webhook-secret";

/// An attempt as the vendor's receiver saw it.
#[derive(Clone, Debug)]
pub(super) struct Attempt {
    pub(super) id: String,
    pub(super) issue: u64,
    pub(super) sequence: u64,
    pub(super) target: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// As it was answered.
    pub(super) status: u16,
}

/// What the receiver has seen, and how it answers.
#[derive(Default)]
pub(super) struct Received {
    attempts: Mutex<Vec<Attempt>>,
    /// Statuses of the next attempts of an issue; the last one is kept.
    scripts: Mutex<HashMap<u64, VecDeque<u16>>>,
    /// Attempts without a genuine signature.
    forged: Mutex<Vec<String>>,
}

/// The vendor's receiver. Answers 200 unless it was told otherwise.
pub(super) struct Vendor {
    pub(super) addr: SocketAddr,
    pub(super) received: Arc<Received>,
    _server: TcpServer,
}

impl Vendor {
    /// Accepts what this secret has signed within the last five minutes.
    pub(super) async fn start(secret: &str) -> Self {
        let received = Arc::new(Received::default());
        let secrets = SigningSecrets::parse(&Secret::new(secret.as_bytes().to_vec())).unwrap();
        let (seen, secrets) = (Arc::clone(&received), Arc::new(secrets));
        let answer = move |request: Request<Incoming>| {
            let (seen, secrets) = (Arc::clone(&seen), Arc::clone(&secrets));
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await.unwrap_or_default().to_bytes();
                let status = seen.take(&head, body, &secrets);
                let answer = Response::builder().status(status);
                Ok::<_, Infallible>(answer.body(Full::new(Bytes::from_static(b"ok"))).unwrap())
            }
        };
        let server = TcpServer::http(answer).await.unwrap();
        Self {
            addr: server.addr,
            received,
            _server: server,
        }
    }

    /// Answers the next attempts of this issue so, and all later ones with the last status.
    pub(super) fn script(&self, issue: u64, statuses: &[u16]) {
        let statuses = statuses.iter().copied().collect();
        self.received.scripts.lock().insert(issue, statuses);
    }

    /// All attempts. Each of them was signed.
    pub(super) fn attempts(&self) -> Vec<Attempt> {
        let forged = self.received.forged.lock().clone();
        assert!(forged.is_empty(), "{forged:#?}");
        self.received.attempts.lock().clone()
    }

    /// What was accepted: issue, number within it, id. Repeats are left out.
    pub(super) fn accepted(&self) -> Vec<(u64, u64, String)> {
        let mut accepted: Vec<(u64, u64, String)> = Vec::new();
        for attempt in self.attempts() {
            let event = (attempt.issue, attempt.sequence, attempt.id);
            if (200..300).contains(&attempt.status) && !accepted.contains(&event) {
                accepted.push(event);
            }
        }
        accepted
    }

    /// Waits until it has accepted this many events; returns their issue and number.
    pub(super) async fn until_accepted(&self, count: usize) -> Vec<(u64, u64)> {
        let what = format!("{count} accepted events");
        let enough = || self.accepted().len() >= count;
        let waited = until_true(&what, enough).await;
        let accepted = self.accepted();
        waited.unwrap_or_else(|error| panic!("{error}; there are {accepted:?}"));
        accepted
            .into_iter()
            .map(|(issue, n, _)| (issue, n))
            .collect()
    }
}

impl Received {
    fn take(&self, head: &http::request::Parts, body: Bytes, secrets: &SigningSecrets) -> u16 {
        let value = |name: &str| {
            let mut values = head.headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (Some(value), None) => value.to_str().unwrap_or_default().to_owned(),
                _ => String::new(),
            }
        };
        let (id, signature) = (value("webhook-id"), value("webhook-signature"));
        let seconds: u64 = value("webhook-timestamp").parse().unwrap_or_default();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        if now.abs_diff(seconds) > 300 || !secrets.verify(&id, seconds, &body, &signature) {
            self.forged.lock().push(format!("{head:?}"));
            return 401;
        }
        let event: Value = serde_json::from_slice(&body).unwrap_or_default();
        let issue = event["issue"]["id"].as_str().unwrap_or_default();
        let issue = issue.parse().unwrap_or_default();
        let status = match self.scripts.lock().get_mut(&issue) {
            None => 200,
            Some(script) if script.len() > 1 => script.pop_front().unwrap(),
            Some(script) => script[0],
        };
        self.attempts.lock().push(Attempt {
            id,
            issue,
            sequence: event["sequence"].as_u64().unwrap_or_default(),
            target: head.uri.to_string(),
            headers: head.headers.clone(),
            body,
            status,
        });
        status
    }
}

/// All of it, with one outlet `events`.
pub(super) struct StoreEnv {
    pub(super) vendor: Vendor,
    pub(super) sshd: Sshd,
    pub(super) agent: RunningAgent,
    /// Where Jira calls.
    pub(super) url: String,
    pub(super) folder: TempDir,
    _jira: RecordingOrigin,
}

impl StoreEnv {
    /// With further keys of the outlet.
    pub(super) async fn start(keys: &[(&str, Value)]) -> Self {
        Self::start_with(keys, |setup, _, _| setup).await
    }

    /// As [`start`](Self::start); `change` also gets the vendor's address and the folder of the secrets.
    pub(super) async fn start_with(
        keys: &[(&str, Value)],
        change: impl FnOnce(AgentSetup, SocketAddr, &TempDir) -> AgentSetup,
    ) -> Self {
        let vendor = Vendor::start(SIGNING_SECRET).await;
        let permit = format!("PermitOpen {}", vendor.addr);
        let sshd = Sshd::with(&["AllowTcpForwarding yes", &permit]).unwrap();
        let jira = RecordingOrigin::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        write_secret(&file("signing"), SIGNING_SECRET).unwrap();
        write_secret(&file("jira"), JIRA_SECRET).unwrap();
        let listen = free_addr().unwrap();
        let setup = AgentSetup::for_sshd(&sshd)
            .unwrap()
            .forward("jira", &free_addr().unwrap().to_string(), &jira.url())
            .outlet(
                "events",
                &listen.to_string(),
                &vendor.addr.to_string(),
                &[&store_keys(&folder)[..], keys].concat(),
            );
        let audit = file("audit.jsonl");
        let agent = change(setup, vendor.addr, &folder)
            .start_with(&[
                ("JIRA_TUNNEL_AGENT__AUDIT__SINK", "file"),
                ("JIRA_TUNNEL_AGENT__AUDIT__FILE", audit.to_str().unwrap()),
                ("JIRA_TUNNEL_AGENT__LOG__LEVEL", "debug"),
            ])
            .unwrap();
        let env = Self {
            vendor,
            sshd,
            agent,
            url: format!("http://{listen}/hooks/jira"),
            folder,
            _jira: jira,
        };
        env.agent.until_proven().await.unwrap();
        env.until_stores().await;
        env
    }

    /// Waits until the outlet listens.
    pub(super) async fn until_stores(&self) {
        let at = self.url.trim_start_matches("http://");
        let at = at.split('/').next().unwrap().to_owned();
        let listens = || std::net::TcpStream::connect(&at).is_ok();
        until_true("the outlet to listen", listens).await.unwrap();
    }

    /// Sends an event as Jira does.
    pub(super) async fn post(&self, issue: u64, sequence: u64) -> reqwest::Response {
        let event = event("SEC", issue, sequence);
        soon(self.request(event).send()).await.unwrap()
    }

    /// Sends an event that must be stored; returns its id.
    pub(super) async fn store(&self, issue: u64, sequence: u64) -> String {
        stored(self.post(issue, sequence).await).await
    }

    /// A request of Jira that is not sent yet.
    pub(super) fn request(&self, body: Vec<u8>) -> reqwest::RequestBuilder {
        let request = jira().post(&self.url);
        request
            .header("content-type", "application/json")
            .body(body)
    }

    /// The audit record that has these members. Waits for it.
    pub(super) async fn record(&self, members: &[(&str, Value)]) -> Value {
        let fits = |record: &Value| members.iter().all(|(name, value)| record[*name] == *value);
        let found = || records(&self.audit_file()).into_iter().find(|r| fits(r));
        let what = format!("a record with {members:?}");
        let record = e2e::wait::until(&what, async || found()).await;
        record.unwrap_or_else(|error| panic!("{error}: {:#?}", records(&self.audit_file())))
    }

    pub(super) fn audit_file(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }
}

/// The keys of mode `store`.
pub(super) fn store_keys(folder: &TempDir) -> Vec<(&'static str, Value)> {
    vec![
        ("mode", json!("store")),
        ("secret_file", json!(folder.path().join("signing"))),
    ]
}

/// An update of an issue, with a number that counts the test's events of that issue.
pub(super) fn event(project: &str, issue: u64, sequence: u64) -> Vec<u8> {
    let event = json!({
        "webhookEvent": "jira:issue_updated",
        "sequence": sequence,
        "issue": {
            "id": issue.to_string(),
            "key": format!("{project}-{issue}"),
            "fields": { "project": { "key": project }, "summary": "Grüße" },
        },
    });
    event.to_string().into_bytes()
}

/// Jira's own signature of a body.
pub(super) fn jira_signature(body: &[u8]) -> String {
    hub_signature::sign(&Secret::new(JIRA_SECRET.as_bytes().to_vec()), body)
}

/// Jira's client: a connection for each call.
pub(super) fn jira() -> reqwest::Client {
    let builder = reqwest::Client::builder().no_proxy();
    builder.pool_max_idle_per_host(0).build().unwrap()
}

/// The id in an answer that must say that the event is stored.
pub(super) async fn stored(answer: reqwest::Response) -> String {
    let status = answer.status().as_u16();
    let text = answer.text().await.unwrap();
    assert_eq!(status, 202, "{text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    let id = answer["id"].as_str().unwrap();
    assert!(id.starts_with("msg_") && id.len() == 36, "{id}");
    id.to_owned()
}

/// Status and type of the agent's own answer.
pub(super) async fn problem(answer: reqwest::Response) -> (u16, String) {
    let status = answer.status().as_u16();
    assert_eq!(answer.headers()["x-tunnel-answered-by"], "agent");
    let document: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let kind = document["type"].as_str().unwrap().rsplit(':').next();
    (status, kind.unwrap().to_owned())
}

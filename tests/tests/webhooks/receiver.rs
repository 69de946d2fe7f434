//! `server-stub receiver`: what it counts, and that a kill loses none of it.

use crate::hmac::standard;
use base64::{Engine, prelude::BASE64_STANDARD};
use e2e::{
    agent::{binary, write_secret},
    process::ChildProcess,
    sshd::{free_addr, signal},
    test_env::vendor,
    wait::{PATIENCE, soon, until_listening},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    process::Command,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tempfile::TempDir;

const KEY: &[u8] = b"a key of thirty-two random bytes";

/// The real program, with its files.
pub(crate) struct Receiver {
    /// Where it listens, also after a restart.
    pub(crate) addr: SocketAddr,
    folder: TempDir,
    process: ChildProcess,
}

/// One delivery.
#[derive(Clone)]
struct Delivery {
    id: String,
    timestamp: u64,
    body: Vec<u8>,
    signature: String,
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

impl Delivery {
    fn new(id: &str, issue: &str, sequence: u64) -> Self {
        let body = json!({ "sequence": sequence, "issue": { "id": issue } });
        Self::at(now(), id, body.to_string().into_bytes())
    }

    fn at(timestamp: u64, id: &str, body: Vec<u8>) -> Self {
        Self {
            id: id.to_owned(),
            timestamp,
            signature: standard(KEY, id, timestamp, &body),
            body,
        }
    }
}

impl Receiver {
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let secret = format!("whsec_{}\n", BASE64_STANDARD.encode(KEY));
        write_secret(&folder.path().join("secret"), &secret).unwrap();
        let addr = free_addr().unwrap();
        let process = Self::spawn(&folder, addr, arguments);
        let mut receiver = Self {
            addr,
            folder,
            process,
        };
        receiver.until_listening().await;
        receiver
    }

    fn spawn(folder: &TempDir, addr: SocketAddr, arguments: &[&str]) -> ChildProcess {
        let file = |name: &str| folder.path().join(name);
        let mut command = Command::new(binary("server-stub"));
        command
            .args(["receiver", "--listen", &addr.to_string()])
            .arg("--secret-file")
            .arg(file("secret"))
            .arg("--journal")
            .arg(file("journal"))
            .args(arguments);
        ChildProcess::spawn(command, &file("log")).unwrap()
    }

    async fn until_listening(&mut self) {
        let alive = || self.process.is_running();
        let listening = until_listening(self.addr, alive).await;
        listening.unwrap_or_else(|error| panic!("{error}: {}", self.process.log()));
    }

    /// Kills it at once.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same journal.
    pub(crate) async fn restart(&mut self) {
        self.process = Self::spawn(&self.folder, self.addr, &[]);
        self.until_listening().await;
    }

    fn url(&self) -> String {
        format!("http://{}/any/path", self.addr)
    }

    async fn send(&self, delivery: &Delivery) -> (u16, Value) {
        deliver(&self.url(), delivery).await.unwrap()
    }

    /// The counts.
    pub(crate) async fn stats(&self) -> Value {
        let url = format!("http://{}/stats", self.addr);
        soon(vendor().get(url).send())
            .await
            .unwrap()
            .json()
            .await
            .unwrap()
    }
}

async fn deliver(url: &str, delivery: &Delivery) -> reqwest::Result<(u16, Value)> {
    let request = vendor()
        .post(url)
        .header("webhook-id", &delivery.id)
        .header("webhook-timestamp", delivery.timestamp)
        .header("webhook-signature", &delivery.signature)
        .body(delivery.body.clone());
    let answer = soon(request.send()).await?;
    let status = answer.status().as_u16();
    let body = answer.bytes().await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

#[tokio::test]
async fn it_tells_events_repeats_forgeries_and_disorder_apart_also_after_a_kill() {
    let mut receiver = Receiver::start(&[]).await;
    let first = Delivery::new("msg_1", "10001", 1);
    let third = Delivery::new("msg_3", "10001", 3);
    let late = Delivery::new("msg_2", "10001", 2);
    let other = Delivery::new("msg_4", "10002", 1);
    let forged = Delivery {
        body: b"{}".to_vec(),
        ..first.clone()
    };
    let unsigned = Delivery {
        signature: "v1,".into(),
        ..other.clone()
    };
    let stale = Delivery::at(now() - 600, "msg_5", b"{}".to_vec());
    let future = Delivery::at(now() + 600, "msg_6", b"{}".to_vec());
    for (delivery, status, outcome) in [
        (&first, 200, Some("accepted")),
        (&third, 200, Some("accepted")),
        (&first, 200, Some("repeat")),
        (&late, 200, Some("accepted")),
        (&other, 200, Some("accepted")),
        (&forged, 401, None),
        (&unsigned, 401, None),
        (&stale, 401, None),
        (&future, 401, None),
    ] {
        let (found, body) = receiver.send(delivery).await;
        assert_eq!(found, status, "{}: {body}", delivery.id);
        assert_eq!(body["outcome"].as_str(), outcome, "{}", delivery.id);
    }
    let counts = json!({
        "events": 4, "repeats": 1, "out_of_order": 1, "forged": 2, "stale": 2,
        "failed_on_purpose": 0, "issues": 2,
    });
    assert_eq!(receiver.stats().await, counts);
    receiver.kill();
    receiver.restart().await;
    assert_eq!(receiver.stats().await, counts);
    assert_eq!(receiver.send(&late).await.1["outcome"], "repeat");
    signal(receiver.process.pid(), "TERM").unwrap();
    let status = receiver.process.wait(PATIENCE).await.unwrap();
    assert!(status.success(), "{status}");
    let log = receiver.process.log();
    for line in [
        "4 events",
        "2 repeats",
        "1 out of order",
        "2 forged",
        "2 stale",
    ] {
        assert!(log.contains(&format!(" {line}\n")), "{line}: {log}");
    }
}

#[tokio::test]
async fn an_acknowledged_event_is_never_lost_to_a_kill() {
    let mut receiver = Receiver::start(&[]).await;
    let acknowledged = Arc::new(Mutex::new(Vec::new()));
    for round in 0..5 {
        let (url, known) = (receiver.url(), acknowledged.clone());
        let sender = tokio::spawn(async move {
            // Until the receiver is gone.
            for number in 0.. {
                let id = format!("msg_{round}_{number}");
                let delivery = Delivery::new(&id, &round.to_string(), number);
                match deliver(&url, &delivery).await {
                    Ok((200, _)) => known.lock().push(id),
                    Ok((status, body)) => panic!("{status}: {body}"),
                    Err(_) => return,
                }
            }
        });
        let enough = || acknowledged.lock().len() >= (round + 1) * 20;
        e2e::wait::until_true("acknowledged events", enough)
            .await
            .unwrap();
        receiver.kill();
        soon(sender).await.unwrap();
        receiver.restart().await;
    }
    let ids = acknowledged.lock().clone();
    let before = receiver.stats().await["events"].as_u64().unwrap();
    // At a kill, one more may be on disk than was acknowledged.
    let count = ids.len() as u64;
    assert!((count..=count + 5).contains(&before), "{before} of {count}");
    for id in ids {
        let (status, body) = receiver.send(&Delivery::new(&id, "1", 1)).await;
        assert_eq!((status, &body["outcome"]), (200, &json!("repeat")), "{id}");
    }
    assert_eq!(receiver.stats().await["out_of_order"], 0);
}

#[tokio::test]
async fn it_fails_on_purpose_and_then_takes_the_event() {
    let receiver = Receiver::start(&["--fail-first", "2", "--status", "503"]).await;
    let event = Delivery::new("msg_1", "10001", 1);
    for (status, outcome) in [(503, None), (503, None), (200, Some("accepted"))] {
        let (found, body) = receiver.send(&event).await;
        assert_eq!((found, body["outcome"].as_str()), (status, outcome));
    }
    let stats = receiver.stats().await;
    assert_eq!(
        (&stats["failed_on_purpose"], &stats["events"]),
        (&json!(2), &json!(1))
    );
}

#[tokio::test]
async fn a_secret_that_others_may_read_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    let text = format!("whsec_{}\n", BASE64_STANDARD.encode(KEY));
    std::fs::write(&secret, &text).unwrap();
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    std::fs::set_permissions(&secret, permissions).unwrap();
    let output = Command::new(binary("server-stub"))
        .args(["receiver", "--listen", "127.0.0.1:0", "--secret-file"])
        .arg(&secret)
        .arg("--journal")
        .arg(folder.path().join("journal"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("signing secret"), "{error}");
    assert!(!error.contains(text.trim()), "{error}");
}

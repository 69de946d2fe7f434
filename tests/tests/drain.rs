//! Requests that arrive on a forward while the agent stops or removes it. The gateway accepts connections until it has
//! read the cancellation, and every accepted request is answered.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    agent::AgentProcess,
    recording_origin::issue,
    setup::RecordedTunnel,
    sshd::{free_addr, signal},
    wait::{PATIENCE, soon, until},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_are_answered_on_stop() {
    let mut env = start().await;
    let pid = env.agent.process().pid();
    let stop = |_: &AgentProcess| signal(pid, "TERM").unwrap();
    let vendor = vendor_meanwhile(&env, stop, Notified::Draining).await;
    vendor.gets_both_answers().await;
    let ended = env.agent.process().wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_gateway_does_not_delay_the_stop_of_an_idle_agent() {
    let mut env = start().await;
    env.sshd.signal("STOP").unwrap();
    signal(env.agent.process().pid(), "TERM").unwrap();
    let ended = env.agent.process().wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    // Keep-alives would end a session that owes an answer for too long.
    assert!(!env.agent.log().contains("session lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_gateway_of_a_removed_forward_is_logged() {
    let mut env = start().await;
    env.sshd.signal("STOP").unwrap();
    rename(&env.agent);
    signal(env.agent.process().pid(), "HUP").unwrap();
    let line = "gateway did not confirm cancelling a removed forward within 5 s";
    env.agent.logged(line).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_are_answered_on_removal() {
    let mut env = start().await;
    let pid = env.agent.process().pid();
    let remove = |agent: &AgentProcess| {
        let without = |text: String| {
            let (before, jira) = text.split_once("[[forward]]\nname = \"jira\"").unwrap();
            let (_, other) = jira.split_once("[[forward]]").unwrap();
            format!("{before}[[forward]]{other}")
        };
        agent.edit_config(without).unwrap();
        signal(pid, "HUP").unwrap();
    };
    let vendor = vendor_meanwhile(&env, remove, Notified::Forwards(&["other"])).await;
    vendor.gets_both_answers().await;
    env.agent
        .until_status("it to be over", |r| r.connections[0].channels == 0)
        .await
        .unwrap();
    assert!(TcpStream::connect(env.addr).await.is_err(), "still bound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_in_flight_are_answered_on_rename() {
    let mut env = start().await;
    let pid = env.agent.process().pid();
    let renamed = |agent: &AgentProcess| {
        rename(agent);
        signal(pid, "HUP").unwrap();
    };
    let vendor = vendor_meanwhile(&env, renamed, Notified::Forwards(&["other", "tickets"])).await;
    vendor.gets_both_answers().await;
    env.agent.until_proven().await.unwrap();
    let mut new = TcpStream::connect(env.addr).await.unwrap();
    ask(&mut new, "DEMO-3").await;
    receives(&mut new, "DEMO-3").await;
}

/// A tunnel with the forwards "jira" and "other".
async fn start() -> RecordedTunnel {
    let other = free_addr().unwrap().to_string();
    let env = RecordedTunnel::start_with(|setup, jira| {
        setup
            // Far longer than the test waits.
            .tunnel("drain_limit", "10m")
            .tunnel("probe_timeout", "5m")
            .tunnel("stall_timeout", "10m")
            .forward("other", &other, &jira.url())
    });
    env.await.unwrap()
}

/// A vendor that sends on a new and on a kept-alive connection after `change` was made and the agent has notified the
/// gateway, and before the gateway has read the notification.
async fn vendor_meanwhile(
    env: &RecordedTunnel,
    change: impl FnOnce(&AgentProcess),
    notified: Notified,
) -> Vendor {
    let mut kept = TcpStream::connect(env.addr).await.unwrap();
    ask(&mut kept, "DEMO-0").await;
    receives(&mut kept, "DEMO-0").await;
    env.sshd.signal("STOP").unwrap();
    change(&env.agent);
    let seen = async || notified.is(&env.agent).await.then_some(());
    until("the notification", seen).await.unwrap();
    // The kernel queues both for sshd, which polls its sockets before it reads the notification.
    ask(&mut kept, "DEMO-1").await;
    let mut new = TcpStream::connect(env.addr).await.unwrap();
    ask(&mut new, "DEMO-2").await;
    env.sshd.signal("CONT").unwrap();
    Vendor { kept, new }
}

struct Vendor {
    kept: TcpStream,
    new: TcpStream,
}

impl Vendor {
    async fn gets_both_answers(mut self) {
        receives(&mut self.kept, "DEMO-1").await;
        receives(&mut self.new, "DEMO-2").await;
    }
}

/// What shows that the agent has notified the gateway.
enum Notified {
    Draining,
    /// The connection has these forwards.
    Forwards(&'static [&'static str]),
}

impl Notified {
    async fn is(&self, agent: &AgentProcess) -> bool {
        match self {
            Self::Draining => agent.log().contains("draining (limit seconds"),
            Self::Forwards(names) => {
                let report = agent.status().await.unwrap();
                let forwards = &report.connections[0].forwards;
                let mut known: Vec<_> = forwards.iter().map(|f| &*f.name).collect();
                known.sort_unstable();
                known == *names
            }
        }
    }
}

fn rename(agent: &AgentProcess) {
    let renamed = |text: String| text.replace("\"jira\"", "\"tickets\"");
    agent.edit_config(renamed).unwrap();
}

/// Returns when the request is in the kernel's hands.
async fn ask(stream: &mut TcpStream, key: &str) {
    let request = format!("GET /rest/api/2/issue/{key} HTTP/1.1\r\nHost: jira.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads up to the document of this issue.
async fn receives(stream: &mut TcpStream, key: &str) {
    let document = issue(key);
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(&document) {
            if stream.read_buf(&mut read).await.unwrap() == 0 {
                panic!("closed after {:?}", String::from_utf8_lossy(&read));
            }
        }
    };
    soon(reading).await;
}

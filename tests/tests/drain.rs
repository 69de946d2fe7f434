//! What comes by a forward while its gateway has not heard yet that it is to let go of it: the agent stops, or a changed
//! configuration has the forward no more. The gateway accepts connections until it has read so, and what it has accepted
//! is answered.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    agent::AgentProcess,
    recording_origin::{RecordingOrigin, issue},
    setup::{AgentSetup, RunningAgent},
    sshd::{Sshd, free_port, signal},
};
use std::{fs, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{sleep, timeout},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_an_agent_that_stops() {
    let mut site = Site::start().await;
    let pid = site.agent.process().pid();
    let vendor = site
        .vendor_meanwhile(|_| signal(pid, "TERM").unwrap(), Seen::Draining)
        .await;
    vendor.gets_both_answers().await;
    let ended = site.agent.process().wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_says_nothing_does_not_hold_up_the_stop_of_an_idle_agent() {
    let mut site = Site::start().await;
    site.sshd.signal("STOP").unwrap();
    signal(site.agent.process().pid(), "TERM").unwrap();
    let ended = site.agent.process().wait(PATIENCE).await.unwrap();
    assert_eq!(ended.code(), Some(0));
    // Which ends a session that owes an answer for long enough.
    assert!(!site.agent.log().contains("session lost"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_says_nothing_of_a_removed_forward_is_told_of_in_the_log() {
    let mut site = Site::start().await;
    site.sshd.signal("STOP").unwrap();
    change(&site.agent, |text| text.replace("\"jira\"", "\"tickets\""));
    signal(site.agent.process().pid(), "HUP").unwrap();
    let told = "gateway did not confirm cancelling a removed forward within 5 s";
    site.agent.logged(told).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_forward_that_is_taken_out() {
    let mut site = Site::start().await;
    let pid = site.agent.process().pid();
    let without = |agent: &AgentProcess| {
        change(agent, |text| {
            let (kept, _) = text.split_once("[[forward]]\nname = \"jira\"").unwrap();
            kept.to_owned()
        });
        signal(pid, "HUP").unwrap();
    };
    let vendor = site
        .vendor_meanwhile(without, Seen::Forwards(&["other"]))
        .await;
    vendor.gets_both_answers().await;
    site.agent
        .until_status("it to be over", |r| r.connections[0].channels == 0)
        .await
        .unwrap();
    assert!(TcpStream::connect(site.addr).await.is_err(), "still bound");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_forward_that_has_another_name_now() {
    let mut site = Site::start().await;
    let pid = site.agent.process().pid();
    let renamed = |agent: &AgentProcess| {
        change(agent, |text| text.replace("\"jira\"", "\"tickets\""));
        signal(pid, "HUP").unwrap();
    };
    let vendor = site
        .vendor_meanwhile(renamed, Seen::Forwards(&["other", "tickets"]))
        .await;
    vendor.gets_both_answers().await;
    site.agent.until_proven().await.unwrap();
    let mut anew = TcpStream::connect(site.addr).await.unwrap();
    ask(&mut anew, "DEMO-3").await;
    is_told(&mut anew, "DEMO-3").await;
}

/// An agent with the forwards "other" and "jira".
struct Site {
    sshd: Sshd,
    agent: RunningAgent,
    /// Where "jira" is bound.
    addr: SocketAddr,
    _jira: RecordingOrigin,
}

impl Site {
    async fn start() -> Self {
        let sshd = Sshd::start().unwrap();
        let jira = RecordingOrigin::start().await.unwrap();
        let place = || SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
        let (other, addr) = (place(), place());
        let agent = AgentSetup::for_sshd(&sshd)
            .unwrap()
            // Far longer than the test waits.
            .tunnel("drain_limit", "10m")
            .tunnel("keepalive_interval", "5m")
            .tunnel("stall_timeout", "10m")
            .forward("other", &other.to_string(), &jira.url())
            .forward("jira", &addr.to_string(), &jira.url())
            .start()
            .unwrap();
        agent.until_proven().await.unwrap();
        Self {
            sshd,
            agent,
            addr,
            _jira: jira,
        }
    }

    /// A vendor who asks by a new and by a kept connection after `what` has been done and the gateway has been told,
    /// and before it has read so.
    async fn vendor_meanwhile(&mut self, what: impl FnOnce(&AgentProcess), until: Seen) -> Vendor {
        let mut kept = TcpStream::connect(self.addr).await.unwrap();
        ask(&mut kept, "DEMO-0").await;
        is_told(&mut kept, "DEMO-0").await;
        self.sshd.signal("STOP").unwrap();
        what(&self.agent);
        let waiting = async {
            while !until.is(&self.agent).await {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, waiting).await.expect("it is not told");
        // The kernel keeps both for sshd, which looks at its sockets before it reads what we have told it.
        ask(&mut kept, "DEMO-1").await;
        let mut new = TcpStream::connect(self.addr).await.unwrap();
        ask(&mut new, "DEMO-2").await;
        self.sshd.signal("CONT").unwrap();
        Vendor { kept, new }
    }
}

struct Vendor {
    kept: TcpStream,
    new: TcpStream,
}

impl Vendor {
    async fn gets_both_answers(mut self) {
        is_told(&mut self.kept, "DEMO-1").await;
        is_told(&mut self.new, "DEMO-2").await;
    }
}

/// By what one sees that the gateway has been told.
enum Seen {
    Draining,
    /// These are the forwards of the connection.
    Forwards(&'static [&'static str]),
}

impl Seen {
    async fn is(&self, agent: &AgentProcess) -> bool {
        match self {
            Self::Draining => agent.log().contains("draining (limit seconds"),
            Self::Forwards(names) => {
                let report = agent.status().await.unwrap();
                let forwards = &report.connections[0].forwards;
                let known = forwards.iter().map(|forward| &*forward.name);
                known.eq(names.iter().copied())
            }
        }
    }
}

fn change(agent: &AgentProcess, change: impl FnOnce(String) -> String) {
    let file = agent.dir().join("agent.toml");
    let changed = change(fs::read_to_string(&file).unwrap());
    fs::write(file, changed).unwrap();
}

/// Returns when the request is in the kernel's hands.
async fn ask(stream: &mut TcpStream, key: &str) {
    let request = format!("GET /rest/api/2/issue/{key} HTTP/1.1\r\nHost: jira.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
}

/// Reads up to the document of this issue.
async fn is_told(stream: &mut TcpStream, key: &str) {
    let document = issue(key);
    let mut read = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&read).contains(&document) {
            if stream.read_buf(&mut read).await.unwrap() == 0 {
                panic!("closed after {:?}", String::from_utf8_lossy(&read));
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("no answer");
}

/// Generous: a loaded machine is no reason to fail.
const PATIENCE: Duration = Duration::from_secs(60);

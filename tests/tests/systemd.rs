//! What the real agent sends to systemd over `NOTIFY_SOCKET`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    sshd::signal,
    test_env::TestEnv,
    wait::{PATIENCE, until_true},
};
use std::{
    fs,
    os::unix::net::UnixDatagram,
    time::{Duration, Instant},
};

/// systemd's end of the notification socket.
struct Systemd(UnixDatagram);

impl Systemd {
    /// From its next start on, the agent notifies this socket.
    fn of(site: &mut TestEnv) -> Self {
        let path = site.dir().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        site.agent.env("NOTIFY_SOCKET", path);
        site.agent
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        Self(socket)
    }

    /// Reads messages until one is as wanted.
    fn until(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut heard = Vec::new();
        while Instant::now() < deadline {
            let message = self.next();
            if wanted(&message) {
                return message;
            }
            heard.push(message);
        }
        panic!("{what} was not told: {heard:?}");
    }

    fn next(&self) -> String {
        let mut buffer = [0; 4096];
        let length = self
            .0
            .recv(&mut buffer)
            .expect("nothing was told for a minute");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    /// Discards the messages received so far.
    fn skip(&self) {
        self.0.set_nonblocking(true).unwrap();
        while self.0.recv(&mut [0; 4096]).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
    }

    /// Whether a message arrives within this time.
    fn hears_within(&self, time: Duration) -> bool {
        self.0.set_read_timeout(Some(time)).unwrap();
        let heard = self.0.recv(&mut [0; 4096]).is_ok();
        self.0.set_read_timeout(Some(PATIENCE)).unwrap();
        heard
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_hears_of_start_state_life_and_end() {
    let mut site = TestEnv::start().await.unwrap();
    let systemd = Systemd::of(&mut site);
    site.agent.restart().unwrap();
    systemd.until("READY", |m| m == "READY=1");
    systemd.until("the proof of all", |m| m.starts_with("STATUS=proven: "));
    systemd.until("life", |m| m == "WATCHDOG=1");
    site.agent.run(&["pause"]).unwrap();
    systemd.until("the pause", |m| {
        m.starts_with("STATUS=degraded: ") && m.contains("paused")
    });
    site.agent.run(&["resume"]).unwrap();
    systemd.until("its end", |m| m.starts_with("STATUS=proven: "));

    // A hung agent sends no watchdog message; a continued one does again.
    let pid = site.agent.process().pid();
    signal(pid, "STOP").unwrap();
    let stat = format!("/proc/{pid}/stat");
    let stopped = || fs::read_to_string(&stat).unwrap().contains(") T ");
    until_true("the kernel to stop it", stopped).await.unwrap();
    systemd.skip();
    assert!(!systemd.hears_within(WATCHDOG * 3));
    signal(pid, "CONT").unwrap();
    systemd.until("life after the stop", |m| m == "WATCHDOG=1");

    // A reload is reported from beginning to end, whatever its result.
    let file = site.dir().join("agent.toml");
    let config = fs::read_to_string(&file).unwrap();
    for text in ["[tunnel]\n", &config] {
        fs::write(&file, text).unwrap();
        let clock = fs::read_to_string("/proc/uptime").unwrap();
        let before: f64 = clock.split(' ').next().unwrap().parse().unwrap();
        signal(pid, "HUP").unwrap();
        let message = systemd.until("RELOADING", |m| {
            m.starts_with("RELOADING=1\nMONOTONIC_USEC=")
        });
        let usec: f64 = message.rsplit('=').next().unwrap().parse().unwrap();
        // systemd accepts only messages sent after its signal.
        assert!(
            (-0.1..60.0).contains(&(usec / 1e6 - before)),
            "{message} at {before} s"
        );
        systemd.until("READY", |m| m == "READY=1");
        let refused = text != config;
        systemd.until("the state", |m| {
            m.starts_with("STATUS=") && m.contains("refused") == refused
        });
    }

    signal(pid, "TERM").unwrap();
    systemd.until("STOPPING", |m| m.starts_with("STOPPING=1\nSTATUS=draining"));
    let ended = site.agent.process().wait(PATIENCE).await;
    assert_eq!(ended.unwrap().code(), Some(0));
}

/// Its status line to systemd names the failed layer.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_without_a_gateway_is_ready_and_alive() {
    let mut site = TestEnv::start().await.unwrap();
    // Nobody listens on the port of the TCP multiplexer.
    let gateway = site.sshd.address();
    let nowhere = |config: String| config.replace(&gateway, "127.0.0.1:1");
    site.agent.edit_config(nowhere).unwrap();
    let systemd = Systemd::of(&mut site);
    site.agent.restart().unwrap();
    systemd.until("READY", |m| m == "READY=1");
    systemd.until("the network", |m| m.starts_with("STATUS=down: network: "));
    systemd.until("life", |m| m == "WATCHDOG=1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_is_refused_is_never_ready() {
    let mut site = TestEnv::start().await.unwrap();
    let systemd = Systemd::of(&mut site);
    fs::write(site.dir().join("agent.toml"), "[tunnel]\n").unwrap();
    site.agent.restart().unwrap();
    let ended = site.agent.process().wait(PATIENCE).await;
    assert_eq!(ended.unwrap().code(), Some(78));
    // The process has ended; its messages would still be in the socket.
    assert!(!systemd.hears_within(Duration::from_millis(1)));
}

/// Short, to keep the test short.
const WATCHDOG: Duration = Duration::from_millis(600);

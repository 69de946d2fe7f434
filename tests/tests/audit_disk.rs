//! Requests, audit and a pause on a full disk. Needs root: the agent gets a small disk in its own mount namespace.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    secret::Secret,
    status::{LayerState, OverallState, StatusReport},
    tokens::{TokenOwner, TokenRecord, TokenSet, TokenStore},
};
use e2e::{
    agent::records,
    test_env::{BOT_TOKEN, TestEnv, vendor},
    wait::until_true,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use server_stub::jira::{FaultKind, InjectedFault};
use std::{
    fs::{self, File},
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// An environment whose agent runs on a disk of 120 MiB.
struct SmallDisk {
    site: TestEnv,
    filler: PathBuf,
}

impl SmallDisk {
    async fn start(lines: &[&str]) -> Self {
        let mut plan = TestEnv::builder().pat(BOT_TOKEN);
        for line in lines {
            plan = plan.line("audit", *line);
        }
        let mut site = plan.start().await.unwrap();
        site.agent.use_namespace(SMALL_DISK);
        site.agent.restart().unwrap();
        site.until_proven().await.unwrap();
        let filler = site.agent.path("state/filler");
        Self { site, filler }
    }

    /// Fills the disk, as another program may, until this many bytes or fewer are left.
    fn fill(&self, left: u64) {
        let mut file = File::create(&self.filler).unwrap();
        let block = vec![b'x'; 64 << 10];
        loop {
            let stat = rustix::fs::fstatvfs(&file).unwrap();
            if stat.f_bavail * stat.f_frsize <= left || file.write_all(&block).is_err() {
                return;
            }
        }
    }

    /// Free bytes on the disk.
    fn free(&mut self) -> u64 {
        let stat = rustix::fs::statvfs(self.site.agent.path("state")).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    fn make_room(&self) {
        fs::remove_file(&self.filler).unwrap();
    }

    /// Sends 100 writes; returns the answers.
    async fn write(&self, name: &str) -> Vec<(StatusCode, Value)> {
        let mut answers = Vec::new();
        for number in 0..100 {
            let url = format!(
                "{}/rest/api/2/issue/{name}-{number}",
                self.site.vendor_url()
            );
            let request = vendor().put(url).json(&json!({ "fields": {} }));
            let answer = request.send().await.unwrap();
            let status = answer.status();
            answers.push((status, answer.json().await.unwrap_or_default()));
        }
        answers
    }

    /// How many of these writes Jira has seen.
    fn seen_by_jira(&self, name: &str) -> usize {
        let requests = self.site.jira().requests();
        let of = format!("/issue/{name}-");
        requests
            .iter()
            .filter(|r| r.target_text().contains(&of))
            .count()
    }

    /// How many of these writes are in the audit.
    fn recorded(&mut self, name: &str) -> usize {
        let of = format!("/issue/{name}-");
        let file = self.site.agent.path("state/audit.log");
        let is = |record: &Value| record["target"].as_str().is_some_and(|t| t.contains(&of));
        records(&file).iter().filter(|r| is(r)).count()
    }

    async fn until_recorded(&mut self, name: &str, wanted: usize) {
        let what = format!("{wanted} audit records of {name}");
        let all = || self.recorded(name) == wanted;
        until_true(&what, all).await.unwrap();
    }

    async fn until(&self, what: &str, wanted: impl Fn(&StatusReport) -> bool) -> StatusReport {
        self.site.agent.until_status(what, wanted).await.unwrap()
    }

    /// Text and exit code of `agent status`.
    fn status(&self) -> (String, i32) {
        self.site.agent.status_output().unwrap()
    }
}

/// The audit file is another name of one on that disk.
const SMALL_DISK: &str = r#"
mkdir -p state
touch audit.log
mount -t tmpfs -o mode=700,size=120m tmpfs state
touch state/audit.log
mount --bind state/audit.log audit.log
exec "$0" "$@"
"#;

/// As a bank demands: a request is on record, or it has not happened.
#[tokio::test(flavor = "multi_thread")]
async fn a_vendor_that_fills_the_disk_silences_nothing() {
    let mut disk = SmallDisk::start(&["required = true"]).await;
    assert!(
        disk.write("FIRST")
            .await
            .iter()
            .all(|(status, _)| status.as_u16() != 503)
    );
    disk.until_recorded("FIRST", 100).await;

    disk.fill(0);
    let failed = |report: &StatusReport| report.audit.state == LayerState::Failed;
    let report = disk.until("a failed audit", failed).await;
    assert_eq!(report.overall, OverallState::Down);
    for (status, problem) in disk.write("SECOND").await {
        assert_eq!(status, 503);
        assert_eq!(
            problem["type"],
            "urn:jira-tunnel-agent:problem:audit-unavailable"
        );
        assert_eq!(problem["delivery"], "not_sent");
    }
    assert_eq!(disk.seen_by_jira("SECOND"), 0);
    let (text, code) = disk.status();
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("audit.log: only "), "{text}");
    assert!(text.contains("remedy: free space on its disk"), "{text}");

    disk.make_room();
    disk.site.until_proven().await.unwrap();
    disk.write("THIRD").await;
    disk.until_recorded("THIRD", 100).await;
    assert_eq!(disk.seen_by_jira("THIRD"), 100);
    // All writes that reached Jira are on record, and no others.
    assert_eq!(disk.recorded("FIRST") + disk.recorded("SECOND"), 100);
}

/// Without `required`, requests pass; the status shows at once that records are lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_degraded_at_once_and_a_pause_on_it_is_durable() {
    let mut disk = SmallDisk::start(&["queue = 50"]).await;
    assert_eq!(disk.status().1, 0);
    disk.fill(0);
    let writes = disk.write("SECOND").await;
    assert!(writes.iter().all(|(status, _)| status.as_u16() != 503));
    assert_eq!(disk.seen_by_jira("SECOND"), 100);
    let lost = |report: &StatusReport| report.audit.dropped > 0;
    let report = disk.until("lost records", lost).await;
    assert_eq!(report.overall, OverallState::Degraded);
    let (text, code) = disk.status();
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("DROPPED"), "{text}");
    assert!(text.contains("remedy: free space on its disk"), "{text}");

    // The administrator can still pause the vendor durably.
    let pause = ["pause", "--reason", "CHG-7"];
    disk.site.agent.succeed(&pause).unwrap();
    let kept = fs::read_to_string(disk.site.agent.path("state/pause.json")).unwrap();
    assert!(kept.contains("CHG-7"), "{kept}");
    disk.site.agent.succeed(&["resume"]).unwrap();

    // Queued records are written once there is room; the loss stays visible.
    disk.make_room();
    let written = |report: &StatusReport| {
        let cause = report.audit.cause.as_deref();
        cause.is_some_and(|cause| cause.contains("were lost"))
    };
    let report = disk.until("a written audit", written).await;
    assert_eq!(report.overall, OverallState::Degraded);
    assert_eq!(disk.status().1, 1);
    let kept = 100 - report.audit.dropped as usize;
    disk.until_recorded("SECOND", kept).await;
    let file = fs::read_to_string(disk.site.agent.path("state/audit.log")).unwrap();
    assert!(file.contains("audit_records_dropped"));
    let numbers = file.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("no line is torn");
        line["seq"].as_u64().unwrap()
    });
    assert!(numbers.collect::<Vec<_>>().is_sorted());
}

/// Another program has taken the space of the reserve.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_state_folder_is_degraded_with_a_remedy() {
    let mut disk = SmallDisk::start(&[]).await;
    let is = |wanted| move |report: &StatusReport| report.state_folder.state == wanted;
    disk.until("a first look", is(LayerState::Proven)).await;
    disk.fill(0);
    let (reserve, more) = (
        disk.site.agent.path("state/.reserve"),
        disk.site.agent.path("state/more"),
    );
    for _ in 0..100 {
        // The agent may create it again meanwhile.
        let _ = fs::remove_file(&reserve);
        let mut more = File::options()
            .create(true)
            .append(true)
            .open(&more)
            .unwrap();
        while more.write_all(&[b'x'; 4096]).is_ok() {}
        if !reserve.exists() {
            break;
        }
    }
    let report = disk.until("no room", is(LayerState::Degraded)).await;
    assert_eq!(report.overall, OverallState::Degraded);
    let cause = report.state_folder.cause.unwrap();
    assert!(cause.contains("No space left on device"), "{cause}");
    let (text, code) = disk.status();
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains("state folder\n  DEGRADED  cannot write to "),
        "{text}"
    );
    let paused = disk.site.agent.run(&["pause"]).unwrap();
    assert!(!paused.status.success());
    let printed = String::from_utf8_lossy(&paused.stderr).into_owned();
    assert!(
        printed.contains("a restart would lose the pause"),
        "{printed}"
    );

    fs::remove_file(&more).unwrap();
    disk.make_room();
    disk.until("room again", is(LayerState::Proven)).await;
    disk.site.agent.succeed(&["pause"]).unwrap();
}

/// Uploads that Jira does not read fill the disk up to the spool's limit, a tenth of it. The rest is enough for the
/// audit and a pause without a reserve.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_leaves_room_for_audit_and_pause() {
    let mut disk = SmallDisk::start(&["required = true"]).await;
    let stalls = vec![InjectedFault::on("/issue/STALL-", FaultKind::Stall)];
    disk.site.jira().set_faults(stalls);
    disk.fill(36 << 20);
    let before = disk.free();
    let mut uploads = Vec::new();
    for number in 0..4 {
        uploads.push(upload(disk.site.addr(), number).await);
    }
    // Uploads that were not reset keep their spooled data.
    let held = uploads.iter().flatten().count();
    assert!(held >= 1 && disk.free() < before, "nothing was spooled");
    assert!(held < uploads.len(), "the spool has not come to its floor");
    assert!(disk.free() > 11 << 20, "{} bytes are free", disk.free());
    disk.write("SECOND").await;
    disk.until_recorded("SECOND", 100).await;
    // Requests are audited and answered; only spooled data has no room.
    let degraded = |r: &StatusReport| r.spool.state == LayerState::Degraded;
    let report = disk.until("the spool to be degraded", degraded).await;
    let cause = report.spool.cause.unwrap_or_default();
    // The last bytes above the floor may be too few for what was to be written.
    let words = ["must stay free", "no room left for what was sent"];
    assert!(words.iter().any(|part| cause.contains(part)), "{cause}");
    assert_eq!(report.audit.state, LayerState::Proven);
    assert_eq!(disk.status().1, 1);
    disk.site.agent.succeed(&["pause"]).unwrap();
}

/// Sends 16 MiB of a longer upload; none if it is reset before.
async fn upload(addr: SocketAddr, number: u32) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "PUT /jira/rest/api/2/issue/STALL-{number} HTTP/1.1\r\nHost: vendor\r\nContent-Type: application/json\r\n\
         Content-Length: 1000000000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let block = vec![b' '; 1 << 20];
    for _ in 0..16 {
        let sent = stream.write_all(&block);
        tokio::time::timeout(Duration::from_secs(30), sent)
            .await
            .expect("the tunnel does not take it")
            .ok()?;
    }
    // A reset may still be in transit.
    let mut answer = [0; 1024];
    let end = tokio::time::timeout(Duration::from_secs(2), stream.read(&mut answer));
    end.await.is_err().then_some(stream)
}

/// A used refresh token must be replaced by the new one, even on a full disk.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_saved_on_a_full_disk() {
    let mut disk = SmallDisk::start(&[]).await;
    let store = TokenStore::new(&disk.site.agent.path("state"), "jira");
    let owner = TokenOwner {
        mode: "oauth2".into(),
        client: "client".into(),
        issuer: "https://jira.corp.example/jira".into(),
    };
    let secret = || Some(Secret::new(vec![b'x'; 4096]));
    let tokens = TokenSet {
        access: secret(),
        access_secret: None,
        access_expires: None,
        refresh: secret(),
        refresh_expires: None,
        obtained: SystemTime::now(),
        user: None,
        scope: None,
    };
    let locked = store.lock(Duration::from_secs(5)).await.unwrap();
    disk.fill(0);
    locked.save(&TokenRecord::new(owner, tokens)).await.unwrap();
    assert!(store.load().await.unwrap().is_some());
}

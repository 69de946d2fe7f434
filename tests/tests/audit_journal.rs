//! A real journald with a low rate limit, with and without the settings of the packaged unit. Needs root and systemd's
//! journald and journalctl, which run in the agent's mount namespace.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::test_env::{BOT_TOKEN, MYSELF, TestEnv, json_of, vendor};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::{fs, process::Command, time::Duration};

/// Which settings of the packaged unit apply.
#[derive(Clone, Copy, PartialEq)]
enum UnitSettings {
    /// All of them, as by systemd 240 and later.
    Packaged,
    /// As by systemd before 240, which ignores the limit and passes the variable on.
    OldSystemd,
    /// None: another unit starts the agent.
    Foreign,
}

/// Starts an agent whose journal accepts some hundred lines in 30 s.
async fn site(unit: UnitSettings, sink: &str) -> TestEnv {
    let mut site = prepared(unit, &format!("sink = \"{sink}\"")).await;
    site.until_proven().await.unwrap();
    site
}

/// `audit`: the lines of `[audit]`.
async fn prepared(unit: UnitSettings, audit: &str) -> TestEnv {
    let plan = TestEnv::builder().pat(BOT_TOKEN);
    let plan = plan.line("forward.http", "refusals_per_minute = 1000000");
    let mut site = plan.start().await.unwrap();
    let with_audit = |text: String| {
        let (before, after) = text.split_once("[audit]\n").unwrap();
        let (_, after) = after.split_once("\n\n").unwrap();
        format!("{before}[audit]\n{audit}\n\n{after}")
    };
    site.agent.edit_config(with_audit).unwrap();
    let unlimited = unit == UnitSettings::Packaged;
    if unit != UnitSettings::Foreign {
        assert_eq!(
            in_unit("Environment"),
            "JIRA_TUNNEL_AGENT_UNLIMITED_JOURNAL=1"
        );
        site.agent.env("JIRA_TUNNEL_AGENT_UNLIMITED_JOURNAL", "1");
    }
    if unlimited {
        let logs = site.agent.dir().join("logs");
        site.agent.env("LOGS_DIRECTORY", logs);
    }
    site.agent.use_namespace(match unlimited {
        true => format!("{FOLDERS}{}{JOURNAL}", limits()),
        false => format!("{FOLDERS}{JOURNAL}"),
    });
    site.agent.restart().unwrap();
    site
}

/// Sends more refused requests than journald accepts lines, then fifty writes.
async fn flood(site: &TestEnv) {
    let refused = format!("{}/nope", site.vendor_url());
    for _ in 0..30 {
        let journalctl = (0..50).map(|_| vendor().get(&refused).send());
        for answer in join_all(journalctl).await {
            assert_eq!(answer.unwrap().status(), 403);
        }
    }
    for number in 0..WRITES {
        let url = format!("{}/rest/api/2/issue/DEMO-{number}", site.vendor_url());
        let answer = vendor()
            .put(url)
            .json(&json!({ "fields": {} }))
            .send()
            .await;
        assert!(answer.unwrap().status().as_u16() < 500);
    }
}

/// The audit lines in the journal.
fn journal(site: &mut TestEnv) -> Vec<Value> {
    let id = fs::read_to_string("/etc/machine-id").unwrap();
    let folder = site.agent.path("/run/log/journal").join(id.trim());
    let mut journalctl = Command::new("journalctl");
    journalctl
        .arg("-D")
        .arg(folder)
        .args(["-o", "cat", "-t", "jira-tunnel-agent-audit"]);
    let output = journalctl.output().expect("journalctl").stdout;
    let lines = String::from_utf8(output).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn writes(lines: &[Value]) -> usize {
    lines.iter().filter(|line| line["method"] == "PUT").count()
}

fn numbers(lines: &[Value]) -> Vec<u64> {
    lines
        .iter()
        .map(|line| line["seq"].as_u64().unwrap())
        .collect()
}

async fn written(site: &TestEnv, lines: u64) {
    let all = |report: &agent::status::StatusReport| report.audit.written >= lines;
    site.agent
        .until_status("all to be written", all)
        .await
        .unwrap();
    // To journald's socket; it reads at once.
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_packaged_unit_loses_no_audit_line_in_a_flood() {
    let mut site = site(UnitSettings::Packaged, "auto").await;
    let audit = site.agent.status().await.unwrap().audit;
    assert_eq!(audit.sink, "the journal");
    // The effective sink of "auto" is in no file.
    let shown = site.agent.succeed(&["config", "show"]).unwrap();
    let why = "# The running agent writes audit records to the journal: the unit lifts journald's rate limit";
    assert!(shown.contains(why), "{shown}");
    flood(&site).await;
    written(&site, 1500 + WRITES).await;
    let lines = journal(&mut site);
    assert_eq!(writes(&lines) as u64, WRITES);
    let all: Vec<u64> = (1..=lines.len() as u64).collect();
    assert_eq!(numbers(&lines), all);
}

/// Without the unit's setting the journal loses lines, and gaps in `seq` show that.
/// This is the premise of the other tests, and what the numbers are for.
#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limited_journal_loses_lines_visibly() {
    let mut site = site(UnitSettings::Foreign, "journal").await;
    let audit = site.agent.status().await.unwrap().audit;
    assert_eq!(audit.sink, "the journal");
    assert!(
        audit.sink_reason.contains("journald may drop lines"),
        "{}",
        audit.sink_reason
    );
    flood(&site).await;
    written(&site, 1500 + WRITES).await;
    let lines = journal(&mut site);
    assert_eq!(writes(&lines), 0, "journald has kept {} lines", lines.len());
    assert!((lines.len() as u64) < 1500);
}

/// A required audit must not depend on what journald may drop.
#[tokio::test(flavor = "multi_thread")]
async fn a_required_audit_takes_no_journal_that_may_drop_lines() {
    let mut site = prepared(UnitSettings::Foreign, "sink = \"journal\"\nrequired = true").await;
    site.until_bound().await.unwrap();
    let (status, problem) = json_of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!(status, 503);
    assert_eq!(
        problem["type"],
        "urn:jira-tunnel-agent:problem:audit-unavailable"
    );
    let audit = site.agent.status().await.unwrap().audit;
    assert!(audit.cause.unwrap().contains("set audit.file"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_sink_is_a_file_if_the_journal_may_drop() {
    for unit in [UnitSettings::OldSystemd, UnitSettings::Foreign] {
        let mut site = site(unit, "auto").await;
        let audit = site.agent.status().await.unwrap().audit;
        let file = site.agent.dir().join("state/audit.log");
        assert_eq!(audit.sink, format!("the file {}", file.display()));
        flood(&site).await;
        written(&site, 1500 + WRITES).await;
        let lines = e2e::agent::records(&file);
        assert_eq!(writes(&lines) as u64, WRITES);
        assert!(journal(&mut site).is_empty());
    }
}

/// Value of a key in the packaged unit.
fn in_unit(key: &str) -> String {
    let root = env!("CARGO_MANIFEST_DIR");
    let unit = format!("{root}/../packaging/files/jira-tunnel-agent.service");
    let unit = fs::read_to_string(unit).unwrap();
    let mut lines = unit.lines();
    let value = lines.find_map(|line| line.strip_prefix(&format!("{key}=")));
    value
        .unwrap_or_else(|| panic!("{key} is not set"))
        .to_owned()
}

/// The packaged unit's limits as systemd 240 and later passes them to journald; 0 means "not set".
fn limits() -> String {
    let of = |key: &str, file: &str| match in_unit(key).as_str() {
        "0" => String::new(),
        value => format!("ln -s {value} /run/systemd/units/{file}:jira-tunnel-agent.service\n"),
    };
    of("LogRateLimitIntervalSec", "log-rate-limit-interval")
        + &of("LogRateLimitBurst", "log-rate-limit-burst")
}

const WRITES: u64 = 50;

/// journald takes the unit of a process from its control group, and the unit's limits from links that systemd makes.
const FOLDERS: &str = r#"
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/journal /run/systemd/units /run/systemd/journald.conf.d /run/log/journal
printf '[Journal]\nStorage=volatile\nRateLimitIntervalSec=30s\nRateLimitBurst=100\n' > /run/systemd/journald.conf.d/1.conf
"#;

const JOURNAL: &str = r#"
env -i /lib/systemd/systemd-journald > journald.log 2>&1 &
until [ -S /run/systemd/journal/socket ]; do sleep 0.05; done
echo 0::/system.slice/jira-tunnel-agent.service > /run/control-group
sh -ec 'mount --bind /run/control-group /proc/$$/cgroup; exec "$0" "$@"' "$0" "$@" &
wait $!
"#;

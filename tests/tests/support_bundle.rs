//! `agent support-bundle`: what it contains, what it never contains, and that a missing part does not stop it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use base64::{Engine, engine::general_purpose::STANDARD};
use e2e::{
    agent::{binary, command},
    login,
    sshd::signal,
    test_env::{BOT, BOT_PASSWORD, TestEnv, TestEnvPlan, vendor},
};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread")]
async fn every_part_is_there_and_no_secret_in_any_encoding() {
    let mut site = site(TestEnv::builder().pat(OURS)).await;
    requests(&site).await;
    plant(&site, OURS);
    let parts = bundle(&site, &[]);
    for (name, held) in [
        ("CONTENTS.txt", "audit.jsonl"),
        ("versions.txt", "glibc"),
        ("config.txt", "token_file = \"secret\""),
        ("status.json", "\"overall\": \"proven\""),
        ("check.json", "\"server-info\""),
        ("metrics.txt", "jira_tunnel_agent_requests_total"),
        ("log.txt", "TRACE"),
        ("log.txt", "a line of the administrator's"),
        ("audit.jsonl", "\"method\":\"GET\""),
        ("files.txt", "-0600"),
        ("files.txt", "agent.sock"),
    ] {
        let text = parts
            .get(name)
            .unwrap_or_else(|| panic!("no {name} in {:?}", parts.keys()));
        assert!(text.contains(held), "{held} is not in {name}: {text}");
    }
    for name in ["status.json", "check.json"] {
        serde_json::from_str::<serde_json::Value>(&parts[name]).unwrap();
    }
    // The planted secrets were removed, and the contents report that.
    assert!(
        parts["CONTENTS.txt"].contains("secrets removed"),
        "{}",
        parts["CONTENTS.txt"]
    );
    clean(&parts, &secrets(&site));

    // The same with a bad configuration, which names no credential.
    let slip = |text: String| text.replace("mode = \"pat\"", "mode = \"pta\"");
    site.agent.edit_config(slip).unwrap();
    site.agent.process().kill();
    let parts = bundle(&site, &[]);
    assert!(
        parts["config.txt"].contains("auth.mode"),
        "{}",
        parts["config.txt"]
    );
    clean(&parts, &secrets(&site));
}

/// Jira creates the tokens; they are in the store, not in a configured file.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_of_a_login_is_in_it() {
    let plan = TestEnv::builder().oauth2(OURS, "");
    let plan = plan.line("log", "level = \"trace\"");
    let mut site = plan.start_unproven().await.unwrap();
    login::log_in(site.agent.dir(), BOT, BOT_PASSWORD)
        .await
        .unwrap();
    site.until_proven().await.unwrap();
    let stored = site.stored_tokens().unwrap();
    let token = |kind: &str| stored["tokens"][kind].as_str().unwrap().to_owned();
    let tokens = [token("access"), token("refresh")];
    for token in &tokens {
        plant(&site, token);
    }
    let parts = bundle(&site, &[]);
    assert!(parts["files.txt"].contains("tokens/jira.json"));
    let mut all = secrets(&site);
    all.extend(tokens.iter().flat_map(|token| encodings(token)));
    clean(&parts, &all);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_written_before_somebody_agrees() {
    let site = site(TestEnv::builder().pat(OURS)).await;
    requests(&site).await;
    let archive = site.dir().join("bundle.tar.gz");
    let output = ["--output", archive.to_str().unwrap()];

    // `--list` prints only the list with sizes.
    let listed = run(&site, &[&["--list"], &output[..]].concat());
    assert_eq!(listed.status.code(), Some(0), "{listed:?}");
    let table = String::from_utf8(listed.stdout).unwrap();
    for name in [
        "versions.txt",
        "config.txt",
        "status.json",
        "check.json",
        "audit.jsonl",
    ] {
        let line = table.lines().find(|line| line.contains(name)).unwrap();
        let size: usize = line.split_whitespace().next().unwrap().parse().unwrap();
        assert!(size > 0, "{line}");
    }
    assert!(!archive.exists());

    // Without a terminal no person can confirm.
    let refused = run(&site, &output);
    assert_eq!(refused.status.code(), Some(64), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--yes"));
    assert!(!archive.exists());

    let (told, code) = in_terminal(&site, &output, "n\n");
    assert_eq!(code, Some(1), "{told}");
    let (list, question) = told.split_once("Write ").unwrap();
    assert!(
        list.contains("status.json") && question.contains("[y/N]"),
        "{told}"
    );
    assert!(
        told.contains("Nothing was written") && !archive.exists(),
        "{told}"
    );
    let (told, code) = in_terminal(&site, &output, "y\n");
    assert_eq!(code, Some(0), "{told}");
    assert!(
        archive.exists() && told.contains("Nothing was sent"),
        "{told}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_for_its_owner_alone_and_overwrites_nothing() {
    let site = site(TestEnv::builder().pat(OURS)).await;
    // The archive is in the working folder, named by host and time.
    let folder = tempfile::tempdir().unwrap();
    let mut made = command(
        Command::new(binary("agent")),
        &site.dir(),
        &["support-bundle", "--yes"],
    );
    let made = made.current_dir(folder.path()).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert_eq!(files.len(), 1, "nothing else is left behind");
    let name = files[0].file_name().into_string().unwrap();
    assert!(
        name.starts_with("jira-tunnel-agent-support-") && name.ends_with("Z.tar.gz"),
        "{name}"
    );
    let mode = files[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    let archive = files[0].path();
    let before = fs::read(&archive).unwrap();
    let again = run(&site, &["--yes", "--output", archive.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    assert!(String::from_utf8_lossy(&again.stderr).contains("already exists"));
    assert_eq!(fs::read(&archive).unwrap(), before);
    let nowhere = run(&site, &["--yes", "--output", "/none/such.tar.gz"]);
    assert_eq!(nowhere.status.code(), Some(1), "{nowhere:?}");
    assert!(String::from_utf8_lossy(&nowhere.stderr).contains("/none/such.tar.gz"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_cannot_be_had_says_why_and_stops_nothing() {
    let mut site = site(TestEnv::builder().basic(BOT, BOT_PASSWORD)).await;
    let absent = site.dir().join("no-such-log");
    // The agent hangs: its socket exists and does not answer.
    signal(site.agent.process().pid(), "STOP").unwrap();
    let begun = Instant::now();
    let parts = bundle(&site, &["--log-file", absent.to_str().unwrap()]);
    assert!(
        begun.elapsed() < Duration::from_secs(60),
        "{:?}",
        begun.elapsed()
    );
    let contents = &parts["CONTENTS.txt"];
    for (name, why) in [
        ("status.json", "no answer within 5 s"),
        ("metrics.txt", "no answer within 5 s"),
        ("log.txt", "no-such-log"),
    ] {
        let line = contents
            .lines()
            .find(|line| line.starts_with(name))
            .unwrap();
        assert!(line.contains("missing: ") && line.contains(why), "{line}");
        assert!(!parts.contains_key(name));
    }
    assert!(parts["config.txt"].contains("mode = \"basic\""));

    // Without a running agent, a check would log in for each bundle.
    site.agent.process().kill();
    let before = logins(&site);
    let parts = bundle(&site, &[]);
    assert!(
        parts["CONTENTS.txt"].contains("agent is not running"),
        "{}",
        parts["CONTENTS.txt"]
    );
    assert!(!parts.contains_key("check.json") && !parts.contains_key("status.json"));
    assert_eq!(logins(&site), before);
    let parts = bundle(&site, &["--check"]);
    assert!(parts["check.json"].contains("\"login\""));
    assert!(logins(&site) > before);
}

async fn site(plan: TestEnvPlan) -> TestEnv {
    let plan = plan.line("log", "level = \"trace\"").jira(|jira| {
        jira.tokens[0].token = OURS.to_owned();
    });
    plan.start().await.unwrap()
}

/// Requests with the vendor's secrets in them, some allowed and some refused.
async fn requests(site: &TestEnv) {
    let url = site.vendor_url();
    for target in [
        "/rest/api/2/search?jql=summary~",
        "/secure/admin/x?os_password=",
        "/rest/api/2/myself?oauth_token=",
    ] {
        let request = vendor().get(format!("{url}{target}{THEIRS}"));
        request.bearer_auth(THEIRS).send().await.unwrap();
    }
}

/// Adds what an administrator's own script may leave in log and audit, and a comment in the configuration.
fn plant(site: &TestEnv, secret: &str) {
    for file in ["agent.log", "audit.log"] {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(site.dir().join(file))
            .unwrap();
        let mut lines = String::new();
        for form in encodings(secret) {
            lines += &format!("a line of the administrator's: {form}\n");
        }
        lines += &format!("GET /jira/rest/api/2/search?os_password={STRAY}\n");
        lines += &format!("export HTTPS_PROXY=http://svc:{STRAY}@proxy.corp:3128\n");
        // With one write, because the agent appends to the same file.
        file.write_all(lines.as_bytes()).unwrap();
    }
    let comment = |text| format!("# the old password was {STRAY}\n{text}");
    site.agent.edit_config(comment).unwrap();
}

/// Makes a bundle and unpacks it; returns its parts by name.
fn bundle(site: &TestEnv, more: &[&str]) -> BTreeMap<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("bundle.tar.gz");
    let log = site.dir().join("agent.log");
    let mut arguments = vec!["--yes", "--output", archive.to_str().unwrap()];
    if !more.contains(&"--log-file") {
        arguments.extend(["--log-file", log.to_str().unwrap()]);
    }
    arguments.extend(more);
    let made = run(site, &arguments);
    assert!(made.status.success(), "{made:?}");
    let unpacked = Command::new("tar")
        .arg("-xzf")
        .arg(&archive)
        .arg("-C")
        .arg(folder.path())
        .status();
    assert!(unpacked.unwrap().success());
    let mut parts = BTreeMap::new();
    // The output on the terminal may be passed on too.
    parts.insert("what was told".to_owned(), format!("{made:?}"));
    let inner = fs::read_dir(folder.path()).unwrap().flatten();
    let inner = inner
        .map(|entry| entry.path())
        .find(|path| path.is_dir())
        .unwrap();
    for entry in fs::read_dir(inner).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        parts.insert(name, fs::read_to_string(entry.path()).unwrap());
    }
    parts
}

fn run(site: &TestEnv, arguments: &[&str]) -> Output {
    let arguments = [&["support-bundle"], arguments].concat();
    site.agent.run(&arguments).unwrap()
}

/// Runs the command in a pseudo terminal, with this input.
fn in_terminal(site: &TestEnv, arguments: &[&str], typed: &str) -> (String, Option<i32>) {
    let line = format!(
        "{} support-bundle {}",
        binary("agent").display(),
        arguments.join(" ")
    );
    let mut script = command(
        Command::new("script"),
        &site.dir(),
        &["-qec", &line, "/dev/null"],
    );
    let mut child = script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(typed.as_bytes())
        .unwrap();
    let done = child.wait_with_output().unwrap();
    (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        done.status.code(),
    )
}

fn clean(parts: &BTreeMap<String, String>, secrets: &[String]) {
    for (name, text) in parts {
        for secret in secrets {
            let at = text.find(secret.as_str());
            let around = at.map(|at| text[..at].lines().next_back());
            assert!(at.is_none(), "{name} holds {secret:?} after {around:?}");
        }
    }
}

/// Everything that must not be in it, in every encoding.
fn secrets(site: &TestEnv) -> Vec<String> {
    let key = fs::read_to_string(site.sshd.identity()).unwrap();
    let lines = key
        .lines()
        .filter(|line| line.len() >= 40)
        .map(str::to_owned);
    [OURS, THEIRS, STRAY]
        .iter()
        .flat_map(|secret| encodings(secret))
        .chain(lines)
        .collect()
}

fn encodings(secret: &str) -> Vec<String> {
    let percent: String = secret.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let basic = STANDARD.encode(format!("{BOT}:{secret}"));
    // The part that depends on the secret alone.
    let of_secret = basic[(BOT.len() + 1).div_ceil(3) * 4..]
        .trim_end_matches('=')
        .to_owned();
    let of_secret = of_secret[..of_secret.len() - 1].to_owned();
    let partly = secret.replace('-', "%2D");
    vec![
        secret.to_owned(),
        STANDARD.encode(secret).trim_end_matches('=').to_owned(),
        of_secret,
        percent,
        partly,
    ]
}

/// Requests with a password that have reached Jira.
fn logins(site: &TestEnv) -> usize {
    let requests = site.jira().requests();
    let with_password = requests
        .iter()
        .filter(|r| r.header("authorization").is_some());
    with_password.count()
}

const OURS: &str = "canary-of-the-agent";
const THEIRS: &str = "canary-of-the-vendor";
/// A secret that is in no configured file.
const STRAY: &str = "canary-gone-astray";

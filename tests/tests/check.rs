//! `agent check` against an imitation Jira with each kind of fault: the failing step, one cause, one remedy, and no
//! credential is tried twice.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::{
    check::{CheckReport, CheckStep, StepVerdict},
    status::LayerState,
};
use e2e::{
    egress::TestCa,
    sshd::free_port,
    test_env::{BOT, BOT_PASSWORD, BOT_TOKEN, MYSELF, TestEnv},
};
use server_stub::jira::{AuthKind, ReceivedRequest};

#[tokio::test(flavor = "multi_thread")]
async fn a_site_without_trouble_is_ok_in_every_step_and_in_this_order() {
    // This gateway lets the agent connect to its own forward, so that a request can take the vendor's way.
    let open = TestEnv::builder().sshd("AllowTcpForwarding yes");
    let mut site = open.pat(BOT_TOKEN).start().await.unwrap();
    let (report, code) = check(&site, &[]);
    assert_eq!(code, Some(0), "{report:#?}");
    assert_eq!(taken(&report), [HOST, LIVE, JIRA].concat());
    let ok = |s: &CheckStep| s.verdict == StepVerdict::Ok;
    assert!(report.steps.iter().all(ok), "{report:#?}");
    let detail = |step| find(&report, step).detail.clone().unwrap();
    assert_eq!(detail("login"), "pat, user acme-bot");
    assert!(detail("http").contains("RUNNING"));
    assert!(detail("expiry").contains("no end"));
    let trip = tunnel(&report, "round-trip").detail.clone().unwrap();
    assert!(trip.contains("came back with Jira's 200"), "{trip}");

    let table = text(&site);
    assert!(table.contains("login          ok"), "{table}");
    let sum = format!("{} ok, 0 warnings, 0 failed", report.steps.len());
    assert!(table.contains(&sum), "{table}");
    assert!(!table.contains("network team"), "{table}");

    // Without a running agent the command itself takes the same steps and releases the forward.
    site.agent.process().kill();
    let (report, code) = check(&site, &["jira"]);
    assert_eq!(code, Some(0), "{report:#?}");
    assert_eq!(taken(&report), [HOST, ALONE, JIRA].concat());
    let trip = tunnel(&report, "round-trip").detail.clone().unwrap();
    assert!(trip.contains("came back with Jira's 200"), "{trip}");
    let unknown = site.agent.run(&["check", "nope"]).unwrap();
    assert_eq!(unknown.status.code(), Some(64));
}

/// The check names the right context path and sends no credential to the wrong one.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_context_path_is_named_and_gets_no_credential() {
    let port = free_port().unwrap();
    let plan = TestEnv::builder()
        .basic(BOT, BOT_PASSWORD)
        .jira(|jira| jira.listen.set_port(port))
        .upstream(&format!("https://127.0.0.1:{port}/tracker"));
    let mut site = plan.start_unproven().await.unwrap();
    // The running agent's probes would send the credential to the upstream.
    site.agent.process().kill();
    let before = logins(&site);
    let (report, code) = check(&site, &[]);
    assert_eq!(code, Some(2));
    let http = failed(&report, "http");
    assert!(
        http.0.contains("\"/tracker\"") && http.0.contains("\"/jira\""),
        "{http:?}"
    );
    assert!(
        http.1.contains(&format!("https://127.0.0.1:{port}/jira")),
        "{http:?}"
    );
    assert_eq!(find(&report, "login").verdict, StepVerdict::Skipped);
    assert_eq!(logins(&site), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_base_url_is_a_warning_only_for_oauth1() {
    let base = "https://jira.corp.example/tracker";
    let plan = || TestEnv::builder().jira(|jira| jira.base_url = Some(base.to_owned()));
    let site = plan().start().await.unwrap();
    let (report, code) = check(&site, &[]);
    assert_eq!(code, Some(1));
    let step = find(&report, "server-info");
    assert_eq!(step.verdict, StepVerdict::Warn);
    let cause = step.cause.clone().unwrap();
    for part in [
        "signature_invalid",
        base,
        "host",
        "port",
        "context path",
        "proxyName",
    ] {
        assert!(cause.contains(part), "{part} is missing in {cause}");
    }
    assert_eq!(find(&report, "login").verdict, StepVerdict::Skipped);

    let site = plan().pat(BOT_TOKEN).start().await.unwrap();
    let (report, code) = check(&site, &[]);
    assert_eq!(code, Some(0), "{report:#?}");
    let detail = find(&report, "server-info").detail.clone().unwrap();
    assert!(detail.contains(base), "{detail}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_off_is_told_by_how_much_and_which_side() {
    let site = TestEnv::builder().start().await.unwrap();
    for (offset, side) in [(-420, "behind"), (420, "ahead of")] {
        site.jira().set_clock_offset(offset);
        let (report, code) = check(&site, &[]);
        assert_eq!(code, Some(1));
        let clock = find(&report, "clock");
        let cause = clock.cause.clone().unwrap();
        let minutes = cause.contains(" 7m ") || cause.contains(" 6m 59s ");
        assert!(minutes && cause.contains(side), "{cause}");
        assert!(cause.contains("timestamp_refused"), "{cause}");
        assert!(clock.remedy.clone().unwrap().contains("timedatectl"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_tried_once_however_often_it_is_checked() {
    let plan = TestEnv::builder().basic(BOT, "wrong");
    let mut site = plan.start_unproven().await.unwrap();
    until_refused(&site).await;
    for _ in 0..3 {
        let (report, code) = check(&site, &[]);
        assert_eq!(code, Some(2));
        let (cause, remedy) = failed(&report, "login");
        assert!(
            cause.contains("refused the password of acme-bot"),
            "{cause}"
        );
        assert!(cause.contains("not tried again"), "{cause}");
        assert!(remedy.contains("password"), "{remedy}");
        assert_eq!(find(&report, "permissions").verdict, StepVerdict::Skipped);
    }
    assert_eq!(logins(&site), 1);

    // A standalone check tries it once too.
    site.agent.process().kill();
    let (report, _) = check(&site, &[]);
    failed(&report, "login");
    assert_eq!(logins(&site), 2);
}

/// CAPTCHA, Basic authentication switched off, and an expired token.
#[tokio::test(flavor = "multi_thread")]
async fn each_rejection_of_a_credential_has_cause_and_remedy() {
    // Another client locks the account; the agent's password is right.
    let mut plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    plan = plan.jira(|jira| jira.captcha_after = 1);
    let mut site = plan.start().await.unwrap();
    site.agent.process().kill();
    let url = site.jira().url.clone() + MYSELF;
    let direct = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    let wrong = direct.get(url).basic_auth(BOT, Some("guessed"));
    assert_ne!(wrong.send().await.unwrap().status(), 200);
    let (cause, remedy) = failed(&check(&site, &[]).0, "login");
    assert!(cause.contains("CAPTCHA"), "{cause}");
    assert!(remedy.contains("browser"), "{remedy}");

    let plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let plan = plan.jira(|jira| jira.basic = Some(false));
    let site = plan.start_unproven().await.unwrap();
    until_refused(&site).await;
    let (cause, remedy) = failed(&check(&site, &[]).0, "login");
    assert!(
        cause.contains("Basic authentication is switched off"),
        "{cause}"
    );
    assert!(remedy.contains("pat"), "{remedy}");

    let site = TestEnv::start().await.unwrap();
    site.jira().expire_token(BOT_TOKEN);
    let search = "/rest/api/2/search?jql=project%20%3D%20DEMO";
    assert_eq!(site.get(search).await.unwrap().status(), 502);
    let (cause, remedy) = failed(&check(&site, &[]).0, "login");
    // The cause is from the agent's own probe.
    assert!(cause.contains("(401)"), "{cause}");
    assert!(remedy.contains("Personal Access Tokens"), "{remedy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_few_and_too_many_permissions_are_told() {
    for (token, part) in [
        ("reader-token", "create issues"),
        ("admin-token", "is a Jira administrator"),
    ] {
        let site = TestEnv::builder().pat(token).start().await.unwrap();
        let (report, code) = check(&site, &[]);
        assert_eq!(code, Some(1), "{report:#?}");
        let step = find(&report, "permissions");
        let cause = step.cause.clone().unwrap();
        assert!(cause.contains(part), "{cause}");
        if token == "reader-token" {
            // By their names in Jira's screens.
            for lacking in ["Create Issues", "Add Comments", "Edit Own Comments"] {
                assert!(cause.contains(lacking), "{cause}");
            }
            assert!(!cause.contains("Browse Projects"), "{cause}");
            assert_eq!(step.detail.as_deref(), Some("has Browse Projects"));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_ends_soon_is_warned_of_everywhere() {
    for (days, layer, code) in [(20, LayerState::Proven, 0), (5, LayerState::Degraded, 1)] {
        let plan = TestEnv::builder().pat(BOT_TOKEN).jira(|jira| {
            jira.tokens[0].expires_in = Some(days * 86_400 + 3600);
        });
        let site = plan.start_unproven().await.unwrap();
        // The exit code depends on all layers, so wait for those that the credential does not affect.
        let report = site.agent.until_status("the end to be known", |r| {
            let others = [&r.layers.network, &r.layers.tunnel, &r.layers.jira];
            r.credentials.iter().any(|c| c.expires.is_some())
                && others.iter().all(|l| l.state == LayerState::Proven)
        });
        let known = report.await.unwrap();
        assert_eq!(known.layers.login.state, layer);
        let sentence = format!("the personal access token ends in {days} days");
        assert!(known.credentials[0].summary.starts_with(&sentence));
        let (status, exit) = site.agent.status_output().unwrap();
        assert_eq!(exit, code);
        assert!(status.contains(&sentence));

        let metrics = site.agent.succeed(&["metrics"]).unwrap();
        let warning = |within: &str, is: u8| {
            format!(
                "jira_tunnel_agent_credential_expiry_warning{{credential=\"personal_access_token\",forward=\"jira\",within=\"{within}\"}} {is}\n"
            )
        };
        assert!(metrics.contains(&warning("30d", 1)), "{metrics}");
        assert!(metrics.contains(&warning("7d", code as u8)), "{metrics}");

        let (report, _) = check(&site, &[]);
        let expiry = find(&report, "expiry");
        assert_eq!(expiry.verdict, StepVerdict::Warn);
        assert!(expiry.cause.clone().unwrap().starts_with(&sentence));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_cannot_be_used_is_a_step_like_any_other() {
    let mut site = TestEnv::start().await.unwrap();
    let slip = |text: String| text.replace("mode = \"pat\"", "mode = \"pta\"");
    site.agent.edit_config(slip).unwrap();
    // A running agent keeps its previous configuration and is checked with that (`members.rs`).
    site.agent.process().kill();
    let (report, code) = check(&site, &[]);
    assert_eq!(code, Some(78));
    let (cause, _) = failed(&report, "configuration");
    assert!(
        cause.contains("auth.mode") && cause.contains("agent.toml"),
        "{cause}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_untrusted_jira_shows_its_certificate_chain() {
    let folder = tempfile::tempdir().unwrap();
    let other = TestCa::new("Some other CA").unwrap();
    let pem = std::fs::read_to_string(other.write(folder.path()).unwrap()).unwrap();
    let plan = TestEnv::builder().pat(BOT_TOKEN).trusted_ca(&pem);
    let site = plan.start_unproven().await.unwrap();
    let (report, code) = check(&site, &[]);
    assert_eq!(code, Some(2));
    let (cause, remedy) = failed(&report, "tls");
    assert!(cause.contains("not trusted here"), "{cause}");
    assert!(
        remedy.contains("ca_file") && remedy.contains("intercepted"),
        "{remedy}"
    );
    let chain = &find(&report, "tls").chain;
    let last = chain.last().unwrap();
    assert!(!last.issuer.is_empty() && last.until.is_some(), "{chain:?}");
    assert!(
        last.problem.as_ref().unwrap().contains("not trusted"),
        "{chain:?}"
    );
    assert_eq!(find(&report, "http").verdict, StepVerdict::Skipped);
    let table = text(&site);
    let row = format!(
        "chain {}: {:?}, issued by {:?}",
        chain.len(),
        last.subject,
        last.issuer
    );
    assert!(table.contains(&row), "{table}");
}

fn check(site: &TestEnv, more: &[&str]) -> (CheckReport, Option<i32>) {
    site.agent.check(more).unwrap()
}

fn text(site: &TestEnv) -> String {
    String::from_utf8(site.agent.run(&["check"]).unwrap().stdout).unwrap()
}

/// A step of this host or of Jira's side.
fn find<'a>(report: &'a CheckReport, step: &str) -> &'a CheckStep {
    let mut steps = report.steps.iter().rev().filter(|s| s.gateway.is_none());
    let found = steps.find(|s| s.step == step);
    found.unwrap_or_else(|| panic!("no step {step} in {report:#?}"))
}

/// A step of the tunnel.
fn tunnel<'a>(report: &'a CheckReport, step: &str) -> &'a CheckStep {
    let mut steps = report.steps.iter().filter(|s| s.gateway.is_some());
    let found = steps.find(|s| s.step == step);
    found.unwrap_or_else(|| panic!("no step {step} in {report:#?}"))
}

fn taken(report: &CheckReport) -> Vec<&str> {
    report.steps.iter().map(|s| s.step.as_str()).collect()
}

/// Cause and remedy of a failed step.
fn failed(report: &CheckReport, step: &str) -> (String, String) {
    let step = find(report, step);
    assert_eq!(step.verdict, StepVerdict::Fail, "{report:#?}");
    (step.cause.clone().unwrap(), step.remedy.clone().unwrap())
}

async fn until_refused(site: &TestEnv) {
    let refused = site.agent.until_status("the login to be refused", |r| {
        r.forwards.iter().all(|f| f.circuit_open)
    });
    refused.await.unwrap();
}

/// Requests with a password that have reached Jira, the agent's own included.
fn logins(site: &TestEnv) -> usize {
    let has_password = |r: &&ReceivedRequest| {
        let sent = r.header("authorization");
        r.auth == Some(AuthKind::Basic) || sent.is_some_and(|v| v.starts_with("Basic "))
    };
    site.jira().requests().iter().filter(has_password).count()
}

/// In this order: state, spool, audit.
const HOST: &[&str] = &[
    "configuration",
    "identity",
    "files",
    "files",
    "files",
    "clock",
];
const LIVE: &[&str] = &[
    "dns",
    "tcp",
    "banner",
    "key-exchange",
    "host-key",
    "login",
    "session",
    "forward",
    "round-trip",
];
/// Without `session`: no session of the agent answers probes.
const ALONE: &[&str] = &[
    "dns",
    "tcp",
    "banner",
    "key-exchange",
    "host-key",
    "login",
    "forward",
    "round-trip",
];
const JIRA: &[&str] = &[
    "secrets",
    "dns",
    "tcp",
    "tls",
    "http",
    "server-info",
    "clock",
    "login",
    "permissions",
    "expiry",
];

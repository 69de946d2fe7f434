//! `agent status` shows what is proven, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use agent::status::{LayerState, OverallState, StatusReport};
use e2e::{
    agent::{binary, command},
    test_env::{MYSELF, TestEnv},
    wait::soon,
};
use serde_json::Value;
use server_stub::jira::ServerState;
use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};
use tokio::io::AsyncReadExt;

/// Cursor home, clear the screen.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

#[tokio::test(flavor = "multi_thread")]
async fn every_layer_is_proven_by_its_other_side() {
    let mut site = TestEnv::start().await.unwrap();
    let report = site.until_proven().await.unwrap();
    let layers = &report.layers;
    for layer in [&layers.network, &layers.tunnel, &layers.jira, &layers.login] {
        assert_eq!(layer.state, LayerState::Proven);
        assert!(layer.proven_seconds_ago.is_some());
        assert_eq!((&layer.cause, &layer.remedy), (&None, &None));
    }
    assert!(layers.login.detail.as_ref().unwrap().contains("acme-bot"));
    let connection = &report.connections[0];
    assert_eq!(connection.gateway, site.sshd.address());
    assert_eq!(connection.host_key, Some(site.sshd.fingerprint().unwrap()));
    assert!(connection.rtt_ms.is_some());
    assert_eq!(report.forwards[0].bound, [site.addr().to_string()]);
    assert_eq!(report.forwards[0].requests, 0);

    assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
    let report = site.agent.status().await.unwrap();
    assert_eq!(report.forwards[0].requests, 1);
    let shown = status(&site);
    assert_eq!(shown.status.code(), Some(0));
    let text = String::from_utf8(shown.stdout).unwrap();
    for part in ["acme-bot", &site.sshd.address(), &site.addr().to_string()] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }
    assert!(
        !text.contains('\x1b'),
        "colour though it is no terminal:\n{text}"
    );
}

/// `script` (util-linux) provides a terminal; the output is read until the second screen.
#[tokio::test(flavor = "multi_thread")]
async fn watch_redraws_the_status_in_color() {
    let site = TestEnv::start().await.unwrap();
    let status = format!("{} status --watch", binary("agent").display());
    let arguments = ["-qec", &status, "/dev/null"];
    let terminal = command(Command::new("script"), site.agent.dir(), &arguments);
    let mut terminal = tokio::process::Command::from(terminal)
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut shown = terminal.stdout.take().unwrap();
    let mut seen = Vec::new();
    let drawn_twice = async {
        while seen.windows(CLEAR.len()).filter(|w| *w == CLEAR).count() < 2 {
            assert_ne!(shown.read_buf(&mut seen).await.unwrap(), 0, "it ended");
        }
    };
    soon(drawn_twice).await;
    terminal.kill().await.unwrap();
    let text = String::from_utf8_lossy(&seen);
    assert!(text.contains("acme-bot"), "{text}");
    assert!(text.contains("\x1b[32m"), "no green:\n{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_jira_fails_the_jira_layer_until_it_returns() {
    let mut site = TestEnv::start().await.unwrap();
    site.stop_jira().await;
    assert_eq!(site.get(MYSELF).await.unwrap().status(), 502);
    let report = site.agent.until_status("Jira to have failed", |r| {
        r.layers.jira.state == LayerState::Failed
    });
    let report = report.await.unwrap();
    assert_eq!(report.overall, OverallState::Down);
    assert!(
        report
            .layers
            .jira
            .cause
            .as_ref()
            .unwrap()
            .contains("refused")
    );
    assert!(report.layers.jira.remedy.is_some());
    assert_eq!(report.layers.network.state, LayerState::Proven);
    assert_eq!(report.layers.tunnel.state, LayerState::Proven);
    let shown = status(&site);
    assert_eq!(shown.status.code(), Some(2));
    let text = String::from_utf8(shown.stdout).unwrap();
    for part in [
        "DOWN",
        report.layers.jira.cause.as_ref().unwrap(),
        report.layers.jira.remedy.as_ref().unwrap(),
    ] {
        assert!(text.contains(part), "{part} is missing in:\n{text}");
    }

    // The recovery is noticed without traffic.
    site.start_jira().await.unwrap();
    site.until_proven().await.unwrap();
    assert_eq!(status(&site).status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_gateway_fails_the_network_layer_until_it_returns() {
    let mut site = TestEnv::start().await.unwrap();
    site.sshd.kill();
    let report = site.agent.until_status("the network to have failed", |r| {
        r.layers.network.state == LayerState::Failed
    });
    let report = report.await.unwrap();
    assert_eq!(report.overall, OverallState::Down);
    assert!(report.layers.network.cause.is_some() && report.layers.network.remedy.is_some());
    assert_ne!(report.layers.tunnel.state, LayerState::Proven);
    assert!(report.forwards[0].bound.is_empty());
    assert_eq!(status(&site).status.code(), Some(2));

    site.sshd.restart().unwrap();
    let report = site.until_proven().await.unwrap();
    assert!(report.connections[0].generation >= 2);
    assert_eq!(site.get(MYSELF).await.unwrap().status(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jira_in_maintenance_is_told_as_that() {
    let mut site = TestEnv::start().await.unwrap();
    site.jira().set_state(ServerState::Maintenance);
    let request = || async {
        let answer = site.get(MYSELF).await.unwrap();
        assert_eq!(answer.status(), 503);
        let own = answer.headers().contains_key("proxy-status");
        assert!(!own, "it is Jira's answer");
    };
    request().await;
    let in_maintenance = |r: &StatusReport| {
        let cause = r.layers.jira.cause.as_deref();
        cause.is_some_and(|cause| cause.contains("maintenance"))
    };
    site.agent
        .until_status("Jira to be in maintenance", in_maintenance)
        .await
        .unwrap();
    assert_ne!(status(&site).status.code(), Some(0));
    // A bare 503 is less specific and does not replace the cause.
    request().await;
    let report = site.agent.status().await.unwrap();
    assert!(in_maintenance(&report), "{:?}", report.layers.jira);
    site.jira().set_state(ServerState::Running);
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_run_is_told_apart_from_one_that_is_down() {
    let mut site = TestEnv::builder().start().await.unwrap();
    site.agent.process().kill();
    let shown = status(&site);
    assert_eq!(shown.status.code(), Some(3));
    let text = String::from_utf8(shown.stderr).unwrap();
    assert!(text.contains("no agent is running"), "{text}");
    assert!(shown.stdout.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_as_its_schema_says() {
    let mut site = TestEnv::start().await.unwrap();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/status.schema.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let check = |site: &TestEnv| {
        let shown = site.agent.run(&["status", "--json"]).unwrap();
        let document: Value = serde_json::from_slice(&shown.stdout).unwrap();
        let mut problems = Vec::new();
        conform(&schema, &schema, &document, "", &mut problems);
        assert!(problems.is_empty(), "{problems:#?}\nin {document:#}");
        let overall = document["overall"].as_str().unwrap().to_owned();
        let report: StatusReport = serde_json::from_value(document).unwrap();
        assert_eq!(shown.status.code(), Some(report.overall.exit_code().into()));
        overall
    };
    assert_eq!(check(&site), "proven");
    site.sshd.kill();
    site.agent
        .until_status("it to be down", |r| r.overall == OverallState::Down)
        .await
        .unwrap();
    assert_eq!(check(&site), "down");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_level_changes_while_it_runs() {
    let site = TestEnv::start().await.unwrap();
    let request = || async { site.get(MYSELF).await.unwrap().status() };
    let set = |level: &str| {
        site.agent.succeed(&["log-level", level]).unwrap();
    };
    assert_eq!(request().await, 200);
    assert!(!site.agent.log().contains("TRACE"));
    set("trace");
    assert_eq!(request().await, 200);
    site.agent.logged("TRACE").await.unwrap();
    // Each change is logged, except to "off".
    set("warn");
    site.agent
        .logged("the log level is now warn")
        .await
        .unwrap();
    set("off");
    assert_eq!(request().await, 200);
    set("info");
    site.agent
        .logged("the log level is now info")
        .await
        .unwrap();
    let log = site.agent.log();
    let (_, after) = log.split_once("the log level is now warn").unwrap();
    let (meanwhile, _) = after.split_once("the log level is now info").unwrap();
    // Lines in transit may still arrive; a request makes hundreds of them.
    let lines = meanwhile.matches("TRACE").count();
    assert!(lines < 50, "{lines} lines");

    let wrong = site.agent.run(&["log-level", "loud"]).unwrap();
    assert_eq!(wrong.status.code(), Some(64), "{wrong:?}");
}

fn status(site: &TestEnv) -> Output {
    site.agent.run(&["status"]).unwrap()
}

/// Implements the keywords of JSON Schema that this schema uses; an unknown keyword is a problem too.
fn conform(root: &Value, schema: &Value, value: &Value, at: &str, problems: &mut Vec<String>) {
    let Some(keywords) = schema.as_object() else {
        return;
    };
    for (keyword, rule) in keywords {
        let fine = match keyword.as_str() {
            "$ref" => {
                let pointer = rule.as_str().unwrap().trim_start_matches('#');
                let target = root
                    .pointer(pointer)
                    .unwrap_or_else(|| panic!("no {pointer} in the schema"));
                conform(root, target, value, at, problems);
                true
            }
            "type" => match rule {
                Value::Array(kinds) => kinds.iter().any(|kind| is_a(kind, value)),
                kind => is_a(kind, value),
            },
            "properties" => {
                for (name, property) in rule.as_object().unwrap() {
                    if let Some(inner) = value.get(name) {
                        conform(root, property, inner, &format!("{at}/{name}"), problems);
                    }
                }
                let known = rule.as_object().unwrap();
                let unknown = value
                    .as_object()
                    .and_then(|v| v.keys().find(|name| !known.contains_key(*name)));
                if let Some(name) = unknown {
                    problems.push(format!("{at}/{name} is not in the schema"));
                }
                true
            }
            "required" => rule
                .as_array()
                .unwrap()
                .iter()
                .all(|name| value.get(name.as_str().unwrap()).is_some()),
            "items" => {
                for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                    conform(root, rule, item, &format!("{at}/{index}"), problems);
                }
                true
            }
            "anyOf" | "oneOf" => rule.as_array().unwrap().iter().any(|choice| {
                let mut own = Vec::new();
                conform(root, choice, value, at, &mut own);
                own.is_empty()
            }),
            "enum" => rule.as_array().unwrap().contains(value),
            "const" => rule == value,
            "minimum" => value.as_f64() >= rule.as_f64(),
            "$schema" | "$defs" | "title" | "description" | "format" | "default" => true,
            _ => panic!("{keyword:?} in the schema is new; teach it to this test"),
        };
        if !fine {
            problems.push(format!("{at}: {keyword} is {rule}, the value {value}"));
        }
    }
}

fn is_a(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_u64() || value.is_i64(),
        "number" => value.is_number(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("type {other}"),
    }
}

/// There are colors in a terminal, unless it cannot show them or `NO_COLOR` is set.
#[tokio::test(flavor = "multi_thread")]
async fn a_dumb_terminal_gets_no_colors() {
    let site = TestEnv::builder().start().await.unwrap();
    let shown = |variables: &str, name: &str| {
        let line = format!("{variables} {} {name}", binary("agent").display());
        let arguments = ["-qec", &line, "/dev/null"];
        let mut script = command(Command::new("script"), &site.dir(), &arguments);
        let done = script.stdin(Stdio::null()).output().unwrap();
        String::from_utf8_lossy(&done.stdout).into_owned()
    };
    for name in ["status", "check"] {
        let colored = shown("TERM=xterm", name);
        assert!(colored.contains("\u{1b}["), "{name}: {colored}");
        for plain in ["TERM=dumb", "TERM=xterm NO_COLOR=1"] {
            let text = shown(plain, name);
            assert!(text.contains("jira"), "{name}: {text}");
            assert!(!text.contains('\u{1b}'), "{plain} {name}: {text}");
        }
    }
}

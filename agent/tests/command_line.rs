//! The promises of the command line: exit codes, output streams, what is never printed.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fixture;

use fixture::{CANARY, Fixture, stderr, stdout};
use std::process::{Command, Stdio};

#[test]
fn bad_usage_ends_with_64_and_says_how_it_is_used() {
    let fixture = Fixture::new();
    for arguments in [
        &[][..],
        &["config"],
        &["nonsense"],
        &["run", "--nonsense"],
        &["policy", "explain", "GET"],
        &["policy", "explain", "G T", "/"],
        &["completions", "nonsense"],
        &["log-level", "loud"],
        &["events", "show", "SEC-1"],
        &["events", "retry"],
        &[
            "events",
            "drop",
            "--all",
            "msg_0123456789abcdef0123456789abcdef",
        ],
        &["events", "--limit", "0"],
    ] {
        let output = fixture.agent(arguments, &[]);
        assert_eq!(output.status.code(), Some(64), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let shown = stderr(&output);
        assert!(
            shown.contains("Usage:") || shown.contains("--help"),
            "{shown}"
        );
    }
}

#[test]
fn help_and_version_are_no_errors() {
    let fixture = Fixture::new();
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["policy", "explain", "--help"],
    ] {
        let output = fixture.agent(arguments, &[]);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(!output.stdout.is_empty() && output.stderr.is_empty());
    }
}

#[test]
fn a_reader_that_leaves_is_no_error() {
    let fixture = Fixture::new();
    for arguments in [
        &["config", "show"][..],
        &["config", "reference"],
        &["--help"],
    ] {
        // /dev/full would be an error; a pipe whose reader is gone is not.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = Command::new(env!("CARGO_BIN_EXE_agent"))
            .arg("--config")
            .arg(fixture.path("agent.toml"))
            .args(arguments)
            .stdout(writer)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(
            output.stderr.is_empty(),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[test]
fn a_full_disk_is_an_error() {
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_agent"))
        .args(["config", "reference"])
        .stdout(full)
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn policy_explain_tells_allowed_from_refused_by_its_exit_code() {
    let fixture = Fixture::new();
    let explain = |method, target| fixture.agent(&["policy", "explain", method, target], &[]);
    let allowed = explain("POST", "/jira/rest/api/2/issue");
    assert_eq!(allowed.status.code(), Some(0), "{}", stderr(&allowed));
    assert!(stdout(&allowed).contains("allowed"));
    assert!(stdout(&allowed).contains("preset ticketing: POST"));
    let refused = explain("DELETE", "/jira/rest/api/2/issue/A-1?token=s3cret");
    assert_eq!(refused.status.code(), Some(1));
    assert!(stdout(&refused).contains("refused"));
    assert!(!stdout(&refused).contains("s3cret"));
    let ambiguous = explain("GET", "/jira/rest/api/2/../../secure/admin");
    assert_eq!(ambiguous.status.code(), Some(1));
}

#[test]
fn policy_explain_wants_to_know_which_of_several_forwards_is_meant() {
    let fixture = Fixture::new();
    let more = "[[forward]]\nname = \"other\"\nbind = \"127.0.0.1:0\"\nupstream = \"http://other.corp\"\n\
                [[forward]]\nname = \"bytes\"\nbind = \"127.0.0.1:0\"\nupstream = \"tcp://h:1\"\n";
    fixture.write("agent.d/10.toml", more, 0o644);
    let explain = |forward: &[&str]| {
        let mut arguments = vec!["policy", "explain", "POST", "/jira/rest/api/2/issue"];
        arguments.extend(forward);
        fixture.agent(&arguments, &[])
    };
    let ambiguous = explain(&[]);
    assert_eq!(ambiguous.status.code(), Some(64));
    assert!(stderr(&ambiguous).contains("--forward: jira, other"));
    assert_eq!(explain(&["--forward", "jira"]).status.code(), Some(0));
    assert_eq!(explain(&["--forward", "other"]).status.code(), Some(1));
    let unknown = explain(&["--forward", "jiar"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(stderr(&unknown).contains("there are: jira, other, bytes"));
    let bytes = explain(&["--forward", "bytes"]);
    assert_eq!(bytes.status.code(), Some(64));
    assert!(stderr(&bytes).contains("has no policy"));
}

#[test]
fn config_show_prints_origins_and_no_secret() {
    let fixture = Fixture::new();
    fixture.write("agent.d/10-x.toml", "[log]\nlevel = \"debug\"\n", 0o644);
    let variable = ("JIRA_TUNNEL_AGENT__TUNNEL__CONNECTIONS", "3");
    let output = fixture.agent(&["config", "show"], &[variable]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let shown = stdout(&output);
    let line = |start: &str| {
        let found = shown.lines().find(|line| line.starts_with(start));
        found
            .unwrap_or_default()
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("user"), "user = \"acme\" # agent.toml:3");
    assert_eq!(
        line("token_file"),
        "token_file = \"jira-pat\" # agent.toml:15"
    );
    assert_eq!(line("level"), "level = \"debug\" # agent.d/10-x.toml:2");
    assert_eq!(
        line("connections"),
        "connections = 3 # environment JIRA_TUNNEL_AGENT__TUNNEL__CONNECTIONS"
    );
    assert_eq!(line("keepalive_max"), "keepalive_max = 3 # default");
    assert!(!shown.contains(CANARY) && !shown.contains("PRIVATE KEY"));
}

#[test]
fn completions_and_man_pages_come_from_the_same_definition() {
    let fixture = Fixture::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = fixture.agent(&["completions", shell], &[]);
        assert_eq!(script.status.code(), Some(0));
        assert!(stdout(&script).contains("log-level"), "{shell}");
        assert!(stdout(&script).contains("ticketing"), "{shell}");
    }
    let folder = fixture.path("man/man1");
    let output = fixture.agent(&["man", folder.to_str().unwrap()], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for page in [
        "agent.1",
        "agent-run.1",
        "agent-policy-explain.1",
        "agent-config-show.1",
        "agent-events-drop.1",
    ] {
        let text = std::fs::read_to_string(folder.join(page)).unwrap();
        for section in ["EXIT STATUS", "FILES", "ENVIRONMENT"] {
            assert!(text.contains(section), "{page} lacks {section}");
        }
    }
    // The package has another name.
    let alias = std::fs::read_to_string(folder.join("jira-tunnel-agent.1")).unwrap();
    assert_eq!(alias, ".so man1/agent.1\n");
}

/// A configuration may contain text from others: shown, it must not control the terminal or reorder text.
#[test]
fn what_config_show_prints_steers_no_terminal() {
    let fixture = Fixture::new();
    fixture.edit("user = \"acme\"", "user = \"ac\u{202e}em\u{200b}\"");
    let output = fixture.agent(&["config", "show"], &[]);
    let shown = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(shown.contains("user = \"ac\u{fffd}em\u{fffd}\""), "{shown}");
    fixture.edit("em\u{200b}\"", "em\u{1b}[31m\u{7}\"");
    let output = fixture.agent(&["config", "show"], &[]);
    for text in [stdout(&output), stderr(&output)] {
        assert!(!text.contains(['\u{202e}', '\u{1b}', '\u{7}']), "{text}");
    }
}

//! Every mistake in a configuration: the real binary names the place, the key, the problem and the remedy, ends with
//! 78, and repeats no secret.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod fixture;

use agent::auth::oauth1::SigningKey;
use fixture::{CANARY, Fixture, stderr, stdout};
use std::fs;

/// One case of `config_errors.txt`, which explains its form.
struct ConfigErrorCase {
    name: &'static str,
    changes: Vec<&'static str>,
    /// The first is what the error begins with: place and key.
    expected: Vec<&'static str>,
}

fn cases() -> Vec<ConfigErrorCase> {
    let mut cases: Vec<ConfigErrorCase> = Vec::new();
    let lines = include_str!("config_errors.txt").lines();
    for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix("  ") {
            None => cases.push(ConfigErrorCase {
                name: line,
                changes: Vec::new(),
                expected: Vec::new(),
            }),
            Some(line) => {
                let case = cases.last_mut().unwrap();
                match line.strip_prefix("> ") {
                    Some(expected) => case.expected.push(expected),
                    None => case.changes.push(line),
                }
            }
        }
    }
    cases
}

/// Applies one change; one of the environment is returned.
fn apply(fixture: &Fixture, change: &'static str) -> Option<(&'static str, &'static str)> {
    let (verb, argument) = change.split_once(' ').unwrap();
    let text = argument.replace(" ; ", "\n");
    let octal = |mode: &str| u32::from_str_radix(mode, 8).unwrap();
    match verb {
        "env" => return argument.split_once('='),
        "tunnel" => fixture.edit("user = \"acme\"", &format!("user = \"acme\"\n{text}")),
        "forward" => fixture.edit("roots = \"webpki\"", &format!("roots = \"webpki\"\n{text}")),
        "auth" => fixture.edit("mode = \"pat\"\ntoken_file = \"jira-pat\"", &text),
        "remove" => fixture.edit(&format!("{text}\n"), ""),
        "replace" => {
            let (old, new) = text.split_once(" -> ").unwrap();
            fixture.edit(old, new);
        }
        "drop-in" => fixture.write("agent.d/1.toml", &format!("{text}\n"), 0o644),
        "write" => {
            let [file, mode, text] = text.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{change}");
            };
            let text = match text {
                "CANARY" => CANARY,
                "GOOD" => fixture::GOOD,
                "EMPTY" => "",
                text => text,
            };
            fixture.write(file, &format!("{text}\n"), octal(mode));
        }
        "mode" => {
            let (file, mode) = argument.split_once(' ').unwrap();
            fixture.mode(file, octal(mode));
        }
        "delete" => fs::remove_file(fixture.path(argument)).unwrap(),
        "folder" => fs::create_dir_all(fixture.path(argument)).unwrap(),
        "append-byte-ff" => {
            let mut bytes = fs::read(fixture.path(argument)).unwrap();
            bytes.push(0xff);
            fs::write(fixture.path(argument), bytes).unwrap();
        }
        "rsa-key" => write_rsa_key(fixture, argument),
        "tls-key" => {
            let key = rcgen::KeyPair::generate().unwrap();
            fixture.write(argument, &key.serialize_pem(), 0o600);
        }
        _ => panic!("{change}"),
    }
    None
}

fn write_rsa_key(fixture: &Fixture, file: &str) {
    let key = SigningKey::generate(1024).unwrap().private_pem().unwrap();
    let pem = std::str::from_utf8(key.expose()).unwrap();
    fixture.write(file, pem, 0o600);
}

#[test]
fn each_error_names_its_place_its_key_and_the_remedy() {
    let mut failures = Vec::new();
    for case in cases() {
        let fixture = Fixture::new();
        let changes = case.changes.iter();
        let environment: Vec<_> = changes
            .filter_map(|change| apply(&fixture, change))
            .collect();
        let output = fixture.agent(&["config", "show"], &environment);
        let shown = stderr(&output);
        let folder = format!("{}/", fixture.path("").display());
        let shown = shown.replace(folder.trim_end_matches('/'), "DIR");
        let is_right = output.status.code() == Some(78)
            && output.stdout.is_empty()
            // One mistake is one line.
            && shown.lines().count() == 1
            && shown.starts_with(&format!("agent: {}", case.expected[0]))
            && case.expected.iter().all(|part| shown.contains(part))
            && !shown.contains(CANARY);
        if !is_right {
            let code = output.status.code();
            failures.push(format!(
                "{}\n  exit {code:?}: {shown}\n  wanted {:?}",
                case.name, case.expected
            ));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

#[test]
fn the_configuration_that_the_cases_start_from_is_right() {
    let output = Fixture::new().agent(&["config", "show"], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!stdout(&output).contains(CANARY));
}

#[test]
fn every_mistake_is_named_at_once() {
    let fixture = Fixture::new();
    fixture.edit("user =", "usr =");
    fixture.edit("name = \"jira\"", "name = 1");
    fixture.write("agent.d/10.toml", "[log]\nlevel = 1\n", 0o644);
    let shape = stderr(&fixture.agent(&["config", "show"], &[("JIRA_TUNNEL_AGENT__LOG__X", "1")]));
    assert_eq!(shape.lines().count(), 4, "{shape}");

    let fixture = Fixture::new();
    fixture.edit("gw1.vendor.example:443", "gw1.vendor.example");
    fixture.edit("127.0.0.1:8080", "8080");
    fixture.edit("\"jira-pat\"", "\"none\"");
    fixture.edit("\"ticketing\"", "\"ticketing\", \"everything\", \"all\"");
    let values = stderr(&fixture.agent(&["config", "show"], &[]));
    assert_eq!(values.lines().count(), 5, "{values}");
}

#[test]
fn every_command_that_needs_the_configuration_refuses_a_wrong_one() {
    let fixture = Fixture::new();
    fixture.edit("user =", "usr =");
    for arguments in [
        &["run"][..],
        &["config", "show"],
        &["policy", "explain", "GET", "/jira/rest/api/2/issue/A-1"],
    ] {
        let output = fixture.agent(arguments, &[]);
        assert_eq!(output.status.code(), Some(78), "{arguments:?}");
        assert!(stderr(&output).contains("did you mean \"user\"?"));
    }
}

#[test]
fn a_secret_in_the_wrong_place_is_not_repeated() {
    let auth = |line: &str| {
        let fixture = Fixture::new();
        fixture.edit("token_file = \"jira-pat\"", line);
        fixture.agent(&["config", "show"], &[])
    };
    for line in [
        format!("token = \"{CANARY}\""),
        format!("token_file = \"{CANARY}\""),
        format!("token_file = {CANARY}"),
        format!("token_file = \"{CANARY}"),
        format!("token_file = [\"{CANARY}\"]"),
        format!("token_file = {{ \"{CANARY}\" = 1 }}"),
    ] {
        let output = auth(&line);
        assert_eq!(output.status.code(), Some(78), "{line}");
        assert!(!stderr(&output).contains(CANARY), "{}", stderr(&output));
    }
    let url = format!("https://user:{CANARY}@jira.corp.example/jira");
    let fixture = Fixture::new();
    fixture.edit("https://jira.corp.example/jira", &url);
    assert!(!stderr(&fixture.agent(&["config", "show"], &[])).contains(CANARY));
    let name = "JIRA_TUNNEL_AGENT__FORWARD__JIRA__AUTH__PASSWORD";
    let output = Fixture::new().agent(&["config", "show"], &[(name, CANARY)]);
    assert_eq!(output.status.code(), Some(78));
    assert!(!stderr(&output).contains(CANARY));
}

#[test]
fn every_kind_of_oauth1_is_taken() {
    for more in [
        "",
        "two_legged = true",
        "two_legged = false\naccess_token_file = \"jira-pat\"",
        "signed_base_url = \"https://jira.corp.example:8443/jira\"",
    ] {
        let fixture = Fixture::new();
        write_rsa_key(&fixture, "rsa.pem");
        let keys = "mode = \"oauth1\"\nconsumer_key = \"acme\"\nprivate_key_file = \"rsa.pem\"";
        fixture.edit(
            "mode = \"pat\"\ntoken_file = \"jira-pat\"",
            &format!("{keys}\n{more}"),
        );
        let output = fixture.agent(&["config", "show"], &[]);
        assert_eq!(output.status.code(), Some(0), "{more}: {}", stderr(&output));
        assert!(!stdout(&output).contains("PRIVATE KEY"));
    }
}

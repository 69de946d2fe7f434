//! A person at a real pseudo terminal answers questions one after the other.

use e2e::{
    agent::{binary, command},
    egress::squid,
    enrollment::{CustomerHost, PAT, vendor_and_host},
    login::output_text,
};
use std::process::{Command, Output};

/// Prompts and answers.
type Dialogue<'a> = Vec<(&'a str, &'a str)>;

fn dialogue(host: &CustomerHost, dialogue_lines: &Dialogue<'_>) -> Output {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new("python3");
    python
        .arg(root.join("clients/python/terminal.py"))
        .arg(serde_json::to_string(dialogue_lines).unwrap())
        .arg(binary("agent"));
    let mut command = command(python, &host.dir(), &["enroll"]);
    command.current_dir(host.work_dir()).output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_asked_for_what_is_needed_and_secrets_are_not_shown() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let done = dialogue(
        &host,
        &vec![
            ("(not shown): ", &token),
            // The question is repeated until the answer is valid.
            ("with its context path: ", "jira.corp.example"),
            ("with its context path: ", &vendor.jira.url),
            ("Number [1]: ", "7"),
            ("Number [1]: ", "1"),
            ("Personal access token (not shown): ", PAT),
            ("Number [1]: ", ""),
        ],
    );
    let text = output_text(&done);
    assert!(done.status.success(), "{text}");
    assert!(
        text.contains("registered it, and logged in with it"),
        "{text}"
    );
    assert!(!text.contains(PAT) && !text.contains(&token), "{text}");
    let drop_in = host
        .files()
        .unwrap()
        .into_iter()
        .find(|(name, _)| name.ends_with("10-enrolment.toml"));
    let drop_in = String::from_utf8(drop_in.unwrap().1).unwrap();
    for line in ["mode = \"pat\"", "presets = [\"ticketing\"]"] {
        assert!(drop_in.contains(line), "{drop_in}");
    }
}

/// Before the one-time secret is used, path and token for Jira are asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_jira_rejects_are_asked_for_again() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let without_path = vendor.jira.url.replace("/jira", "");
    let done = dialogue(
        &host,
        &vec![
            ("(not shown): ", &token),
            ("with its context path: ", &without_path),
            ("Number [1]: ", "1"),
            ("Personal access token (not shown): ", PAT),
            ("Number [1]: ", ""),
            ("Number [1]: ", "1"),
            ("with its context path: ", &vendor.jira.url),
            ("Number [1]: ", "1"),
            ("Personal access token (not shown): ", "another-token"),
            ("Number [1]: ", ""),
            ("Number [1]: ", "1"),
            ("with its context path: ", &vendor.jira.url),
            ("Number [1]: ", "1"),
            ("Personal access token (not shown): ", PAT),
            ("Number [1]: ", ""),
        ],
    );
    let text = output_text(&done);
    assert!(done.status.success(), "{text}");
    for part in [
        "Jira is not under \"\" but under \"/jira\"",
        "Jira refused the agent's credential",
    ] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(
        text.matches("registering it at the gateway").count(),
        1,
        "{text}"
    );
    assert!(text.contains("/jira/rest/api/2/"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_gateway_asks_for_the_proxy() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    // Nothing listens on this port.
    let token = vendor.token_at("127.0.0.1:1", &[]).unwrap();
    let squid = squid(&[1], false).await.unwrap();
    let url = format!("http://{}", squid.address());
    let done = dialogue(
        &host,
        &vec![
            ("(not shown): ", &token),
            ("with its context path: ", &vendor.jira.url),
            ("Number [1]: ", "1"),
            ("Personal access token (not shown): ", PAT),
            ("Number [1]: ", ""),
            ("proxy.corp.example:3128 [none]: ", "squid"),
            ("proxy.corp.example:3128 [none]: ", &url),
            ("User name at the proxy [none]: ", ""),
        ],
    );
    let text = output_text(&done);
    // The proxy cannot reach it either and reports that.
    assert!(text.contains(&format!("the proxy {url}")), "{text}");
    squid.logged("CONNECT 127.0.0.1:1").await.unwrap();
}

/// A token wrapped by a mail program is one token; invalid input is asked for again.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrapped_token_is_read_on_and_a_wrong_one_is_asked_for_again() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let (first, rest) = token.split_at(72);
    let (second, third) = rest.split_at(72);
    let pasted = format!("> {first}\r> {second}");
    let done = dialogue(
        &host,
        &vec![
            ("(not shown): ", "ssh-ed25519 AAAA"),
            ("(not shown): ", &pasted),
            ("its end is missing: paste the rest (not shown)", third),
            ("with its context path: ", &vendor.jira.url),
            ("Number [1]: ", "1"),
            ("Personal access token (not shown): ", PAT),
            ("Number [1]: ", ""),
        ],
    );
    let text = output_text(&done);
    assert!(done.status.success(), "{text}");
    assert!(text.contains("this is not an enrollment token"), "{text}");
    for part in [first, second, third] {
        assert!(!text.contains(part), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_dialogue_leaves_nothing() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    for dialogue_lines in [
        vec![("(not shown): ", "\u{3}")],
        vec![
            ("(not shown): ", &token),
            ("with its context path: ", "\u{3}"),
        ],
        vec![
            ("(not shown): ", &token),
            ("with its context path: ", "\u{4}"),
        ],
    ] {
        let done = dialogue(&host, &dialogue_lines);
        assert!(!done.status.success(), "{}", output_text(&done));
        assert_eq!(host.files().unwrap(), [], "{}", output_text(&done));
    }
    assert_eq!(vendor.authorized(), "");
}

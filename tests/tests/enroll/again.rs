//! A second enrollment: nothing is overwritten silently, and the old key stays until the new one works.

use agent::status::LayerState;
use e2e::{
    enrollment::{CustomerHost, VendorSetup, vendor_and_host},
    login::output_text,
};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_again_changes_nothing_and_is_well() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    host.enroll_ok(&token, &vendor.answers()).unwrap();
    let (files, authorized) = (host.files().unwrap(), vendor.authorized());
    let text = host.enroll_ok(&token, &vendor.answers()).unwrap();
    assert!(text.contains("already enrolled with this token"), "{text}");
    assert_eq!(host.files().unwrap(), files);
    assert_eq!(vendor.authorized(), authorized);
}

/// The same command corrects a wrong answer: with the same key, and without the one-time secret.
#[tokio::test(flavor = "multi_thread")]
async fn the_same_token_with_corrected_answers_applies_them() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let wrong = vendor.jira.url.replace("/jira", "/tracker");
    let mut flags = vendor.answers();
    *flags.last_mut().unwrap() = &wrong;
    let text = host.enroll_ok(&token, &flags).unwrap();
    assert!(text.contains("/tracker/rest/api/2/"), "{text}");
    let (key, authorized) = (host.keys().unwrap().remove(0).1, vendor.authorized());

    // Incomplete answers are refused.
    let files = host.files().unwrap();
    let half = ["--non-interactive", "--upstream", &vendor.jira.url];
    let refused = host.enroll(&token, &half).unwrap();
    assert_eq!(refused.status.code(), Some(64), "{}", output_text(&refused));
    assert_eq!(host.files().unwrap(), files);

    let text = host.enroll_ok(&token, &vendor.answers()).unwrap();
    assert!(
        text.contains("corrected the answers (upstream) in "),
        "{text}"
    );
    assert!(
        text.contains("/jira/rest/api/2/") && !text.contains("/tracker/"),
        "{text}"
    );
    assert!(!text.contains("remove the old key"), "{text}");
    let keys = host.keys().unwrap();
    assert_eq!((keys.len(), &keys[0].1), (1, &key));
    assert_eq!(vendor.authorized(), authorized);
    let agent = host.run().unwrap();
    agent.until_proven().await.unwrap();

    // A changed secret alone is applied too.
    e2e::agent::write_secret(&host.work_dir().join("pat"), "another-token").unwrap();
    let text = host.enroll_ok(&token, &vendor.answers()).unwrap();
    assert!(text.contains("(content of jira-token)"), "{text}");
}

/// As in docs/authentication/pat.md: `config show` names the file in use.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_rotated_in_the_file_that_config_show_names() {
    let (_vendor, host) = enrolled().await;
    let agent = host.run().unwrap();
    agent.until_proven().await.unwrap();
    let shown = output_text(&agent.run(&["config", "show"]).unwrap());
    let line = shown
        .lines()
        .find(|line| line.starts_with("token_file = "))
        .unwrap();
    let named = host.dir().join(line.split('"').nth(1).unwrap());
    e2e::agent::write_secret(&named, "no-token-of-this-jira").unwrap();
    // This only makes it faster.
    agent.run(&["login-retry"]).unwrap();
    agent.until_login(LayerState::Failed).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_token_needs_replace_and_then_the_new_key_takes_over() {
    let (vendor, host) = enrolled().await;
    let (before, old) = (host.files().unwrap(), host.keys().unwrap());

    let token = vendor.token(&[]).unwrap();
    let refused = host.enroll(&token, &vendor.answers()).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        output_text(&refused).contains("agent enroll --replace"),
        "{}",
        output_text(&refused)
    );
    assert_eq!(host.files().unwrap(), before);

    let flags = replacing(&vendor);
    let text = host.enroll_ok(&token, &flags).unwrap();
    assert!(text.contains("remove the old key: SHA256:"), "{text}");
    let new = host.keys().unwrap();
    assert_eq!(new.len(), 1);
    assert_ne!(new[0].1, old[0].1);
    let agent = host.run().unwrap();
    agent.until_proven().await.unwrap();
}

/// It runs with the previous configuration and reads that token at each use.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_runs_keeps_its_files_until_it_is_restarted() {
    let (vendor, host) = enrolled().await;
    let mut agent = host.run().unwrap();
    agent.until_proven().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let flags = replacing(&vendor);
    let text = host.enroll_ok(&token, &flags).unwrap();
    assert!(text.contains("Restart the running agent"), "{text}");
    assert_eq!(host.keys().unwrap().len(), 2);
    // The same command before the restart does not remove them either.
    let text = host.enroll_ok(&token, &flags).unwrap();
    assert!(text.contains("the previous configuration"), "{text}");
    assert_eq!(host.keys().unwrap().len(), 2);
    agent.restart().unwrap();
    agent.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_that_does_not_work_leaves_the_old_one() {
    let (vendor, host) = enrolled().await;
    let before = host.files().unwrap();
    let withdrawn = vendor.token(&[]).unwrap();
    vendor.token_command(&["revoke", "acme"]).unwrap();
    let flags = replacing(&vendor);
    let refused = host.enroll(&withdrawn, &flags).unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", output_text(&refused));
    assert_eq!(host.files().unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_configured_by_hand_is_kept_without_replace() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let by_hand = "[tunnel]\ngateways = [\"gw.vendor.example:443\"]\n[log]\nlevel = \"warn\"\n";
    fs::write(host.dir().join("agent.toml"), by_hand).unwrap();
    let token = vendor.token(&[]).unwrap();
    let refused = host.enroll(&token, &vendor.answers()).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        output_text(&refused).contains("agent.toml:2"),
        "{}",
        output_text(&refused)
    );
    let flags = replacing(&vendor);
    host.enroll_ok(&token, &flags).unwrap();
    // The enrollment writes a drop-in and leaves the administrator's file unchanged.
    let text = fs::read_to_string(host.dir().join("agent.toml")).unwrap();
    assert_eq!(text, by_hand);
}

/// A vendor and an enrolled host.
async fn enrolled() -> (VendorSetup, CustomerHost) {
    let (vendor, host) = vendor_and_host().await.unwrap();
    host.enroll_ok(&vendor.token(&[]).unwrap(), &vendor.answers())
        .unwrap();
    (vendor, host)
}

/// The customer's answers, to replace an older enrollment.
fn replacing(vendor: &VendorSetup) -> Vec<&str> {
    let mut flags = vendor.answers();
    flags.push("--replace");
    flags
}

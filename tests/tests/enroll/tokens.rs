//! Unusable tokens: each has its own error text, and nothing is written.

use agent::enroll::OneTimeSecret;
use e2e::{
    enrollment::{CustomerHost, VendorSetup, changed_token, vendor_and_host},
    login::output_text,
    sshd::{Sshd, free_addr},
};
use std::{
    process::Output,
    time::{Duration, SystemTime},
};

const LIFE: Duration = Duration::from_secs(3600);

/// The token is refused with this sentence, and nothing is written.
fn refused(host: &CustomerHost, vendor: &VendorSetup, token: &str, sentence: &str) -> Output {
    let before = host.files().unwrap();
    let done = host.enroll(token, &vendor.answers()).unwrap();
    let text = output_text(&done);
    assert_eq!(done.status.code(), Some(1), "{text}");
    assert!(text.contains(sentence), "{text}\nlacks: {sentence}");
    assert_eq!(host.files().unwrap(), before, "{text}");
    done
}

/// Cut, mistyped, foreign, newer and expired tokens have different error texts.
#[tokio::test(flavor = "multi_thread")]
async fn each_unusable_token_is_named_and_changes_nothing() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let good = vendor.token(&[]).unwrap();
    let mut mistyped = good.clone().into_bytes();
    mistyped[40] = if mistyped[40] == b'A' { b'B' } else { b'A' };
    let mistyped = String::from_utf8(mistyped).unwrap();
    let expired = changed_token(&good, |token| {
        token.expires = SystemTime::now() - LIFE;
    });
    let expired = expired.unwrap();
    let newer = good.replacen("jtaenroll1.", "jtaenroll3.", 1);
    for (token, sentence) in [
        (&good[..good.len() - 5], "this token is truncated"),
        (&good[..60], "this token is truncated"),
        (&good[3..], "its beginning is missing"),
        (&mistyped, "this token is damaged"),
        ("ssh-ed25519 AAAA", "this is not an enrollment token"),
        ("", "no token was given"),
        (&newer, "has version 3"),
        (&expired, "this token expired at"),
    ] {
        refused(&host, &vendor, token, sentence);
        assert_eq!(host.files().unwrap(), []);
        assert!(!host.dir().join("agent.d").exists());
    }
    assert_eq!(vendor.authorized(), "");
    host.enroll_ok(&good, &vendor.answers()).unwrap();
}

/// Used, withdrawn and unknown one-time secrets register no key and leave no file.
#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_one_time_secret_registers_nothing() {
    let vendor = VendorSetup::start().await.unwrap();
    let used = vendor.token(&[]).unwrap();
    let first = CustomerHost::new().unwrap();
    let done = first.enroll(&used, &vendor.answers()).unwrap();
    assert!(done.status.success(), "{}", output_text(&done));
    let authorized = vendor.authorized();

    let host = CustomerHost::new().unwrap();
    refused(&host, &vendor, &used, "was used already");
    let withdrawn = vendor.token(&[]).unwrap();
    vendor.token_command(&["revoke", "acme"]).unwrap();
    refused(
        &host,
        &vendor,
        &withdrawn,
        "rejects the token's one-time secret",
    );
    let unknown = changed_token(&used, |token| {
        token.secret = Some(OneTimeSecret::generate());
    });
    let unknown = unknown.unwrap();
    refused(
        &host,
        &vendor,
        &unknown,
        "rejects the token's one-time secret",
    );
    assert_eq!(host.keys().unwrap(), []);
    assert_eq!(vendor.authorized(), authorized);
    let list = vendor.token_command(&["list"]).unwrap();
    assert!(
        list.contains("  used ") && !list.contains("  open"),
        "{list}"
    );
}

/// The gateway's clock decides, not the token's own expiry.
#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_refuses_a_token_whose_time_is_over_there() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let short = vendor.token(&["--expires", "1s"]).unwrap();
    let longer = changed_token(&short, |token| {
        token.expires += LIFE;
    });
    let longer = longer.unwrap();
    tokio::time::sleep(Duration::from_millis(2100)).await;
    refused(&host, &vendor, &longer, "this token ended at");
    assert_eq!(vendor.authorized(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_with_another_host_key_gets_nothing() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let other = changed_token(&vendor.token(&[]).unwrap(), |token| {
        token.host_keys = vec!["SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0".to_owned()];
    });
    let other = other.unwrap();
    refused(&host, &vendor, &other, "the host key of");
    let list = vendor.token_command(&["list"]).unwrap();
    assert!(list.contains("  open"), "{list}");
}

/// There may be an interceptor: no other gateway is tried.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_gateway_with_another_host_key_no_other_gets_anything() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let other = Sshd::start().unwrap();
    let token = changed_token(&vendor.token(&[]).unwrap(), |token| {
        token.gateways.insert(0, other.address().parse().unwrap());
    });
    let token = token.unwrap();
    refused(&host, &vendor, &token, "the host key of");
    let list = vendor.token_command(&["list"]).unwrap();
    assert!(list.contains("  open"), "{list}");
    assert_eq!(vendor.authorized(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_is_away_leaves_nothing_and_the_token_good() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let good = vendor.token(&[]).unwrap();
    let away = changed_token(&good, |token| {
        let addr = free_addr().unwrap().to_string();
        token.gateways = vec![addr.parse().unwrap()];
    });
    let away = away.unwrap();
    refused(&host, &vendor, &away, "nothing listens there");
    assert_eq!(host.keys().unwrap(), []);
    host.enroll_ok(&good, &vendor.answers()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_enrolls_one_of_racing_hosts() {
    let vendor = VendorSetup::start().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let hosts: Vec<_> = (0..4).map(|_| CustomerHost::new().unwrap()).collect();
    let flags = vendor.answers();
    let done: Vec<Output> = std::thread::scope(|scope| {
        let enrolling: Vec<_> = hosts
            .iter()
            .map(|host| scope.spawn(|| host.enroll(&token, &flags).unwrap()))
            .collect();
        enrolling
            .into_iter()
            .map(|one| one.join().unwrap())
            .collect()
    });
    let enrolled = done.iter().filter(|done| done.status.success()).count();
    assert_eq!(enrolled, 1);
    for (host, done) in hosts.iter().zip(&done) {
        if !done.status.success() {
            assert!(
                output_text(done).contains("was used already"),
                "{}",
                output_text(done)
            );
            assert_eq!(host.files().unwrap(), []);
        }
    }
    assert_eq!(vendor.authorized().lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_answers_are_refused_before_anything_is_sent() {
    let (vendor, host) = vendor_and_host().await.unwrap();
    let token = vendor.token(&[]).unwrap();
    let mut missing = vendor.answers();
    missing.retain(|flag| !["--auth", "pat", "--jira-token-file"].contains(flag));
    let mut odd = vendor.answers();
    odd.extend(["--proxy", "ftp://proxy"]);
    let mut rule = vendor.answers();
    rule.extend(["--allow", "GET"]);
    let mut open = vendor.answers();
    open.extend(["--ca-file", "pat"]);
    for (flags, code, part) in [
        (&missing, 64, "--auth"),
        (&odd, 78, "tunnel.proxy"),
        (&rule, 64, "\"GET\""),
        (&open, 64, "pat: "),
    ] {
        let done = host.enroll(&token, flags).unwrap();
        let text = output_text(&done);
        assert_eq!(done.status.code(), Some(code), "{text}");
        assert!(text.contains(part), "{text}");
        assert_eq!(host.files().unwrap(), [], "{text}");
    }
    let list = vendor.token_command(&["list"]).unwrap();
    assert!(list.contains("  open"), "{list}");
}

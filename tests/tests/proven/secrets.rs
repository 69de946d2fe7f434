//! A changed secret is unproven until Jira accepts it, and is tried once.

use crate::{problem_of, until};
use agent::status::LayerState;
use e2e::test_env::{
    BOT, BOT_PASSWORD, BOT_TOKEN, LOGIN_FAILED, LOGIN_UNAVAILABLE, MYSELF, TestEnv, vendor,
};
use futures_util::future::join_all;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_was_changed_in_jira_locks_no_account() {
    let plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let site = plan
        .jira(|jira| jira.captcha_after = 3)
        .start()
        .await
        .unwrap();
    let url = site.vendor_url() + MYSELF;
    site.jira().clear_requests();
    site.jira().set_password(BOT, "changed in Jira");
    site.jira().end_sessions();
    let (status, problem) = problem_of(site.get(MYSELF).await.unwrap()).await;
    assert_eq!((status, &problem["type"]), (502, &json!(LOGIN_FAILED)));
    let answers = join_all((0..30).map(|_| vendor().get(&url).send())).await;
    for answer in answers {
        let (status, problem) = problem_of(answer.unwrap()).await;
        assert_eq!((status, &problem["type"]), (503, &json!(LOGIN_UNAVAILABLE)));
        assert_eq!(problem["delivery"], "not_sent");
    }
    until(&site, "the login to have failed", |r| {
        r.layers.login.state == LayerState::Failed && r.forwards[0].circuit_open
    })
    .await;
    let requests = site.jira().requests();
    let tried = requests
        .iter()
        .filter(|r| r.header("authorization").is_some());
    assert_eq!(tried.count(), 2, "one request and the agent's own probe");
}

/// Each rejection is known only once it arrives: forty simultaneous ones would lock the account.
#[tokio::test(flavor = "multi_thread")]
async fn simultaneous_requests_try_a_changed_password_once() {
    let plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let plan = plan.jira(|jira| jira.captcha_after = 3);
    let mut site = plan.start().await.unwrap();
    let url = site.vendor_url() + MYSELF;
    let send = || join_all((0..40).map(|_| vendor().get(&url).send()));
    for answer in send().await {
        assert_eq!(answer.unwrap().status(), 200);
    }
    tokio::time::sleep(SILENCE).await;
    site.jira().clear_requests();
    site.jira().set_password(BOT, "changed in Jira");
    let mut failed = 0;
    for answer in send().await {
        let (status, problem) = problem_of(answer.unwrap()).await;
        match status {
            502 => failed += 1,
            _ => assert_eq!((status, &problem["delivery"]), (503, &json!("not_sent"))),
        }
    }
    assert_eq!(failed, 1, "the request that went first");
    let requests = site.jira().requests();
    let tried = requests
        .iter()
        .filter(|r| r.header("authorization").is_some());
    assert_eq!(tried.count(), 2, "one request and the agent's own probe");
    // The right password meets no CAPTCHA.
    site.change_secret("changed in Jira").unwrap();
    site.until_proven().await.unwrap();
}

/// Slightly longer than a good answer vouches for the requests that follow.
const SILENCE: Duration = Duration::from_millis(1500);

/// Under steady traffic, one request and the probe try a changed password.
/// Continuous requests, a Jira that keeps its sessions, and a changed password: at intervals, one request renews the
/// sessions of the agent's login.
#[tokio::test(flavor = "multi_thread")]
async fn steady_traffic_tries_a_changed_password_once() {
    let plan = TestEnv::builder().basic(BOT, BOT_PASSWORD);
    let plan = plan.jira(|jira| jira.captcha_after = 3);
    let mut site = plan.start().await.unwrap();
    let url = site.vendor_url() + MYSELF;
    let stop = Arc::new(AtomicBool::new(false));
    let workers: Vec<_> = (0..20)
        .map(|_| {
            let (url, stop) = (url.clone(), stop.clone());
            tokio::spawn(async move {
                let mut refused = 0;
                while !stop.load(Ordering::Relaxed) {
                    let status = vendor().get(&url).send().await.unwrap().status();
                    refused += u32::from(status == 502);
                    // Many other tests run at the same time.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                refused
            })
        })
        .collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    site.jira()
        .set_password_and_keep_sessions(BOT, "changed in Jira");
    until(&site, "the login to have failed", |r| {
        r.layers.login.state == LayerState::Failed && r.forwards[0].circuit_open
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let refused: u32 = join_all(workers)
        .await
        .into_iter()
        .map(Result::unwrap)
        .sum();
    assert!(refused <= 1, "{refused} requests met the wrong password");
    site.change_secret("changed in Jira").unwrap();
    site.until_proven().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_is_unproven_until_it_is_proven_either_way() {
    for (plan, good) in [
        (TestEnv::builder().pat(BOT_TOKEN), BOT_TOKEN),
        (TestEnv::builder().basic(BOT, BOT_PASSWORD), BOT_PASSWORD),
    ] {
        let site = plan.start().await.unwrap();
        for (secret, state) in [
            ("wrong", LayerState::Failed),
            (good, LayerState::Proven),
            ("wrong-again", LayerState::Failed),
            (good, LayerState::Proven),
        ] {
            site.change_secret(secret).unwrap();
            let begun = Instant::now();
            let report = until(&site, "the secret to be tried", |r| {
                r.layers.login.state == state
            });
            let report = report.await;
            // Two seconds on an idle machine; the regular probe would take up to thirty.
            assert!(
                begun.elapsed() < Duration::from_secs(10),
                "{:?}",
                begun.elapsed()
            );
            let login = report.layers.login;
            if state == LayerState::Proven {
                assert!(login.since_seconds.unwrap() < 10.0);
            } else {
                assert!(login.cause.unwrap().contains("(401)"));
            }
        }
    }
}

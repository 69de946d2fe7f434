//! Behind a load balancer that keeps clients on a node by a cookie, the vendor sees what it would see without the agent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    cluster::JiraCluster,
    test_env::{TestEnv, TestEnvPlan, vendor},
    wait::PATIENCE,
};
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::time::Duration;

fn modes() -> [(&'static str, TestEnvPlan); 3] {
    let oauth2 = "mode = \"oauth2\"\nclient_id = \"agent\"\nclient_secret_file = \"secret\"\n\
                  grant = \"client_credentials\"";
    [
        ("basic", TestEnv::builder().basic("acme-bot", "secret")),
        ("pat", TestEnv::builder().pat("secret")),
        ("oauth2", TestEnv::builder().auth(oauth2, "secret")),
    ]
}

async fn site(plan: TestEnvPlan, cluster: &JiraCluster) -> TestEnv {
    let plan = plan.jira(|jira| jira.https = None).upstream(&cluster.url());
    plan.start().await.unwrap()
}

async fn create(url: &str, label: &str) {
    let issue = json!({"fields": {"labels": [label]}});
    let created = vendor().post(format!("{url}/rest/api/2/issue"));
    // As a client with another server's session sends it.
    let created = created.header("cookie", "SERVERID=node2; JSESSIONID=S0.node2; foreign=1");
    let created = created
        .header("content-type", "application/json")
        .body(issue.to_string());
    let created = created.send().await.unwrap();
    assert_eq!(created.status(), 201);
    assert!(!created.headers().contains_key("set-cookie"));
}

async fn finds(url: &str, label: &str) -> bool {
    let found = vendor().get(format!("{url}/rest/api/2/search?jql=labels%3D{label}"));
    let found = found.send().await.unwrap();
    assert!(!found.headers().contains_key("set-cookie"));
    let found: Value = serde_json::from_slice(&found.bytes().await.unwrap()).unwrap();
    found["total"] == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_after_a_create_finds_it_on_a_cluster() {
    for (mode, plan) in modes() {
        let cluster = JiraCluster::start().await.unwrap();
        let site = site(plan, &cluster).await;
        let url = site.vendor_url();
        let mut stale = 0;
        for number in 0..20 {
            let label = format!("fresh-{number}");
            create(&url, &label).await;
            stale += u32::from(!finds(&url, &label).await);
        }
        assert_eq!(
            stale, 0,
            "{mode}: searches that did not find what was just created"
        );
        let sessions = cluster.sessions();
        assert!((1..=2).contains(&sessions), "{mode}: {sessions}");
        assert_eq!(cluster.foreign_cookies(), [""; 0], "{mode}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_share_a_node_and_a_session_of_a_cluster() {
    let cluster = JiraCluster::start().await.unwrap();
    let site = site(TestEnv::builder().pat("secret"), &cluster).await;
    let url = site.vendor_url();
    let found = join_all((0..40).map(|number| {
        let url = &url;
        async move {
            let label = format!("fresh-{number}");
            create(url, &label).await;
            finds(url, &label).await
        }
    }));
    let found = found.await;
    assert!(found.iter().all(|found| *found), "{found:?}");
    // The agent's own probe has created the shared session.
    assert!(cluster.sessions() <= 2, "{}", cluster.sessions());
}

/// An issue created with the previous token is found with the next one, because the node stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_refreshed_token_stays_on_its_cluster_node() {
    let cluster = JiraCluster::start().await.unwrap();
    cluster.set_token_life(TOKEN_LIFE);
    let [.., (_, plan)] = modes();
    let site = site(plan, &cluster).await;
    let url = site.vendor_url();
    let first = cluster.tokens();
    for number in 0.. {
        let label = format!("fresh-{number}");
        create(&url, &label).await;
        let before = cluster.tokens();
        let renewed = async {
            while cluster.tokens() == before {
                tokio::time::sleep(Duration::from_millis(100)).await;
                assert!(finds(&url, &label).await, "with token {before}");
            }
        };
        let renewed = tokio::time::timeout(PATIENCE, renewed).await;
        renewed.expect("renewed in time");
        assert!(finds(&url, &label).await, "after token {before}");
        if cluster.tokens() >= first + 2 {
            break;
        }
    }
    assert_eq!(cluster.sessions(), 1);
}

/// Seconds.
const TOKEN_LIFE: u64 = 10;

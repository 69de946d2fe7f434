//! What a vendor's user reads when the agent answers instead of Jira: common client libraries show cause and remedy,
//! and no details of the customer.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{
    client_script,
    test_env::{BOT, MYSELF, TestEnv, json_of, vendor},
};
use std::collections::BTreeMap;

#[tokio::test(flavor = "multi_thread")]
async fn client_libraries_show_why_the_policy_refused_and_what_to_do() {
    let site = TestEnv::start().await.unwrap();
    for (library, text) in shown(&site, "rest/api/2/user/search?username=x").await {
        for part in [
            "no rule of the customer's policy allows GET /rest/api/2/user/search",
            "ask the customer",
            "request_id",
        ] {
            assert!(text.contains(part), "{library}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn libraries_show_a_failed_login_without_details() {
    let site = TestEnv::builder()
        .basic(BOT, "not the password of the bot")
        .start_unproven()
        .await
        .unwrap();
    for (library, text) in shown(&site, "rest/api/2/myself").await {
        assert!(text.contains("credential for Jira"), "{library}: {text}");
        assert!(
            text.contains("tell the customer") || text.contains("Tell the customer"),
            "{library}: {text}"
        );
        assert_holds_nothing_of_the_customers(&site, &library, &text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_libraries_show_an_unreachable_jira_without_its_address() {
    let mut site = TestEnv::start().await.unwrap();
    let address = site.jira().addr.to_string();
    site.stop_jira().await;
    for (library, text) in shown(&site, "rest/api/2/myself").await {
        assert!(text.contains("cannot connect to Jira"), "{library}: {text}");
        assert!(!text.contains(&address), "{library}: {text}");
        assert_holds_nothing_of_the_customers(&site, &library, &text);
    }
    // The administrator finds all details by the request's id.
    let (_, problem) = json_of(site.get(MYSELF).await.unwrap()).await;
    let id = problem["request_id"].as_str().unwrap();
    let record = site.audit_of(id).await.unwrap();
    let cause = record["cause"].as_str().unwrap();
    assert!(cause.contains(&address), "{record}");
}

/// Clients that probe Cloud's search on a Data Center fall back on its 404; a 403 would stop them.
#[tokio::test(flavor = "multi_thread")]
async fn a_probe_of_clouds_search_gets_data_centers_own_404() {
    let site = TestEnv::start().await.unwrap();
    let url = site.vendor_url() + "/rest/api/2/search/jql";
    for answer in [
        vendor().get(url.clone() + "?jql=project=DEMO").send().await,
        vendor().post(url).body("{}").send().await,
    ] {
        let answer = answer.unwrap();
        assert_eq!(answer.status(), 404);
        assert_eq!(answer.headers().get("proxy-status"), None, "it is Jira's");
    }
}

fn assert_holds_nothing_of_the_customers(site: &TestEnv, library: &str, text: &str) {
    let folder = site.dir().display().to_string();
    for word in [
        folder.as_str(),
        "127.0.0.1",
        "localhost",
        BOT,
        "agent status",
        "_file",
    ] {
        assert!(!text.contains(word), "{library} shows {word}: {text}");
    }
}

/// Each library's text for a GET of `path`.
async fn shown(site: &TestEnv, path: &str) -> BTreeMap<String, String> {
    let base = format!("http://{}/jira", site.addr());
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    for mut script in [
        client_script::python("refusal_texts.py"),
        client_script::node("refusal_text.js"),
    ] {
        script.args([&base, path]);
        let printed = client_script::run(script, b"").await.unwrap();
        shown.extend(serde_json::from_str::<BTreeMap<_, _>>(&printed).expect(&printed));
    }
    assert_eq!(shown.len(), 3, "{shown:?}");
    shown
}

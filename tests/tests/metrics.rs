//! `agent metrics` of the running agent.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{test_env::TestEnv, wait::until};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_outcomes_without_request_details() {
    let site = TestEnv::start().await.unwrap();
    for target in [
        "/rest/api/2/myself",
        "/rest/api/2/myself",
        "/rest/api/2/issue/NOPE-1",
        "/secure/admin/telltale",
    ] {
        site.get(target).await.unwrap();
    }
    // The last bytes of an answer may reach the vendor before it is counted.
    let counted = "_requests_total{class=\"2xx\",forward=\"jira\",outcome=\"complete\"} 2\n";
    let page = async || {
        let page = site.agent.succeed(&["metrics"]).ok()?;
        page.contains(counted).then_some(page)
    };
    let page = until(counted, page).await.unwrap();
    for line in [
        "requests_total{class=\"4xx\",forward=\"jira\",outcome=\"complete\"} 1",
        "requests_total{class=\"4xx\",forward=\"jira\",outcome=\"refused\"} 1",
        "errors_total{error=\"policy-refused\",forward=\"jira\"} 1",
        "request_duration_seconds_count{forward=\"jira\"} 4",
        "first_byte_seconds_count{forward=\"jira\"} 3",
        "forward_bound{forward=\"jira\"} 1",
        "login_circuit_open{forward=\"jira\"} 0",
        "layer_state{forward=\"jira\",layer=\"login\",state=\"proven\"} 1",
        "connection_phase{connection=\"0\",phase=\"serving\"} 1",
    ] {
        assert!(
            page.contains(&format!("_{line}\n")),
            "{line} is missing in:\n{page}"
        );
    }
    for detail in ["telltale", "acme-bot", "NOPE", "/rest/"] {
        assert!(!page.contains(detail), "{detail}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_agent_there_is_nothing_to_print() {
    let mut site = TestEnv::builder().start().await.unwrap();
    site.agent.process().kill();
    let done = site.agent.run(&["metrics"]).unwrap();
    assert_eq!(done.status.code(), Some(3));
    assert!(done.stdout.is_empty());
}

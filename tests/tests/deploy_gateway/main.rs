//! The vendor's gateway of `deploy/gateway-openssh`: stock OpenSSH and HAProxy for many customers, with real agents.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod customers;
mod places;
mod requests;

use e2e::{
    gateway::{DOMAIN, InstalledGateway},
    raw_http::{self, RawResponse},
    recording_origin::RecordingOrigin,
    setup::RunningAgent,
    wait::until,
};
use std::net::SocketAddr;

/// A gateway with two connected customers.
struct TwoCustomers {
    gateway: InstalledGateway,
    acme: RunningAgent,
    bolt: RunningAgent,
    jira_of_acme: RecordingOrigin,
    jira_of_bolt: RecordingOrigin,
}

impl TwoCustomers {
    async fn start() -> Self {
        let gateway = InstalledGateway::start().unwrap();
        let jira_of_acme = RecordingOrigin::start().await.unwrap();
        let jira_of_bolt = RecordingOrigin::start().await.unwrap();
        let (acme, _) = gateway.add("acme").unwrap();
        let (bolt, _) = gateway.add("bolt").unwrap();
        let acme = gateway
            .agent("acme", &acme, &jira_of_acme.url())
            .start()
            .unwrap();
        let bolt = gateway
            .agent("bolt", &bolt, &jira_of_bolt.url())
            .start()
            .unwrap();
        acme.until_proven().await.unwrap();
        bolt.until_proven().await.unwrap();
        // The last reload is over: otherwise the test may hold a connection that the former worker closes.
        let at = gateway.services();
        let reloaded = async || {
            let answer = ask(at, &host("bolt"), "/rest/api/2/issue/READY-1").await;
            (answer.status == 200 && !gateway.is_reloading()).then_some(())
        };
        until("the gateway's reload", reloaded).await.unwrap();
        Self {
            gateway,
            acme,
            bolt,
            jira_of_acme,
            jira_of_bolt,
        }
    }
}

async fn ask(at: SocketAddr, host: &str, target: &str) -> RawResponse {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let mut answers = raw_http::exchange(at, request.as_bytes()).await.unwrap();
    answers.pop().expect("no answer at all")
}

fn host(customer: &str) -> String {
    format!("{customer}.{DOMAIN}")
}

/// Status, type and delivery of the gateway's own answer.
fn gateway_error(answer: &RawResponse) -> (u16, String, String) {
    let body: serde_json::Value = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&answer.body)));
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json")
    );
    assert!(
        answer
            .header("proxy-status")
            .unwrap()
            .starts_with("jira-tunnel-gateway; error=")
    );
    assert_eq!(body["status"], answer.status);
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
    assert!(
        body["type"]
            .as_str()
            .unwrap()
            .starts_with("urn:jira-tunnel-gateway:problem:")
    );
    // The member that Jira clients show.
    let shown = body["errorMessages"][0].as_str().unwrap();
    assert!(shown.contains(body["title"].as_str().unwrap()), "{body}");
    assert!(
        body["errors"].is_object() && body["message"] == shown,
        "{body}"
    );
    let delivery = body["delivery"].as_str().unwrap().to_owned();
    (answer.status, answer.problem(), delivery)
}

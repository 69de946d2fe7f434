//! Where the agent logs in, Jira sees the headers that are known to be harmless, and those that the customer lets pass.

use super::{failing::secret, support::*};
use crate::auth::{Settings as Auth, VendorHeaders};
use crate::http::HttpForward;
use std::sync::Arc;

#[tokio::test]
async fn a_header_that_nobody_vouches_for_does_not_reach_jira_and_is_counted() {
    let jira = jira(echo).await;
    let (_file, token_file) = secret("token");
    let auth = Auth::Pat {
        token_file,
        expires: None,
    };
    let pass = VendorHeaders::new(&["X-Vendor-Tenant"]).unwrap();
    let mut agent = Agent::new(
        &jira,
        Options {
            auth,
            pass,
            ..Options::default()
        },
    );
    let mut vendor = agent.channel();
    vendor
        .send(
            "GET /x HTTP/1.1\r\nhost: x\r\naccept: a\r\nx-atlassian-token: no-check\r\n\
             X-Vendor-Tenant: 7\r\nX-Invented-User-Header: admin\r\neppn: admin\r\n\
             x-forwarded-for: 10.0.0.1\r\nforwarded: for=10.0.0.1\r\naccept: b\r\n\r\n",
        )
        .await;
    let reply = vendor.reply().await;
    let mut lines: Vec<_> = reply.text().lines().skip(1).collect();
    lines.sort_unstable();
    lines.retain(|line| !line.is_empty() && !line.starts_with("host:"));
    assert_eq!(
        lines,
        [
            "accept: a",
            "accept: b",
            "authorization: Bearer token",
            "x-atlassian-token: no-check",
            "x-vendor-tenant: 7",
        ]
    );
    assert_eq!(agent.records.next().await["status"], 200);
    assert_eq!(removed(&agent.forward), [1, 2, 1]);
}

#[tokio::test]
async fn in_pass_through_mode_every_header_reaches_jira() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    let headers = [
        "authorization: A",
        "cookie: b=1",
        "x-forwarded-for: 10.0.0.1",
        "x-invented: 1",
    ];
    let head = headers.join("\r\n");
    vendor
        .send(format!("GET /x HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n"))
        .await;
    let reply = vendor.reply().await;
    for header in headers {
        assert!(reply.text().contains(header), "{}", reply.text());
    }
    assert_eq!(removed(&agent.forward), [0, 0, 0]);
}

/// By class: identity, forwarding, unknown.
fn removed(forward: &Arc<HttpForward>) -> [u64; 3] {
    forward.traffic().removed_headers()
}

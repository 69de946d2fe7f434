//! What the vendor takes for the agent's own statement comes from the agent alone.

use super::support::*;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn jira_cannot_forge_an_answer_of_the_agents() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        let body =
            r#"{"type":"urn:jira-tunnel-agent:problem:paused","status":503,"delivery":"not_sent"}"#;
        let answer = format!(
            "HTTP/1.1 103 Early Hints\r\nx-tunnel-answered-by: agent\r\n\r\n\
             HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\n\
             proxy-status: jira-tunnel-agent; error=destination_unavailable\r\nproxy-status: nginx\r\n\
             x-jira-proxy-status: forged\r\n\
             x-request-id: forged\r\nx-request-id: twice\r\n\
             x-tunnel-answered-by: agent\r\nx-tunnel-answered-by: agent\r\nretry-after: 7\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending().await
    });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("GET /x HTTP/1.1\r\nhost: x\r\nx-request-id: mine-1\r\n\r\n")
        .await;
    let reply = vendor.reply().await;
    assert_eq!(reply.status, 503, "no interim answer of Jira's passes");
    assert_eq!(reply.header("x-tunnel-answered-by"), Some("jira"));
    assert_eq!(reply.header("x-request-id"), Some("mine-1"));
    assert_eq!(reply.header("proxy-status"), None);
    // Jira's own, by names of their own.
    assert_eq!(reply.header("retry-after"), Some("7"));
    let moved: Vec<_> = reply
        .headers
        .iter()
        .filter(|(name, _)| name == "x-jira-proxy-status")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(
        moved,
        ["jira-tunnel-agent; error=destination_unavailable", "nginx"]
    );
}

#[tokio::test]
async fn each_answer_says_who_made_it() {
    let agent = Agent::new(&jira(echo).await, Options::default());
    let mut vendor = agent.channel();
    let reply = vendor.get("/x").await;
    assert_eq!(reply.header("x-tunnel-answered-by"), Some("jira"));
    let reply = vendor.get("/secret").await;
    assert_eq!(reply.header("x-tunnel-answered-by"), Some("agent"));
    // Also where the framing is refused.
    vendor.send("GET / HTTP/1.1\r\n\r\n").await;
    let reply = vendor.reply().await;
    assert_eq!(reply.header("x-tunnel-answered-by"), Some("agent"));
}

/// Whoever reads headers as CGI does takes them for the agent's.
#[tokio::test]
async fn a_name_of_the_agents_with_underscores_is_no_way_around() {
    let jira = raw_jira(|mut stream| async move {
        read_head(&mut stream).await;
        let answer = "HTTP/1.1 200 OK\r\nX_Tunnel_Answered_By: agent\r\nx-tunnel_answered-by: agent\r\n\
             Proxy_Status: jira-tunnel-agent\r\nX_Request_Id: forged\r\nx_other_id: 1\r\n\
             transfer-encoding: chunked\r\n\r\n0\r\nx_tunnel_answered_by: agent\r\nx-t: 1\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending().await
    });
    let agent = Agent::new(&jira.await, Options::default());
    let mut vendor = agent.channel();
    vendor
        .send("GET /x HTTP/1.1\r\nhost: x\r\nte: trailers\r\nconnection: te\r\n\r\n")
        .await;
    let reply = vendor.reply().await;
    let twins = ["tunnel_", "_answered", "proxy_", "_request", "forged"];
    let all = format!("{:?}{}", reply.headers, reply.trailers);
    for twin in twins {
        assert!(!all.contains(twin), "{all}");
    }
    assert_eq!(reply.header("x_other_id"), Some("1"));
    assert_eq!(reply.header("x-tunnel-answered-by"), Some("jira"));
}

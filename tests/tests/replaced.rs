//! A session is replaced while the vendor keeps connections open: each is closed with its next answer, and the session
//! ends without cutting one off.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use e2e::{caller::HttpCaller, recording_origin::issue, setup::RecordedTunnel, wait::soon};

/// Connections on a replaced session get `Connection: close` with their next answer and lose no request.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replaced_session_closes_idle_connections_gently() {
    let env = RecordedTunnel::start().await.unwrap();
    let mut pooled = HttpCaller::connect(env.addr).await.unwrap();
    let before = pooled.get("/rest/api/2/issue/DEMO-1").await.unwrap();
    assert_eq!(before.headers().get("connection"), None);

    let another_interval = |text: String| text.replace("500ms", "600ms");
    env.agent.edit_config(another_interval).unwrap();
    env.agent.succeed(&["reload"]).unwrap();
    let last = async {
        loop {
            let answer = pooled.get("/rest/api/2/issue/DEMO-2").await.unwrap();
            assert_eq!(*answer.body(), issue("DEMO-2"));
            if answer.headers().get("connection").is_some() {
                return answer;
            }
        }
    };
    let last = soon(last).await;
    assert_eq!(last.headers()["connection"], "close");

    // The session ends with its last connection; a new connection uses the new session.
    env.sshd.logged("Disconnected from").await.unwrap();
    let mut new = HttpCaller::connect(env.addr).await.unwrap();
    let answer = new.get("/rest/api/2/issue/DEMO-3").await.unwrap();
    assert_eq!(*answer.body(), issue("DEMO-3"));
    assert_eq!(answer.headers().get("connection"), None);
}

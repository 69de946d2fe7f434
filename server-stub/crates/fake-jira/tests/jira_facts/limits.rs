//! Rate limit and XSRF.

use fake_jira::jira::RateLimit;
use reqwest::Method;
use serde_json::json;

use crate::client::{BOT_TOKEN, get, get_as_bot, new_issue, request, send, start, start_with};

#[tokio::test]
async fn an_empty_bucket_is_429_with_retry_after_and_anonymous_people_have_none() {
    let jira = start_with(|settings| {
        settings.rate_limit = RateLimit {
            enforce: true,
            limit: 2,
            ..RateLimit::default()
        };
    })
    .await;
    assert_eq!(
        get_as_bot(&jira, "/rest/api/2/myself")
            .await
            .header("x-ratelimit-remaining"),
        Some("1")
    );
    assert_eq!(get_as_bot(&jira, "/rest/api/2/myself").await.status, 200);
    let refused = get_as_bot(&jira, "/rest/api/2/myself").await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    let anonymous = send(get(&jira, "/rest/api/2/serverInfo")).await;
    assert_eq!(anonymous.status, 200);
    assert_eq!(anonymous.header("x-ratelimit-limit"), None);
}

#[tokio::test]
async fn retry_after_can_be_as_large_as_a_real_sample() {
    let jira = start().await;
    jira.set_rate_limit(RateLimit {
        enforce: true,
        limit: 0,
        retry_after: Some(9_223_372_036_854_775_807),
        ..RateLimit::default()
    });
    let refused = get_as_bot(&jira, "/rest/api/2/myself").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("retry-after"), Some("9223372036854775807"));
}

#[tokio::test]
async fn a_multipart_post_wants_the_token_header_and_a_browser_is_refused_even_so() {
    let jira = start().await;
    let key = new_issue(&jira, "one").await;
    let path = format!("/rest/api/2/issue/{key}/attachments");
    let post = || {
        let form = reqwest::multipart::Form::new()
            .part("file", reqwest::multipart::Part::text("x").file_name("x"));
        request(&jira, Method::POST, &path)
            .bearer_auth(BOT_TOKEN)
            .multipart(form)
    };
    let reply = send(post()).await;
    assert_eq!(
        (reply.status.as_u16(), reply.body.as_str()),
        (403, "XSRF check failed")
    );
    let token = ("x-atlassian-token", "no-check");
    assert_eq!(send(post().header(token.0, token.1)).await.status, 200);
    let browser = post()
        .header(token.0, token.1)
        .header("user-agent", "Mozilla/5.0 (X11)");
    assert_eq!(send(browser).await.body, "XSRF check failed");
}

#[tokio::test]
async fn a_browser_may_read_but_may_write_only_from_jiras_own_pages() {
    let jira = start().await;
    let agent = ("user-agent", "Mozilla/5.0 (X11)");
    let read = get(&jira, "/rest/api/2/myself")
        .bearer_auth(BOT_TOKEN)
        .header(agent.0, agent.1);
    assert_eq!(send(read).await.status, 200);
    let write = || {
        request(&jira, Method::POST, "/rest/api/2/search")
            .bearer_auth(BOT_TOKEN)
            .header(agent.0, agent.1)
            .json(&json!({}))
    };
    assert_eq!(send(write()).await.status, 403);
    let own = write().header("origin", format!("http://{}", jira.addr));
    assert_eq!(send(own).await.status, 200);
    let foreign = write().header("origin", "https://vendor.example");
    assert_eq!(send(foreign).await.status, 403);
}

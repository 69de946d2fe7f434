//! Basic, its session cookie, the login by query, the CAPTCHA.

use reqwest::Method;
use serde_json::json;

use crate::client::{BOT, BOT_PASSWORD, Reply, get, request, send, start, start_with};

async fn basic(jira: &fake_jira::jira::RunningJira, path: &str, password: &str) -> Reply {
    send(get(jira, path).basic_auth(BOT, Some(password))).await
}

const MYSELF: &str = "/rest/api/2/myself";

#[tokio::test]
async fn success_carries_the_login_reason_the_user_the_cookies_and_the_rate_headers() {
    let jira = start().await;
    let reply = basic(&jira, MYSELF, BOT_PASSWORD).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-seraph-loginreason"), Some("OK"));
    assert_eq!(reply.header("x-ausername"), Some(BOT));
    assert!(reply.cookie("JSESSIONID").is_some());
    assert!(
        reply
            .cookie("atlassian.xsrf.token")
            .unwrap()
            .ends_with("_lin")
    );
    assert_eq!(reply.header("retry-after"), Some("0"));
    for name in ["limit", "remaining", "interval-seconds", "fillrate"] {
        let value = reply.header(&format!("x-ratelimit-{name}")).unwrap();
        assert!(value.parse::<u64>().is_ok(), "{name}: {value}");
    }
    assert_eq!(reply.json()["name"], BOT);
}

#[tokio::test]
async fn the_cookie_of_a_login_logs_in_by_itself() {
    let jira = start().await;
    let session = basic(&jira, MYSELF, BOT_PASSWORD)
        .await
        .cookie("JSESSIONID")
        .unwrap();
    let cookie = format!("other=1; JSESSIONID={session}");
    let reply = send(get(&jira, MYSELF).header("cookie", &cookie)).await;
    assert_eq!(reply.json()["name"], BOT);
    let reply = send(get(&jira, MYSELF).header("cookie", "JSESSIONID=0123")).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn a_session_decides_before_basic_does() {
    let jira = start().await;
    let session = basic(&jira, MYSELF, BOT_PASSWORD)
        .await
        .cookie("JSESSIONID")
        .unwrap();
    let reply = send(
        get(&jira, MYSELF)
            .basic_auth("admin", Some("admin-password"))
            .header("cookie", format!("JSESSIONID={session}")),
    )
    .await;
    assert_eq!(reply.json()["name"], BOT);
}

#[tokio::test]
async fn a_wrong_password_is_401_html_with_the_reason() {
    let jira = start().await;
    let reply = basic(&jira, MYSELF, "wrong").await;
    assert_eq!(reply.status, 401);
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert_eq!(
        reply.header("x-seraph-loginreason"),
        Some("AUTHENTICATED_FAILED")
    );
    assert!(
        reply
            .header("www-authenticate")
            .unwrap()
            .starts_with("OAuth realm=\"http%3A%2F%2F")
    );
    assert_eq!(reply.cookie("JSESSIONID"), None);
    let unknown = send(get(&jira, MYSELF).basic_auth("nobody", Some("x"))).await;
    assert_eq!(unknown.status, 401);
}

#[tokio::test]
async fn after_a_few_wrong_passwords_the_right_one_is_refused_too_until_someone_clears_it() {
    let jira = start().await;
    for _ in 0..3 {
        assert_eq!(basic(&jira, MYSELF, "wrong").await.status, 401);
    }
    for password in ["wrong", BOT_PASSWORD] {
        let reply = basic(&jira, MYSELF, password).await;
        assert_eq!(reply.status, 403, "{password}");
        assert_eq!(
            reply.header("x-authentication-denied-reason").unwrap(),
            format!("CAPTCHA_CHALLENGE; login-url={}/login.jsp", jira.base_url)
        );
    }
    let other = send(get(&jira, MYSELF).basic_auth("admin", Some("admin-password"))).await;
    assert_eq!(other.status, 200, "others are not locked");
    jira.clear_captcha(BOT);
    assert_eq!(basic(&jira, MYSELF, BOT_PASSWORD).await.status, 200);
}

#[tokio::test]
async fn a_successful_login_resets_the_count() {
    let jira = start().await;
    for _ in 0..2 {
        basic(&jira, MYSELF, "wrong").await;
        basic(&jira, MYSELF, "wrong").await;
        assert_eq!(basic(&jira, MYSELF, BOT_PASSWORD).await.status, 200);
    }
}

#[tokio::test]
async fn the_captcha_can_be_cleared_from_outside_when_control_is_on_and_only_then() {
    for control in [true, false] {
        let jira = start_with(|settings| settings.control = control).await;
        for _ in 0..3 {
            basic(&jira, MYSELF, "wrong").await;
        }
        let url = format!("http://{}/__stub/clear-captcha?user={BOT}", jira.addr);
        let answer = reqwest::Client::new().post(url).send().await.unwrap();
        assert_eq!(answer.status(), if control { 200 } else { 404 });
        let status = basic(&jira, MYSELF, BOT_PASSWORD).await.status;
        assert_eq!(status, if control { 200 } else { 403 });
    }
}

#[tokio::test]
async fn switched_off_it_is_403_json_even_on_server_info() {
    let jira = start_with(|settings| settings.basic = Some(false)).await;
    for path in [MYSELF, "/rest/api/2/serverInfo"] {
        let reply = basic(&jira, path, BOT_PASSWORD).await;
        assert_eq!(reply.status, 403);
        assert_eq!(
            reply.json(),
            json!({ "message": "Basic Authentication has been disabled on this instance." })
        );
    }
    jira.set_basic(true);
    assert_eq!(basic(&jira, MYSELF, BOT_PASSWORD).await.status, 200);
}

#[tokio::test]
async fn jira_11_comes_with_basic_switched_off() {
    for (version, status) in [("10.3.2", 200), ("11.1.0", 403)] {
        let jira = start_with(|settings| settings.version = version.into()).await;
        assert_eq!(
            basic(&jira, MYSELF, BOT_PASSWORD).await.status,
            status,
            "{version}"
        );
    }
}

#[tokio::test]
async fn os_username_in_the_query_logs_in_before_any_other_login() {
    let jira = start().await;
    let path = format!("{MYSELF}?os_username=admin&os_password=admin-password");
    assert_eq!(send(get(&jira, &path)).await.json()["name"], "admin");
    assert_eq!(
        basic(&jira, &path, BOT_PASSWORD).await.json()["name"],
        "admin"
    );
}

#[tokio::test]
async fn os_username_in_a_form_logs_in() {
    let jira = start().await;
    let form = "os_username=admin&os_password=admin-password";
    let reply = send(
        request(&jira, Method::POST, "/rest/api/2/search")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("x-atlassian-token", "no-check")
            .body(form),
    )
    .await;
    assert_eq!(reply.header("x-ausername"), Some("admin"));
    assert_eq!(reply.status, 415);
}

#[tokio::test]
async fn a_wrong_os_password_leaves_the_request_anonymous() {
    let jira = start().await;
    let reply = send(get(
        &jira,
        "/rest/api/2/serverInfo?os_username=admin&os_password=x",
    ))
    .await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("x-ausername"), Some("anonymous"));
    assert_eq!(
        reply.header("x-seraph-loginreason"),
        Some("AUTHENTICATED_FAILED")
    );
}

#[tokio::test]
async fn the_session_resource_logs_in_and_out() {
    let jira = start().await;
    let body = json!({ "username": BOT, "password": BOT_PASSWORD });
    let reply = send(request(&jira, Method::POST, "/rest/auth/1/session").json(&body)).await;
    assert_eq!(reply.json()["session"]["name"], "JSESSIONID");
    let cookie = format!(
        "JSESSIONID={}",
        reply.json()["session"]["value"].as_str().unwrap()
    );
    let who = || send(get(&jira, MYSELF).header("cookie", &cookie));
    assert_eq!(who().await.json()["name"], BOT);
    let out = request(&jira, Method::DELETE, "/rest/auth/1/session").header("cookie", &cookie);
    assert_eq!(send(out).await.status, 204);
    assert_eq!(who().await.status, 401);
}

//! OAuth 2.0 (3LO): consent, codes, rotating refresh tokens, accessible resources, scopes.

use fake_jira::cloud::{DeadTokenAnswer, OAuthApp, RunningCloud};
use reqwest::Method;
use serde_json::{Value, json};

use crate::client::{ACCOUNT, CALLBACK, EMAIL, Reply, ex, get, http, send, start, start_with};

const SCOPES: &str = "read:jira-work write:jira-work read:jira-user offline_access";

fn encode(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn asking(cloud: &RunningCloud, more: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("audience", "api.atlassian.com"),
        ("client_id", "app"),
        ("scope", SCOPES),
        ("redirect_uri", CALLBACK),
        ("state", "s&t"),
        ("response_type", "code"),
        ("prompt", "consent"),
    ];
    pairs.retain(|(name, _)| !more.iter().any(|(other, _)| name == other));
    pairs.extend(more);
    format!("{}/authorize?{}", cloud.auth_url, encode(&pairs))
}

async fn decide(cloud: &RunningCloud, url: &str, password: &str, decision: &str) -> Reply {
    let form = [
        ("username", EMAIL),
        ("password", password),
        ("decision", decision),
    ];
    send(http(cloud).request(Method::POST, url).form(&form)).await
}

async fn consent(cloud: &RunningCloud, more: &[(&str, &str)]) -> Reply {
    decide(cloud, &asking(cloud, more), "acme-password", "allow").await
}

fn parameter(reply: &Reply, name: &str) -> Option<String> {
    assert_eq!(reply.status, 302, "{}", reply.body);
    let url = url::Url::parse(reply.header("location").unwrap()).unwrap();
    assert!(url.as_str().starts_with(CALLBACK));
    let mut pairs = url.query_pairs();
    let found = pairs.find(|(known, _)| known == name);
    found.map(|(_, value)| value.into_owned())
}

async fn code(cloud: &RunningCloud, more: &[(&str, &str)]) -> String {
    let reply = consent(cloud, more).await;
    assert_eq!(parameter(&reply, "state").as_deref(), Some("s&t"));
    parameter(&reply, "code").unwrap()
}

fn token_request(cloud: &RunningCloud, fields: &[(&str, &str)]) -> reqwest::RequestBuilder {
    let mut all = vec![("client_id", "app"), ("client_secret", "app-secret")];
    all.retain(|(name, _)| !fields.iter().any(|(other, _)| name == other));
    all.extend(fields);
    let object: Value = all
        .iter()
        .map(|(n, v)| ((*n).to_owned(), json!(v)))
        .collect();
    http(cloud)
        .post(format!("{}/oauth/token", cloud.auth_url))
        .json(&object)
}

async fn redeem(cloud: &RunningCloud, code: &str, more: &[(&str, &str)]) -> Reply {
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", CALLBACK),
    ];
    fields.retain(|(name, _)| !more.iter().any(|(other, _)| name == other));
    fields.extend(more);
    send(token_request(cloud, &fields)).await
}

async fn refresh(cloud: &RunningCloud, token: &str) -> Reply {
    let fields = [("grant_type", "refresh_token"), ("refresh_token", token)];
    send(token_request(cloud, &fields)).await
}

fn pair(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let text = |key: &str| reply.json()[key].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

async fn tokens(cloud: &RunningCloud) -> (String, String) {
    pair(&redeem(cloud, &code(cloud, &[]).await, &[]).await)
}

async fn myself(cloud: &RunningCloud, access: &str) -> Reply {
    send(get(cloud, &ex(cloud, "/rest/api/3/myself")).bearer_auth(access)).await
}

#[track_caller]
fn refused(reply: &Reply, status: u16, error: &str, description: &str) {
    assert_eq!(reply.status, status, "{}", reply.body);
    let expected = json!({ "error": error, "error_description": description });
    assert_eq!(reply.json(), expected);
}

#[tokio::test]
async fn consent_leads_to_a_code_tokens_and_the_gateway() {
    let cloud = start().await;
    let page = send(get(&cloud, &asking(&cloud, &[]))).await;
    assert!(page.body.contains("read:jira-work") && page.body.contains("name=\"password\""));
    let wrong = decide(&cloud, &asking(&cloud, &[]), "wrong", "allow").await;
    assert_eq!(wrong.status, 401);
    let denied = decide(&cloud, &asking(&cloud, &[]), "acme-password", "deny").await;
    assert_eq!(
        parameter(&denied, "error").as_deref(),
        Some("access_denied")
    );

    let code = code(&cloud, &[]).await;
    let reply = redeem(&cloud, &code, &[]).await;
    let body = reply.json();
    assert_eq!(
        (&body["token_type"], &body["expires_in"]),
        (&json!("Bearer"), &json!(3600))
    );
    assert_eq!(body["scope"], SCOPES);
    let (access, _) = pair(&reply);
    let me = myself(&cloud, &access).await;
    assert_eq!(me.json()["accountId"], ACCOUNT);
    assert_eq!(me.header("x-aaccountid"), Some(ACCOUNT));
    let again = redeem(&cloud, &code, &[]).await;
    refused(&again, 403, "invalid_grant", "Invalid authorization code");
    let site = format!("{}/rest/api/3/myself", cloud.sites[0].url);
    let reply = send(get(&cloud, &site).bearer_auth(&access)).await;
    assert_eq!(reply.status, 401, "the site itself knows no access token");
}

#[tokio::test]
async fn an_invalid_request_is_answered_by_page_or_by_redirect() {
    let cloud = start().await;
    for wrong in [
        ("client_id", "other"),
        ("audience", "other"),
        ("redirect_uri", "https://evil.example/"),
    ] {
        let reply = consent(&cloud, &[wrong]).await;
        assert_eq!(reply.status, 400, "{wrong:?}");
    }
    for (name, value, error) in [
        ("response_type", "token", "invalid_request"),
        ("prompt", "none", "invalid_request"),
        ("scope", "manage:jira-webhook", "invalid_scope"),
        ("scope", "WRITE", "invalid_scope"),
    ] {
        let reply = consent(&cloud, &[(name, value)]).await;
        assert_eq!(
            parameter(&reply, "error").as_deref(),
            Some(error),
            "{value}"
        );
    }
}

#[tokio::test]
async fn the_secret_is_mandatory_and_form_and_json_are_both_read() {
    let cloud = start().await;
    let code = code(&cloud, &[]).await;
    for secret in ["wrong", ""] {
        let reply = redeem(&cloud, &code, &[("client_secret", secret)]).await;
        refused(&reply, 401, "access_denied", "Unauthorized");
    }
    let elsewhere = [("redirect_uri", "https://vendor.example/other")];
    let other = self::code(&cloud, &[]).await;
    assert_eq!(redeem(&cloud, &other, &elsewhere).await.status, 403);
    let form = [
        ("grant_type", "authorization_code"),
        ("client_id", "app"),
        ("client_secret", "app-secret"),
        ("code", code.as_str()),
        ("redirect_uri", CALLBACK),
    ];
    let url = format!("{}/oauth/token", cloud.auth_url);
    pair(&send(http(&cloud).post(url).form(&form)).await);
    let credentials = [("grant_type", "client_credentials")];
    let reply = send(token_request(&cloud, &credentials)).await;
    assert_eq!(reply.json()["error"], "unauthorized_client");
}

#[tokio::test]
async fn only_offline_access_gives_a_refresh_token() {
    let cloud = start().await;
    let code = code(&cloud, &[("scope", "read:jira-work")]).await;
    let reply = redeem(&cloud, &code, &[]).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.json().get("refresh_token"), None);
}

#[tokio::test]
async fn refresh_tokens_rotate_with_a_leeway_and_a_late_one_ends_them_all() {
    let cloud = start().await;
    let (first_access, first) = tokens(&cloud).await;
    let (access, second) = pair(&refresh(&cloud, &first).await);
    assert_ne!(first, second);
    assert_eq!(
        myself(&cloud, &first_access).await.status,
        200,
        "lives its hour"
    );
    let (_, third) = pair(&refresh(&cloud, &first).await);
    cloud.set_clock_offset(590);
    pair(&refresh(&cloud, &first).await);
    assert_eq!(cloud.counts().refreshes, 3);
    cloud.set_clock_offset(610);
    let late = refresh(&cloud, &first).await;
    refused(
        &late,
        403,
        "invalid_grant",
        "Unknown or invalid refresh token.",
    );
    for token in [second, third] {
        assert_eq!(refresh(&cloud, &token).await.status, 403);
    }
    assert_eq!(myself(&cloud, &access).await.status, 401);
}

#[tokio::test]
async fn a_dead_refresh_token_has_either_error() {
    let cloud = start().await;
    let (access, token) = tokens(&cloud).await;
    cloud.expire_tokens(true);
    assert_eq!(
        myself(&cloud, &access).await.json(),
        json!({ "code": 401, "message": "Unauthorized" })
    );
    let reply = refresh(&cloud, &token).await;
    refused(
        &reply,
        403,
        "invalid_grant",
        "Unknown or invalid refresh token.",
    );
    cloud.set_dead_token(DeadTokenAnswer::UnauthorizedClient);
    let reply = refresh(&cloud, &token).await;
    refused(
        &reply,
        403,
        "unauthorized_client",
        "refresh_token is invalid",
    );
}

#[tokio::test]
async fn ninety_days_unused_and_a_refresh_token_is_dead() {
    let cloud = start().await;
    let (_, token) = tokens(&cloud).await;
    cloud.set_clock_offset(91 * 86_400);
    assert_eq!(refresh(&cloud, &token).await.status, 403);
}

#[tokio::test]
async fn a_login_ends_a_year_after_the_consent_however_often_it_is_refreshed() {
    let cloud = start().await;
    let mut token = tokens(&cloud).await.1;
    for day in [80, 160, 240, 320, 364] {
        cloud.set_clock_offset(day * 86_400);
        token = pair(&refresh(&cloud, &token).await).1;
    }
    cloud.set_clock_offset(366 * 86_400);
    let dead = refresh(&cloud, &token).await;
    refused(
        &dead,
        403,
        "invalid_grant",
        "Unknown or invalid refresh token.",
    );
}

#[tokio::test]
async fn a_lost_answer_has_rotated_all_the_same_and_the_leeway_saves_the_client() {
    let cloud = start().await;
    let (_, token) = tokens(&cloud).await;
    cloud.drop_token_responses(1);
    let fields = [("grant_type", "refresh_token"), ("refresh_token", &token)];
    assert!(token_request(&cloud, &fields).send().await.is_err());
    assert_eq!(cloud.counts().refreshes, 1);
    pair(&refresh(&cloud, &token).await);
}

#[tokio::test]
async fn accessible_resources_name_the_sites_of_the_token() {
    let cloud = start().await;
    let url = format!("{}/oauth/token/accessible-resources", cloud.api_url);
    let (access, _) = tokens(&cloud).await;
    let list = send(get(&cloud, &url).bearer_auth(&access)).await.json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 2);
    for (entry, site) in list.iter().zip(&cloud.sites) {
        assert_eq!(entry["id"], site.cloud_id);
        assert_eq!(entry["url"], site.url);
        assert!(entry["name"].is_string());
        let scopes = json!(["read:jira-work", "write:jira-work", "read:jira-user"]);
        assert_eq!(entry["scopes"], scopes);
    }
    let reply = send(get(&cloud, &url).bearer_auth("wrong")).await;
    assert_eq!(reply.status, 401);
}

#[tokio::test]
async fn a_scope_that_is_lacking_is_401_with_its_own_words() {
    let cloud = start().await;
    let code = code(&cloud, &[("scope", "read:jira-work")]).await;
    let reply = redeem(&cloud, &code, &[]).await;
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    let ask = |method: Method, path: &str| {
        let request = http(&cloud).request(method, ex(&cloud, path));
        send(request.bearer_auth(&access).json(&json!({})))
    };
    let mismatch = json!({ "code": 401, "message": "Unauthorized; scope does not match" });
    for (method, path) in [
        (Method::GET, "/rest/api/3/myself"),
        (Method::POST, "/rest/api/3/issue"),
    ] {
        let reply = ask(method, path).await;
        assert_eq!(
            (reply.status.as_u16(), reply.json()),
            (401, mismatch.clone())
        );
    }
    assert_eq!(ask(Method::GET, "/rest/api/3/project").await.status, 200);
}

#[tokio::test]
async fn granular_scopes_open_a_request_only_together() {
    const COMMENT: &str = "read:avatar:jira read:comment.property:jira read:comment:jira read:group:jira read:project-role:jira read:project:jira read:user:jira";
    let granted: Vec<String> = COMMENT.split(' ').map(str::to_owned).collect();
    let all = granted.clone();
    let cloud = start_with(|settings| settings.apps[0].scopes = all).await;
    let ask = async |scopes: &str| {
        let code = code(&cloud, &[("scope", scopes)]).await;
        let reply = redeem(&cloud, &code, &[]).await;
        assert_eq!(reply.json()["scope"], scopes);
        let access = reply.json()["access_token"].as_str().unwrap().to_owned();
        let url = ex(&cloud, "/rest/api/3/issue/DEMO-1/comment");
        send(get(&cloud, &url).bearer_auth(access)).await
    };
    assert_eq!(ask(COMMENT).await.status, 404, "no such issue");
    for scope in &granted {
        let rest: Vec<&str> = COMMENT.split(' ').filter(|other| other != scope).collect();
        let reply = ask(&rest.join(" ")).await;
        assert_eq!(reply.status, 401, "{scope}");
        assert_eq!(
            reply.json()["message"],
            "Unauthorized; scope does not match"
        );
    }
}

#[tokio::test]
async fn a_site_may_have_another_url_than_where_it_listens() {
    let cloud = start_with(|settings| {
        settings.sites[0].url = Some("https://acme.atlassian.net".into());
        settings.apps.push(OAuthApp::new("other", "x", CALLBACK));
    })
    .await;
    assert_eq!(cloud.sites[0].url, "https://acme.atlassian.net");
    let ca = reqwest::Certificate::from_pem(cloud.ca_pem.as_bytes()).unwrap();
    let client = reqwest::Client::builder()
        .tls_certs_only([ca])
        .resolve("acme.atlassian.net", cloud.sites[0].addr)
        .build()
        .unwrap();
    let url = "https://acme.atlassian.net/rest/api/3/serverInfo";
    let reply = send(client.get(url)).await;
    assert_eq!(reply.json()["baseUrl"], "https://acme.atlassian.net");
}

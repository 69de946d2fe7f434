//! The OAuth 2.0 provider: consent, codes, PKCE, rotation, scopes, invalid tokens.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fake_jira::jira::{
    FaultKind, HttpsRule, InjectedFault, OAuth2Client, OAuth2Scope, RunningJira, Settings,
};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::client::{BOT, BOT_PASSWORD, Reply, get, new_issue, request, send, start_with};

const REDIRECT: &str = "https://vendor.example/back?kept=1";
const AUTHORIZE: &str = "/rest/oauth2/latest/authorize";
const TOKEN: &str = "/rest/oauth2/latest/token";
const VERIFIER: &str = "a-verifier-that-is-long-enough-to-be-one-0123456789";

fn loopback(settings: &mut Settings) {
    settings.oauth2.https = HttpsRule::Loopback;
    let client = OAuth2Client::new("acme", "acme-secret", REDIRECT);
    settings.oauth2.clients = vec![OAuth2Client {
        service_account: Some("reader".into()),
        ..client
    }];
}

async fn start() -> RunningJira {
    start_with(loopback).await
}

/// A query or a form.
fn encode(pairs: &[(&str, &str)]) -> String {
    url::form_urlencoded::Serializer::new(String::new())
        .extend_pairs(pairs)
        .finish()
}

fn asking(more: &[(&str, &str)]) -> String {
    let mut pairs = vec![
        ("client_id", "acme"),
        ("redirect_uri", REDIRECT),
        ("response_type", "code"),
        ("state", "s t&te"),
    ];
    pairs.retain(|(name, _)| !more.iter().any(|(other, _)| name == other));
    pairs.extend(more);
    format!("{AUTHORIZE}?{}", encode(&pairs))
}

async fn consent(jira: &RunningJira, path: &str, decision: &str) -> Reply {
    let form = [
        ("username", BOT),
        ("password", BOT_PASSWORD),
        ("decision", decision),
    ];
    send(request(jira, Method::POST, path).form(&form)).await
}

/// A parameter of the redirect.
fn parameter(reply: &Reply, name: &str) -> Option<String> {
    assert_eq!(reply.status, 302, "{}", reply.body);
    let url = url::Url::parse(reply.header("location").unwrap()).unwrap();
    assert!(url.as_str().starts_with(REDIRECT), "{url}");
    url.query_pairs()
        .find(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned())
}

async fn code(jira: &RunningJira, more: &[(&str, &str)]) -> String {
    let reply = consent(jira, &asking(more), "allow").await;
    assert_eq!(parameter(&reply, "state").as_deref(), Some("s t&te"));
    parameter(&reply, "code").unwrap()
}

async fn ask(jira: &RunningJira, fields: &[(&str, &str)]) -> Reply {
    let mut form = vec![("client_id", "acme"), ("client_secret", "acme-secret")];
    form.retain(|(name, _)| !fields.iter().any(|(other, _)| name == other));
    form.extend(fields);
    send(request(jira, Method::POST, TOKEN).form(&form)).await
}

async fn redeem(jira: &RunningJira, code: &str, more: &[(&str, &str)]) -> Reply {
    let mut fields = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
    ];
    fields.extend(more);
    ask(jira, &fields).await
}

async fn refresh(jira: &RunningJira, token: &str) -> Reply {
    ask(
        jira,
        &[("grant_type", "refresh_token"), ("refresh_token", token)],
    )
    .await
}

async fn tokens(jira: &RunningJira, more: &[(&str, &str)]) -> (String, String) {
    let reply = redeem(jira, &code(jira, more).await, &[]).await;
    pair(&reply)
}

fn pair(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let text = |key: &str| reply.json()[key].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

async fn user(jira: &RunningJira, access: &str) -> Option<String> {
    let search = get(jira, "/rest/api/2/search").bearer_auth(access);
    let name = send(search).await.header("x-ausername").unwrap().to_owned();
    (name != "anonymous").then_some(name)
}

#[track_caller]
fn refused(reply: &Reply, error: &str) {
    assert_eq!(reply.json()["error"], error, "{}", reply.body);
    assert!(reply.json()["error_description"].is_string());
    let status = if error == "invalid_client" { 401 } else { 400 };
    assert_eq!(reply.status, status);
}

#[tokio::test]
async fn a_browser_logs_in_consents_and_comes_back_with_a_code_for_tokens() {
    let jira = start().await;
    let page = send(get(&jira, &asking(&[]))).await;
    assert_eq!(page.status, 200);
    assert!(
        page.header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
    assert!(page.body.contains("name=\"password\"") && page.body.contains("acme"));

    let reply = redeem(&jira, &code(&jira, &[]).await, &[]).await;
    let body = reply.json();
    let mut keys: Vec<_> = body.as_object().unwrap().keys().cloned().collect();
    keys.sort();
    assert_eq!(
        keys,
        [
            "access_token",
            "created_at",
            "expires_in",
            "refresh_token",
            "token_type"
        ]
    );
    assert_eq!(body["token_type"], "bearer");
    assert_eq!(body["expires_in"], 7200);
    let access = body["access_token"].as_str().unwrap();
    let me = send(get(&jira, "/rest/api/2/myself").bearer_auth(access)).await;
    assert_eq!(me.json()["name"], BOT);
    assert_eq!(me.header("x-seraph-loginreason"), Some("OK"));
}

#[tokio::test]
async fn the_page_knows_a_session_and_gives_one() {
    let jira = start().await;
    let first = consent(&jira, &asking(&[]), "").await;
    assert!(first.body.contains(BOT) && !first.body.contains("name=\"password\""));
    let cookie = format!("JSESSIONID={}", first.cookie("JSESSIONID").unwrap());
    let second = request(&jira, Method::POST, &asking(&[]))
        .header("cookie", cookie)
        .header("user-agent", "Mozilla/5.0")
        .form(&[("decision", "allow")]);
    assert!(parameter(&send(second).await, "code").is_some());
}

#[tokio::test]
async fn a_wrong_password_gives_the_page_again_and_no_code() {
    let jira = start().await;
    let form = [
        ("username", BOT),
        ("password", "wrong"),
        ("decision", "allow"),
    ];
    let reply = send(request(&jira, Method::POST, &asking(&[])).form(&form)).await;
    assert_eq!(reply.status, 401);
    assert!(reply.header("location").is_none() && reply.cookie("JSESSIONID").is_none());
}

#[tokio::test]
async fn a_denial_reaches_the_client() {
    let jira = start().await;
    let reply = consent(&jira, &asking(&[]), "deny").await;
    assert_eq!(parameter(&reply, "error").as_deref(), Some("access_denied"));
    assert_eq!(parameter(&reply, "state").as_deref(), Some("s t&te"));
    assert_eq!(parameter(&reply, "code"), None);
}

#[tokio::test]
async fn an_unknown_client_or_redirect_is_never_redirected_to() {
    let jira = start().await;
    for (name, value) in [
        ("client_id", "other"),
        ("redirect_uri", "https://evil.example/"),
        ("redirect_uri", "https://vendor.example/back"),
    ] {
        let reply = consent(&jira, &asking(&[(name, value)]), "allow").await;
        assert_eq!(reply.status, 400, "{name}={value}");
        assert_eq!(reply.header("location"), None);
    }
}

#[tokio::test]
async fn plain_http_is_400_unless_permitted() {
    let words = "Please ensure that your server is using HTTPS";
    let strict = start_with(|settings| {
        loopback(settings);
        settings.oauth2.https = HttpsRule::Strict;
    })
    .await;
    for reply in [
        send(get(&strict, &asking(&[]))).await,
        refresh(&strict, "x").await,
    ] {
        assert_eq!(reply.status, 400);
        assert!(reply.body.contains(words), "{}", reply.body);
    }
    let local = "http://127.0.0.1:8123/back";
    let remote = "http://vendor.example/back";
    let jira = start_with(|settings| {
        loopback(settings);
        settings.oauth2.clients[0].redirects = vec![local.into(), remote.into()];
    })
    .await;
    let ask = |redirect| send(get(&jira, &asking(&[("redirect_uri", redirect)])));
    let ask = [ask(local).await, ask(remote).await];
    assert_eq!(ask[0].status, 200);
    assert!(ask[1].body.contains(words));
    let https = start_with(|settings| {
        loopback(settings);
        settings.oauth2.https = HttpsRule::Strict;
        settings.base_url = Some("https://jira.corp.example/jira".into());
    })
    .await;
    assert_eq!(send(get(&https, &asking(&[]))).await.status, 200);
}

#[tokio::test]
async fn pkce_binds_the_code_to_its_verifier() {
    let jira = start().await;
    let s256 = URL_SAFE_NO_PAD.encode(Sha256::digest(VERIFIER));
    for (method, challenge) in [
        (Some("S256"), s256.as_str()),
        (Some("plain"), VERIFIER),
        (None, VERIFIER),
    ] {
        let mut more = vec![("code_challenge", challenge)];
        more.extend(method.map(|method| ("code_challenge_method", method)));
        let code = code(&jira, &more).await;
        refused(&redeem(&jira, &code, &[]).await, "invalid_request");
        let other = format!("{VERIFIER}x");
        let wrong = redeem(&jira, &code, &[("code_verifier", &other)]).await;
        refused(&wrong, "invalid_grant");
        for length in [42, 128] {
            let text = "v".repeat(length);
            let reply = redeem(&jira, &code, &[("code_verifier", &text)]).await;
            refused(&reply, "invalid_request");
        }
        pair(&redeem(&jira, &code, &[("code_verifier", VERIFIER)]).await);
    }
    let more = [("code_challenge", "x"), ("code_challenge_method", "S512")];
    let reply = consent(&jira, &asking(&more), "allow").await;
    assert_eq!(
        parameter(&reply, "error").as_deref(),
        Some("invalid_request")
    );
}

#[tokio::test]
async fn a_code_is_for_its_client_its_redirect_and_its_minute() {
    let jira = start_with(|settings| {
        loopback(settings);
        let other = OAuth2Client::new("other", "other-secret", REDIRECT);
        settings.oauth2.clients.push(other);
    })
    .await;
    let code = code(&jira, &[]).await;
    let stolen = [("client_id", "other"), ("client_secret", "other-secret")];
    refused(&redeem(&jira, &code, &stolen).await, "invalid_grant");
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
    ];
    refused(&ask(&jira, &fields).await, "invalid_grant");
    pair(&redeem(&jira, &code, &[]).await);

    let hasty = start_with(|settings| {
        loopback(settings);
        settings.oauth2.code_lifetime = 0;
    })
    .await;
    let late = self::code(&hasty, &[]).await;
    refused(&redeem(&hasty, &late, &[]).await, "invalid_grant");
}

#[tokio::test]
async fn a_code_used_twice_takes_its_tokens_along_even_after_a_refresh() {
    let jira = start().await;
    for refreshed in [false, true] {
        let code = code(&jira, &[]).await;
        let (mut access, mut token) = pair(&redeem(&jira, &code, &[]).await);
        if refreshed {
            (access, token) = pair(&refresh(&jira, &token).await);
        }
        assert_eq!(user(&jira, &access).await.as_deref(), Some(BOT));
        refused(&redeem(&jira, &code, &[]).await, "invalid_grant");
        assert_eq!(user(&jira, &access).await, None);
        refused(&refresh(&jira, &token).await, "invalid_grant");
    }
}

#[tokio::test]
async fn a_refresh_kills_both_old_tokens_at_once() {
    let jira = start().await;
    let (access, token) = tokens(&jira, &[]).await;
    let (new_access, new_token) = pair(&refresh(&jira, &token).await);
    assert_eq!(user(&jira, &access).await, None);
    refused(&refresh(&jira, &token).await, "invalid_grant");
    assert_eq!(user(&jira, &new_access).await.as_deref(), Some(BOT));
    pair(&refresh(&jira, &new_token).await);
    let counts = jira.oauth2_counts();
    assert_eq!((counts.codes, counts.refreshes, counts.refused), (1, 2, 1));
}

#[tokio::test]
async fn an_answer_that_is_lost_has_rotated_the_tokens_all_the_same() {
    let jira = start().await;
    let (access, token) = tokens(&jira, &[]).await;
    jira.set_faults(vec![InjectedFault::on(TOKEN, FaultKind::HangUpAfter)]);
    let form = [
        ("client_id", "acme"),
        ("client_secret", "acme-secret"),
        ("grant_type", "refresh_token"),
        ("refresh_token", &token),
    ];
    let lost = request(&jira, Method::POST, TOKEN).form(&form).send().await;
    assert!(lost.is_err());
    jira.set_faults(vec![InjectedFault::on(TOKEN, FaultKind::SlowAnswer(1))]);
    refused(&refresh(&jira, &token).await, "invalid_grant");
    assert_eq!(user(&jira, &access).await, None);
    assert_eq!(jira.oauth2_counts().refreshes, 1);
}

#[tokio::test]
async fn tokens_expire() {
    let jira = start().await;
    let (access, token) = tokens(&jira, &[]).await;
    jira.expire_oauth2_tokens(false);
    assert_eq!(user(&jira, &access).await, None);
    let me = send(get(&jira, "/rest/api/2/myself").bearer_auth(&access)).await;
    assert_eq!(me.status, 401);
    assert_eq!(me.header("x-seraph-loginreason"), None);
    jira.set_oauth2_access_lifetime(0);
    let (stillborn, token) = pair(&refresh(&jira, &token).await);
    assert_eq!(user(&jira, &stillborn).await, None);
    jira.expire_oauth2_tokens(true);
    refused(&refresh(&jira, &token).await, "invalid_grant");
}

#[tokio::test]
async fn revoking_is_an_empty_200_and_ends_the_tokens() {
    let jira = start().await;
    let revoke = async |token: &str, secret: &str| {
        let form = [
            ("token", token),
            ("token_type_hint", "refresh_token"),
            ("client_id", "acme"),
            ("client_secret", secret),
        ];
        send(request(&jira, Method::POST, "/rest/oauth2/1.0/revoke").form(&form)).await
    };
    let (access, token) = tokens(&jira, &[]).await;
    refused(&revoke(&token, "wrong").await, "invalid_client");
    let reply = revoke(&token, "acme-secret").await;
    assert_eq!((reply.status.as_u16(), reply.body.as_str()), (200, ""));
    assert_eq!(user(&jira, &access).await, None);
    refused(&refresh(&jira, &token).await, "invalid_grant");
    assert_eq!(revoke("unknown", "acme-secret").await.status, 200);
}

#[tokio::test]
async fn only_a_form_with_the_secret_in_it_gets_tokens() {
    let jira = start().await;
    let body = json!({ "grant_type": "client_credentials", "client_id": "acme" });
    let post = || request(&jira, Method::POST, TOKEN);
    assert_eq!(send(post().json(&body)).await.status, 500);
    let credentials = ("grant_type", "client_credentials");
    for wrong in [("client_secret", "wrong"), ("client_id", "other")] {
        refused(&ask(&jira, &[credentials, wrong]).await, "invalid_client");
    }
    let basic = post()
        .basic_auth("acme", Some("acme-secret"))
        .form(&[credentials]);
    assert_eq!(send(basic).await.status, 401);
    refused(&ask(&jira, &[]).await, "invalid_request");
    let password = [("grant_type", "password"), ("username", BOT)];
    refused(&ask(&jira, &password).await, "unsupported_grant_type");
}

#[tokio::test]
async fn client_credentials_are_the_service_account_and_have_no_refresh_token() {
    let jira = start().await;
    let fields = [("grant_type", "client_credentials"), ("scope", "READ")];
    let reply = ask(&jira, &fields).await;
    assert_eq!(reply.json().get("refresh_token"), None);
    let access = reply.json()["access_token"].as_str().unwrap().to_owned();
    assert_eq!(user(&jira, &access).await.as_deref(), Some("reader"));
    jira.register_oauth2_client(OAuth2Client::new("acme", "acme-secret", REDIRECT));
    refused(&ask(&jira, &fields).await, "unauthorized_client");
}

#[tokio::test]
async fn scopes_are_data_centers_own_and_not_beyond_the_clients() {
    let jira = start().await;
    for scope in ["read:jira-work", "write", "WRITE offline_access", "ADMIN"] {
        let reply = consent(&jira, &asking(&[("scope", scope)]), "allow").await;
        assert_eq!(parameter(&reply, "error").as_deref(), Some("invalid_scope"));
        let fields = [("grant_type", "client_credentials"), ("scope", scope)];
        refused(&ask(&jira, &fields).await, "invalid_scope");
    }
    let mut client = OAuth2Client::new("acme", "acme-secret", REDIRECT);
    client.scope = OAuth2Scope::SystemAdmin;
    jira.register_oauth2_client(client);
    tokens(&jira, &[("scope", "READ WRITE ADMIN SYSTEM_ADMIN")]).await;
}

#[tokio::test]
async fn a_token_that_may_read_does_not_write() {
    let jira = start().await;
    let key = new_issue(&jira, "one").await;
    for (scope, status) in [("READ", 403), ("WRITE", 201)] {
        let (access, _) = tokens(&jira, &[("scope", scope)]).await;
        let comment = request(
            &jira,
            Method::POST,
            &format!("/rest/api/2/issue/{key}/comment"),
        )
        .bearer_auth(&access)
        .json(&json!({ "body": "hello" }));
        assert_eq!(send(comment).await.status, status, "{scope}");
        let issue = get(&jira, &format!("/rest/api/2/issue/{key}")).bearer_auth(&access);
        assert_eq!(send(issue).await.status, 200);
        let search = request(&jira, Method::POST, "/rest/api/2/search")
            .bearer_auth(&access)
            .json(&json!({ "jql": "" }));
        assert_eq!(send(search).await.json()["total"], 1);
    }
}

#[tokio::test]
async fn another_spelling_of_bearer_is_no_token() {
    let jira = start().await;
    let (access, _) = tokens(&jira, &[]).await;
    for scheme in ["bearer ", "Bearer  ", "BEARER "] {
        let search =
            get(&jira, "/rest/api/2/search").header("authorization", format!("{scheme}{access}"));
        assert_eq!(
            send(search).await.header("x-ausername"),
            Some("anonymous"),
            "{scheme}"
        );
    }
}

#[tokio::test]
async fn the_metadata_names_the_endpoints() {
    let jira = start().await;
    let path = "/rest/oauth2/latest/.well-known/oauth-authorization-server";
    let metadata: Value = send(get(&jira, path)).await.json();
    assert_eq!(
        metadata["token_endpoint"],
        format!("{}{TOKEN}", jira.base_url)
    );
}

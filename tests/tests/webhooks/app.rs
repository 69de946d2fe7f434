//! Webhooks that an OAuth 2.0 app registers in Cloud: they expire, and are retried.

use crate::hmac::claims;
use crate::hook_sink::HookSink;
use e2e::wait::{soon, until_true};
use reqwest::{Certificate, Client, Method, StatusCode, redirect::Policy};
use serde_json::{Value, json};
use server_stub::{
    cloud::{CloudStub, OAuthApp, RunningCloud, Settings},
    jira::{HttpsRule, WebhookSettings},
};

const EMAIL: &str = "acme-bot@acme.example";
const CALLBACK: &str = "https://vendor.example/callback";
const WORK: &str = "read:jira-work write:jira-work";
const SECRET: &str = "app-secret";
const DAY: i64 = 86_400;

struct Site {
    cloud: RunningCloud,
    client: Client,
    token: String,
}

impl Site {
    /// With plain http on loopback, short pauses, and a token of the app `app` that outlives the test's clock.
    async fn start() -> Self {
        Self::start_with(&format!("{WORK} manage:jira-webhook"), |webhooks| {
            webhooks.https = Some(HttpsRule::Loopback);
        })
        .await
    }

    async fn start_with(scope: &str, change: impl FnOnce(&mut WebhookSettings)) -> Self {
        let app = |id: &str| OAuthApp {
            scopes: format!("{WORK} manage:jira-webhook")
                .split(' ')
                .map(str::to_owned)
                .collect(),
            ..OAuthApp::new(id, SECRET, CALLBACK)
        };
        let mut settings = Settings {
            apps: vec![app("app"), app("other")],
            access_lifetime: 365 * 86_400,
            ..Settings::default()
        };
        settings.webhooks.retry_pause_min = 1;
        settings.webhooks.retry_pause_max = 5;
        change(&mut settings.webhooks);
        let cloud = CloudStub::start(settings).await.unwrap();
        let ca = Certificate::from_pem(cloud.ca_pem.as_bytes()).unwrap();
        let client = Client::builder()
            .no_proxy()
            .tls_certs_only([ca])
            .redirect(Policy::none())
            .build()
            .unwrap();
        let mut site = Self {
            cloud,
            client,
            token: String::new(),
        };
        site.token = site.token_of("app", scope).await;
        site
    }

    /// Logs the account in to an app.
    async fn token_of(&self, app: &str, scope: &str) -> String {
        let query = [
            ("audience", "api.atlassian.com"),
            ("client_id", app),
            ("scope", scope),
            ("redirect_uri", CALLBACK),
            ("response_type", "code"),
            ("prompt", "consent"),
        ];
        let form = [
            ("username", EMAIL),
            ("password", "acme-password"),
            ("decision", "allow"),
        ];
        let url = format!("{}/authorize", self.cloud.auth_url);
        let url = reqwest::Url::parse_with_params(&url, &query).unwrap();
        let answer = soon(self.client.post(url).form(&form).send())
            .await
            .unwrap();
        let location = answer.headers()["location"].to_str().unwrap();
        let location = reqwest::Url::parse(location).unwrap();
        let code = location.query_pairs().find(|(name, _)| name == "code");
        let body = json!({
            "grant_type": "authorization_code",
            "client_id": app,
            "client_secret": SECRET,
            "code": code.unwrap().1,
            "redirect_uri": CALLBACK,
        });
        let url = format!("{}/oauth/token", self.cloud.auth_url);
        let answer = soon(self.client.post(url).json(&body).send())
            .await
            .unwrap();
        let tokens: Value = answer.json().await.unwrap();
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    async fn send_as(
        &self,
        token: &str,
        method: Method,
        path: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let id = &self.cloud.sites[0].cloud_id;
        let url = format!("{}/ex/jira/{id}/rest/api/3/{path}", self.cloud.api_url);
        let mut request = self.client.request(method, url).bearer_auth(token);
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = soon(request.send()).await.unwrap();
        let status = answer.status();
        let bytes = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    async fn send(&self, method: Method, path: &str, body: Value) -> (StatusCode, Value) {
        self.send_as(&self.token, method, path, body).await
    }

    /// Registers one webhook; returns its id.
    async fn register(&self, url: &str, webhook: Value) -> u64 {
        let body = json!({ "url": url, "webhooks": [webhook] });
        let (status, answer) = self.send(Method::POST, "webhook", body).await;
        assert_eq!(status, 200, "{answer}");
        let result = &answer["webhookRegistrationResult"][0];
        result["createdWebhookId"]
            .as_u64()
            .unwrap_or_else(|| panic!("{answer}"))
    }

    async fn create(&self, project: &str) -> String {
        let body = json!({ "fields": {
            "project": { "key": project },
            "issuetype": { "name": "Task" },
            "summary": "A finding",
        }});
        let (status, bean) = self.send(Method::POST, "issue", body).await;
        assert_eq!(status, 201, "{bean}");
        bean["key"].as_str().unwrap().to_owned()
    }

    async fn list(&self) -> Value {
        let (status, page) = self.send(Method::GET, "webhook", Value::Null).await;
        assert_eq!(status, 200, "{page}");
        page
    }

    async fn attempted(&self, count: usize) {
        let attempts = || self.cloud.webhook_attempts(0).len() >= count;
        until_true("attempts to deliver", attempts).await.unwrap();
    }
}

fn created_in(project: &str) -> Value {
    json!({ "jqlFilter": format!("project = {project}"), "events": ["jira:issue_created"] })
}

#[tokio::test]
async fn a_delivery_has_clouds_headers_and_a_token_of_the_app() {
    let site = Site::start().await;
    let sink = HookSink::start().await;
    let webhook = json!({
        "jqlFilter": "project = DEMO",
        "events": ["jira:issue_created", "comment_created", "jira:issue_updated"],
    });
    site.register(&format!("{}/hook/${{issue.key}}", sink.url), webhook)
        .await;
    site.create("OPS").await;
    let key = site.create("DEMO").await;
    let comment = json!({ "body": "Looked at." });
    let path = format!("issue/{key}/comment");
    assert_eq!(site.send(Method::POST, &path, comment).await.0, 201);
    let hooks = sink.hooks(2).await;
    let created = &hooks[0];
    assert_eq!(created.target, format!("/hook/{key}"));
    assert_eq!(
        created.header("user-agent"),
        Some("Atlassian Webhook HTTP Client")
    );
    assert_eq!(created.header("x-atlassian-webhook-flow"), Some("Primary"));
    assert_eq!(created.header("x-atlassian-webhook-retry"), None);
    assert_eq!(created.header("x-hub-signature"), None);
    let bearer = created.header("authorization").unwrap();
    let token = bearer.strip_prefix("Bearer ").unwrap();
    assert!(claims(token, "wrong").is_none());
    assert_eq!(claims(token, SECRET).unwrap()["iss"], "app");
    let account = created.json()["user"]["accountId"].clone();
    assert!(account.is_string());
    // Cloud reports a comment once, with the essentials of its issue.
    assert_eq!(hooks[1].event(), "comment_created");
    let comment = hooks[1].json();
    assert_eq!(comment["issue"]["key"], key);
    assert_eq!(comment["issue"]["fields"]["project"]["key"], "DEMO");
    assert_eq!(comment["issue"]["fields"]["description"], Value::Null);
    let change = json!({ "fields": { "summary": "Another" } });
    let path = format!("issue/{key}");
    assert_eq!(site.send(Method::PUT, &path, change).await.0, 204);
    let hooks = sink.hooks(3).await;
    let item = hooks[2].json()["changelog"]["items"][0].clone();
    assert_eq!(
        (&item["field"], &item["fieldId"]),
        (&json!("summary"), &json!("summary"))
    );
}

#[tokio::test]
async fn transient_failures_are_retried_up_to_five_times_with_the_same_identifier() {
    let site = Site::start().await;
    let sink = HookSink::start().await;
    site.register(&sink.url, created_in("DEMO")).await;
    sink.answer_with(&[503, 429, 200]);
    site.create("DEMO").await;
    let hooks = sink.hooks(3).await;
    let retries: Vec<_> = hooks
        .iter()
        .map(|hook| hook.header("x-atlassian-webhook-retry"))
        .collect();
    assert_eq!(retries, [None, Some("1"), Some("2")]);
    let identifier = hooks[0].header("x-atlassian-webhook-identifier").unwrap();
    for hook in &hooks {
        assert_eq!(
            hook.header("x-atlassian-webhook-identifier"),
            Some(identifier)
        );
        assert_eq!(hook.body, hooks[0].body);
    }
    // It gives up after six attempts.
    sink.answer_with(&[500; 6]);
    site.create("DEMO").await;
    site.attempted(9).await;
    // Another kind of failure is not retried.
    sink.answer_with(&[404]);
    site.create("DEMO").await;
    site.create("DEMO").await;
    site.attempted(11).await;
    let attempts = site.cloud.webhook_attempts(0);
    let seen: Vec<_> = attempts
        .iter()
        .map(|a| (a.retry, a.status.unwrap()))
        .collect();
    let gave_up = (0..6).map(|retry| (retry, 500));
    let mut wanted = vec![(0, 503), (1, 429), (2, 200)];
    wanted.extend(gave_up);
    wanted.extend([(0, 404), (0, 200)]);
    assert_eq!(seen, wanted);
}

#[tokio::test]
async fn webhooks_expire_unless_they_are_refreshed() {
    let site = Site::start().await;
    let sink = HookSink::start().await;
    let kept = site.register(&sink.url, created_in("DEMO")).await;
    let expiring = site.register(&sink.url, created_in("OPS")).await;
    assert!(site.list().await["values"][0]["expirationDate"].is_string());
    site.cloud.set_clock_offset(29 * DAY);
    let ids = json!({ "webhookIds": [kept] });
    let (status, answer) = site.send(Method::PUT, "webhook/refresh", ids).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["expirationDate"].is_string());
    site.cloud.set_clock_offset(31 * DAY);
    let page = site.list().await;
    assert_eq!(page["total"], 1);
    assert_eq!(page["values"][0]["id"], kept);
    site.create("OPS").await;
    let key = site.create("DEMO").await;
    assert_eq!(sink.hooks(1).await[0].json()["issue"]["key"], key);
    // Refreshing does not revive it.
    let ids = json!({ "webhookIds": [expiring] });
    site.send(Method::PUT, "webhook/refresh", ids).await;
    assert_eq!(site.list().await["total"], 1);
}

#[tokio::test]
async fn an_app_sees_and_removes_its_own_only() {
    let site = Site::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(
            site.register("http://127.0.0.1:9/", created_in("DEMO"))
                .await,
        );
    }
    let (_, page) = site
        .send(Method::GET, "webhook?startAt=1&maxResults=1", Value::Null)
        .await;
    assert_eq!(page["values"][0]["id"], ids[1]);
    for (member, value) in [
        ("total", json!(3)),
        ("startAt", json!(1)),
        ("maxResults", json!(1)),
        ("isLast", json!(false)),
    ] {
        assert_eq!(page[member], value, "{member}");
    }
    let other = site
        .token_of("other", &format!("{WORK} manage:jira-webhook"))
        .await;
    let body = json!({ "webhookIds": ids });
    let (status, _) = site
        .send_as(&other, Method::DELETE, "webhook", body.clone())
        .await;
    assert_eq!(status, 202);
    assert_eq!(site.list().await["total"], 3);
    let (_, page) = site
        .send_as(&other, Method::GET, "webhook", Value::Null)
        .await;
    assert_eq!(page["total"], 0);
    assert_eq!(site.send(Method::DELETE, "webhook", body).await.0, 202);
    assert_eq!(site.list().await["total"], 0);
}

#[tokio::test]
async fn cloud_refuses_what_it_documents() {
    let site = Site::start().await;
    let url = "http://127.0.0.1:9/";
    let body = json!({ "url": url, "webhooks": [
        { "jqlFilter": "labels = red", "events": ["jira:issue_created"] },
        { "jqlFilter": "project = DEMO", "events": ["user_created"] },
        { "jqlFilter": "project = = DEMO", "events": ["jira:issue_created"] },
        { "jqlFilter": "project = DEMO", "events": ["jira:issue_created"] },
    ]});
    let (status, answer) = site.send(Method::POST, "webhook", body).await;
    assert_eq!(status, 200);
    let results = answer["webhookRegistrationResult"].as_array().unwrap();
    assert_eq!(
        results[0]["errors"],
        json!(["The clause labels is unsupported"])
    );
    assert!(
        results[1]["errors"][0]
            .as_str()
            .unwrap()
            .contains("user_created")
    );
    assert!(results[2]["errors"].is_array());
    assert!(results[3]["createdWebhookId"].is_number(), "{answer}");
    for _ in 0..4 {
        site.register(url, created_in("DEMO")).await;
    }
    let body = |url: &str| json!({ "url": url, "webhooks": [created_in("DEMO")] });
    let (_, answer) = site.send(Method::POST, "webhook", body(url)).await;
    let error = &answer["webhookRegistrationResult"][0]["errors"][0];
    assert!(
        error.as_str().unwrap().contains("maximum number"),
        "{answer}"
    );
    for (body, what) in [
        (body("http://127.0.0.1:10/"), "another URL"),
        (body("http://vendor.example/"), "no https"),
        (json!({ "url": url, "webhooks": [] }), "nothing to register"),
    ] {
        let (status, answer) = site.send(Method::POST, "webhook", body).await;
        assert_eq!(status, 400, "{what}: {answer}");
    }
}

#[tokio::test]
async fn only_apps_with_the_scope_may_register_and_only_https_by_default() {
    let site = Site::start_with(WORK, |_| {}).await;
    let body = json!({ "url": "https://vendor.example/", "webhooks": [created_in("DEMO")] });
    let (status, answer) = site.send(Method::POST, "webhook", body.clone()).await;
    assert_eq!(status, 401);
    assert_eq!(answer["message"], "Unauthorized; scope does not match");
    // An API token is no app's.
    let url = format!("{}/rest/api/3/webhook", site.cloud.sites[0].url);
    let request = site
        .client
        .post(url)
        .basic_auth(EMAIL, Some("acme-bot-api-token"));
    let answer = soon(request.json(&body).send()).await.unwrap();
    assert_eq!(answer.status(), 403);
    let answer: Value = answer.json().await.unwrap();
    let message = "Only Connect and OAuth 2.0 apps can use this operation";
    assert_eq!(answer["errorMessages"], json!([message]));
    let scoped = site
        .token_of("app", &format!("{WORK} manage:jira-webhook"))
        .await;
    let (status, answer) = site.send_as(&scoped, Method::POST, "webhook", body).await;
    assert_eq!(status, 200, "{answer}");
    let plain = json!({ "url": "http://127.0.0.1:9/", "webhooks": [created_in("DEMO")] });
    let (status, _) = site.send_as(&scoped, Method::POST, "webhook", plain).await;
    assert_eq!(status, 400);
}

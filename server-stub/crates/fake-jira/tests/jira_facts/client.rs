//! The HTTP client of the tests: plain requests, and responses with their bodies.

use fake_jira::jira::{JiraStub, RunningJira, Settings};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

pub(crate) const BOT: &str = "acme-bot";
pub(crate) const BOT_PASSWORD: &str = "acme-password";
pub(crate) const BOT_TOKEN: &str = "acme-bot-token";
pub(crate) const ADMIN_TOKEN: &str = "admin-token";
pub(crate) const READER_TOKEN: &str = "reader-token";

pub(crate) struct Reply {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    pub(crate) fn cookie(&self, name: &str) -> Option<String> {
        self.headers
            .get_all("set-cookie")
            .iter()
            .filter_map(|value| value.to_str().unwrap().split(';').next())
            .find_map(|pair| pair.strip_prefix(&format!("{name}=")).map(str::to_owned))
    }
}

pub(crate) async fn start() -> RunningJira {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Settings)) -> RunningJira {
    let mut settings = Settings {
        context_path: "/jira".into(),
        ..Settings::default()
    };
    change(&mut settings);
    JiraStub::start(settings).await.unwrap()
}

/// A request below the context path.
pub(crate) fn request(jira: &RunningJira, method: Method, path: &str) -> RequestBuilder {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .build()
        .unwrap();
    client.request(method, format!("{}{path}", jira.url))
}

pub(crate) fn get(jira: &RunningJira, path: &str) -> RequestBuilder {
    request(jira, Method::GET, path)
}

pub(crate) async fn send(request: RequestBuilder) -> Reply {
    let response = request.send().await.unwrap();
    Reply {
        status: response.status(),
        headers: response.headers().clone(),
        body: response.text().await.unwrap(),
    }
}

/// GET as the bot.
pub(crate) async fn get_as_bot(jira: &RunningJira, path: &str) -> Reply {
    send(get(jira, path).bearer_auth(BOT_TOKEN)).await
}

/// A request with JSON as the bot.
pub(crate) async fn send_json(
    jira: &RunningJira,
    method: Method,
    path: &str,
    body: Value,
) -> Reply {
    send(
        request(jira, method, path)
            .bearer_auth(BOT_TOKEN)
            .json(&body),
    )
    .await
}

/// The key of a new issue in DEMO.
pub(crate) async fn new_issue(jira: &RunningJira, summary: &str) -> String {
    new_issue_in(jira, "DEMO", BOT_TOKEN, summary).await
}

pub(crate) async fn new_issue_in(
    jira: &RunningJira,
    project: &str,
    token: &str,
    summary: &str,
) -> String {
    let body = json!({ "fields": {
        "project": { "key": project }, "issuetype": { "name": "Task" }, "summary": summary,
    }});
    let reply = send(
        request(jira, Method::POST, "/rest/api/2/issue")
            .bearer_auth(token)
            .json(&body),
    )
    .await;
    assert_eq!(reply.status, 201, "{}", reply.body);
    reply.json()["key"].as_str().unwrap().to_owned()
}

//! An imitation Jira of one version, and requests to it.

use e2e::{test_env::vendor, wait::soon};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use server_stub::jira::{JiraStub, RunningJira, Settings, WebhookSettings};

pub(crate) const ADMIN: &str = "admin-token";
pub(crate) const BOT: &str = "acme-bot-token";
/// Where webhooks are managed up to Jira 9, and since Jira 10.
pub(crate) const OLD: &str = "/rest/webhooks/1.0/webhook";
pub(crate) const NEW: &str = "/rest/jira-webhook/1.0/webhooks";

pub(crate) struct Instance {
    pub jira: RunningJira,
}

impl Instance {
    pub(crate) async fn start(version: &str) -> Self {
        Self::start_with(version, WebhookSettings::default()).await
    }

    pub(crate) async fn start_with(version: &str, webhooks: WebhookSettings) -> Self {
        let settings = Settings {
            version: version.into(),
            context_path: "/jira".into(),
            webhooks,
            ..Settings::default()
        };
        Self {
            jira: JiraStub::start(settings).await.unwrap(),
        }
    }

    /// Sends JSON with this token; an empty one means none.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        token: &str,
        body: Value,
    ) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.jira.url);
        let mut request = vendor().request(method, url);
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let response = soon(request.send()).await.unwrap();
        let status = response.status();
        let bytes = response.bytes().await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// As the administrator, who must succeed.
    pub(crate) async fn register(&self, path: &str, body: Value) -> Value {
        let (status, bean) = self.send(Method::POST, path, ADMIN, body).await;
        assert_eq!(status, 201, "{bean}");
        bean
    }

    /// A new issue by the bot; returns its key.
    pub(crate) async fn create(&self, project: &str) -> String {
        let body = json!({ "fields": {
            "project": { "key": project },
            "issuetype": { "name": "Task" },
            "summary": "A finding",
        }});
        let (status, bean) = self
            .send(Method::POST, "/rest/api/2/issue", BOT, body)
            .await;
        assert_eq!(status, 201, "{bean}");
        bean["key"].as_str().unwrap().to_owned()
    }
}

/// A registration for these events of issues in DEMO.
pub(crate) fn registration(url: &str, events: &[&str]) -> Value {
    json!({
        "name": "vendor",
        "url": url,
        "events": events,
        "filters": { "issue-related-events-section": "project = DEMO" },
    })
}

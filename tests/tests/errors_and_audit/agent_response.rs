//! The agent's own answers.

use reqwest::Response;
use serde_json::Value;

/// The agent's own answer.
pub struct AgentAnswer {
    pub status: u16,
    pub request_id: String,
    pub retry_after: Option<String>,
    pub proxy_status: String,
    pub problem: Value,
}

impl AgentAnswer {
    pub async fn of(answer: Response) -> Self {
        let header = |name: &str| {
            answer
                .headers()
                .get(name)
                .map(|v| v.to_str().unwrap().to_owned())
        };
        assert_eq!(
            header("content-type").as_deref(),
            Some("application/problem+json")
        );
        let status = answer.status().as_u16();
        let (request_id, retry_after) = (header("x-request-id").unwrap(), header("retry-after"));
        let proxy_status = header("proxy-status").unwrap();
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["request_id"], *request_id);
        assert_eq!(problem["status"], status);
        assert!(
            problem["remedy"]
                .as_str()
                .is_some_and(|remedy| !remedy.is_empty())
        );
        Self {
            status,
            request_id,
            retry_after,
            proxy_status,
            problem,
        }
    }

    pub fn kind(&self) -> &str {
        self.problem["type"]
            .as_str()
            .unwrap()
            .strip_prefix("urn:jira-tunnel-agent:problem:")
            .unwrap()
    }

    pub fn delivery(&self) -> &str {
        self.problem["delivery"].as_str().unwrap()
    }
}

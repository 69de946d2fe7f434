//! One request of the vendor and its result.

use super::environment::DemoEnvironment;
use reqwest::{Method, Response, StatusCode};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A step of the script and its result.
pub(super) struct CompletedStep {
    /// Description of the step.
    pub what: &'static str,
    /// HTTP method of the request.
    pub method: Method,
    /// Path of the request.
    pub path: String,
    /// The user that Jira saw; `None` if the request did not reach Jira.
    pub login: Option<String>,
    /// Status of the response, if one came.
    pub status: Option<StatusCode>,
    /// The response in a few words, or what was wrong with it.
    pub note: String,
    /// From sending the request to the end of the response.
    pub took: Duration,
    expected: StatusCode,
    content: Result<(), String>,
}

impl CompletedStep {
    /// Whether status and content were as expected.
    pub(super) fn as_expected(&self) -> bool {
        self.status == Some(self.expected) && self.content.is_ok()
    }

    /// What was not as expected.
    pub(super) fn failure_reason(&self) -> Option<String> {
        if self.status != Some(self.expected) {
            return Some(format!("expected {}", self.expected));
        }
        self.content.clone().err()
    }
}

/// A request that the script sends.
pub(super) struct StepRequest {
    pub what: &'static str,
    pub method: Method,
    pub path: String,
    pub expected: StatusCode,
}

impl StepRequest {
    pub(super) fn new(
        what: &'static str,
        method: Method,
        path: impl Into<String>,
        expected: u16,
    ) -> Self {
        Self {
            what,
            method,
            path: path.into(),
            expected: StatusCode::from_u16(expected).unwrap_or(StatusCode::OK),
        }
    }

    /// Sends the request. `read` checks the response and returns what later steps need, with a few words
    /// about it, or what is wrong.
    pub(super) async fn send<T: Default>(
        self,
        environment: &DemoEnvironment,
        client: &reqwest::Client,
        fill: impl FnOnce(reqwest::RequestBuilder) -> reqwest::RequestBuilder,
        read: impl AsyncFnOnce(Response) -> Result<(T, String), String>,
    ) -> (CompletedStep, T) {
        let started = Instant::now();
        let url = format!("{}{}", environment.url(), self.path);
        let sent = fill(client.request(self.method.clone(), url)).send().await;
        let (status, read) = match sent {
            Ok(response) => (Some(response.status()), read(response).await),
            Err(error) => (None, Err(with_causes(&error))),
        };
        let took = started.elapsed();
        let ((found, note), content) = match read {
            Ok(read) => (read, Ok(())),
            Err(why) => ((T::default(), why.clone()), Err(why)),
        };
        let step = CompletedStep {
            login: self.jira_user(environment),
            what: self.what,
            method: self.method,
            path: self.path,
            status,
            note,
            took,
            expected: self.expected,
            content,
        };
        (step, found)
    }

    /// The user in Jira's own record of the request.
    fn jira_user(&self, environment: &DemoEnvironment) -> Option<String> {
        let requests = environment.jira.requests();
        let request = requests.iter().rev().find(|received| {
            received.method == self.method.as_str() && received.target_text() == self.path
        })?;
        let user = request.user.as_deref().unwrap_or("anonymous");
        Some(match request.auth {
            Some(auth) => format!("{user} ({auth:?})"),
            None => user.to_owned(),
        })
    }
}

/// The response as JSON.
pub(super) async fn json(response: Response) -> Result<Value, String> {
    response.json().await.map_err(|error| with_causes(&error))
}

/// A text in a JSON document, by pointer (RFC 6901).
pub(super) fn text(value: &Value, pointer: &str) -> Result<String, String> {
    let found = value.pointer(pointer);
    let found = found.and_then(|found| match found {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    });
    found.ok_or_else(|| format!("the response has no {pointer}"))
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

//! The client side, inside the commands.

use super::{
    CHECK_DEADLINE, EVENTS_DEADLINE, EventList, EventOrder, EventOrderResult, EventQuery,
    RELOAD_DEADLINE, SOCKET_NAME, UPGRADE_DEADLINE,
};
use crate::{check::CheckStep, pause::PauseRequest, status::StatusReport};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::{io, path::Path, path::PathBuf, time::Duration};
use tokio::net::UnixStream;

/// A client of the running agent that owns one runtime folder.
#[derive(Debug)]
pub struct AgentClient {
    path: PathBuf,
}

/// Why the running agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentClientError {
    /// No agent listens on the socket.
    #[error(
        "no agent is running here ({path}: {source}); start it with: systemctl start jira-tunnel-agent"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// The error of connecting to it.
        source: io::Error,
    },
    /// An agent listens, but this user may not connect.
    #[error("{path}: permission denied; run this as root or as a member of the agent's group")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The agent did not answer in time, or not with what was expected.
    #[error("{path}: the agent gave no usable answer: {problem}; check its log")]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What is wrong with the answer.
        problem: String,
    },
    /// The agent refused the command.
    #[error("the running agent refused: {0}")]
    Refused(String),
    /// The agent, or the program it was to start, cannot do that.
    #[error("{0}")]
    Unsupported(String),
}

impl AgentClient {
    /// A client of the agent with this runtime folder; connects per request.
    pub fn new(runtime_dir: &Path) -> Self {
        Self {
            path: runtime_dir.join(SOCKET_NAME),
        }
    }

    /// The status document, as `agent status --json` prints it.
    pub async fn status(&self) -> Result<StatusReport, AgentClientError> {
        let body = self.request(Method::GET, "/status", Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| self.no_answer(error))
    }

    /// The metrics in Prometheus text format.
    pub async fn metrics(&self) -> Result<String, AgentClientError> {
        let body = self.request(Method::GET, "/metrics", Bytes::new()).await?;
        String::from_utf8(body.into()).map_err(|error| self.no_answer(error))
    }

    /// Has the running agent check host and tunnel, for one forward or for all.
    pub async fn check_tunnel(
        &self,
        forward: Option<&str>,
    ) -> Result<Vec<CheckStep>, AgentClientError> {
        self.run_check("/check/tunnel", forward.unwrap_or_default())
            .await
    }

    /// Has the running agent check one forward's hops to Jira.
    pub async fn check(&self, forward: &str) -> Result<Vec<CheckStep>, AgentClientError> {
        self.run_check("/check", forward).await
    }

    async fn run_check(
        &self,
        path: &str,
        forward: &str,
    ) -> Result<Vec<CheckStep>, AgentClientError> {
        let body = Bytes::copy_from_slice(forward.as_bytes());
        let asked = self.exchange(Method::POST, path, body);
        let body = tokio::time::timeout(CHECK_DEADLINE, asked)
            .await
            .unwrap_or_else(|_| Err(self.no_answer("the check did not finish")))?;
        serde_json::from_slice(&body).map_err(|error| self.no_answer(error))
    }

    /// Changes the log level of the running agent.
    pub async fn set_log_level(&self, level: &str) -> Result<(), AgentClientError> {
        let body = Bytes::copy_from_slice(level.as_bytes());
        self.request(Method::PUT, "/log-level", body)
            .await
            .map(drop)
    }

    /// Has the agent retry a credential that Jira rejected: that of one forward, or of each.
    pub async fn retry_login(&self, forward: Option<&str>) -> Result<(), AgentClientError> {
        let body = Bytes::copy_from_slice(forward.unwrap_or_default().as_bytes());
        self.request(Method::POST, "/logins/retry", body)
            .await
            .map(drop)
    }

    /// Has the agent apply a changed configuration. Returns what changed, one line each.
    pub async fn reload(&self) -> Result<Vec<String>, AgentClientError> {
        let asked = self.exchange(Method::POST, "/reload", Bytes::new());
        let body = tokio::time::timeout(RELOAD_DEADLINE, asked)
            .await
            .unwrap_or_else(|_| Err(self.no_answer("the reload did not finish")))?;
        serde_json::from_slice(&body).map_err(|error| self.no_answer(error))
    }

    /// Has the agent hand over to a new process of the program on the disk. Returns which process serves.
    pub async fn upgrade(&self, retry: bool) -> Result<String, AgentClientError> {
        let body = Bytes::from_static(if retry { b"retry" } else { b"" });
        let asked = self.exchange(Method::POST, "/upgrade", body);
        let body = tokio::time::timeout(UPGRADE_DEADLINE, asked)
            .await
            .unwrap_or_else(|_| Err(self.no_answer("the upgrade did not finish")))?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Stops the vendor's requests on one forward or on all.
    pub async fn pause(&self, request: &PauseRequest) -> Result<(), AgentClientError> {
        self.send_pause("/pause", request).await
    }

    /// Accepts the vendor's requests again on one forward or on all.
    pub async fn resume(&self, request: &PauseRequest) -> Result<(), AgentClientError> {
        self.send_pause("/resume", request).await
    }

    async fn send_pause(&self, path: &str, request: &PauseRequest) -> Result<(), AgentClientError> {
        let body = serde_json::to_vec(request).map_err(|error| self.no_answer(error))?;
        self.request(Method::PUT, path, body.into()).await.map(drop)
    }

    /// The events of outlets of mode `store`.
    pub async fn events(&self, query: &EventQuery) -> Result<EventList, AgentClientError> {
        self.events_request(Method::POST, "/events", query).await
    }

    /// Has the agent try events again now.
    pub async fn retry_events(
        &self,
        order: &EventOrder,
    ) -> Result<EventOrderResult, AgentClientError> {
        self.events_request(Method::PUT, "/events/retry", order)
            .await
    }

    /// Has the agent delete events.
    pub async fn drop_events(
        &self,
        order: &EventOrder,
    ) -> Result<EventOrderResult, AgentClientError> {
        self.events_request(Method::PUT, "/events/drop", order)
            .await
    }

    async fn events_request<T: serde::de::DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        asked: &impl serde::Serialize,
    ) -> Result<T, AgentClientError> {
        let body = serde_json::to_vec(asked).map_err(|error| self.no_answer(error))?;
        let answer = self.exchange(method, path, body.into());
        let answer = tokio::time::timeout(EVENTS_DEADLINE, answer)
            .await
            .unwrap_or_else(|_| Err(self.no_answer("the disk of the queue did not answer")))?;
        serde_json::from_slice(&answer).map_err(|error| self.no_answer(error))
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, AgentClientError> {
        tokio::time::timeout(DEADLINE, self.exchange(method, path, body))
            .await
            .unwrap_or_else(|_| Err(self.no_answer("no answer within 5 s")))
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "std adds kinds of errors; these are the ones with a text of their own"
    )]
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, AgentClientError> {
        let stream =
            UnixStream::connect(&self.path)
                .await
                .map_err(|source| match source.kind() {
                    io::ErrorKind::PermissionDenied => AgentClientError::Denied {
                        path: self.path.clone(),
                    },
                    _ => AgentClientError::NotRunning {
                        path: self.path.clone(),
                        source,
                    },
                })?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.no_answer(error))?;
        let driver = tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::HOST, "agent")
            .body(Full::new(body))
            .map_err(|error| self.no_answer(error))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| self.no_answer(error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|error| self.no_answer(error))?
            .to_bytes();
        driver.abort();
        match status {
            StatusCode::OK | StatusCode::NO_CONTENT => Ok(body),
            StatusCode::NOT_FOUND => Err(AgentClientError::Unsupported(String::from(
                "the running agent is of a version that does not know this command; restart it: systemctl restart jira-tunnel-agent",
            ))),
            StatusCode::NOT_IMPLEMENTED => Err(AgentClientError::Unsupported(
                String::from_utf8_lossy(&body).into_owned(),
            )),
            _ => Err(AgentClientError::Refused(
                String::from_utf8_lossy(&body).into_owned(),
            )),
        }
    }

    fn no_answer(&self, problem: impl ToString) -> AgentClientError {
        AgentClientError::NoAnswer {
            path: self.path.clone(),
            problem: problem.to_string(),
        }
    }
}

/// A running agent answers within milliseconds.
const DEADLINE: Duration = Duration::from_secs(5);
/// A report of 16 connections and 100 forwards is below 200 KiB, a list of 1,000 events below 3.5 MiB.
const MAX_ANSWER: usize = 4 << 20;

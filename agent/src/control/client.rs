//! The asking side, inside the commands.

use super::{CHECK_DEADLINE, RELOAD_DEADLINE, SOCKET_NAME};
use crate::{check::CheckStep, pause::PauseRequest, status::StatusReport};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use std::{io, path::Path, path::PathBuf, time::Duration};
use tokio::net::UnixStream;

/// Talks to the running agent of one runtime folder.
#[derive(Debug)]
pub struct AgentClient {
    path: PathBuf,
}

/// Why the running agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentClientError {
    /// Nobody listens.
    #[error(
        "no agent is running here ({path}: {source}); start it with: systemctl start jira-tunnel-agent"
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What connecting said.
        source: io::Error,
    },
    /// Somebody listens, but not for this user.
    #[error("{path}: permission denied; run this as root or as a member of the agent's group")]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// The agent did not answer in time, or with something else.
    #[error("{path}: the agent gave no usable answer: {problem}; look at its log")]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// What happened.
        problem: String,
    },
    /// The agent refused the command.
    #[error("the running agent says: {0}")]
    Refused(String),
}

impl AgentClient {
    /// For the agent whose runtime folder this is.
    pub fn new(runtime_dir: &Path) -> Self {
        Self {
            path: runtime_dir.join(SOCKET_NAME),
        }
    }

    /// What is proven right now.
    pub async fn status(&self) -> Result<StatusReport, AgentClientError> {
        let body = self.ask(Method::GET, "/status", Bytes::new()).await?;
        serde_json::from_slice(&body).map_err(|error| self.no_answer(error))
    }

    /// What monitoring reads, in Prometheus' text form.
    pub async fn metrics(&self) -> Result<String, AgentClientError> {
        let body = self.ask(Method::GET, "/metrics", Bytes::new()).await?;
        String::from_utf8(body.into()).map_err(|error| self.no_answer(error))
    }

    /// Lets the running agent check host and tunnel, for one forward or for all.
    pub async fn check_tunnel(
        &self,
        forward: Option<&str>,
    ) -> Result<Vec<CheckStep>, AgentClientError> {
        self.checked("/check/tunnel", forward.unwrap_or_default())
            .await
    }

    /// Lets the running agent check one forward's way to Jira.
    pub async fn check(&self, forward: &str) -> Result<Vec<CheckStep>, AgentClientError> {
        self.checked("/check", forward).await
    }

    async fn checked(&self, path: &str, forward: &str) -> Result<Vec<CheckStep>, AgentClientError> {
        let body = Bytes::copy_from_slice(forward.as_bytes());
        let asked = self.exchange(Method::POST, path, body);
        let body = tokio::time::timeout(CHECK_DEADLINE, asked)
            .await
            .unwrap_or_else(|_| Err(self.no_answer("the check did not end")))?;
        serde_json::from_slice(&body).map_err(|error| self.no_answer(error))
    }

    /// Changes the log level of the running agent.
    pub async fn set_log_level(&self, level: &str) -> Result<(), AgentClientError> {
        let body = Bytes::copy_from_slice(level.as_bytes());
        self.ask(Method::PUT, "/log-level", body).await.map(drop)
    }

    /// Lets the agent try a credential again that Jira has refused: that of one forward, or each.
    pub async fn retry_login(&self, forward: Option<&str>) -> Result<(), AgentClientError> {
        let body = Bytes::copy_from_slice(forward.unwrap_or_default().as_bytes());
        self.ask(Method::POST, "/logins/retry", body)
            .await
            .map(drop)
    }

    /// Lets the agent take over a changed configuration; gives what has changed.
    pub async fn reload(&self) -> Result<Vec<String>, AgentClientError> {
        let asked = self.exchange(Method::POST, "/reload", Bytes::new());
        let body = tokio::time::timeout(RELOAD_DEADLINE, asked)
            .await
            .unwrap_or_else(|_| Err(self.no_answer("the reload did not end")))?;
        serde_json::from_slice(&body).map_err(|error| self.no_answer(error))
    }

    /// Stops the vendor's requests on one forward or on all.
    pub async fn pause(&self, order: &PauseRequest) -> Result<(), AgentClientError> {
        self.order("/pause", order).await
    }

    /// Lets them pass again.
    pub async fn resume(&self, order: &PauseRequest) -> Result<(), AgentClientError> {
        self.order("/resume", order).await
    }

    async fn order(&self, path: &str, order: &PauseRequest) -> Result<(), AgentClientError> {
        let body = serde_json::to_vec(order).map_err(|error| self.no_answer(error))?;
        self.ask(Method::PUT, path, body.into()).await.map(drop)
    }

    async fn ask(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Bytes, AgentClientError> {
        tokio::time::timeout(DEADLINE, self.exchange(method, path, body))
            .await
            .unwrap_or_else(|_| Err(self.no_answer("no answer within 5 s")))
    }

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

const DEADLINE: Duration = Duration::from_secs(5);
/// A report of 16 connections and 100 forwards is below 200 KiB.
const MAX_ANSWER: usize = 4 << 20;

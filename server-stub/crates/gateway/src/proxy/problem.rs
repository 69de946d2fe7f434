//! The gateway's own responses when a request does not reach an agent (RFC 9457, RFC 9209). Responses
//! of the agent or of Jira pass unchanged and never look like these.

use super::body::ResponseBody;
use crate::forward::ChannelOpenError;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};
use serde_json::json;

/// The kinds of failure. Their names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GatewayProblem {
    /// The host does not belong to this gateway.
    UnknownHost,
    /// No agent of this name has a key.
    UnknownAgent,
    /// The agent has no session.
    AgentOffline,
    /// The agent is connected, but does not serve this forward.
    NoForward,
    /// The agent has reached its limit of open channels.
    AgentBusy,
    /// The agent refused the channel.
    ChannelRefused,
    /// The agent did not answer a channel open.
    AgentSilent,
    /// The session ended after something was sent.
    AgentLost,
    /// The request was sent, but no response came in time.
    NoAnswer,
    /// CONNECT, or an upgrade of the protocol.
    Upgrade,
}

impl GatewayProblem {
    /// Whether a session that the agent opens next may serve the request, of which nothing was sent.
    pub(super) fn may_pass(self) -> bool {
        match self {
            Self::AgentOffline | Self::NoForward | Self::ChannelRefused => true,
            Self::UnknownHost
            | Self::UnknownAgent
            | Self::AgentBusy
            | Self::AgentSilent
            | Self::AgentLost
            | Self::NoAnswer
            | Self::Upgrade => false,
        }
    }

    /// The response: problem JSON, `Proxy-Status` and `Retry-After`.
    pub(super) fn response(self, request_id: &HeaderValue) -> Response<ResponseBody> {
        let facts = self.facts();
        let body = json!({
            "type": format!("urn:server-stub:problem:{}", facts.name),
            "title": facts.title,
            "status": facts.status.as_u16(),
            "delivery": facts.delivery,
            "request_id": request_id.to_str().unwrap_or_default(),
            // Jira's own members: the common Jira clients show nothing else (RFC 9457 §3.2).
            "errorMessages": [facts.title],
            "errors": {},
            "message": facts.title,
        });
        let mut response = Response::new(ResponseBody::own(body.to_string()));
        *response.status_mut() = facts.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert("x-request-id", request_id.clone());
        let proxy_status = format!(
            "server-stub; error={}; details=\"{}\"",
            facts.error, facts.name
        );
        if let Ok(value) = HeaderValue::from_str(&proxy_status) {
            headers.insert("proxy-status", value);
        }
        if let Some(seconds) = facts.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }

    fn facts(self) -> ProblemFields {
        let facts = |status, name, error, title| ProblemFields {
            status,
            name,
            error,
            title,
            delivery: "not_sent",
            retry_after: None,
        };
        match self {
            Self::UnknownHost => facts(
                StatusCode::MISDIRECTED_REQUEST,
                "unknown-host",
                "destination_not_found",
                "This gateway has no such host; agents are called as NAME.<domain>",
            ),
            Self::UnknownAgent => facts(
                StatusCode::NOT_FOUND,
                "unknown-agent",
                "destination_not_found",
                "No agent of this name has a key at this gateway",
            ),
            Self::AgentOffline => ProblemFields {
                retry_after: Some(5),
                ..facts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "agent-offline",
                    "destination_unavailable",
                    "The agent is not connected",
                )
            },
            Self::NoForward => ProblemFields {
                retry_after: Some(5),
                ..facts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "no-forward",
                    "destination_unavailable",
                    "The agent is connected but serves no such forward",
                )
            },
            Self::AgentBusy => ProblemFields {
                retry_after: Some(1),
                ..facts(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "agent-busy",
                    "connection_limit_reached",
                    "The agent has reached its limit of open channels",
                )
            },
            Self::ChannelRefused => facts(
                StatusCode::BAD_GATEWAY,
                "channel-refused",
                "connection_refused",
                "The agent refused the connection",
            ),
            Self::AgentSilent => ProblemFields {
                retry_after: Some(5),
                ..facts(
                    StatusCode::GATEWAY_TIMEOUT,
                    "agent-silent",
                    "connection_timeout",
                    "The agent does not answer",
                )
            },
            Self::AgentLost => ProblemFields {
                delivery: "maybe_sent",
                ..facts(
                    StatusCode::BAD_GATEWAY,
                    "agent-lost",
                    "connection_terminated",
                    "The connection to the agent ended before its response",
                )
            },
            Self::NoAnswer => ProblemFields {
                delivery: "maybe_sent",
                ..facts(
                    StatusCode::GATEWAY_TIMEOUT,
                    "no-answer",
                    "http_response_timeout",
                    "The request was sent but no response came in time",
                )
            },
            Self::Upgrade => facts(
                StatusCode::NOT_IMPLEMENTED,
                "upgrade-not-supported",
                "http_upgrade_failed",
                "This gateway forwards requests; it does not switch protocols",
            ),
        }
    }
}

struct ProblemFields {
    status: StatusCode,
    name: &'static str,
    /// Proxy error type (RFC 9209 §2.3).
    error: &'static str,
    title: &'static str,
    delivery: &'static str,
    retry_after: Option<u16>,
}

impl From<ChannelOpenError> for GatewayProblem {
    fn from(error: ChannelOpenError) -> Self {
        match error {
            ChannelOpenError::NoSession | ChannelOpenError::SessionLost => Self::AgentOffline,
            ChannelOpenError::Busy => Self::AgentBusy,
            ChannelOpenError::Refused => Self::ChannelRefused,
            ChannelOpenError::TimedOut => Self::AgentSilent,
        }
    }
}

/// The caller's own request id, or a new one.
pub(super) fn request_id(headers: &HeaderMap) -> HeaderValue {
    headers
        .get("x-request-id")
        .filter(|id| !id.is_empty() && id.len() <= MAX_ID)
        .cloned()
        .or_else(|| HeaderValue::from_str(&uuid::Uuid::now_v7().to_string()).ok())
        .unwrap_or_else(|| HeaderValue::from_static("-"))
}

/// A longer id is replaced.
const MAX_ID: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [GatewayProblem; 10] = [
        GatewayProblem::AgentOffline,
        GatewayProblem::NoForward,
        GatewayProblem::AgentBusy,
        GatewayProblem::ChannelRefused,
        GatewayProblem::AgentSilent,
        GatewayProblem::AgentLost,
        GatewayProblem::NoAnswer,
        GatewayProblem::UnknownAgent,
        GatewayProblem::UnknownHost,
        GatewayProblem::Upgrade,
    ];

    #[test]
    fn the_documented_problems_are_the_codes_own() {
        let document = include_str!("../../../../../docs/gateway-stub.md");
        let documented: Vec<_> = document
            .lines()
            .skip_while(|line| !line.starts_with("| type |"))
            .skip(2)
            .collect();
        assert_eq!(documented.len(), ALL.len());
        for (line, problem) in documented.iter().zip(ALL) {
            let facts = problem.facts();
            let start = format!(
                "| `{}` | {} | {} |",
                facts.name,
                facts.status.as_u16(),
                facts.delivery
            );
            assert!(line.starts_with(&start), "{start}");
            assert_eq!(
                line.contains("Retry-After"),
                facts.retry_after.is_some(),
                "{line}"
            );
        }
    }
}

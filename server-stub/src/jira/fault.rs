//! Misbehaviour on purpose, so that a test can see what a client makes of it.

use std::time::Duration;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};

/// What to do wrong, and to which requests. The first fault that matches a request applies.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Only requests with this method; absent: all.
    #[serde(default)]
    pub method: Option<String>,
    /// Only requests whose raw target contains this; empty: all.
    #[serde(default)]
    pub target: String,
    /// What to do.
    pub kind: FaultKind,
}

/// Kinds of misbehaviour.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FaultKind {
    /// Wait so many milliseconds, then serve the request as usual.
    Slow(u64),
    /// Answer with this status at once, without reading the body, while the upload still runs.
    AnswerEarly(u16),
    /// Serve the request, but break the connection after so many bytes of the answer's body.
    CutAfter(u64),
    /// Read nothing of the body and answer nothing, for as long as the client stays.
    Stall,
    /// Serve the request with all that follows from it, then wait so many milliseconds before
    /// answering.
    SlowAnswer(u64),
    /// Serve the request with all that follows from it, then break the connection without an answer.
    HangUpAfter,
    /// Read the whole request, then break the connection without an answer.
    HangUp,
}

impl Fault {
    /// A fault for every request whose raw target contains `target`.
    pub fn on(target: &str, kind: FaultKind) -> Self {
        Self {
            method: None,
            target: target.into(),
            kind,
        }
    }

    pub(super) fn applies(&self, method: &Method, target: &str) -> bool {
        self.method
            .as_deref()
            .is_none_or(|m| m.eq_ignore_ascii_case(method.as_str()))
            && target.contains(&self.target)
    }
}

impl FaultKind {
    pub(super) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Slow(milliseconds) => Some(Duration::from_millis(*milliseconds)),
            _ => None,
        }
    }

    pub(super) fn early_status(&self) -> Option<StatusCode> {
        match self {
            Self::AnswerEarly(status) => {
                Some(StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR))
            }
            _ => None,
        }
    }
}

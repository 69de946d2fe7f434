//! Imitations of tools behind a forward: each answers its health path, demands its credential in its own way, and refuses
//! in its own words.

use crate::tcp_server::TcpServer;
use anyhow::Result;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use parking_lot::Mutex;
use std::{convert::Infallible, sync::Arc};

/// How one tool answers.
#[derive(Clone, Copy)]
pub struct ToolAnswers {
    /// Headers of each of its answers.
    pub own: &'static [(&'static str, &'static str)],
    /// Path, status and body of its health without a credential.
    pub health: (&'static str, u16, &'static str),
    /// Path of the login proof, and the body for its user.
    pub login: (&'static str, &'static str),
    /// The header that carries the credential, and its valid value.
    pub credential: (&'static str, &'static str),
    /// Status, challenge and body for a wrong credential.
    pub refusal: (u16, Option<&'static str>, &'static str),
}

/// A running imitation; stops when dropped.
pub struct ImitatedTool {
    /// URL for `upstream`.
    pub url: String,
    requests: Arc<Mutex<Vec<ToolRequest>>>,
    _server: TcpServer,
}

/// What arrived at a tool.
#[derive(Clone)]
pub struct ToolRequest {
    /// Path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
}

impl ImitatedTool {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start(answers: ToolAnswers) -> Result<Self> {
        let requests: Arc<Mutex<Vec<ToolRequest>>> = Arc::default();
        let seen = Arc::clone(&requests);
        let server = TcpServer::http(move |request: Request<Incoming>| {
            let target = request.uri().to_string();
            let headers = request.headers().clone();
            let response = answer(&answers, &target, &headers);
            seen.lock().push(ToolRequest { target, headers });
            async move { Ok::<_, Infallible>(response) }
        })
        .await?;
        Ok(Self {
            url: format!("http://{}", server.addr),
            requests,
            _server: server,
        })
    }

    /// The requests whose target is `target`.
    pub fn requests(&self, target: &str) -> Vec<ToolRequest> {
        let requests = self.requests.lock();
        let wanted = requests.iter().filter(|seen| seen.target == target);
        wanted.cloned().collect()
    }
}

fn answer(answers: &ToolAnswers, target: &str, headers: &HeaderMap) -> Response<Full<Bytes>> {
    let (name, valid) = answers.credential;
    let given = headers.get(name).map(HeaderValue::as_bytes);
    let (refused, challenge, words) = answers.refusal;
    let (health, status, body) = answers.health;
    let (status, challenge, body) = match given {
        None if target == health => (status, challenge.filter(|_| status == 401), body),
        Some(given) if given == valid.as_bytes() => match target == answers.login.0 {
            true => (200, None, answers.login.1),
            false => (200, None, r#"{"data":1}"#),
        },
        _ => (refused, challenge, words),
    };
    let mut response = Response::new(Full::new(Bytes::from_static(body.as_bytes())));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    let challenge = challenge.map(|value| ("www-authenticate", value));
    // The user is known only with the credential.
    let own = answers.own.iter().copied();
    let own = own.filter(|(name, _)| given == Some(valid.as_bytes()) || *name != "x-ausername");
    let kind = [("content-type", "application/json")];
    for (name, value) in own.chain(kind).chain(challenge) {
        response.headers_mut().insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

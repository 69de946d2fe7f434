//! A Jira Data Center of two nodes behind a load balancer. Unlike a single Jira, each node has its own sessions, and its
//! search index does not contain the other node's latest changes. HAProxy keeps clients on their node by a cookie, as
//! Atlassian recommends.

use crate::{
    egress::{NetworkPart, haproxy_with},
    tcp_server::TcpServer,
};
use anyhow::Result;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::{collections::HashMap, convert::Infallible, sync::Arc};

/// A running cluster; stops when dropped.
pub struct JiraCluster {
    balancer: NetworkPart,
    shared: Arc<SharedCluster>,
    _nodes: Vec<TcpServer>,
}

#[derive(Default)]
struct SharedCluster(Mutex<ClusterState>);

#[derive(Default)]
struct ClusterState {
    /// Label of an issue → the node that has indexed it.
    indexed: HashMap<String, usize>,
    /// Sessions created so far; all credentials belong to one user.
    sessions: Vec<String>,
    /// How many access tokens the token endpoint has issued.
    tokens: usize,
    /// Lifetime of new access tokens in seconds; an hour if not set.
    token_life: Option<u64>,
    /// Cookies received, apart from the cluster's own two.
    foreign_cookies: Vec<String>,
}

impl JiraCluster {
    /// Two nodes, which know these credentials as the user `acme-bot`, and the OAuth 2.0 client `agent`.
    pub async fn start() -> Result<Self> {
        let shared = Arc::new(SharedCluster::default());
        let mut nodes = Vec::new();
        let mut servers = String::new();
        for node in 1..=2 {
            let state = Arc::clone(&shared);
            let server =
                TcpServer::http(move |request| answer(request, node, Arc::clone(&state))).await?;
            let addr = server.addr;
            servers += &format!("    server node{node} {addr} cookie node{node}\n");
            nodes.push(server);
        }
        let config = format!(
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 1m\n    timeout server 1m\n\
             frontend jira\n    bind 127.0.0.1:{{port}}\n    default_backend nodes\n\
             backend nodes\n    balance roundrobin\n    cookie SERVERID insert indirect nocache\n{servers}"
        );
        Ok(Self {
            balancer: haproxy_with(&config).await?,
            shared,
            _nodes: nodes,
        })
    }

    /// URL to write as an `upstream`.
    pub fn url(&self) -> String {
        format!("http://{}/jira", self.balancer.address())
    }

    /// How many sessions were created.
    pub fn sessions(&self) -> usize {
        self.shared.0.lock().sessions.len()
    }

    /// How many access tokens the token endpoint has issued.
    pub fn tokens(&self) -> usize {
        self.shared.0.lock().tokens
    }

    /// Sets the lifetime of new access tokens.
    pub fn set_token_life(&self, seconds: u64) {
        self.shared.0.lock().token_life = Some(seconds);
    }

    /// Cookies received that are not the cluster's own.
    pub fn foreign_cookies(&self) -> Vec<String> {
        self.shared.0.lock().foreign_cookies.clone()
    }
}

async fn answer(
    request: Request<Incoming>,
    node: usize,
    shared: Arc<SharedCluster>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes());
    let body: Value = serde_json::from_slice(&body.unwrap_or_default()).unwrap_or_default();
    let path = head.uri.path().trim_start_matches("/jira");
    let query = head.uri.query().unwrap_or_default();
    let mut response = Response::builder().header(header::CONTENT_TYPE, "application/json");
    let who = head.headers.get(header::AUTHORIZATION);
    let who = who.and_then(|value| value.to_str().ok()).map(str::to_owned);
    if path == "/rest/oauth2/latest/token" {
        let mut state = shared.0.lock();
        state.tokens += 1;
        let (access, life) = (
            format!("access{}", state.tokens),
            state.token_life.unwrap_or(3600),
        );
        let token = json!({"access_token": access, "token_type": "Bearer", "expires_in": life, "scope": "WRITE"});
        return Ok(finish(response, &token));
    }
    let Some(who) = who else {
        // Anonymous requests.
        let state = json!({"state": "RUNNING", "version": "9.12.4", "baseUrl": "http://127.0.0.1"});
        return Ok(finish(response, &state));
    };
    if !KNOWN.contains(&who.as_str()) && !who.starts_with(ISSUED) {
        let refused = response.status(StatusCode::UNAUTHORIZED);
        let refused = refused.header("x-seraph-loginreason", "AUTHENTICATED_FAILED");
        return Ok(finish(refused, &json!({})));
    }
    let mut state = shared.0.lock();
    let cookies = head.headers.get_all(header::COOKIE).iter();
    let cookies = cookies.filter_map(|line| line.to_str().ok());
    let mut session = None;
    for cookie in cookies.flat_map(|line| line.split("; ")) {
        match cookie.strip_prefix("JSESSIONID=") {
            Some(id) => session = Some(id.to_owned()),
            // HAProxy removes its own.
            None => state.foreign_cookies.push(cookie.to_owned()),
        }
    }
    let of_this_node = format!(".node{node}");
    let sessions = &mut state.sessions;
    let is_known = session.is_some_and(|id| id.ends_with(&of_this_node) && sessions.contains(&id));
    if !is_known {
        let id = format!("S{}{of_this_node}", sessions.len());
        let line = format!("JSESSIONID={id}; Path=/jira; HttpOnly");
        sessions.push(id);
        response = response.header(header::SET_COOKIE, line);
    }
    response = response.header(header::SET_COOKIE, "atlassian.xsrf.token=AAAA; Path=/jira");
    response = response
        .header("x-ausername", "acme-bot")
        .header("x-arequestid", "1x2x3")
        .header("x-seraph-loginreason", "OK");
    Ok(match (head.method, path) {
        (Method::POST, "/rest/api/2/issue") => {
            let label = body["fields"]["labels"][0].as_str().unwrap_or_default();
            state.indexed.insert(label.to_owned(), node);
            finish(
                response.status(StatusCode::CREATED),
                &json!({"key": "DEMO-1"}),
            )
        }
        (Method::GET, "/rest/api/2/search") => {
            let label = query.strip_prefix("jql=labels%3D").unwrap_or_default();
            let found = state.indexed.get(label) == Some(&node);
            finish(response, &json!({"total": u32::from(found), "node": node}))
        }
        (Method::GET, "/rest/api/2/myself") => finish(response, &json!({"name": "acme-bot"})),
        _ => finish(response.status(StatusCode::NOT_FOUND), &json!({})),
    })
}

fn finish(response: http::response::Builder, body: &Value) -> Response<Full<Bytes>> {
    let body = Full::new(Bytes::from(body.to_string()));
    response.body(body).unwrap_or_default()
}

/// `acme-bot:secret` and the token `secret`.
const KNOWN: [&str; 2] = ["Basic YWNtZS1ib3Q6c2VjcmV0", "Bearer secret"];
/// Prefix of every issued access token.
const ISSUED: &str = "Bearer access";

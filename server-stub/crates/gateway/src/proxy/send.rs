//! Sends one request to an agent and passes the response back.

use super::{
    body::{ActivityClock, AgentResponseBody, ForwardedBody, ResponseBody},
    pool::{ConnectionPool, PooledConnection},
    problem::GatewayProblem,
};
use crate::{
    AgentName, GatewayState,
    forward::{OpenCandidate, Originator, open, order_candidates},
    reconnect::ReconnectWait,
    registry::AgentRoute,
    session::BusyGuard,
};
use http::{HeaderMap, HeaderName, Request, Response, Uri, Version, header};
use hyper::body::Incoming;
use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Sends a request over an idle channel or a new one, and passes the response back. Retries on another
/// channel only if nothing of the request was sent.
pub(super) async fn send(
    shared: &Arc<GatewayState>,
    agent: AgentName,
    label: Option<&str>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, GatewayProblem> {
    let limits = &shared.settings.limits;
    let progress = ActivityClock::new();
    let (mut head, body) = request.into_parts();
    // A client may send the absolute form to a proxy; an origin wants the path alone (RFC 9112 §3.2).
    if head.uri.authority().is_some() {
        let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
        head.uri = path
            .parse::<Uri>()
            .map_err(|_| GatewayProblem::UnknownHost)?;
    }
    head.version = Version::HTTP_11;
    strip_hop_by_hop(&mut head.headers);
    let mut request = Request::from_parts(
        head,
        ForwardedBody::new(body, progress.clone(), limits.body_stall),
    );
    for _ in 0..TRIES {
        let (mut connection, work) = reach(shared, &agent, label).await?;
        progress.touch();
        let sent = connection.sender.try_send_request(request);
        match before_deadline(sent, &progress, limits.answer_timeout).await {
            Some(Ok(response)) => {
                let (mut head, body) = response.into_parts();
                strip_hop_by_hop(&mut head.headers);
                let shared = Arc::clone(shared);
                let body = ForwardedBody::new(body, progress, limits.body_stall);
                let answer = ResponseBody::FromAgent {
                    body: AgentResponseBody(body),
                    after: Some(Box::new(move |whole| {
                        drop(work);
                        if whole {
                            ConnectionPool::put_idle(&shared, connection);
                        }
                    })),
                };
                return Ok(Response::from_parts(head, answer));
            }
            Some(Err(mut failed)) => match failed.take_message() {
                Some(unsent) => request = unsent,
                None => return Err(GatewayProblem::AgentLost),
            },
            None => return Err(GatewayProblem::NoAnswer),
        }
    }
    Err(GatewayProblem::AgentOffline)
}

/// A connection to the agent. Waits for one that has just left and may be back at once.
async fn reach(
    shared: &Arc<GatewayState>,
    agent: &AgentName,
    label: Option<&str>,
) -> Result<(PooledConnection, BusyGuard), GatewayProblem> {
    let mut reconnect = ReconnectWait::new(shared, agent.clone());
    loop {
        let problem = match candidates(shared, agent, label).await {
            Ok(candidates) => match connect(shared, candidates).await {
                Ok(connected) => return Ok(connected),
                Err(problem) => problem,
            },
            Err(problem) => problem,
        };
        if !problem.may_pass() || !reconnect.again().await {
            return Err(problem);
        }
    }
}

async fn candidates(
    shared: &GatewayState,
    agent: &AgentName,
    label: Option<&str>,
) -> Result<Vec<OpenCandidate>, GatewayProblem> {
    match shared.registry.route(agent, label) {
        AgentRoute::To(candidates) => Ok(candidates),
        AgentRoute::NoForward => Err(GatewayProblem::NoForward),
        AgentRoute::Offline if shared.logins.is_known_agent(agent).await => {
            Err(GatewayProblem::AgentOffline)
        }
        AgentRoute::Offline => Err(GatewayProblem::UnknownAgent),
    }
}

/// An idle channel of the best session, or a new one. A session in doubt must open a new channel,
/// which proves that it is alive.
async fn connect(
    shared: &Arc<GatewayState>,
    mut candidates: Vec<OpenCandidate>,
) -> Result<(PooledConnection, BusyGuard), GatewayProblem> {
    order_candidates(&mut candidates);
    // Counted before the channel exists, so that the next request chooses another session.
    let expected = candidates
        .first()
        .map(|first| first.serving.session.count_busy());
    let idle = candidates.first().and_then(|first| {
        let session = &first.serving.session;
        if session.needs_proof() {
            return None;
        }
        shared.pool.take((session.id, first.forward.id))
    });
    let connection = match idle {
        Some(connection) => connection,
        None => {
            let deadline = shared.settings.limits.open_deadline;
            let channel = open(candidates.clone(), &originator(shared), deadline).await?;
            ConnectionPool::connect(shared, channel)
                .await
                .map_err(|_| GatewayProblem::AgentOffline)?
        }
    };
    let work = connection.session.count_request();
    drop(expected);
    let used = candidates
        .into_iter()
        .find(|c| (c.serving.session.id, c.forward.id) == connection.key);
    if let Some(used) = used {
        used.forward.traffic.requests.fetch_add(1, Relaxed);
        used.serving.session.traffic.requests.fetch_add(1, Relaxed);
        open_ahead(shared, used);
    }
    Ok((connection, work))
}

/// Opens a channel ahead of the next request if there are too few idle ones.
fn open_ahead(shared: &Arc<GatewayState>, candidate: OpenCandidate) {
    let limits = &shared.settings.limits;
    let key = (candidate.serving.session.id, candidate.forward.id);
    if !shared.pool.wants_more(key, limits.preopened) {
        return;
    }
    let owner = Arc::clone(shared);
    shared.tasks.spawn(async move {
        let limits = &owner.settings.limits;
        let opened = open(vec![candidate], &originator(&owner), limits.open_deadline).await;
        let connection = match opened {
            Ok(channel) => ConnectionPool::connect(&owner, channel).await.ok(),
            Err(_) => None,
        };
        owner.pool.opened_ahead(key, connection, limits.max_idle);
    });
}

/// A pooled channel serves many callers, so its originator is the HTTP listener.
fn originator(shared: &GatewayState) -> Originator {
    shared.http_addr.into()
}

/// Waits for the response head. Each piece of the request body extends the deadline.
async fn before_deadline<T>(
    sent: impl Future<Output = T>,
    progress: &ActivityClock,
    limit: Duration,
) -> Option<T> {
    let mut sent = pin!(sent);
    loop {
        let deadline = progress.last() + limit;
        tokio::select! {
            answered = &mut sent => return Some(answered),
            () = sleep_until(deadline) => {
                if Instant::now() >= progress.last() + limit {
                    return None;
                }
            }
        }
    }
}

/// RFC 9110 §7.6.1. hyper frames each side itself.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
}

const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];
/// An idle channel may be closed while it is taken, and so may the next one.
const TRIES: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn only_what_belongs_to_the_connection_is_taken_out() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "acme.gateway.localhost"),
            ("authorization", "Bearer x"),
            ("connection", "keep-alive, X-Hop"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("x-end", "2"),
        ] {
            headers.insert(name, value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["authorization", "host", "x-end"]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_answers_deadline_counts_from_the_last_piece_of_the_request() {
        let limit = Duration::from_secs(10);
        let progress = ActivityClock::new();
        let uploading = progress.clone();
        let upload = async move {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(9)).await;
                uploading.touch();
            }
            "answer"
        };
        assert_eq!(
            before_deadline(upload, &progress, limit).await,
            Some("answer")
        );
        progress.touch();
        let silence = std::future::pending::<()>();
        assert_eq!(before_deadline(silence, &progress, limit).await, None);
    }
}

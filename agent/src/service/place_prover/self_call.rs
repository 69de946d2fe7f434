//! A health request through the agent's own place: the gateway connects to where it listens, as the vendor's services do.

use super::judge::CallOutcome;
use crate::{
    http::{HEALTH_PATH, HealthReport, SENDER, X_TUNNEL_ANSWERED_BY},
    supervisor::HeldPlace,
    tunnel::{
        BindAddress,
        channel::ChannelStream,
        instance,
        session::{BoundForward, OpenDirectError},
    },
};
use bytes::Bytes;
use http::{HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Calls one address of a place. The caller sees by the place's counter whether the request has arrived.
pub(super) async fn call(held: &HeldPlace, at: &BindAddress) -> CallOutcome {
    let (before, refused) = (
        held.place.health_requests(),
        held.session.refused_channels(),
    );
    // The call then says nothing of the place.
    let is_overloaded = || held.session.refused_channels() > refused || held.place.is_suspect();
    let started = Instant::now();
    let stream = match held.session.open_direct(&BoundForward(at.clone())).await {
        Ok(stream) => stream,
        Err(OpenDirectError::Prohibited(_)) => return CallOutcome::Prohibited,
        // Some gateways answer this too because we refused the other end.
        Err(OpenDirectError::Failed(..)) if !is_overloaded() => return CallOutcome::NotConnected,
        Err(OpenDirectError::NoAnswer(_)) => return CallOutcome::NoAnswer,
        Err(OpenDirectError::Failed(..) | OpenDirectError::Busy(_) | OpenDirectError::Lost(_)) => {
            return CallOutcome::Inconclusive;
        }
    };
    // Where the gateway takes long to open a channel, the link is slow or full.
    let limit = SHORTEST_WAIT.max(started.elapsed() * PATIENCE);
    let answered = timeout(limit, ask(stream)).await;
    let seen = if held.place.health_requests() > before {
        return CallOutcome::Arrived;
    } else if is_overloaded() {
        return CallOutcome::Inconclusive;
    } else {
        answered
    };
    let what = match seen {
        Err(_) => "takes connections and does not answer".to_owned(),
        Ok(Err(_)) => "closes connections without an HTTP answer".to_owned(),
        Ok(Ok((head, body))) => match serde_json::from_slice::<HealthReport>(&body) {
            Ok(report) if report.instance == instance() => {
                return CallOutcome::OwnConnection(report.connection);
            }
            Ok(_) => return CallOutcome::OtherAgent,
            // An agent of a version without health requests.
            Err(_) if head.headers().contains_key(X_TUNNEL_ANSWERED_BY) => {
                return CallOutcome::OtherAgent;
            }
            Err(_) => format!("answers {}", head.status().as_u16()),
        },
    };
    CallOutcome::Strange(at.clone(), what)
}

async fn ask(stream: ChannelStream) -> anyhow::Result<(Response<()>, Bytes)> {
    let request = Request::get(HEALTH_PATH)
        .header(header::HOST, "jira-tunnel-agent")
        .header(SENDER, instance())
        .header(header::CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let answer = read(&mut sender, request).await;
    // What is left of the connection ends with the sender.
    drop(sender);
    // The gateway closes first, as for every request: a channel that we close first costs memory (docs/dev/ssh.md, D4).
    let abort = driven.abort_handle();
    if timeout(CLOSE_WAIT, driven).await.is_err() {
        abort.abort();
    }
    answer
}

async fn read(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> anyhow::Result<(Response<()>, Bytes)> {
    let (parts, body): (_, Incoming) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    Ok((Response::from_parts(parts, ()), body))
}

/// Time for an answer, at least.
const SHORTEST_WAIT: Duration = Duration::from_secs(2);
/// An answer takes two round trips more than the open, and the queues may grow meanwhile.
const PATIENCE: u32 = 8;
/// Time for the gateway to close the connection after the answer.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// A health report is a few hundred bytes; the answer of another program is not read further.
const MAX_BODY: usize = 64 << 10;

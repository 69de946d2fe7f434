//! A request that really goes the vendor's way: from here through our own session to where the gateway listens for us,
//! back as a forwarded channel, through policy and login to Jira, and its answer back to us.

use crate::{
    check::step::{StepRecorder, StepResult},
    http as own,
    policy::PolicyDecision,
    tunnel::{
        BindAddress,
        session::{BoundForward, OpenDirectError, Session},
    },
    upstream::{AnswerSource, RequestedUri},
};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderValue, Method, Request, Response, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::sync::Arc;

/// Calls the forward of this name, which `session` holds.
pub(super) async fn check(
    steps: &mut StepRecorder,
    session: &Session,
    name: &str,
    forward: Option<&Arc<own::HttpForward>>,
    context_path: &str,
) {
    let (Some(forward), Some(bound)) = (forward, session.bound(name)) else {
        let why = "bytes are forwarded as they are: there is no request that the check could send";
        steps.add("round-trip", StepResult::skipped(why));
        return;
    };
    let path = format!("{context_path}{}", target(forward, context_path));
    let work = async { (send_round_trip(session, &bound, forward, &path).await, None) };
    steps.run::<()>("round-trip", work).await;
}

/// The first of these that the policy lets pass. Where it lets none pass, its refusal comes back, which shows the way
/// to this agent all the same.
fn target(forward: &own::HttpForward, context_path: &str) -> &'static str {
    let passes = |path: &&&str| {
        let target = format!("{context_path}{path}");
        matches!(
            forward.policy().decide(&Method::GET, &target),
            PolicyDecision::Allow { .. }
        )
    };
    let first = HARMLESS.iter().find(passes);
    first.copied().unwrap_or(HARMLESS[0])
}

async fn send_round_trip(
    session: &Session,
    bound: &BoundForward,
    forward: &own::HttpForward,
    path: &str,
) -> StepResult {
    let stream = match session.open_direct(bound).await {
        Ok(stream) => stream,
        Err(OpenDirectError::Prohibited(_)) => {
            return StepResult::skipped(format!(
                "the gateway does not let the agent call {bound} itself, which is usual; the vendor can run there: {}",
                curl(bound, path)
            ));
        }
        // OpenSSH gives the same answer where it forbids to call a socket as where nothing listens on it, and the path
        // may be one inside the session's own root folder: it proves nothing.
        Err(OpenDirectError::Failed(..)) if matches!(bound.0, BindAddress::Socket(_)) => {
            return StepResult::skipped(format!(
                "the gateway does not connect the agent to the socket {bound}, which is usual: OpenSSH forbids it in the same words as where nothing listens; the vendor can run there, with the socket's path as the gateway's own programs see it: {}",
                curl(bound, path)
            ));
        }
        // Some servers answer so to whatever is not permitted; the vendor's own way there may be open.
        Err(error @ OpenDirectError::Failed(..)) => {
            return StepResult::warn(
                error.to_string(),
                format!(
                    "either nothing listens there, or the gateway lets no agent call it; let the vendor run on the gateway: {}",
                    curl(bound, path)
                ),
            );
        }
        Err(error) => {
            return StepResult::fail(
                error.to_string(),
                format!("let the vendor run on the gateway: {}", curl(bound, path)),
            );
        }
    };
    let id = format!("check-{}", uuid::Uuid::new_v4().simple());
    let awaited = forward.expect(&id, path);
    let answered = ask(stream, path, &id).await;
    let came = awaited.was_received();
    drop(awaited);
    match answered {
        Err(problem) if came => StepResult::fail(
            format!(
                "the request came to this agent through {bound}, and its answer did not come back: {problem}"
            ),
            "try again; if it stays, send the log of this moment to the vendor",
        ),
        Err(problem) if session.ended().now_or_never().is_some() => StepResult::fail(
            format!("the session ended before the request came back through {bound}: {problem}"),
            format!(
                "if sessions end with each larger request, packets of full size are lost on the way: ask the network team about the path MTU, and test with: ping -M do -s 1400 {}",
                session.gateway().host
            ),
        ),
        Err(problem) => StepResult::fail(
            format!("the gateway connected to {bound}, and no answer came: {problem}"),
            format!(
                "something else may listen there; let the vendor run on the gateway: {}",
                curl(bound, path)
            ),
        ),
        Ok(_) if !came => StepResult::warn(
            format!("something answers on {bound}, but the request did not come to this agent"),
            "if a second agent shares the bind, that one had its turn: check again; if not, ask the vendor which program listens there",
        ),
        Ok(answer) => interpret(bound, path, &id, answer),
    }
}

/// It has come here and back; what it says.
fn interpret(bound: &BoundForward, path: &str, id: &str, answer: RoundTripResponse) -> StepResult {
    let RoundTripResponse {
        head,
        problem,
        is_state,
    } = answer;
    if head
        .headers()
        .get("x-request-id")
        .is_none_or(|back| back != id)
    {
        return StepResult::fail(
            format!("the answer through {bound} is not the one to our request"),
            "something on the gateway changes answers; ask the vendor what stands before the forward",
        );
    }
    let status = head.status().as_u16();
    let Some(problem) = problem else {
        return check_answer_source(bound, path, &head, is_state);
    };
    match problem.kind.rsplit(':').next().unwrap_or_default() {
        "policy-refused" => StepResult::ok(format!(
            "GET {path} through {bound} came to the policy, which lets nothing pass that the check could ask, and back"
        )),
        code => StepResult::warn(
            format!(
                "GET {path} through {bound} came to this agent, which answered {status} {code}: {}",
                problem.detail
            ),
            "the tunnel is whole; the steps of the forward say what is wrong behind it",
        ),
    }
}

/// The tunnel is whole; whether it was Jira that answered.
fn check_answer_source(
    bound: &BoundForward,
    path: &str,
    head: &Response<()>,
    is_state: bool,
) -> StepResult {
    let status = head.status().as_u16();
    let asked = RequestedUri {
        path,
        authority: "",
    };
    match AnswerSource::read(asked, head.status(), head.headers()) {
        source @ (AnswerSource::Jira | AnswerSource::LikeJira | AnswerSource::Unclear)
            if is_state || source != AnswerSource::Unclear =>
        {
            StepResult::ok(format!(
                "GET {path} through {bound} came back with Jira's {status}"
            ))
        }
        source => {
            let seen = format!("GET {path} through {bound} came back with {status}");
            match source.intermediary().map(|by| by.diagnosis()) {
                Some(diagnosis) => {
                    StepResult::warn(diagnosis.cause, diagnosis.remedy).with_detail(seen)
                }
                None => StepResult::warn(
                    "nothing in the answer shows that it is Jira's",
                    "the tunnel is whole; the steps of the forward say what is wrong behind it",
                )
                .with_detail(seen),
            }
        }
    }
}

struct RoundTripResponse {
    head: Response<()>,
    /// Its body is what Jira's status page says.
    is_state: bool,
    /// Where the agent itself answered.
    problem: Option<ResponseProblem>,
}

/// RFC 9457.
#[derive(Deserialize)]
struct ResponseProblem {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    detail: String,
}

async fn ask(
    stream: crate::tunnel::channel::ChannelStream,
    path: &str,
    id: &str,
) -> Result<RoundTripResponse, String> {
    let request = Request::get(path)
        .header(header::HOST, "jira-tunnel-agent")
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::ACCEPT, padding())
        .header(header::CONNECTION, HeaderValue::from_static("close"))
        .header("x-request-id", id)
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driven = tokio::spawn(connection);
    let answer = read(&mut sender, request).await;
    // What is left of the connection ends with the sender.
    drop(sender);
    driven.abort();
    answer
}

/// Fills several packets of full size on the way to the gateway, and again on the way back to this agent: a path that loses
/// those shows here, and with the small packets of a probe it does not.
fn padding() -> String {
    vec!["*/*"; PADDING / "*/*, ".len()].join(", ")
}

async fn read(
    sender: &mut http1::SendRequest<Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> Result<RoundTripResponse, String> {
    let answer = sender.send_request(request).await;
    let (parts, body): (_, Incoming) = answer.map_err(|error| error.to_string())?.into_parts();
    let own = parts.headers.get(header::CONTENT_TYPE);
    let own = own.is_some_and(|kind| kind == "application/problem+json");
    let body = Limited::new(body, MAX_BODY).collect().await;
    let body = body.map_err(|error| error.to_string())?.to_bytes();
    let state = serde_json::from_slice::<serde_json::Value>(&body);
    let is_state = state.is_ok_and(|body| body.get("state").is_some_and(|s| s.is_string()));
    let problem = match own {
        true => serde_json::from_slice::<ResponseProblem>(&body).ok(),
        false => None,
    };
    Ok(RoundTripResponse {
        head: Response::from_parts(parts, ()),
        is_state,
        problem: problem.filter(|problem| problem.kind.starts_with(OWN)),
    })
}

/// What the vendor runs on the gateway instead.
fn curl(bound: &BoundForward, path: &str) -> String {
    match &bound.0 {
        BindAddress::Tcp { .. } => format!("curl -i http://{bound}{path}"),
        BindAddress::Socket(socket) => format!("curl -i --unix-socket {socket} http://jira{path}"),
    }
}

/// Reads without side effects, the most harmless first. Jira answers the first two to anybody.
const HARMLESS: [&str; 3] = ["/status", "/rest/api/2/serverInfo", "/rest/api/2/myself"];
const USER_AGENT: &str = concat!("jira-tunnel-agent-check/", env!("CARGO_PKG_VERSION"));
/// As the agent's own problems are named.
const OWN: &str = "urn:jira-tunnel-agent:problem:";
/// Bytes: two Ethernet packets, and half of what Tomcat takes as a head.
const PADDING: usize = 3000;
/// A few KiB are usual.
const MAX_BODY: usize = 1 << 20;

//! A request that takes the vendor's way: through the agent's own session to where the gateway listens, back as a
//! forwarded channel, through policy and login to Jira, and the answer back.

use crate::{
    check::step::{StepRecorder, StepResult},
    http as own,
    policy::PolicyDecision,
    profile::{HealthProof, ServiceProfile},
    tunnel::{
        BindAddress,
        session::{BoundForward, OpenDirectError, Session, connect_host},
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
use std::{sync::Arc, time::Duration};

/// Sends a request through the forward of this name, which `session` holds.
pub(super) async fn check(
    steps: &mut StepRecorder,
    session: &Session,
    name: &str,
    forward: Option<&Arc<own::HttpForward>>,
    context_path: &str,
) {
    let (Some(forward), Some(bound)) = (forward, session.bound(name)) else {
        let why = "raw bytes are forwarded; there is no request to send";
        steps.add("round-trip", StepResult::skipped(why));
        return;
    };
    let profile = forward.upstream().profile();
    let path = format!("{context_path}{}", target(forward, profile, context_path));
    let work = async {
        let found = send_round_trip(session, name, &bound, forward, &path).await;
        (found, None)
    };
    steps.run::<()>("round-trip", work).await;
}

/// The first path that the policy allows. If it allows none, its refusal comes back, which proves the tunnel too.
fn target<'a>(
    forward: &own::HttpForward,
    profile: &'a ServiceProfile,
    context_path: &str,
) -> &'a str {
    let paths = match profile.is_jira() {
        true => PROBE_PATHS.to_vec(),
        false => {
            let health = profile.health.as_ref().map(|health| &*health.path);
            let login = profile.login.as_ref().map(|login| &*login.path);
            health.into_iter().chain(login).collect()
        }
    };
    let passes = |path: &&&str| {
        let target = format!("{context_path}{path}");
        matches!(
            forward.policy().decide(&Method::GET, &target),
            PolicyDecision::Allow { .. }
        )
    };
    let first = paths.iter().find(passes).or(paths.first());
    first.copied().unwrap_or("/")
}

async fn send_round_trip(
    session: &Session,
    name: &str,
    bound: &BoundForward,
    forward: &own::HttpForward,
    path: &str,
) -> StepResult {
    let stream = match session.open_direct(bound).await {
        Ok(stream) => stream,
        Err(OpenDirectError::Prohibited(_)) => {
            return StepResult::skipped(format!(
                "the gateway does not let the agent call {bound}, which is common. {} The vendor can run on the gateway: {}",
                proof(session, name, bound),
                curl(bound, path)
            ));
        }
        // OpenSSH answers the same whether it forbids a socket or nothing listens on it, and the path may be relative to
        // the session's chroot: it proves nothing.
        Err(OpenDirectError::Failed(..)) if matches!(bound.0, BindAddress::Socket(_)) => {
            return StepResult::skipped(format!(
                "the gateway does not connect the agent to the socket {bound}, which is common: OpenSSH gives the same answer if nothing listens. {} The vendor can run on the gateway, with the socket's path as seen there: {}",
                proof(session, name, bound),
                curl(bound, path)
            ));
        }
        // Some servers answer this to whatever is not permitted; the vendor may be able to connect.
        Err(error @ OpenDirectError::Failed(..)) => {
            return StepResult::warn(
                error.to_string(),
                format!(
                    "either nothing listens there, or the gateway does not let agents call it; ask the vendor to run on the gateway: {}",
                    curl(bound, path)
                ),
            );
        }
        Err(error) => {
            return StepResult::fail(
                error.to_string(),
                format!(
                    "ask the vendor to run on the gateway: {}",
                    curl(bound, path)
                ),
            );
        }
    };
    let id = format!("check-{}", uuid::Uuid::new_v4().simple());
    let expected = forward.expect(&id, path);
    let answered = ask(stream, path, &id).await;
    let received = expected.was_received();
    drop(expected);
    match answered {
        Err(problem) if received => StepResult::fail(
            format!(
                "the request reached this agent through {bound}, but the answer did not come back: {problem}"
            ),
            "try again; if it persists, send the log of this check to the vendor",
        ),
        Err(problem) if session.ended().now_or_never().is_some() => StepResult::fail(
            format!("the session ended before the request came back through {bound}: {problem}"),
            format!(
                "if sessions end with every large request, full-size packets are lost on the way: ask the network team about the path MTU, and test with: ping -M do -s 1400 {}",
                session.gateway().host
            ),
        ),
        Err(problem) => StepResult::fail(
            format!("the gateway connected to {bound}, but no answer came: {problem}"),
            format!(
                "something else may listen there; ask the vendor to run on the gateway: {}",
                curl(bound, path)
            ),
        ),
        Ok(_) if !received => StepResult::warn(
            format!("something answers on {bound}, but the request did not reach this agent"),
            "if a second agent shares the bind, it may have got the request: check again; otherwise ask the vendor which program listens there",
        ),
        Ok(answer) => interpret(forward.upstream().profile(), bound, path, &id, answer),
    }
}

/// Whether the agent can see that requests reach the place, and what permits it if not. OpenSSH has no list of the sockets
/// that a key may connect to; all of them would be too many.
fn proof(session: &Session, name: &str, bound: &BoundForward) -> String {
    let checked_at = session.place(name).and_then(|place| place.checked_at());
    if checked_at.is_some_and(|at| at.elapsed() < CHECKED_LATELY) {
        return "The gateway's own health checks prove the place.".to_owned();
    }
    match &bound.0 {
        BindAddress::Tcp { host, port } => format!(
            "So the agent cannot see whether requests reach this place. {}",
            permission(host, *port)
        ),
        BindAddress::Socket(_) => format!(
            "So the agent cannot see whether requests reach this place, until a balancer on the gateway checks it: GET {}.",
            own::HEALTH_PATH
        ),
    }
}

/// What the vendor writes to permit calls of this port. Each of the two lists is one of all ports of the user.
fn permission(host: &str, port: u16) -> String {
    let at = |host: &str| BindAddress::Tcp {
        host: host.to_owned(),
        port,
    };
    let listen = at(if host.is_empty() { "*" } else { host });
    let open = at(connect_host(host));
    format!(
        "To permit it, the vendor sets for this user in sshd_config: AllowTcpForwarding yes, PermitListen {listen}, PermitOpen {open}. \
         If the user has more ports, such as those of a bind with {{slot}}, both lines must list all of them."
    )
}

/// The request came here and back; interprets the answer.
fn interpret(
    profile: &ServiceProfile,
    bound: &BoundForward,
    path: &str,
    id: &str,
    answer: RoundTripResponse,
) -> StepResult {
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
            format!("the answer through {bound} does not belong to this request"),
            "something on the gateway changes answers; ask the vendor what is in front of the forward",
        );
    }
    let status = head.status().as_u16();
    let Some(problem) = problem else {
        return check_answer_source(profile, bound, path, &head, is_state);
    };
    match problem.kind.rsplit(':').next().unwrap_or_default() {
        "policy-refused" => StepResult::ok(format!(
            "GET {path} through {bound} reached the policy and came back; the policy allows none of the check's requests"
        )),
        code => StepResult::warn(
            format!(
                "GET {path} through {bound} reached this agent, which answered {status} {code}: {}",
                problem.detail
            ),
            TUNNEL_WORKS,
        ),
    }
}

/// The tunnel works; whether it was Jira that answered.
fn check_answer_source(
    profile: &ServiceProfile,
    bound: &BoundForward,
    path: &str,
    head: &Response<()>,
    is_state: bool,
) -> StepResult {
    let status = head.status().as_u16();
    let health = profile.health.as_ref().filter(|_| !profile.is_jira());
    let is_healthy =
        |health: &HealthProof| path.ends_with(&health.path) && health.status.contains(&status);
    let is_state = is_state || health.is_some_and(is_healthy);
    let asked = RequestedUri {
        path,
        authority: "",
    };
    match AnswerSource::read(profile, asked, head.status(), head.headers()) {
        source @ (AnswerSource::Jira | AnswerSource::LikeJira | AnswerSource::Unclear)
            if is_state || source != AnswerSource::Unclear =>
        {
            StepResult::ok(format!(
                "GET {path} through {bound} came back with {}'s {status}",
                profile.title
            ))
        }
        source @ (AnswerSource::Jira
        | AnswerSource::LikeJira
        | AnswerSource::Intermediary(_)
        | AnswerSource::Unclear) => {
            let seen = format!("GET {path} through {bound} came back with {status}");
            match source.intermediary().map(|by| by.diagnosis()) {
                Some(diagnosis) => StepResult::warn(
                    profile.reword(&diagnosis.cause),
                    profile.reword(diagnosis.remedy),
                )
                .with_detail(seen),
                None => StepResult::warn(
                    profile.reword("nothing in the answer shows that it came from Jira"),
                    TUNNEL_WORKS,
                )
                .with_detail(seen),
            }
        }
    }
}

struct RoundTripResponse {
    head: Response<()>,
    /// Whether its body is that of Jira's `/status`.
    is_state: bool,
    /// The problem document, if the agent itself answered.
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

/// Fills several full-size packets in each direction: a path that loses those fails here, but not with a probe's small
/// packets.
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

/// The command that the vendor can run on the gateway instead.
fn curl(bound: &BoundForward, path: &str) -> String {
    match &bound.0 {
        BindAddress::Tcp { .. } => format!("curl -i http://{bound}{path}"),
        BindAddress::Socket(socket) => format!("curl -i --unix-socket {socket} http://jira{path}"),
    }
}

/// Reads without side effects, the most harmless first. Jira answers the first two without a login.
const PROBE_PATHS: [&str; 3] = ["/status", "/rest/api/2/serverInfo", "/rest/api/2/myself"];
const USER_AGENT: &str = concat!("jira-tunnel-agent-check/", env!("CARGO_PKG_VERSION"));
const TUNNEL_WORKS: &str =
    "the tunnel works; the steps of the forward show what is wrong behind it";
/// The gateway's checks come every few seconds.
const CHECKED_LATELY: Duration = Duration::from_secs(10);
/// Prefix of the agent's own problem types.
const OWN: &str = "urn:jira-tunnel-agent:problem:";
/// Bytes: two Ethernet packets, and half of what Tomcat takes as a head.
const PADDING: usize = 3000;
/// A few KiB are usual.
const MAX_BODY: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_for_a_port_keep_the_other_ports_and_name_what_is_called() {
        let text = permission("127.0.0.1", 8080);
        assert!(text.contains("PermitListen 127.0.0.1:8080, PermitOpen 127.0.0.1:8080."));
        assert!(
            text.contains("{slot}, both lines must list all of them"),
            "{text}"
        );
        // "Any address" is no address to call.
        for any in ["", "*"] {
            let text = permission(any, 8080);
            assert!(
                text.contains("PermitListen *:8080, PermitOpen 127.0.0.1:8080."),
                "{text}"
            );
        }
        let text = permission("::", 8080);
        assert!(
            text.contains("PermitListen [::]:8080, PermitOpen [::1]:8080."),
            "{text}"
        );
    }
}

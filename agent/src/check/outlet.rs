//! The way out: does the outlet listen, does the gateway permit its target, does the vendor's host answer, and do events
//! leave the queue.

use super::step::{CheckStep, StepRecorder, StepResult};
use crate::{
    outlet::{ListenerCondition, Settings},
    status::{LayerState, QueueReport, bytes, count, duration},
    upstream::{Delivery, FailedStep, SendError, Upstream, UpstreamBody, UpstreamTarget},
};
use http::{Method, Request};
use http_body_util::{BodyExt, Empty};
use rustix::fs::statvfs;
use std::path::PathBuf;

/// The queue of an outlet of mode `store`.
#[derive(Clone, Debug)]
pub struct QueueUnderTest {
    /// What the status says of it.
    pub report: QueueReport,
    /// The folder of its file.
    pub folder: PathBuf,
}

/// The steps of one outlet, inside the running agent: `HEAD /` goes the way of a request. `queue`: of mode `store`.
pub async fn outlet(
    settings: &Settings,
    condition: ListenerCondition,
    upstream: &Upstream,
    queue: Option<QueueUnderTest>,
) -> Vec<CheckStep> {
    let mut steps = StepRecorder::new(Some(&settings.name));
    steps.add("listener", listener(settings, condition));
    let to = target(settings);
    let sent = steps.run("permission", async {
        let mut request = Request::new(empty());
        *request.method_mut() = Method::HEAD;
        match upstream.send_over_new_connection(request).await {
            Ok(answer) => {
                let found = StepResult::ok(format!("the gateway permits {to}"));
                (found, Some(Ok(answer.status())))
            }
            Err(error) => permission(&to, error),
        }
    });
    match sent.await {
        Some(Ok(status)) => {
            let seen = format!("{to} answers HEAD / with {}", status.as_u16());
            steps.add("answer", StepResult::ok(seen));
        }
        Some(Err(error)) => steps.add("answer", unanswered(&error)),
        None => steps.add("answer", StepResult::skipped("no channel was opened")),
    }
    if let Some(QueueUnderTest { report, folder }) = queue {
        let measured = tokio::task::spawn_blocking(move || free_bytes(&folder));
        let taken = async {
            let free = measured.await.ok().flatten();
            (queue_step(&report, free), None)
        };
        steps.run::<()>("queue", taken).await;
    }
    steps.into_vec()
}

/// The steps while no agent runs: only it has sessions.
pub fn outlet_standalone(name: &str) -> Vec<CheckStep> {
    let mut steps = StepRecorder::new(Some(name));
    let why = "the agent is not running; start it, then: agent check";
    steps.add("listener", StepResult::skipped(why));
    steps.into_vec()
}

fn listener(settings: &Settings, condition: ListenerCondition) -> StepResult {
    match condition {
        ListenerCondition::Listening(at) => {
            let how = if settings.tls.is_some() {
                "TLS"
            } else {
                "HTTP"
            };
            StepResult::ok(format!("{at}, {how}"))
        }
        ListenerCondition::Starting => StepResult::warn("not tried yet", "try again in a second"),
        ListenerCondition::Failed(cause) => {
            StepResult::fail(cause, "free the address, or change listen of the outlet")
        }
    }
}

/// What a failure says of the permission; the failure goes on to the next step if that is another matter.
fn permission(
    to: &str,
    error: SendError,
) -> (StepResult, Option<Result<http::StatusCode, SendError>>) {
    match error.kind {
        FailedStep::Prohibited => {
            let remedy = format!(
                "ask the vendor for one line at the gateway, for the agent's user: PermitOpen {to}"
            );
            (StepResult::fail(error.detail, remedy), None)
        }
        FailedStep::NoSession => {
            let remedy = "see the steps of the gateways";
            (StepResult::fail(error.detail, remedy), None)
        }
        FailedStep::Descriptors | FailedStep::PoolExhausted => {
            (StepResult::fail(error.detail, "try again"), None)
        }
        FailedStep::Resolve
        | FailedStep::Connect
        | FailedStep::Tls
        | FailedStep::HeldBack
        | FailedStep::JiraPause
        | FailedStep::RateLimit
        | FailedStep::ResponseTimeout
        | FailedStep::Exchange
        | FailedStep::KeptConnection
        | FailedStep::AnswerHead
        | FailedStep::RequestBody => {
            let seen = format!("the gateway permits {to}");
            (StepResult::ok(seen), Some(Err(error)))
        }
    }
}

fn unanswered(error: &SendError) -> StepResult {
    let remedy = match (error.kind, error.delivery) {
        (FailedStep::Tls, _) => {
            "check ca_file and server_name of the outlet, and the certificate of the vendor's host"
        }
        (_, Delivery::NotSent) => {
            "ask the vendor whether this host and port serve, seen from the gateway"
        }
        (_, Delivery::MaybeSent | Delivery::Answered) => {
            "ask the vendor to look at this host's log at this time"
        }
    };
    StepResult::fail(error.detail.clone(), remedy)
}

/// `free`: bytes that the disk of the queue has left, if it says so.
fn queue_step(report: &QueueReport, free: Option<u64>) -> StepResult {
    let mut detail = match report.events {
        0 => String::from("empty"),
        events => {
            let age = report.oldest_seconds.unwrap_or_default();
            let verb = if events == 1 { "waits" } else { "wait" };
            format!(
                "{} {verb}, the oldest for {} ({} of {})",
                count(events, "event"),
                duration(age),
                bytes(report.bytes),
                bytes(report.max_bytes)
            )
        }
    };
    if report.dead_letters > 0 {
        detail += &format!("; {}", count(report.dead_letters, "dead letter"));
    }
    if let Some(free) = free {
        detail += &format!("; {} free", bytes(free));
    }
    let problem = report.cause.clone().zip(report.remedy.clone());
    match (report.state, problem) {
        // A queue that is not open holds nothing that could be shown.
        (LayerState::Failed, Some((cause, remedy))) => return StepResult::fail(cause, remedy),
        (LayerState::Degraded, Some((cause, remedy))) => {
            return StepResult::warn(cause, remedy).with_detail(detail);
        }
        (
            LayerState::Proven
            | LayerState::Unknown
            | LayerState::NotApplicable
            | LayerState::Failed
            | LayerState::Degraded,
            _,
        ) => {}
    }
    if let Some(forecast) = &report.forecast {
        let remedy = "see why the vendor takes no events; max_queue of the outlet is the bound";
        return StepResult::warn(format!("the queue grows: {forecast}"), remedy)
            .with_detail(detail);
    }
    // Its file may take twice the bytes of the events.
    let needed = report
        .max_bytes
        .saturating_sub(report.bytes)
        .saturating_mul(2);
    match free {
        Some(free) if free < needed => {
            let cause = format!(
                "a full queue may need {} more on its disk, and {} are free",
                bytes(needed),
                bytes(free)
            );
            let remedy = "free space, or lower max_queue; on a full disk Jira gets 503";
            StepResult::warn(cause, remedy).with_detail(detail)
        }
        Some(_) | None => StepResult::ok(detail),
    }
}

/// Blocks on the disk. A file system that does not report its size (a tmpfs without limit) says nothing.
fn free_bytes(folder: &std::path::Path) -> Option<u64> {
    let stat = statvfs(folder).ok()?;
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    (stat.f_blocks > 0).then_some(free)
}

/// As `PermitOpen` wants it.
fn target(settings: &Settings) -> String {
    match &settings.upstream.target {
        UpstreamTarget::Http(target) if target.host.contains(':') => {
            format!("[{}]:{}", target.host, target.port)
        }
        UpstreamTarget::Http(target) => format!("{}:{}", target.host, target.port),
        UpstreamTarget::Tcp { host, port } => format!("{host}:{port}"),
    }
}

fn empty() -> UpstreamBody {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::check::StepVerdict;

    fn judged(report: &QueueReport, free: Option<u64>) -> CheckStep {
        let mut steps = StepRecorder::new(Some("events"));
        steps.add("queue", queue_step(report, free));
        steps.into_vec().remove(0)
    }

    #[test]
    fn a_queue_is_ok_while_nothing_needs_a_person() {
        let waiting = QueueReport {
            state: LayerState::Proven,
            events: 3,
            bytes: 12 << 10,
            max_bytes: 512 << 20,
            oldest_seconds: Some(200.0),
            dead_letters: 2,
            ..QueueReport::default()
        };
        let step = judged(&waiting, Some(18 << 30));
        assert_eq!(step.verdict, StepVerdict::Ok);
        assert_eq!(
            step.detail.as_deref(),
            Some(
                "3 events wait, the oldest for 3 min (12.0 KiB of 512.0 MiB); 2 dead letters; 18.0 GiB free"
            )
        );
        let growing = QueueReport {
            forecast: Some("full in about 3 h".into()),
            ..waiting.clone()
        };
        let step = judged(&growing, None);
        assert_eq!(step.verdict, StepVerdict::Warn);
        assert!(step.cause.unwrap().ends_with("full in about 3 h"));
        let step = judged(&waiting, Some(1 << 30));
        assert_eq!(step.verdict, StepVerdict::Ok, "twice the bytes fit");
        let step = judged(&waiting, Some(1 << 29));
        assert_eq!(step.verdict, StepVerdict::Warn);
        assert!(step.cause.unwrap().ends_with("512.0 MiB are free"));
    }

    #[test]
    fn what_the_status_says_of_a_queue_is_the_verdict() {
        let degraded = QueueReport {
            state: LayerState::Degraded,
            cause: Some("1 dead letter".into()),
            remedy: Some("look at it".into()),
            ..QueueReport::default()
        };
        let step = judged(&degraded, None);
        assert_eq!(
            (step.verdict, step.detail.as_deref()),
            (StepVerdict::Warn, Some("empty"))
        );
        let step = judged(&QueueReport::unusable("not open", "check the log"), None);
        assert_eq!(
            (step.verdict, step.cause.as_deref()),
            (StepVerdict::Fail, Some("not open"))
        );
    }
}

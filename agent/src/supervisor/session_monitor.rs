//! The tasks that the shell starts: one per dial and one per open session.

use super::{machine::SessionId, published_state::PublishedState, run::SupervisorMessage};
use crate::tunnel::{
    GatewayAddress,
    channel::SessionBudget,
    session::{Session, SessionOpenError, SessionOpenStep},
};
use agent_ssh::liveness::LivenessVerdict;
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Runs a dial as a task, so that a panic in it is an error here. Aborts it when it is abandoned.
pub(super) async fn spawn_cancellable<T: Send + 'static>(
    abandon: CancellationToken,
    dial: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    let mut task = tokio::spawn(dial);
    let outcome = tokio::select! {
        outcome = &mut task => outcome,
        () = abandon.cancelled() => {
            task.abort();
            task.await
        }
    };
    outcome.map_err(|error| match error.is_cancelled() {
        true => "given up".to_owned(),
        false => "the task panicked; please report this with the log".to_owned(),
    })
}

pub(super) fn panicked_dial(gateway: &GatewayAddress, problem: String) -> SessionOpenError {
    SessionOpenError::Lost {
        gateway: gateway.to_string(),
        step: SessionOpenStep::Connect,
        problem,
    }
}

/// Probes a session until it ends, aborts it when it is dead, and reports its end.
pub(super) async fn monitor(
    id: SessionId,
    session: Session,
    state: Arc<PublishedState>,
    messages: mpsc::Sender<SupervisorMessage>,
) {
    let transport = Arc::clone(session.budget().transport());
    let Some(liveness) = state.liveness(id) else {
        return;
    };
    let mut ended = pin!(session.ended());
    let mut answer = pin!(Fuse::terminated());
    let mut reported = LivenessVerdict::Alive;
    let mut replacement_asked = false;
    let mut proven = false;
    liveness.on_probe_sent(Instant::now().into_std());
    answer.set(session.probe_without_deadline().fuse());
    loop {
        // Before the counters are read, so that no byte is missed.
        transport.arm_activity();
        let now = Instant::now();
        liveness.on_tick(&session, now.into_std());
        let verdict = liveness.verdict(now.into_std());
        if report_change(&mut reported, verdict) {
            state.changed();
        }
        session.set_suspect(verdict.is_suspect());
        if let LivenessVerdict::Dead(silence) = verdict {
            let seconds = silence.as_secs();
            let reason = format!("the gateway has not answered for {seconds} s");
            session.abort_silent(&reason, liveness.is_busy());
        }
        if !replacement_asked && needs_replacement(session.budget()) {
            replacement_asked = true;
            let _ = messages.send(SupervisorMessage::NeedsReplacement(id)).await;
        }
        if answer.is_terminated() && liveness.probe_if_due(now.into_std()) {
            answer.set(session.probe_without_deadline().fuse());
        }
        let asked = liveness.probe_sent_at().map(Instant::from_std);
        let next = Instant::from_std(liveness.next_event(now.into_std()));
        let next = match asked {
            // Only the kernel knows whether the probe still waits in a queue; usually the answer arrives before.
            Some(asked) => next.clamp(now + FINEST, (now + SAMPLE).max(asked + FIRST_SAMPLE)),
            None => next,
        };
        tokio::select! {
            answered = &mut answer => if let Ok(round_trip) = answered {
                liveness.on_probe_answered(Instant::now().into_std());
                state.probe_answered(id, round_trip);
                if !std::mem::replace(&mut proven, true) {
                    session.on_proven();
                    let _ = messages.send(SupervisorMessage::Proven(id)).await;
                }
            },
            ended = &mut ended => {
                let _ = messages.send(SupervisorMessage::Ended(id, ended)).await;
                return;
            }
            () = liveness.probe_wanted(), if answer.is_terminated() => {
                liveness.on_probe_sent(Instant::now().into_std());
                answer.set(session.probe_without_deadline().fuse());
            }
            () = transport.activity(), if asked.is_none() && !liveness.is_busy() => {}
            () = sleep_until(next) => if asked.is_some() {
                liveness.on_acknowledged(transport.send_sample().await);
            },
        }
    }
}

/// Logs a change of the verdict, once each. Returns whether it has changed.
fn report_change(reported: &mut LivenessVerdict, verdict: LivenessVerdict) -> bool {
    let kind = std::mem::discriminant::<LivenessVerdict>;
    let before = std::mem::replace(reported, verdict);
    if kind(&before) == kind(&verdict) {
        return false;
    }
    match verdict {
        LivenessVerdict::Delayed(silence) => tracing::info!(
            silence_seconds = silence.as_secs(),
            "the link to the gateway is slow: a probe still waits behind other data"
        ),
        LivenessVerdict::Suspect(silence) => tracing::warn!(
            silence_seconds = silence.as_secs(),
            "the gateway does not answer; the session is ended if the next answer is missing too"
        ),
        // The session's end has its own line.
        LivenessVerdict::Dead(_) => {}
        LivenessVerdict::Alive => tracing::info!("the gateway answers again"),
    }
    true
}

/// Whether a session has reached a limit and should be replaced.
fn needs_replacement(budget: &SessionBudget) -> bool {
    let transport = budget.transport();
    is_past_limits(
        budget.closed_first(),
        transport.received(),
        transport.sent(),
    )
}

fn is_past_limits(closed_first: u64, received: u64, sent: u64) -> bool {
    closed_first >= MAX_CLOSED_FIRST || received.max(sent) >= MAX_BYTES
}

/// Reports when a session has no open channel.
pub(super) async fn watch_idle(
    id: SessionId,
    session: Session,
    messages: mpsc::Sender<SupervisorMessage>,
) {
    while session.open_channels() > 0 {
        if timeout(IDLE_POLL, session.ended()).await.is_ok() {
            return;
        }
    }
    let _ = messages.send(SupervisorMessage::Idle(id)).await;
}

/// Interval of samples while a probe is unanswered.
const SAMPLE: Duration = Duration::from_millis(250);
/// Time before the first sample: most answers arrive sooner.
const FIRST_SAMPLE: Duration = Duration::from_millis(400);
/// A deadline that has just passed is not waited for in a busy loop.
const FINEST: Duration = Duration::from_millis(10);
/// About 14 MiB of memory that russh gives back only with the session (docs/dev/ssh.md, D4).
const MAX_CLOSED_FIRST: u64 = 4096;
/// A quarter of the amount after which russh exchanges keys, so that requests in flight can finish (docs/dev/ssh.md, D3).
const MAX_BYTES: u64 = 8 << 30;
/// Only a drain polls.
const IDLE_POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_wears_by_closings_and_by_bytes_either_way() {
        assert!(!is_past_limits(
            MAX_CLOSED_FIRST - 1,
            MAX_BYTES - 1,
            MAX_BYTES - 1
        ));
        assert!(is_past_limits(MAX_CLOSED_FIRST, 0, 0));
        assert!(is_past_limits(0, MAX_BYTES, 0));
        assert!(is_past_limits(0, 0, MAX_BYTES));
    }
}

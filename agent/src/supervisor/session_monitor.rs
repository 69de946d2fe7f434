//! The tasks that the shell starts: one per dial and one per open session.

use super::{
    liveness::LivenessVerdict, machine::SessionId, published_state::PublishedState,
    run::SupervisorMessage,
};
use crate::tunnel::{
    GatewayAddress,
    channel::SessionBudget,
    session::{Session, SessionOpenError, SessionOpenStep},
};
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
    let mut silent = false;
    let mut replacement_asked = false;
    let mut proven = false;
    liveness.on_probe_sent(Instant::now().into_std());
    answer.set(session.probe_without_deadline().fuse());
    loop {
        // Before the counters are read, so that no byte is missed.
        transport.arm_activity();
        let now = Instant::now();
        let in_flight = is_in_flight(session.budget());
        let verdict = liveness.verdict(now.into_std());
        report_silence(&state, &mut silent, verdict);
        session.set_suspect(is_suspect(verdict));
        if let LivenessVerdict::Dead { silence } = verdict {
            let seconds = silence.as_secs();
            let reason = format!("the gateway has not answered for {seconds} s");
            session.abort_silent(&reason, in_flight);
        }
        if !replacement_asked && needs_replacement(session.budget()) {
            replacement_asked = true;
            let _ = messages.send(SupervisorMessage::NeedsReplacement(id)).await;
        }
        if liveness.probe_if_due(now.into_std(), in_flight) && answer.is_terminated() {
            answer.set(session.probe_without_deadline().fuse());
        }
        let asked = liveness.probe_sent_at().map(Instant::from_std);
        let next = match asked {
            // Only the kernel knows whether the probe still waits in a queue; usually the answer arrives before.
            Some(asked) => (now + SAMPLE).max(asked + FIRST_SAMPLE),
            None => Instant::from_std(liveness.next_probe(in_flight)),
        };
        tokio::select! {
            answered = &mut answer => if let Ok(round_trip) = answered {
                state.probe_answered(id, round_trip);
                if !std::mem::replace(&mut proven, true) {
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
            () = transport.activity(), if !in_flight && asked.is_none() => {}
            () = sleep_until(next) => if asked.is_some() {
                liveness.on_acknowledged(transport.acknowledged().await);
            },
        }
    }
}

/// Whether bytes or requests are in flight that a dead gateway would lose.
fn is_in_flight(budget: &SessionBudget) -> bool {
    budget.transport().is_unanswered() || budget.unanswered() > 0
}

/// Whether the gateway should prefer other sessions. A slow link still serves.
fn is_suspect(verdict: LivenessVerdict) -> bool {
    match verdict {
        LivenessVerdict::Alive | LivenessVerdict::Silent { moving: true, .. } => false,
        LivenessVerdict::Silent { .. } | LivenessVerdict::Dead { .. } => true,
    }
}

/// Publishes and logs a silence and its end, once each.
fn report_silence(state: &PublishedState, silent: &mut bool, verdict: LivenessVerdict) {
    let is_silent = verdict != LivenessVerdict::Alive;
    if *silent == is_silent {
        return;
    }
    *silent = is_silent;
    match verdict {
        LivenessVerdict::Silent {
            silence,
            moving: true,
        } => tracing::info!(
            silence_seconds = silence.as_secs(),
            "the link to the gateway is slow: a probe still waits behind other data"
        ),
        LivenessVerdict::Silent { silence, .. } | LivenessVerdict::Dead { silence } => {
            tracing::warn!(
                silence_seconds = silence.as_secs(),
                "the gateway does not answer; a new session is opened if this lasts"
            )
        }
        LivenessVerdict::Alive => tracing::info!("the gateway answers again"),
    }
    state.changed();
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

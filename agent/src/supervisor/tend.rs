//! The tasks that the shell starts: one per dial, one per session for as long as it stands.

use super::{board::Board, liveness::Verdict, run::News, step::Id};
use crate::tunnel::{
    Gateway,
    channel::SessionBudget,
    session::{OpenError, Session, Step},
};
use futures_util::future::{Fuse, FusedFuture, FutureExt};
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Runs a dial as a task of its own, so that a panic in it is an error here; ends it when it is given up.
pub(super) async fn give_up_when<T: Send + 'static>(
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

pub(super) fn lost(gateway: &Gateway, problem: String) -> OpenError {
    OpenError::Lost {
        gateway: gateway.to_string(),
        step: Step::Connect,
        problem,
    }
}

/// Asks a session whether it lives for as long as it stands, ends it when it does not, and tells of its end.
pub(super) async fn tend(id: Id, session: Session, board: Arc<Board>, news: mpsc::Sender<News>) {
    let meter = Arc::clone(session.budget().meter());
    let Some(pulse) = board.pulse(id) else {
        return;
    };
    let mut ended = pin!(session.ended());
    let mut answer = pin!(Fuse::terminated());
    let mut silent = false;
    let mut worn = false;
    pulse.ask(Instant::now().into_std());
    answer.set(session.ask().fuse());
    loop {
        // Before anything is looked at, so that nothing is missed.
        meter.rest();
        let now = Instant::now();
        let in_flight = is_in_flight(session.budget());
        let verdict = pulse.look(now.into_std());
        note(id, &session, &board, &mut silent, verdict);
        if let Verdict::Dead { silence } = verdict {
            let seconds = silence.as_secs();
            let reason = format!("the gateway has not answered for {seconds} s");
            session.abort_silent(&reason, in_flight);
        }
        if !worn && is_worn(session.budget()) {
            worn = true;
            let _ = news.send(News::Worn(id)).await;
        }
        if pulse.ask_if_due(now.into_std(), in_flight) && answer.is_terminated() {
            answer.set(session.ask().fuse());
        }
        let asked = pulse.asked_at().map(Instant::from_std);
        let next = match asked {
            // Where the question still waits in a queue shows only in the kernel; an answer is usually there before.
            Some(asked) => (now + SAMPLE).max(asked + FIRST_SAMPLE),
            None => Instant::from_std(pulse.next_question(in_flight)),
        };
        tokio::select! {
            answered = &mut answer => if let Ok(round_trip) = answered {
                board.proven(id, round_trip);
            },
            ended = &mut ended => {
                let _ = news.send(News::Ended(id, ended)).await;
                return;
            }
            () = meter.stirred(), if !in_flight && asked.is_none() => {}
            () = sleep_until(next) => if asked.is_some() {
                pulse.see_acknowledged(meter.acknowledged().await);
            },
        }
    }
}

/// Something is under way that a dead gateway would swallow.
fn is_in_flight(budget: &SessionBudget) -> bool {
    budget.meter().is_unanswered() || budget.awaiting() > 0
}

/// Shows and logs a silence, and its end, once each.
fn note(id: Id, session: &Session, board: &Board, silent: &mut bool, verdict: Verdict) {
    let is_silent = verdict != Verdict::Alive;
    if *silent == is_silent {
        return;
    }
    *silent = is_silent;
    let (connection, gateway) = (id.slot, session.gateway());
    match verdict {
        Verdict::Silent {
            silence,
            moving: true,
        } => tracing::info!(
            connection,
            %gateway,
            silence_seconds = silence.as_secs(),
            "the link to the gateway is slow: a probe still waits behind other data"
        ),
        Verdict::Silent { silence, .. } | Verdict::Dead { silence } => tracing::warn!(
            connection,
            %gateway,
            silence_seconds = silence.as_secs(),
            "the gateway does not answer; the session is ended and opened again if this lasts"
        ),
        Verdict::Alive => tracing::info!(connection, %gateway, "the gateway answers again"),
    }
    board.changed();
}

/// Whether a session should be replaced before it does harm.
fn is_worn(budget: &SessionBudget) -> bool {
    let meter = budget.meter();
    worn(budget.closed_first(), meter.received(), meter.sent())
}

fn worn(closed_first: u64, received: u64, sent: u64) -> bool {
    closed_first >= MAX_CLOSED_FIRST || received.max(sent) >= MAX_BYTES
}

/// Tells when no channel is open any more.
pub(super) async fn watch_idle(id: Id, session: Session, news: mpsc::Sender<News>) {
    while session.live_channels() > 0 {
        if timeout(IDLE_POLL, session.ended()).await.is_ok() {
            return;
        }
    }
    let _ = news.send(News::Idle(id)).await;
}

/// While a question is unanswered.
const SAMPLE: Duration = Duration::from_millis(250);
/// Most answers are there before.
const FIRST_SAMPLE: Duration = Duration::from_millis(400);
/// About 14 MiB of memory that russh gives back only with the session (docs/ssh.md, D4).
const MAX_CLOSED_FIRST: u64 = 4096;
/// A quarter of what makes russh exchange keys by itself, so that what is under way then has room to
/// finish (docs/ssh.md, D3).
const MAX_BYTES: u64 = 8 << 30;
/// Only a drain polls.
const IDLE_POLL: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_wears_by_closings_and_by_bytes_either_way() {
        assert!(!worn(MAX_CLOSED_FIRST - 1, MAX_BYTES - 1, MAX_BYTES - 1));
        assert!(worn(MAX_CLOSED_FIRST, 0, 0));
        assert!(worn(0, MAX_BYTES, 0));
        assert!(worn(0, 0, MAX_BYTES));
    }
}

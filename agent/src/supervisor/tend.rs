//! The tasks that the shell starts: one per dial, one per session for as long as it stands.

use super::{board::Board, run::News, step::Id};
use crate::tunnel::{
    Gateway,
    channel::SessionBudget,
    session::{OpenError, ProbeError, Session, Step},
};
use std::{sync::Arc, time::Duration};
use tokio::{sync::mpsc, time::timeout};
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

/// Probes a session for as long as it stands, and tells of its end.
pub(super) async fn tend(id: Id, session: Session, board: Arc<Board>, news: mpsc::Sender<News>) {
    let settings = Arc::clone(session.settings());
    let mut unanswered = 0;
    let mut worn = false;
    loop {
        match session.probe(settings.stall_timeout).await {
            Ok(rtt) => {
                unanswered = 0;
                board.proven(id, rtt);
            }
            Err(error @ ProbeError::NoAnswer(_)) => {
                unanswered += 1;
                board.unanswered(id, &error.to_string());
                if unanswered >= PROBES {
                    session.abort("probes are not answered");
                }
            }
            Err(ProbeError::Lost(_)) => {}
        }
        if !worn && is_worn(session.budget()) {
            worn = true;
            let _ = news.send(News::Worn(id)).await;
        }
        if let Ok(ended) = timeout(settings.probe_interval, session.ended()).await {
            let _ = news.send(News::Ended(id, ended)).await;
            return;
        }
    }
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

/// Probes in a row that may stay unanswered, each for the whole stall timeout.
const PROBES: u32 = 2;
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

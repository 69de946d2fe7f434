//! Opens a channel on the first session that answers, so that a dead session causes one short delay
//! and not a timeout per request.

use super::{CountedChannel, OpenCandidate, Originator};
use std::time::Duration;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// Asks the candidates in order, the next one as soon as one refuses or exceeds its patience. The first
/// channel wins. `deadline` limits the whole.
pub(crate) async fn open(
    candidates: Vec<OpenCandidate>,
    originator: &Originator,
    deadline: Duration,
) -> Result<CountedChannel, ChannelOpenError> {
    let deadline = Instant::now() + deadline;
    let (answer, mut answers) = mpsc::channel(candidates.len().max(1));
    let mut waiting = candidates.into_iter();
    let mut tried = Vec::new();
    let mut refusal = ChannelOpenError::NoSession;
    let mut refused = 0;
    'next: while let Some(candidate) = waiting.next() {
        let patience = Instant::now() + candidate.serving.session.open_patience();
        tried.push(candidate.clone());
        request_channel(candidate, originator.clone(), answer.clone());
        loop {
            let until = if waiting.len() > 0 {
                patience.min(deadline)
            } else if refused == tried.len() {
                break 'next;
            } else {
                deadline
            };
            tokio::select! {
                Some(answered) = answers.recv() => match answered {
                    Ok(channel) => return Ok(channel),
                    Err(error) => {
                        refusal = error;
                        refused += 1;
                        if waiting.len() > 0 {
                            continue 'next;
                        }
                    }
                },
                () = sleep_until(until) => {
                    if let Some(overdue) = tried.last() {
                        overdue.serving.session.mark_overdue();
                    }
                    if until == deadline {
                        refusal = ChannelOpenError::TimedOut;
                        break 'next;
                    }
                    continue 'next;
                }
            }
        }
    }
    Err(refusal)
}

/// Runs in a task, because cancelling an open would orphan the channel or end the session. A channel
/// that comes too late is closed by dropping it.
fn request_channel(
    candidate: OpenCandidate,
    originator: Originator,
    answer: mpsc::Sender<Result<CountedChannel, ChannelOpenError>>,
) {
    tokio::spawn(async move {
        let opened = candidate
            .serving
            .session
            .open(&candidate.serving.bind, &originator)
            .await;
        let opened = opened.map(|stream| CountedChannel::new(stream, candidate));
        let _ = answer.send(opened).await;
    });
}

/// Why no channel could be opened. Nothing was sent in any of these cases.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum ChannelOpenError {
    /// No session serves the forward.
    #[error("no session of the agent serves this forward")]
    NoSession,
    /// The session ended during the open.
    #[error("the agent's session ended")]
    SessionLost,
    /// The session has too many channels, here or at the agent.
    #[error("the agent has reached its limit of channels")]
    Busy,
    /// The agent refused the channel.
    #[error("the agent refused the channel")]
    Refused,
    /// No session answered in time.
    #[error("the agent did not answer in time")]
    TimedOut,
}

impl ChannelOpenError {
    /// Whether a session that the agent opens next may serve what this one did not: it has ended, or releases its forwards.
    pub(crate) fn may_pass(self) -> bool {
        match self {
            Self::NoSession | Self::SessionLost | Self::Refused => true,
            Self::Busy | Self::TimedOut => false,
        }
    }
}

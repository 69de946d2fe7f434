//! The question that only a living session answers.
//!
//! russh matches the answers to global requests by their order alone, and takes no notice of UNIMPLEMENTED (docs/ssh.md,
//! D10). So no question goes out while a forward is asked for, and a gateway that leaves this one unanswered is asked in
//! another way from then on: by opening a channel, whose answer has a number.

use super::{Ended, session::Inner};
use crate::tunnel::channel::ChannelStream;
use russh::Error;
use std::{
    pin::pin,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{sync::watch, time::timeout};

/// What goes before a question, and how this gateway answers one.
pub(super) struct Questions {
    /// Requests for forwards that are not answered yet.
    ahead: Arc<watch::Sender<usize>>,
    habit: OnceLock<Habit>,
}

impl Default for Questions {
    fn default() -> Self {
        Self {
            ahead: Arc::new(watch::Sender::new(0)),
            habit: OnceLock::new(),
        }
    }
}

/// What a gateway answers to, known from the first question on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// A global request that wants a reply, as RFC 4254 §4 asks for.
    GlobalRequest,
    /// The opening of a channel only.
    ChannelOpen,
}

/// A request for a forward, until it is answered.
pub(super) struct Ahead(Arc<watch::Sender<usize>>);

impl Drop for Ahead {
    fn drop(&mut self) {
        self.0.send_modify(|ahead| *ahead = ahead.saturating_sub(1));
    }
}

impl Questions {
    /// No question goes out before this is dropped.
    pub(super) fn ahead(&self) -> Ahead {
        self.ahead
            .send_modify(|ahead| *ahead = ahead.saturating_add(1));
        Ahead(Arc::clone(&self.ahead))
    }

    pub(super) fn is_one_left_unanswered(&self) -> bool {
        self.habit.get() == Some(&Habit::ChannelOpen)
    }

    async fn nothing_ahead(&self) {
        let mut ahead = self.ahead.subscribe();
        // The sender lives in `self`.
        let _ = ahead.wait_for(|ahead| *ahead == 0).await;
    }
}

/// Asks, and gives the time until the answer, whatever it says.
pub(super) async fn ask(inner: &Arc<Inner>) -> Result<Duration, Ended> {
    let answer = async {
        inner.questions.nothing_ahead().await;
        let _turn = inner.one_at_a_time.lock().await;
        let start = Instant::now();
        let answered = match inner.questions.habit.get() {
            Some(Habit::GlobalRequest) => global_request(inner).await,
            Some(Habit::ChannelOpen) => channel_open(Arc::clone(inner)).await,
            None => either(inner).await,
        };
        answered.then(|| start.elapsed())
    };
    let answer = tokio::select! {
        answer = answer => answer,
        ended = inner.shared.ended() => return Err(ended),
    };
    match answer {
        Some(round_trip) => Ok(round_trip),
        None => Err(inner.shared.end_of_dead().await),
    }
}

/// The first question of a session.
async fn either(inner: &Arc<Inner>) -> bool {
    let mut usual = pin!(global_request(inner));
    let answered = match timeout(SECOND_QUESTION, usual.as_mut()).await {
        Ok(answered) => answered,
        Err(_) => {
            // A task of its own: dropped midway it would end the session.
            let mut other = tokio::spawn(channel_open(Arc::clone(inner)));
            tokio::select! {
                answered = usual => answered,
                answered = &mut other => {
                    let answered = answered.unwrap_or(false);
                    if answered {
                        let _ = inner.questions.habit.set(Habit::ChannelOpen);
                        tracing::info!(
                            connection = inner.shared.connection,
                            gateway = %inner.shared.gateway,
                            "the gateway does not reply to keepalive@openssh.com (RFC 4254, section 4); it is probed by \
                             opening a session channel instead"
                        );
                    }
                    return answered;
                }
            }
        }
    };
    if answered {
        let _ = inner.questions.habit.set(Habit::GlobalRequest);
    }
    answered
}

async fn global_request(inner: &Inner) -> bool {
    let question = inner.handle.send_global_request(PROBE, &[], true).await;
    // "Request failed" is OpenSSH's usual answer, and as good as any.
    matches!(question, Ok(_) | Err(Error::RequestDenied))
}

/// Asked for a session, which is closed at once where the gateway grants it.
async fn channel_open(inner: Arc<Inner>) -> bool {
    match inner.handle.channel_open_session().await {
        Ok(channel) => {
            drop(ChannelStream::new(
                Arc::clone(&inner.shared.budget),
                channel,
            ));
            true
        }
        Err(error) => matches!(error, Error::ChannelOpenFailure(_)),
    }
}

/// The request that nearly every server answers, OpenSSH's own keep-alive (PROTOCOL, "keepalive@openssh.com").
const PROBE: &str = "keepalive@openssh.com";
/// Half of what a probe may take by default.
const SECOND_QUESTION: Duration = Duration::from_secs(2);

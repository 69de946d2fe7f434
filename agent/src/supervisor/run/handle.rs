//! The supervisor as the rest of the agent uses it.

use super::message::SupervisorMessage;
use crate::{
    status::ConnectionView,
    supervisor::{
        LivingSession,
        held_place::HeldPlace,
        machine::SlotShare,
        published_state::{LastFailure, PublishedState},
    },
    tunnel::{Settings, channel::SpoolResets, session::Session},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// The supervisor as the rest of the agent uses it. Clones share it.
#[derive(Clone)]
pub struct SupervisorHandle {
    pub(super) state: Arc<PublishedState>,
    pub(super) messages: mpsc::Sender<SupervisorMessage>,
}

impl SupervisorHandle {
    /// All connections as they are now.
    pub fn connections(&self) -> Vec<ConnectionView> {
        self.state.views()
    }

    /// Channels of all sessions whose spool had no room, or failed.
    pub fn spool_resets(&self) -> SpoolResets {
        self.state.spool_resets()
    }

    /// The settings that new sessions are opened with.
    pub fn settings(&self) -> Arc<Settings> {
        self.state.settings()
    }

    /// One per configured gateway: its last failure, if the last attempt there has failed.
    pub fn failures(&self) -> Vec<Option<LastFailure>> {
        self.state.failures()
    }

    /// The sessions that hold this forward, each with the number of its connection.
    pub fn holders(&self, forward: &str) -> Vec<(usize, Session)> {
        self.state.holders(forward)
    }

    /// The places that sessions hold, each with its session.
    pub fn held_places(&self) -> Vec<HeldPlace> {
        self.state.held_places()
    }

    /// The sessions that are open and answer.
    pub fn living_sessions(&self) -> Vec<LivingSession> {
        self.state.living_sessions()
    }

    /// The proof of a place has changed: status shows it, and what is lost is asked for again.
    pub async fn place_judged(&self, held: &HeldPlace) {
        self.state.changed();
        if let Some(loss) = held.loss() {
            let message = SupervisorMessage::PlaceLost(held.id, held.forward, loss);
            // A closed queue means that everything has stopped already.
            let _ = self.messages.send(message).await;
        }
    }

    /// Forwarded channels open now, on all sessions.
    pub fn open_channels(&self) -> usize {
        self.state.open_channels()
    }

    /// A counter that increases with each relevant change of [`connections`](Self::connections).
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.state.changes()
    }

    /// Whether the supervisor's loop answers, or has ended on request. It waits while the loop does neither: the caller sets
    /// a deadline.
    pub async fn ping(&self) -> bool {
        let (ping, answer) = oneshot::channel();
        let asked = self.messages.send(SupervisorMessage::Ping(ping)).await;
        asked.is_ok() && answer.await.is_ok() || self.state.is_stopped()
    }

    /// Applies new settings: requests and cancels forwards on open sessions, opens and replaces sessions.
    /// `replace_sessions`: all open sessions must be replaced, because they would be opened differently now. Returns when the
    /// change has begun.
    pub async fn reload(&self, settings: Arc<Settings>, replace_sessions: bool) {
        let (answer, answered) = oneshot::channel();
        let messages = self.messages.clone();
        // A closed queue means that everything has stopped already.
        tokio::spawn(async move {
            messages
                .send(SupervisorMessage::Reload(
                    settings,
                    replace_sessions,
                    answer,
                ))
                .await
        });
        if timeout(RELOAD_TIMEOUT, answered).await.is_err() {
            tracing::error!(
                "the supervisor of the connections does not answer; the new configuration takes effect when it does"
            );
        }
    }

    /// From now on asks for no slot number but those that are held, which it returns: another process of this agent uses
    /// the others.
    pub async fn keep_held_slots(&self) -> BTreeSet<u16> {
        self.share_slots(SlotShare::Held).await
    }

    /// From now on asks for no slot number of these: another process of this agent holds them.
    pub async fn avoid_slots(&self, slots: BTreeSet<u16>) {
        self.share_slots(SlotShare::Except(slots)).await;
    }

    /// From now on asks for all slot numbers of the configuration.
    pub async fn use_all_slots(&self) {
        self.share_slots(SlotShare::All).await;
    }

    async fn share_slots(&self, share: SlotShare) -> BTreeSet<u16> {
        let (answer, answered) = oneshot::channel();
        let message = SupervisorMessage::ShareSlots(share, answer);
        // A closed queue means that everything has stopped already.
        let _ = self.messages.send(message).await;
        let held = timeout(RELOAD_TIMEOUT, answered).await;
        held.unwrap_or_else(|_| Ok(BTreeSet::new()))
            .unwrap_or_default()
    }

    /// From now on asks for all slot numbers of the configuration, and requests each refused forward again at once: another
    /// process has just released all its forwards.
    pub async fn use_released(&self) {
        // A closed queue means that everything has stopped already.
        let _ = self.messages.send(SupervisorMessage::UseReleased).await;
    }

    /// Replaces each session, so that the new one asks for its socket paths again; nothing where no forward binds a path
    /// without `{slot}`. With `StreamLocalBindUnlink yes`, another process that has requested the same path, and has ended,
    /// has left it without a listener; the session that held it before gets no notice.
    pub async fn retake_sockets(&self) {
        // A closed queue means that everything has stopped already.
        let _ = self.messages.send(SupervisorMessage::RetakeSockets).await;
    }

    /// Waits until all gateways have confirmed that they do not listen for the forwards that `which` selects: after a reload
    /// has removed them.
    pub async fn cancelled(&self, which: impl Fn(&str) -> bool) {
        let mut changes = self.changes();
        while self.state.expects_channels(&which) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Waits until a drain has begun and all gateways have confirmed that they do not listen for any forward. A process that
    /// holds no forward before its drain, because its session has just ended, asks for them again.
    pub async fn released(&self) {
        let mut changes = self.changes();
        while !self.state.has_released() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends a drain that waits for channels: all sessions are disconnected. What was sent still has the time of the drain to
    /// arrive.
    pub async fn disconnect(&self) {
        // A closed queue means that everything has stopped already.
        let _ = self.messages.send(SupervisorMessage::Disconnect).await;
    }

    /// Cancels the forwards, lets open channels finish for at most `limit`, then disconnects. Returns
    /// when all is closed, a few seconds after `limit` at the latest.
    pub async fn drain(&self, limit: Duration) {
        // A closed queue means that everything has stopped already.
        let _ = self.messages.send(SupervisorMessage::Drain(limit)).await;
        let _ = timeout(limit.saturating_add(DISCONNECT_TIME), self.state.stopped()).await;
    }
}

/// A loop that takes longer hangs; the watchdog handles that.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the disconnects after a drain: longer than [`LEAST_GOODBYE`](super::LEAST_GOODBYE).
const DISCONNECT_TIME: Duration = Duration::from_secs(15);

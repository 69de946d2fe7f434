//! What the supervisor's loop receives, and what status and log show of it.

use super::{Supervisor, log_skipped_lines};
use crate::{
    status::ForwardState,
    supervisor::{
        host_changes::HostChange,
        machine::{PlaceLoss, SessionId, SlotShare, SupervisorEvent},
    },
    tunnel::{
        Settings, connection_span,
        session::{
            BoundForward, ForwardError, RetryPace, Session, SessionEnd, SessionOpenError, retry,
        },
    },
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{sync::oneshot, time::Instant};
use tracing::Span;

/// The result of an action, or a request of the rest of the agent.
pub(in crate::supervisor) enum SupervisorMessage {
    Opened(SessionId, Session),
    /// A dial has passed a hop after name resolution.
    Progressed(SessionId),
    /// The session has answered its first probe.
    Proven(SessionId),
    /// With the number of the gateway.
    OpenFailed(SessionId, usize, SessionOpenError),
    /// A dial was abandoned on request.
    Abandoned(SessionId),
    Granted(SessionId, usize, BoundForward),
    Refused(SessionId, usize, ForwardError),
    Cancelled(SessionId, usize),
    PlaceLost(SessionId, usize, PlaceLoss),
    Ended(SessionId, SessionEnd),
    NeedsReplacement(SessionId),
    Idle(SessionId),
    /// New settings, whether open sessions must be replaced, and who waits until they are in effect.
    Reload(Arc<Settings>, bool, oneshot::Sender<()>),
    Drain(Duration),
    /// Disconnect all sessions now; a drain that has begun is over.
    Disconnect,
    /// Another process has released its forwards.
    UseReleased,
    /// Another process may have taken socket paths over.
    RetakeSockets,
    /// Another process begins or ends to ask for slot numbers; who asks gets those that are held here.
    ShareSlots(SlotShare, oneshot::Sender<BTreeSet<u16>>),
    /// Dials may succeed now, and sessions may be dead.
    HostChanged(HostChange),
    /// A request for a sign of life of this loop.
    Ping(oneshot::Sender<()>),
}

impl Supervisor {
    /// Publishes and logs a message, and converts it to an event of the machine.
    pub(super) fn on_message(&mut self, message: SupervisorMessage) -> SupervisorEvent {
        let span = self.span(&message);
        let _entered = span.enter();
        match message {
            SupervisorMessage::Opened(id, session) => {
                self.dials.remove(&id);
                self.state.opened(id, &session);
                if let Some(negotiated) = session.negotiated() {
                    tracing::info!(
                        host_key = negotiated.host_key,
                        key_exchange = negotiated.key_exchange,
                        cipher = negotiated.cipher,
                        "logged in to the gateway"
                    );
                }
                self.unmonitored.push((id, session));
                SupervisorEvent::Opened(id)
            }
            SupervisorMessage::OpenFailed(id, gateway, error) => {
                self.dials.remove(&id);
                let retry = match self.ids.gateway(gateway) {
                    Some(gateway) => retry(&self.ids.settings, gateway, &error),
                    None => error.retry(),
                };
                let changed = self.state.open_failed(id, gateway, &error);
                if changed {
                    tracing::warn!(
                        hop = error.hop().name(),
                        %error,
                        remedy = error.remedy(),
                        "cannot connect; retrying"
                    );
                } else {
                    tracing::debug!(%error, "still cannot connect");
                }
                SupervisorEvent::OpenFailed(id, retry)
            }
            SupervisorMessage::Abandoned(id) => {
                self.dials.remove(&id);
                tracing::debug!("the attempt to connect was cancelled");
                SupervisorEvent::OpenFailed(id, RetryPace::Soon)
            }
            SupervisorMessage::Granted(id, forward, bound) => {
                self.state.granted(id, forward, bound.to_string());
                tracing::info!(
                    forward = self.name(forward),
                    bind = %bound,
                    "the gateway granted the forward"
                );
                SupervisorEvent::Granted(id, forward)
            }
            SupervisorMessage::Refused(id, forward, error) => {
                self.state.refused(id, forward, &error);
                SupervisorEvent::Refused(id, forward)
            }
            SupervisorMessage::Cancelled(id, forward) => SupervisorEvent::Cancelled(id, forward),
            SupervisorMessage::PlaceLost(id, forward, loss) => {
                SupervisorEvent::PlaceLost(id, forward, loss)
            }
            SupervisorMessage::Ended(id, ended) => {
                self.state.ended(id, &ended);
                let hint = ended.retry_hint();
                match ended {
                    SessionEnd::ByUs => tracing::info!("disconnected"),
                    ended @ (SessionEnd::ByGateway(_)
                    | SessionEnd::Closed
                    | SessionEnd::KeepAlive
                    | SessionEnd::Broken(_)
                    | SessionEnd::Protocol(_)
                    | SessionEnd::TextNotUtf8
                    | SessionEnd::Panicked) => tracing::warn!(
                        cause = %ended,
                        remedy = ended.remedy(),
                        "session lost; connecting again"
                    ),
                }
                SupervisorEvent::Ended(id, hint)
            }
            SupervisorMessage::Progressed(id) => SupervisorEvent::Progressed(id),
            SupervisorMessage::Proven(id) => SupervisorEvent::Proven(id),
            SupervisorMessage::NeedsReplacement(id) => {
                tracing::info!("replacing the session, which is near its limits");
                SupervisorEvent::NeedsReplacement(id)
            }
            SupervisorMessage::Idle(id) => SupervisorEvent::Idle(id),
            SupervisorMessage::HostChanged(change) => self.on_host_change(change),
            SupervisorMessage::Ping(answer) => {
                // Whoever asked may have given up.
                let _ = answer.send(());
                SupervisorEvent::Tick
            }
            SupervisorMessage::Reload(settings, replace_sessions, answer) => {
                log_skipped_lines(&settings);
                let egress = &settings.egress;
                egress.adopt_addresses(&self.ids.settings.egress);
                if replace_sessions {
                    egress.addresses().clear_failures();
                }
                self.ids.change(settings);
                self.unanswered.push(answer);
                SupervisorEvent::Reload(self.ids.desired_state(replace_sessions))
            }
            SupervisorMessage::UseReleased => SupervisorEvent::UseReleased,
            SupervisorMessage::RetakeSockets => match self.ids.shares_socket() {
                true => SupervisorEvent::Reload(self.ids.desired_state(true)),
                false => SupervisorEvent::Tick,
            },
            SupervisorMessage::ShareSlots(share, answer) => {
                // Whoever asked may have given up.
                let _ = answer.send(self.machine.held_slots());
                SupervisorEvent::ShareSlots(share)
            }
            SupervisorMessage::Drain(limit) => {
                tracing::info!(limit_seconds = limit.as_secs(), "draining");
                self.drain_end.get_or_insert(Instant::now() + limit);
                SupervisorEvent::Drain(limit)
            }
            SupervisorMessage::Disconnect => {
                self.drain_end.get_or_insert_with(Instant::now);
                SupervisorEvent::Drain(Duration::ZERO)
            }
        }
    }

    /// Publishes the state, and logs changes of the forwards.
    pub(super) fn publish(&self) {
        let after = self.machine.summaries();
        let active_forwards = self
            .ids
            .named(|forward| self.machine.expects_channels(forward));
        let before = self.state.publish(
            &self.ids,
            after.clone(),
            active_forwards,
            self.machine.has_released(),
        );
        for (connection, (before, after)) in before.iter().zip(&after).enumerate() {
            let gateway = self.ids.gateway(after.gateway);
            let gateway = gateway.map(ToString::to_string).unwrap_or_default();
            let span = connection_span(connection, &gateway);
            let _entered = span.enter();
            let named = self.ids.forwards().zip(&after.forwards);
            for (place, ((number, forward), now)) in named.enumerate() {
                if before.forwards.get(place) == Some(now) {
                    continue;
                }
                let forward = &*forward.name;
                match now {
                    ForwardState::Refused => {
                        let (cause, remedy) = self.state.refusal(connection, number);
                        tracing::warn!(
                            forward,
                            cause,
                            remedy,
                            "the gateway refuses the forward; retrying"
                        );
                    }
                    ForwardState::Standby => {
                        tracing::info!(forward, "another connection holds the forward; standing by")
                    }
                    ForwardState::Pending | ForwardState::Bound => {}
                }
            }
        }
    }

    fn name(&self, forward: usize) -> &str {
        self.ids.forward(forward).map_or("", |f| &f.name)
    }

    /// The span of the connection that a message is about; none of the others.
    fn span(&self, message: &SupervisorMessage) -> Span {
        let (id, gateway) = match message {
            SupervisorMessage::Opened(_, session) => return session.span().clone(),
            SupervisorMessage::OpenFailed(id, gateway, _) => (id, self.ids.gateway(*gateway)),
            SupervisorMessage::Abandoned(id)
            | SupervisorMessage::Progressed(id)
            | SupervisorMessage::Proven(id)
            | SupervisorMessage::Granted(id, ..)
            | SupervisorMessage::Refused(id, ..)
            | SupervisorMessage::Cancelled(id, _)
            | SupervisorMessage::PlaceLost(id, ..)
            | SupervisorMessage::Ended(id, _)
            | SupervisorMessage::NeedsReplacement(id)
            | SupervisorMessage::Idle(id) => (id, None),
            SupervisorMessage::Reload(..)
            | SupervisorMessage::Drain(_)
            | SupervisorMessage::Disconnect
            | SupervisorMessage::UseReleased
            | SupervisorMessage::RetakeSockets
            | SupervisorMessage::ShareSlots(..)
            | SupervisorMessage::HostChanged(_)
            | SupervisorMessage::Ping(_) => return Span::none(),
        };
        if let Some(session) = self.state.session(*id) {
            return session.span().clone();
        }
        let gateway = gateway.map(ToString::to_string);
        let gateway = gateway.or_else(|| self.state.dialed_gateway(id.slot));
        connection_span(id.slot, &gateway.unwrap_or_default())
    }
}

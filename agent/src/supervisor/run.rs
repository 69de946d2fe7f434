//! The shell around the state machine: it executes the actions and returns their results as events. Each action is a task,
//! so that the loop never waits.

use super::{
    held_place::HeldPlace,
    host_changes::{HostChange, HostChanges},
    ids::IdRegistry,
    machine::{PlaceLoss, SessionId, SlotShare, StateMachine, SupervisorAction, SupervisorEvent},
    published_state::{LastFailure, PublishedState},
    session_monitor::{monitor, panicked_dial, spawn_cancellable, watch_idle},
};
use crate::{
    status::{ConnectionView, ForwardState},
    tunnel::{
        ChannelAcceptor, Hop, HopEvent, HopObserver, Settings,
        channel::SpoolResets,
        connection_span,
        session::{
            BoundForward, ForwardError, RetryPace, Session, SessionEnd, SessionOpenError, retry,
        },
    },
};
use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

/// Keeps the SSH connections and the remote forwards on them.
pub struct Supervisor {
    machine: StateMachine,
    /// The gateways and forwards behind the machine's numbers.
    ids: IdRegistry,
    state: Arc<PublishedState>,
    accept: Arc<dyn ChannelAcceptor>,
    start: Instant,
    messages: mpsc::Sender<SupervisorMessage>,
    dials: HashMap<SessionId, CancellationToken>,
    /// New sessions, to be monitored once the state knows which connection they serve.
    unmonitored: Vec<(SessionId, Session)>,
    /// Callers of a reload that is in effect after this step.
    unanswered: Vec<oneshot::Sender<()>>,
    /// When the drain ends, since one has begun.
    drain_end: Option<Instant>,
}

/// The supervisor as the rest of the agent uses it. Clones share it.
#[derive(Clone)]
pub struct SupervisorHandle {
    state: Arc<PublishedState>,
    messages: mpsc::Sender<SupervisorMessage>,
}

/// The result of an action, or a request of the rest of the agent.
pub(super) enum SupervisorMessage {
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
    /// Starts to connect, and retries forever. `accept` gets the channels. Cancelling `cancel` ends all sessions at once;
    /// [`SupervisorHandle::drain`] lets them finish. Needs a tokio runtime.
    pub fn spawn(
        settings: Arc<Settings>,
        accept: Arc<dyn ChannelAcceptor>,
        cancel: CancellationToken,
    ) -> SupervisorHandle {
        log_skipped_lines(&settings);
        let ids = IdRegistry::new(settings);
        let machine = StateMachine::new(ids.desired_state(false));
        let start = Instant::now();
        let state = PublishedState::new(ids.clone(), start.into_std(), machine.summaries());
        let state = Arc::new(state);
        let (messages, inbox) = mpsc::channel(MAX_MESSAGES);
        let handle = SupervisorHandle {
            state: Arc::clone(&state),
            messages: messages.clone(),
        };
        let supervisor = Self {
            machine,
            ids,
            state,
            accept,
            start,
            messages,
            dials: HashMap::new(),
            unmonitored: Vec::new(),
            unanswered: Vec::new(),
            drain_end: None,
        };
        tokio::spawn(supervisor.run(inbox, cancel));
        handle
    }

    async fn run(
        mut self,
        mut inbox: mpsc::Receiver<SupervisorMessage>,
        cancel: CancellationToken,
    ) {
        let mut cancelled = false;
        tokio::spawn(report_host_changes(self.messages.clone()));
        let mut event = SupervisorEvent::Tick;
        loop {
            let jitter = rand::random();
            let actions = self.machine.step(self.start.elapsed(), event, jitter);
            let mut stopped = false;
            for action in actions {
                stopped |= self.execute(action);
            }
            self.ids.forget(|forward| self.machine.involves(forward));
            self.publish();
            for (id, session) in self.unmonitored.drain(..) {
                let (state, messages) = (Arc::clone(&self.state), self.messages.clone());
                let span = session.span().clone();
                tokio::spawn(monitor(id, session, state, messages).instrument(span));
            }
            for answer in self.unanswered.drain(..) {
                // Whoever asked may have given up.
                let _ = answer.send(());
            }
            if stopped {
                self.state.stop();
                return;
            }
            // Without a deadline, a running task will send a message.
            let deadline = self.machine.next_deadline().unwrap_or(FAR);
            event = tokio::select! {
                Some(message) = inbox.recv() => self.on_message(message),
                () = cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    self.drain_end.get_or_insert_with(Instant::now);
                    SupervisorEvent::Drain(Duration::ZERO)
                }
                () = sleep_until(self.start + deadline) => SupervisorEvent::Tick,
            };
        }
    }

    /// Executes one action. Returns whether it was the last.
    fn execute(&mut self, action: SupervisorAction) -> bool {
        match action {
            SupervisorAction::Dial(id, gateway) => self.dial(id, gateway),
            SupervisorAction::Abandon(id) => {
                if let Some(dial) = self.dials.get(&id) {
                    dial.cancel();
                }
            }
            SupervisorAction::MarkReplaced(id) => {
                if let Some(session) = self.state.session(id) {
                    session.mark_replaced();
                }
            }
            SupervisorAction::Request(id, forward, place) => self.request(id, forward, place),
            SupervisorAction::Cancel(id, forward) => self.cancel(id, forward),
            SupervisorAction::WatchIdle(id) => {
                let messages = self.messages.clone();
                self.with_session(id, |session| watch_idle(id, session, messages));
            }
            SupervisorAction::Disconnect(id) => {
                let limit = self.goodbye_limit();
                self.with_session(id, |session| async move {
                    session.disconnect_within(limit).await;
                });
            }
            SupervisorAction::Stopped => {
                tracing::info!("all connections are closed");
                return true;
            }
        }
        false
    }

    /// How long the last bytes of a session may take to arrive: as long as the drain lasts, and a while after it.
    fn goodbye_limit(&self) -> Duration {
        let left = |end: Instant| end.saturating_duration_since(Instant::now());
        self.drain_end
            .map_or(REPLACED_GOODBYE, |end| left(end).max(LEAST_GOODBYE))
    }

    fn dial(&mut self, id: SessionId, gateway: usize) {
        let settings = Arc::clone(&self.ids.settings);
        let number = gateway;
        let Some(gateway) = self.ids.gateway(number).cloned() else {
            return;
        };
        let abandon = CancellationToken::new();
        self.dials.insert(id, abandon.clone());
        let state = Arc::clone(&self.state);
        let passed = self.messages.clone();
        let observer: HopObserver = Arc::new(move |event| {
            if matches!(event, HopEvent::HostKey(_)) {
                state.reached(id.slot);
            }
            if event.hop() > Hop::Dns {
                // Without it, another gateway is dialed sooner.
                let _ = passed.try_send(SupervisorMessage::Progressed(id));
            }
        });
        let accept = Arc::clone(&self.accept);
        let open = Session::open(settings, gateway.clone(), id.slot, accept, observer);
        let messages = self.messages.clone();
        tokio::spawn(async move {
            let message = match spawn_cancellable(abandon.clone(), open).await {
                Ok(Ok(session)) => SupervisorMessage::Opened(id, session),
                _ if abandon.is_cancelled() => SupervisorMessage::Abandoned(id),
                Ok(Err(error)) => SupervisorMessage::OpenFailed(id, number, error),
                Err(problem) => {
                    SupervisorMessage::OpenFailed(id, number, panicked_dial(&gateway, problem))
                }
            };
            let _ = messages.send(message).await;
        });
    }

    fn request(&self, id: SessionId, forward: usize, place: Option<u16>) {
        let messages = self.messages.clone();
        let Some(wanted) = self.ids.forward(forward) else {
            return;
        };
        let wanted = wanted.at(place.unwrap_or_default());
        self.with_session(id, |session| {
            // Called here and not in the task, so that it precedes the first probe.
            let asked = session.forward(&wanted);
            async move {
                let message = match asked.await {
                    Ok(bound) => SupervisorMessage::Granted(id, forward, bound),
                    Err(error @ ForwardError::Refused(_)) => {
                        SupervisorMessage::Refused(id, forward, error)
                    }
                    // The session's monitor reports its end.
                    Err(ForwardError::Lost(_)) => return,
                };
                let _ = messages.send(message).await;
            }
        });
    }

    fn cancel(&self, id: SessionId, forward: usize) {
        let messages = self.messages.clone();
        let Some(forward_settings) = self.ids.forward(forward).cloned() else {
            return;
        };
        self.with_session(id, |session| async move {
            if let Err(ForwardError::Lost(_)) = session.cancel_forward(&forward_settings.name).await
            {
                return;
            }
            let _ = messages
                .send(SupervisorMessage::Cancelled(id, forward))
                .await;
        });
    }

    fn with_session<F>(&self, id: SessionId, work: impl FnOnce(Session) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Without a session it has ended; the event is in the queue.
        if let Some(session) = self.state.session(id) {
            tokio::spawn(work(session));
        }
    }

    /// Asks each session for a sign of life, and the machine for dials.
    fn on_host_change(&self, change: HostChange) -> SupervisorEvent {
        match change {
            HostChange::Network => {
                tracing::debug!(
                    "addresses or routes of this host have changed; testing connections"
                )
            }
            HostChange::Resumed(slept) => tracing::info!(
                suspended_seconds = slept.as_secs(),
                "this host was suspended; testing connections"
            ),
        }
        self.state.probe_all();
        SupervisorEvent::Woken
    }

    /// Publishes and logs a message, and converts it to an event of the machine.
    fn on_message(&mut self, message: SupervisorMessage) -> SupervisorEvent {
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
    fn publish(&self) {
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

/// Runs until the supervisor has stopped.
async fn report_host_changes(messages: mpsc::Sender<SupervisorMessage>) {
    let mut changes = HostChanges::new();
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = messages.closed() => return,
        };
        let _ = messages.send(SupervisorMessage::HostChanged(change)).await;
    }
}

/// Logs the lines of known_hosts that are not used; a revocation is never among them.
fn log_skipped_lines(settings: &Settings) {
    for skipped in settings.host_keys.skipped().iter().take(MAX_SKIPPED_LINES) {
        let (line, problem) = (skipped.line, &skipped.problem);
        tracing::warn!(
            line,
            problem,
            "skipping a line of tunnel.known_hosts_file that cannot be read, as ssh does"
        );
    }
}

/// Number of lines that are logged.
const MAX_SKIPPED_LINES: usize = 10;
/// Capacity of the queue; senders wait when it is full.
const MAX_MESSAGES: usize = 64;
/// A loop that takes longer hangs; the watchdog handles that.
const RELOAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for the disconnects after a drain: longer than [`LEAST_GOODBYE`].
const DISCONNECT_TIME: Duration = Duration::from_secs(15);
/// Time for the last bytes of a session that is disconnected at the end of a drain.
const LEAST_GOODBYE: Duration = Duration::from_secs(10);
/// As [`LEAST_GOODBYE`], for a session that another one has replaced: no stop waits for it.
const REPLACED_GOODBYE: Duration = Duration::from_secs(30);
/// A deadline that stands for "never".
const FAR: Duration = Duration::from_secs(3600);

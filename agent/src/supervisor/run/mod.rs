//! The shell around the state machine: it executes the actions and returns their results as events. Each action is a task,
//! so that the loop never waits.
//!
//! | module | what it holds |
//! |---|---|
//! | `message` | what the loop receives, and how it is logged and published |
//! | `handle` | the loop as the rest of the agent reaches it |

mod handle;
mod message;

pub use handle::SupervisorHandle;
pub(super) use message::SupervisorMessage;

use super::{
    host_changes::{HostChange, HostChanges},
    ids::IdRegistry,
    machine::{SessionId, StateMachine, SupervisorAction, SupervisorEvent},
    published_state::PublishedState,
    session_monitor::{monitor, panicked_dial, spawn_cancellable, watch_idle},
};
use crate::tunnel::{
    ChannelAcceptor, Hop, HopEvent, HopObserver, Settings,
    session::{ForwardError, Session},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

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
/// Time for the last bytes of a session that is disconnected at the end of a drain.
const LEAST_GOODBYE: Duration = Duration::from_secs(10);
/// As [`LEAST_GOODBYE`], for a session that another one has replaced: no stop waits for it.
const REPLACED_GOODBYE: Duration = Duration::from_secs(30);
/// A deadline that stands for "never".
const FAR: Duration = Duration::from_secs(3600);

//! The shell around the state machine: carries its actions out and tells it what came of them. Each action
//! is a task of its own, so that nothing here ever waits.

use super::{
    backoff,
    board::{Board, LastFailure},
    register::Register,
    step::{Action, Event, Id, Machine},
    tend::{give_up_when, lost, tend, watch_idle},
};
use crate::{
    status::{ConnectionView, ForwardState},
    tunnel::{
        Accept, Passed, Settings, Tell,
        channel::SpoolResets,
        session::{Bound, Ended, ForwardError, OpenError, Retry, Session, retry},
    },
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Holds the SSH connections and the remote forwards on them.
pub struct Supervisor {
    machine: Machine,
    /// What the machine's numbers mean.
    register: Register,
    board: Arc<Board>,
    accept: Arc<dyn Accept>,
    start: Instant,
    news: mpsc::Sender<News>,
    dials: HashMap<Id, CancellationToken>,
    /// New sessions, to be tended once the board knows which connection they serve.
    untended: Vec<(Id, Session)>,
    /// Those to be told that what they have changed is in force.
    unanswered: Vec<oneshot::Sender<()>>,
}

/// What the rest of the agent has of the supervisor. Clones are the same.
#[derive(Clone)]
pub struct SupervisorHandle {
    board: Arc<Board>,
    news: mpsc::Sender<News>,
}

/// What came of an action.
pub(super) enum News {
    Opened(Id, Session),
    /// With the number of the gateway.
    OpenFailed(Id, usize, OpenError),
    /// A dial was given up as it was told to.
    Abandoned(Id),
    Granted(Id, usize, Bound),
    Refused(Id, usize, ForwardError),
    Cancelled(Id, usize),
    Ended(Id, Ended),
    Worn(Id),
    Idle(Id),
    /// Other settings, whether sessions that stand are to be replaced, and whom to tell that they hold.
    Reload(Arc<Settings>, bool, oneshot::Sender<()>),
    Drain(Duration),
    /// Whether this loop still turns.
    Question(oneshot::Sender<()>),
}

impl Supervisor {
    /// Starts to connect, and never gives up. `accept` gets the channels. Cancelling `cancel` ends all
    /// sessions at once; [`SupervisorHandle::drain`] lets them finish. Needs a runtime.
    pub fn spawn(
        settings: Arc<Settings>,
        accept: Arc<dyn Accept>,
        cancel: CancellationToken,
    ) -> SupervisorHandle {
        name_skipped(&settings);
        let register = Register::new(settings);
        let machine = Machine::new(register.wanted(false));
        let start = Instant::now();
        let board = Board::new(register.clone(), start.into_std(), machine.summaries());
        let board = Arc::new(board);
        let (news, inbox) = mpsc::channel(NEWS);
        let handle = SupervisorHandle {
            board: Arc::clone(&board),
            news: news.clone(),
        };
        let supervisor = Self {
            machine,
            register,
            board,
            accept,
            start,
            news,
            dials: HashMap::new(),
            untended: Vec::new(),
            unanswered: Vec::new(),
        };
        tokio::spawn(supervisor.run(inbox, cancel));
        handle
    }

    async fn run(mut self, mut inbox: mpsc::Receiver<News>, cancel: CancellationToken) {
        let mut cancelled = false;
        let mut event = Event::Tick;
        loop {
            let jitter = rand::random();
            let actions = self.machine.step(self.start.elapsed(), event, jitter);
            let mut stopped = false;
            for action in actions {
                stopped |= self.execute(action);
            }
            self.register.forget(|forward| self.machine.knows(forward));
            self.publish();
            for (id, session) in self.untended.drain(..) {
                let (board, news) = (Arc::clone(&self.board), self.news.clone());
                tokio::spawn(tend(id, session, board, news));
            }
            for answer in self.unanswered.drain(..) {
                // Whoever asked may have given up.
                let _ = answer.send(());
            }
            if stopped {
                self.board.stop();
                return;
            }
            // Without a deadline something is under way that will tell.
            let deadline = self.machine.next_deadline().unwrap_or(FAR);
            event = tokio::select! {
                Some(news) = inbox.recv() => self.digest(news),
                () = cancel.cancelled(), if !cancelled => {
                    cancelled = true;
                    Event::Drain(Duration::ZERO)
                }
                () = sleep_until(self.start + deadline) => Event::Tick,
            };
        }
    }

    /// Carries one action out. Returns whether it was the last.
    fn execute(&mut self, action: Action) -> bool {
        match action {
            Action::Dial(id, gateway) => self.dial(id, gateway),
            Action::Abandon(id) => {
                if let Some(dial) = self.dials.get(&id) {
                    dial.cancel();
                }
            }
            Action::Leave(id) => {
                if let Some(session) = self.board.session(id) {
                    session.leave();
                }
            }
            Action::Request(id, forward) => self.request(id, forward),
            Action::Cancel(id, forward) => self.cancel(id, forward),
            Action::WatchIdle(id) => {
                let news = self.news.clone();
                self.with_session(id, |session| watch_idle(id, session, news));
            }
            Action::Disconnect(id) => {
                self.with_session(id, |session| async move { session.disconnect().await });
            }
            Action::Stopped => {
                tracing::info!("all connections are closed");
                return true;
            }
        }
        false
    }

    fn dial(&mut self, id: Id, gateway: usize) {
        let settings = Arc::clone(&self.register.settings);
        let number = gateway;
        let Some(gateway) = self.register.gateway(number).cloned() else {
            return;
        };
        let abandon = CancellationToken::new();
        self.dials.insert(id, abandon.clone());
        let board = Arc::clone(&self.board);
        let tell: Tell = Arc::new(move |passed| {
            if matches!(passed, Passed::HostKey(_)) {
                board.reached(id.slot);
            }
        });
        let accept = Arc::clone(&self.accept);
        let open = Session::open(settings, gateway.clone(), id.slot, accept, tell);
        let news = self.news.clone();
        tokio::spawn(async move {
            let told = match give_up_when(abandon.clone(), open).await {
                Ok(Ok(session)) => News::Opened(id, session),
                _ if abandon.is_cancelled() => News::Abandoned(id),
                Ok(Err(error)) => News::OpenFailed(id, number, error),
                Err(problem) => News::OpenFailed(id, number, lost(&gateway, problem)),
            };
            let _ = news.send(told).await;
        });
    }

    fn request(&self, id: Id, forward: usize) {
        let news = self.news.clone();
        let Some(wanted) = self.register.forward(forward).cloned() else {
            return;
        };
        self.with_session(id, |session| {
            // Called here and not in the task, so that it is ahead of the first probe.
            let asked = session.forward(&wanted);
            async move {
                let told = match asked.await {
                    Ok(bound) => News::Granted(id, forward, bound),
                    Err(error @ ForwardError::Refused(_)) => News::Refused(id, forward, error),
                    // The end of the session is told by whoever tends it.
                    Err(ForwardError::Lost(_)) => return,
                };
                let _ = news.send(told).await;
            }
        });
    }

    fn cancel(&self, id: Id, forward: usize) {
        let news = self.news.clone();
        let Some(held) = self.register.forward(forward).cloned() else {
            return;
        };
        self.with_session(id, |session| async move {
            if let Err(ForwardError::Lost(_)) = session.cancel_forward(&held.name).await {
                return;
            }
            let _ = news.send(News::Cancelled(id, forward)).await;
        });
    }

    fn with_session<F>(&self, id: Id, work: impl FnOnce(Session) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        // Without one it has ended, which the machine is about to learn.
        if let Some(session) = self.board.session(id) {
            tokio::spawn(work(session));
        }
    }

    /// Notes and logs the news, and makes of it what the machine understands.
    fn digest(&mut self, news: News) -> Event {
        match news {
            News::Opened(id, session) => {
                self.dials.remove(&id);
                self.board.opened(id, &session);
                if let Some(facts) = session.facts() {
                    tracing::info!(
                        connection = id.slot,
                        gateway = %session.gateway(),
                        host_key = facts.host_key,
                        key_exchange = facts.key_exchange,
                        cipher = facts.cipher,
                        "logged in to the gateway"
                    );
                }
                self.untended.push((id, session));
                Event::Opened(id)
            }
            News::OpenFailed(id, gateway, error) => {
                self.dials.remove(&id);
                let retry = match self.register.gateway(gateway) {
                    Some(gateway) => retry(&self.register.settings, gateway, &error),
                    None => error.retry(),
                };
                let news = self.board.open_failed(id, &error);
                let gateway = self.gateway(id);
                if news {
                    tracing::warn!(
                        connection = id.slot,
                        gateway,
                        hop = error.hop().name(),
                        %error,
                        remedy = error.remedy(),
                        "cannot connect; retrying"
                    );
                } else {
                    tracing::debug!(connection = id.slot, gateway, %error, "still cannot connect");
                }
                Event::OpenFailed(id, retry)
            }
            News::Abandoned(id) => {
                self.dials.remove(&id);
                tracing::debug!(connection = id.slot, "gave up connecting");
                Event::OpenFailed(id, Retry::Soon)
            }
            News::Granted(id, forward, bound) => {
                self.board.granted(id, forward, bound.to_string());
                tracing::info!(
                    connection = id.slot,
                    forward = self.name(forward),
                    gateway = self.gateway(id),
                    bind = %bound,
                    "the gateway granted the forward"
                );
                Event::Granted(id, forward)
            }
            News::Refused(id, forward, error) => {
                self.board.refused(id, forward, &error);
                Event::Refused(id, forward)
            }
            News::Cancelled(id, forward) => Event::Cancelled(id, forward),
            News::Ended(id, ended) => {
                let gateway = self.gateway(id);
                self.board.ended(id, &ended);
                match ended {
                    Ended::ByUs => tracing::info!(connection = id.slot, gateway, "disconnected"),
                    ended => tracing::warn!(
                        connection = id.slot,
                        gateway,
                        cause = %ended,
                        remedy = ended.remedy(),
                        "session lost; connecting again"
                    ),
                }
                Event::Ended(id)
            }
            News::Worn(id) => {
                tracing::info!(
                    connection = id.slot,
                    gateway = self.gateway(id),
                    "the session is replaced by a new one before it wears out"
                );
                Event::Worn(id)
            }
            News::Idle(id) => Event::Idle(id),
            News::Question(answer) => {
                // Whoever asked may have given up.
                let _ = answer.send(());
                Event::Tick
            }
            News::Reload(settings, anew, answer) => {
                name_skipped(&settings);
                let egress = &settings.egress;
                egress.adopt_addresses(&self.register.settings.egress);
                if anew {
                    egress.addresses().forgive();
                }
                self.register.change(settings);
                self.unanswered.push(answer);
                Event::Reload(self.register.wanted(anew))
            }
            News::Drain(limit) => {
                tracing::info!(limit_seconds = limit.as_secs(), "draining");
                Event::Drain(limit)
            }
        }
    }

    /// Shows what has changed, and logs what the machine has decided about forwards.
    fn publish(&self) {
        let after = self.machine.summaries();
        let held = self.register.named(|forward| self.machine.holds(forward));
        let before = self.board.publish(&self.register, after.clone(), held);
        for (connection, (before, after)) in before.iter().zip(&after).enumerate() {
            let gateway = self.register.gateway(after.gateway);
            let gateway = gateway.map(ToString::to_string);
            let named = self.register.forwards().zip(&after.forwards);
            for (place, ((number, forward), now)) in named.enumerate() {
                if before.forwards.get(place) == Some(now) {
                    continue;
                }
                let forward = &*forward.name;
                match now {
                    ForwardState::Refused => {
                        let (cause, remedy) = self.board.refusal(connection, number);
                        tracing::warn!(
                            connection,
                            gateway,
                            forward,
                            cause,
                            remedy,
                            "the gateway refuses the forward; asking again"
                        );
                    }
                    ForwardState::Standby => tracing::info!(
                        connection,
                        gateway,
                        forward,
                        "another connection holds the forward; standing by"
                    ),
                    ForwardState::Pending | ForwardState::Bound => {}
                }
            }
        }
    }

    fn name(&self, forward: usize) -> &str {
        self.register.forward(forward).map_or("", |f| &f.name)
    }

    /// The one that this session leads to, or would have.
    fn gateway(&self, id: Id) -> Option<String> {
        let session = self.board.session(id);
        let gateway = session.map(|session| session.gateway().to_string());
        gateway.or_else(|| self.board.dialed_gateway(id.slot))
    }
}

impl SupervisorHandle {
    /// All connections as they are now.
    pub fn connections(&self) -> Vec<ConnectionView> {
        self.board.views()
    }

    /// Channels of all sessions whose spool had no room, or failed.
    pub fn spool_resets(&self) -> SpoolResets {
        self.board.spool_resets()
    }

    /// What new sessions are opened by.
    pub fn settings(&self) -> Arc<Settings> {
        self.board.settings()
    }

    /// One per gateway as configured: the last attempt there, where that has failed.
    pub fn failures(&self) -> Vec<Option<LastFailure>> {
        self.board.failures()
    }

    /// The sessions that hold this forward, each with the number of its connection.
    pub fn holders(&self, forward: &str) -> Vec<(usize, Session)> {
        self.board.holders(forward)
    }

    /// Forwarded channels open now, on all sessions.
    pub fn live_channels(&self) -> usize {
        self.board.live_channels()
    }

    /// Counts up with every change of [`connections`](Self::connections) worth looking at.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.board.changes()
    }

    /// Whether the supervisor's own loop answers a question, or has ended as it was told to. Waits for as long as it
    /// does neither: the caller sets a limit.
    pub async fn answers(&self) -> bool {
        let (question, answer) = oneshot::channel();
        let asked = self.news.send(News::Question(question)).await;
        asked.is_ok() && answer.await.is_ok() || self.board.is_stopped()
    }

    /// Brings about what `settings` say: binds and cancels forwards on the sessions that stand, opens and leaves
    /// sessions. `anew`: sessions that stand are to be replaced, since they would be opened in another way now. Returns
    /// as soon as that is under way.
    pub async fn reload(&self, settings: Arc<Settings>, anew: bool) {
        let (answer, answered) = oneshot::channel();
        let news = self.news.clone();
        // A closed queue means that everything has stopped already.
        tokio::spawn(async move { news.send(News::Reload(settings, anew, answer)).await });
        if timeout(TAKEN, answered).await.is_err() {
            tracing::error!(
                "the loop that keeps the connections does not answer; the change takes effect when it does"
            );
        }
    }

    /// Waits until no gateway listens any more for the forwards of which `which` says so, by its own answer: after a
    /// reload has taken them out, or in a drain.
    pub async fn let_go(&self, which: impl Fn(&str) -> bool) {
        let mut changes = self.changes();
        while self.board.holds(&which) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Cancels the forwards, lets open channels finish for at most `limit`, then disconnects. Returns
    /// when all is closed, a few seconds after `limit` at the latest.
    pub async fn drain(&self, limit: Duration) {
        // A closed queue means that everything has stopped already.
        let _ = self.news.send(News::Drain(limit)).await;
        let _ = timeout(limit.saturating_add(GOODBYES), self.board.stopped()).await;
    }
}

/// What of known_hosts is not used; a revocation is never among it.
fn name_skipped(settings: &Settings) {
    for skipped in settings.host_keys.skipped().iter().take(SKIPPED) {
        let (line, problem) = (skipped.line, &skipped.problem);
        tracing::warn!(
            line,
            problem,
            "a line of tunnel.known_hosts_file cannot be read and is left out, as ssh does"
        );
    }
}

/// Lines that are named; the others are of the same kind.
const SKIPPED: usize = 10;
/// The machine takes news faster than sessions can make them; senders wait otherwise.
const NEWS: usize = 64;
/// A loop that takes longer hangs, which is the watchdog's business.
const TAKEN: Duration = Duration::from_secs(10);
/// For the goodbyes after a drain.
const GOODBYES: Duration = Duration::from_secs(15);
/// Stands for "never" where tokio wants an instant.
const FAR: Duration = backoff::SLOW.saturating_mul(60);

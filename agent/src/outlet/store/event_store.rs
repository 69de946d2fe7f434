//! The queue of one outlet: opened once, kept over reloads, and closed so that another process can open it.

use agent_events::{EventQueue, OpenError, QueueLimits};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The queue file of an outlet. The outlets of one name share it, whatever else a reload has changed.
pub struct EventStore {
    outlet: Arc<str>,
    path: PathBuf,
    condition: watch::Sender<QueueCondition>,
    /// What delivers from it.
    deliverers: TaskTracker,
}

/// Whether events can be stored.
#[derive(Clone, Default)]
pub enum QueueCondition {
    /// Not opened yet. During an upgrade another process has it for a moment.
    #[default]
    Opening,
    /// It is open.
    Open(EventQueue),
    /// It cannot be opened, for this reason; tried again.
    Failed(String),
    /// It was closed permanently: the agent stops, or the outlet was removed.
    Closed,
}

impl EventStore {
    /// For the outlet of this name, in `events` of the state folder. Nothing is opened yet.
    pub fn new(state_dir: &Path, outlet: Arc<str>) -> Arc<Self> {
        Arc::new(Self {
            path: queue_file(state_dir, &outlet),
            outlet,
            condition: watch::channel(QueueCondition::default()).0,
            deliverers: TaskTracker::new(),
        })
    }

    /// Whether events can be stored now.
    pub fn condition(&self) -> QueueCondition {
        self.condition.borrow().clone()
    }

    /// The queue, while it is open.
    pub fn queue(&self) -> Option<EventQueue> {
        match self.condition() {
            QueueCondition::Open(queue) => Some(queue),
            QueueCondition::Opening | QueueCondition::Failed(_) | QueueCondition::Closed => None,
        }
    }

    /// The queue, for which a caller waits while another process still has it. `Err`: why there is none, for the
    /// administrator.
    pub(super) async fn ready(&self) -> Result<EventQueue, String> {
        let mut condition = self.condition.subscribe();
        let known = condition.wait_for(|now| !matches!(now, QueueCondition::Opening));
        let known = match timeout(READY_WAIT, known).await {
            Ok(Ok(known)) => known.clone(),
            Ok(Err(_)) | Err(_) => QueueCondition::Opening,
        };
        match known {
            QueueCondition::Open(queue) => Ok(queue),
            QueueCondition::Failed(cause) => Err(cause),
            QueueCondition::Opening => Err(format!("{} is not open yet", self.path.display())),
            QueueCondition::Closed => Err(
                "the queue is closed: the agent is stopping, or hands over to a new process"
                    .to_owned(),
            ),
        }
    }

    /// Runs what delivers from the queue. [`close`](Self::close) waits for it.
    pub fn spawn(&self, deliverer: impl Future<Output = ()> + Send + 'static) {
        self.deliverers.spawn(deliverer);
    }

    /// Opens the queue, or gives the one that is open these limits. Tries until `stop`.
    pub(super) async fn open(
        &self,
        limits: &QueueLimits,
        stop: &CancellationToken,
    ) -> Option<EventQueue> {
        if let Some(queue) = self.queue() {
            queue.set_limits(limits.clone());
            return Some(queue);
        }
        stop.run_until_cancelled(self.try_to_open(limits)).await?
    }

    async fn try_to_open(&self, limits: &QueueLimits) -> Option<EventQueue> {
        let patience = Instant::now() + PREDECESSOR_WAIT;
        loop {
            let opened = EventQueue::open(self.path.clone(), &self.outlet, limits.clone()).await;
            let error = match opened {
                Ok(queue) => return self.opened(queue).await,
                Err(error) => error,
            };
            let wait = match &error {
                // The process before this one closes it when it has handed over.
                OpenError::InUse(_) if Instant::now() < patience => HANDOVER_POLL,
                OpenError::InUse(_)
                | OpenError::Damaged { .. }
                | OpenError::Newer(_)
                | OpenError::Io { .. } => {
                    self.note_failure(&error);
                    RETRY
                }
            };
            sleep(wait).await;
        }
    }

    /// `None`: it was closed meanwhile.
    async fn opened(&self, queue: EventQueue) -> Option<EventQueue> {
        let is_open = self.condition.send_if_modified(|condition| {
            let is_wanted = !matches!(condition, QueueCondition::Closed);
            if is_wanted {
                *condition = QueueCondition::Open(queue.clone());
            }
            is_wanted
        });
        if !is_open {
            queue.close().await;
            return None;
        }
        let figures = queue.figures();
        tracing::info!(
            outlet = &*self.outlet,
            events = figures.events,
            dead_letters = figures.dead_events,
            "the queue of events is open"
        );
        Some(queue)
    }

    fn note_failure(&self, error: &OpenError) {
        let cause = error.to_string();
        let is_new = self
            .condition
            .send_if_modified(|condition| match condition {
                QueueCondition::Failed(known) if *known == cause => false,
                QueueCondition::Closed | QueueCondition::Open(_) => false,
                QueueCondition::Failed(_) | QueueCondition::Opening => {
                    *condition = QueueCondition::Failed(cause.clone());
                    true
                }
            });
        if is_new {
            tracing::error!(
                outlet = &*self.outlet,
                cause,
                "the queue of events cannot be opened; Jira gets 503, and the agent tries again"
            );
        }
    }

    /// Waits for the attempts that run, at most a moment, and closes the file. What delivers must have been asked to stop.
    pub async fn close(&self) {
        self.deliverers.close();
        let _ = timeout(LAST_ATTEMPTS + MARGIN, self.deliverers.wait()).await;
        if let QueueCondition::Open(queue) = self.condition.send_replace(QueueCondition::Closed) {
            queue.close().await;
        }
    }
}

/// The queue file of the outlet of this name. Names are letters, digits, `-` and `_`.
pub fn queue_file(state_dir: &Path, outlet: &str) -> PathBuf {
    events_folder(state_dir).join(format!("{outlet}.{SUFFIX}"))
}

/// The queues in the state folder of outlets that `is_configured` does not know, by name. Blocks on the disk.
pub fn removed_queues(
    state_dir: &Path,
    is_configured: impl Fn(&str) -> bool,
) -> std::io::Result<Vec<(String, PathBuf)>> {
    let folder = events_folder(state_dir);
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut found = Vec::new();
    for entry in entries.take(MAX_FILES) {
        let path = entry?.path();
        let is_queue = path.extension().is_some_and(|suffix| suffix == SUFFIX);
        let name = path.file_stem().and_then(|name| name.to_str());
        if let Some(name) = name.filter(|name| is_queue && !is_configured(name)) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

fn events_folder(state_dir: &Path) -> PathBuf {
    state_dir.join("events")
}

const SUFFIX: &str = "redb";
/// Entries of the folder that are looked at: far more than there are outlets.
const MAX_FILES: usize = 1000;
/// Jira's call waits so long while another process hands the queue over.
const READY_WAIT: Duration = Duration::from_secs(5);
/// The process before this one has closed the queue by then.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(10);
/// Between two tries meanwhile. One opens and locks a file.
const HANDOVER_POLL: Duration = Duration::from_millis(50);
/// Between two tries where a person must act.
const RETRY: Duration = Duration::from_secs(2);
/// For the attempts that run when the agent stops. A new process waits for it, and Jira's calls with it: the event of an
/// attempt that is cut off is sent again.
pub(super) const LAST_ATTEMPTS: Duration = Duration::from_secs(3);
/// For the deliverer to end the rest.
const MARGIN: Duration = Duration::from_millis(500);

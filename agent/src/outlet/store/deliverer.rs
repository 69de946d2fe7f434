//! Delivers the events of one outlet: in order within a lane, several lanes at once, until the vendor has accepted each.

use super::{
    attempt::{AttemptContext, BodyInMemory, run_attempt},
    event_store::{EventStore, LAST_ATTEMPTS},
    losses::EventLosses,
    retry::HostHold,
};
use crate::{http::HttpForward, outlet::StoreSettings, pause::PauseRegistry};
use agent_events::{DueEvents, EventQueue, QueueLimits, SigningSecrets};
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

/// Whether events can be sent at all.
pub trait SessionWatch: Send + Sync + 'static {
    /// Whether a session to a gateway is open and answers.
    fn is_open(&self) -> bool;
    /// Ready when that may have changed.
    fn changed(&self) -> BoxFuture<'static, ()>;
}

/// Delivers the events of one outlet.
pub struct EventDeliverer {
    events: Arc<EventStore>,
    limits: QueueLimits,
    sessions: Arc<dyn SessionWatch>,
    pauses: PauseRegistry,
    outlet: Arc<str>,
    /// Lanes at once.
    most: usize,
    context: Arc<AttemptContext>,
}

/// What the deliverer waits for before the next attempt.
enum NextAttempt {
    /// It may begin.
    Now,
    /// Nothing begins before then, unless something changes.
    At(Option<Instant>),
}

impl EventDeliverer {
    /// Sends through `forward`, at most `most` lanes at once. `secrets` sign.
    pub fn new(
        settings: &StoreSettings,
        secrets: Arc<SigningSecrets>,
        events: Arc<EventStore>,
        forward: Arc<HttpForward>,
        sessions: Arc<dyn SessionWatch>,
        losses: Arc<EventLosses>,
        most: usize,
    ) -> Self {
        Self {
            events,
            limits: settings.limits.clone(),
            sessions,
            pauses: forward.pauses().clone(),
            outlet: Arc::clone(forward.name()),
            most,
            context: Arc::new(AttemptContext {
                forward,
                secrets,
                losses,
                hold: Mutex::new(HostHold::default()),
                refusals: Mutex::new(HashMap::new()),
                in_memory: AtomicUsize::new(0),
            }),
        }
    }

    /// Opens the queue and delivers until `stop`. Attempts that run then have a moment to end.
    pub async fn run(self, stop: CancellationToken) {
        let Some(queue) = self.events.open(&self.limits, &stop).await else {
            return;
        };
        if stop
            .run_until_cancelled(self.pauses.known())
            .await
            .is_none()
        {
            return;
        }
        let mut attempts = JoinSet::new();
        stop.run_until_cancelled(self.deliver(&queue, &mut attempts))
            .await;
        let ended = async { while attempts.join_next().await.is_some() {} };
        let _ = timeout(LAST_ATTEMPTS, ended).await;
        // The rest is cut off, and sent again by whoever opens the queue next.
        attempts.shutdown().await;
    }

    async fn deliver(&self, queue: &EventQueue, attempts: &mut JoinSet<()>) {
        let mut next_expiry = Instant::now();
        let mut was_open = false;
        loop {
            while attempts.try_join_next().is_some() {}
            // Before looking, so that no change is missed.
            let changed = queue.changed();
            let now = Instant::now();
            if now >= next_expiry {
                next_expiry = now + self.expire(queue).await;
            }
            let is_open = self.sessions.is_open();
            if is_open && !was_open {
                self.context.hold.lock().session_opened();
            }
            was_open = is_open;
            let wake = match self.next_attempt(queue, is_open, attempts.len()) {
                NextAttempt::At(wake) => wake,
                NextAttempt::Now => match queue.lease_next(Instant::now()).await {
                    Ok(Some(lease)) => {
                        let context = Arc::clone(&self.context);
                        let memory = BodyInMemory::new(context, lease.body.len());
                        attempts.spawn(run_attempt(memory, queue.clone(), lease));
                        continue;
                    }
                    Ok(None) => None,
                    // The queue reports a disk that fails; nothing is lost.
                    Err(_) => Some(Instant::now() + DISK_PAUSE),
                },
            };
            let wake = wake.map_or(next_expiry, |wake| wake.min(next_expiry));
            tokio::select! {
                () = sleep_until(wake) => {}
                () = changed => {}
                Some(_) = attempts.join_next() => {}
                () = self.sessions.changed() => {}
            }
        }
    }

    fn next_attempt(&self, queue: &EventQueue, is_open: bool, running: usize) -> NextAttempt {
        let now = Instant::now();
        match queue.due(now) {
            DueEvents::Nothing => return NextAttempt::At(None),
            DueEvents::At(at) => return NextAttempt::At(Some(at)),
            DueEvents::Now => {}
        }
        if !is_open || self.pauses.of(&self.outlet).is_some() {
            return NextAttempt::At(Some(now + POLL));
        }
        let hold = self.context.hold.lock();
        if let Some(until) = hold.until(now) {
            return NextAttempt::At(Some(until));
        }
        let has_room = self.context.in_memory.load(Ordering::Relaxed) < MAX_IN_MEMORY;
        match running < hold.limit(self.most) && has_room {
            true => NextAttempt::Now,
            // The end of an attempt wakes it.
            false => NextAttempt::At(None),
        }
    }

    /// Sorts out what is too old. Returns after which time to do so again.
    async fn expire(&self, queue: &EventQueue) -> Duration {
        match queue.expire(SystemTime::now()).await {
            Ok(expired) => {
                self.context.losses.expired(&expired.dead);
                self.context.losses.dropped(&expired.dropped, TOO_OLD);
                match expired.more {
                    true => Duration::ZERO,
                    false => self.limits.retry_for.clamp(MIN_EXPIRY, MAX_EXPIRY),
                }
            }
            Err(_) => MIN_EXPIRY.max(DISK_PAUSE),
        }
    }
}

/// Bytes of bodies that are being sent; one more may begin below it, so that at most this and one event are in memory.
const MAX_IN_MEMORY: usize = 32 << 20;
/// Interval of looks at pauses and sessions while an event is due.
const POLL: Duration = Duration::from_millis(250);
/// After the disk has failed.
const DISK_PAUSE: Duration = Duration::from_secs(1);
/// Interval of looks for events that are too old; short ones are for short `retry_for`.
const MIN_EXPIRY: Duration = Duration::from_secs(1);
const MAX_EXPIRY: Duration = Duration::from_secs(30);
const TOO_OLD: &str =
    "it was a dead letter for longer than keep_dead_letters, or made room for others";

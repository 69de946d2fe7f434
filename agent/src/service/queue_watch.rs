//! Watches how the queues of outlets fill, so that log and status name a queue before it is full.

use super::outlet_table::OutletTable;
use crate::status::{NEARLY_FULL, QueueGrowth, queue_forecast};
use agent_events::{EventQueue, ListFilter, QueueFigures};
use parking_lot::Mutex;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// What earlier moments say about the queues. It has one entry for each outlet that stores.
pub(super) struct QueueWatch {
    outlets: Arc<OutletTable>,
    watched: Mutex<HashMap<Arc<str>, WatchedQueue>>,
}

#[derive(Default)]
struct WatchedQueue {
    growth: QueueGrowth,
    /// As last seen, of all events that ever became dead letters; `None` before the first look.
    died: Option<u64>,
    last_dead: Option<SystemTime>,
    /// Whether the log says that it is nearly full.
    is_nearly_full: bool,
    /// When the log last said that it will be full.
    warned_at: Option<Instant>,
}

/// What the figures of one moment do not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct QueueOutlook {
    /// How long until it is full, if it grows.
    pub(super) full_in: Option<Duration>,
    /// When the last event became a dead letter.
    pub(super) last_dead: Option<SystemTime>,
}

impl QueueWatch {
    pub(super) fn new(outlets: Arc<OutletTable>) -> Self {
        Self {
            outlets,
            watched: Mutex::default(),
        }
    }

    /// Looks at each queue four times a minute, until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let watching = async {
            loop {
                self.look();
                tokio::time::sleep(QueueGrowth::SAMPLE_INTERVAL).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }

    /// What is known of this outlet's queue, which has these figures now.
    pub(super) fn outlook(
        &self,
        outlet: &Arc<str>,
        queue: &EventQueue,
        figures: &QueueFigures,
    ) -> QueueOutlook {
        let mut watched = self.watched.lock();
        let known = watched.entry(Arc::clone(outlet)).or_default();
        known.note_deaths(queue, figures);
        QueueOutlook {
            full_in: known
                .growth
                .full_in(figures.max_events as u64, figures.max_bytes),
            last_dead: known.last_dead,
        }
    }

    fn look(&self) {
        let all = self.outlets.all();
        let mut watched = self.watched.lock();
        watched.retain(|name, _| {
            let mut names = all.iter().map(|active| &active.config.settings.name);
            names.any(|other| other == name)
        });
        for active in &all {
            let Some(queue) = active.queue() else {
                continue;
            };
            let name = &active.config.settings.name;
            let figures = queue.figures();
            let known = watched.entry(Arc::clone(name)).or_default();
            known.note_deaths(&queue, &figures);
            known.note(name, &figures, Instant::now());
        }
    }
}

impl WatchedQueue {
    fn note_deaths(&mut self, queue: &EventQueue, figures: &QueueFigures) {
        let died = figures.totals.died;
        match self.died {
            Some(before) if before == died => return,
            Some(_) => self.last_dead = Some(SystemTime::now()),
            None => self.last_dead = last_death(queue),
        }
        self.died = Some(died);
    }

    fn note(&mut self, outlet: &str, figures: &QueueFigures, now: Instant) {
        let (events, max_events) = (figures.events as u64, figures.max_events as u64);
        self.growth.note(now, events, figures.bytes);
        let share = |used: u64, bound: u64| used.saturating_mul(100) / bound.max(1);
        let percent = share(events, max_events).max(share(figures.bytes, figures.max_bytes));
        match (self.is_nearly_full, percent) {
            (false, NEARLY_FULL..) => {
                self.is_nearly_full = true;
                tracing::warn!(
                    outlet,
                    percent,
                    remedy = REMEDY,
                    "the queue of events is nearly full"
                );
            }
            (true, 0..HAS_ROOM) => {
                self.is_nearly_full = false;
                tracing::info!(outlet, percent, "the queue of events has room again");
            }
            _ => {}
        }
        let full_in = self.growth.full_in(max_events, figures.max_bytes);
        let is_recent = |at: Instant| now.saturating_duration_since(at) < WARN_INTERVAL;
        if let Some(full_in) = full_in
            && !self.is_nearly_full
            && !self.warned_at.is_some_and(is_recent)
        {
            self.warned_at = Some(now);
            tracing::warn!(
                outlet,
                cause = queue_forecast(full_in),
                remedy = REMEDY,
                "the queue of events grows"
            );
        }
    }
}

/// When the newest dead letter was given up. Once for each queue: the list is in memory, and bounded.
fn last_death(queue: &EventQueue) -> Option<SystemTime> {
    let (mut newest, mut after) = (None, None);
    for _ in 0..MAX_PAGES {
        let page = queue.list(ListFilter::Dead, after, EventQueue::MAX_LIST);
        newest = newest.max(page.iter().filter_map(|event| event.died_at).max());
        after = page.last().map(|event| event.id);
        if page.len() < EventQueue::MAX_LIST {
            break;
        }
    }
    newest
}

/// Below it a nearly full queue has room again.
const HAS_ROOM: u64 = 70;
/// A forecast comes and goes with the hours of the day.
const WARN_INTERVAL: Duration = Duration::from_secs(3600);
/// More dead letters than fit into 64 MiB.
const MAX_PAGES: usize = 1000;
const REMEDY: &str =
    "see why the vendor takes no events: agent check; max_queue of the outlet is the bound";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use agent_events::{NewEvent, QueueLimits, Stored};

    async fn queue_with_dead_letter(folder: &std::path::Path) -> EventQueue {
        let queue = EventQueue::open(folder.join("q.redb"), "events", QueueLimits::default());
        let queue = queue.await.unwrap();
        let event = NewEvent {
            method: "POST".into(),
            target: "/hooks".into(),
            headers: Vec::new(),
            source: "127.0.0.1".into(),
            identifier: None,
            body: bytes::Bytes::from_static(b"{}"),
        };
        let stored = queue.store(event).await.unwrap();
        assert!(matches!(stored, Stored::New { .. }));
        let lease = queue.lease_next(tokio::time::Instant::now()).await.unwrap();
        queue.dead(lease.unwrap(), "refused").await.unwrap();
        queue
    }

    #[tokio::test]
    async fn a_death_is_dated_also_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let mut known = WatchedQueue {
            died: Some(0),
            ..WatchedQueue::default()
        };
        let before = SystemTime::now();
        let queue = queue_with_dead_letter(folder.path()).await;
        known.note_deaths(&queue, &queue.figures());
        assert!(known.last_dead.is_some_and(|at| at >= before));
        let noticed = known.last_dead;
        known.note_deaths(&queue, &queue.figures());
        assert_eq!(known.last_dead, noticed, "no further death");

        let mut restarted = WatchedQueue::default();
        restarted.note_deaths(&queue, &queue.figures());
        let at = restarted.last_dead.unwrap();
        // It is stored in milliseconds.
        assert!(at + Duration::from_millis(1) >= before && Some(at) <= noticed);
    }

    #[tokio::test]
    async fn a_queue_that_fills_is_named_once() {
        let folder = tempfile::tempdir().unwrap();
        let queue = queue_with_dead_letter(folder.path()).await;
        let filled = |events| QueueFigures {
            events,
            max_events: 100,
            ..queue.figures()
        };
        let mut known = WatchedQueue::default();
        let begun = Instant::now();
        for (minute, events) in [10, 20, 30].into_iter().enumerate() {
            let at = begun + Duration::from_secs(60) * u32::try_from(minute).unwrap();
            known.note("events", &filled(events), at);
        }
        let warned = known.warned_at;
        assert_eq!(warned, Some(begun + Duration::from_secs(120)));
        known.note("events", &filled(79), begun + Duration::from_secs(180));
        assert_eq!(known.warned_at, warned, "at most once an hour");
        assert!(!known.is_nearly_full);
        known.note("events", &filled(80), begun + Duration::from_secs(240));
        assert!(known.is_nearly_full);
        known.note("events", &filled(70), begun + Duration::from_secs(300));
        assert!(known.is_nearly_full);
        known.note("events", &filled(69), begun + Duration::from_secs(360));
        assert!(!known.is_nearly_full);
    }
}

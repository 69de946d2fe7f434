//! How old an event is, on a host whose clock may jump.
//!
//! The age of an event that this process has stored is measured by the monotonic clock alone. For one that it found in the
//! file, only the wall clock knows the time before. It is believed where it says the same at the start and now: a clock
//! that was wrong at boot, or is wrong now, ends no event. And each event that was found lives for [`GRACE`] at least, so
//! that a clock that is wrong all along, or a host that was off for days, does not end a queue before it could be delivered.

use super::{DeliveryProgress, EventAge, QueueIndex};
use crate::{
    EventSummary,
    change::{QueueChange, RemovalReason, Sequence},
};
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What has become too old: the changes, and the events for the audit.
#[derive(Default)]
pub(crate) struct TooOld {
    pub(crate) changes: Vec<QueueChange>,
    pub(crate) dead: Vec<EventSummary>,
    pub(crate) dropped: Vec<EventSummary>,
    /// There are more than fit into one commit.
    pub(crate) more: bool,
}

impl QueueIndex {
    /// The changes by which events of more than `retry_for` become dead letters, and dead letters of more than `keep_dead`
    /// go. At most `most`. What is being delivered stays.
    pub(crate) fn too_old(&mut self, (now, wall): (Instant, SystemTime), most: usize) -> TooOld {
        let mut old = TooOld::default();
        let (retry_for, keep_dead) = (self.limits.retry_for, self.limits.keep_dead);
        let idle = self
            .queued
            .iter()
            .filter(|(_, event)| event.progress == DeliveryProgress::Idle);
        let expired = idle.filter(|(_, event)| event.age.at_least(retry_for, now, wall));
        let found: Vec<Sequence> = expired.map(|(at, _)| *at).take(most + 1).collect();
        old.more = found.len() > most;
        for sequence in found.into_iter().take(most) {
            let Some(event) = self.queued.get(&sequence) else {
                continue;
            };
            let last = event
                .last_error
                .as_deref()
                .map(|error| format!("; last error: {error}"));
            let limit = in_whole_units(retry_for);
            let why = format!("not delivered within {limit}{}", last.unwrap_or_default());
            let attempts = event.attempts;
            let mut summary = event.summary(None);
            summary.last_error = Some(why.clone());
            old.dead.push(summary);
            old.changes
                .push(self.dead_letter(sequence, attempts, why, wall));
            self.mark_leaving(sequence, now);
        }
        let room = most.saturating_sub(old.changes.len());
        let kept = self.dead.iter().filter(|(_, event)| !event.leaving);
        let expired = kept.filter(|(_, event)| event.age.at_least(keep_dead, now, wall));
        let found: Vec<Sequence> = expired.map(|(at, _)| *at).take(room + 1).collect();
        old.more |= found.len() > room;
        for dead in found.into_iter().take(room) {
            if let Some(event) = self.dead.get(&dead) {
                old.dropped.push(event.summary());
            }
            let why = RemovalReason::DeadBounds;
            old.changes.push(QueueChange::RemoveDead { dead, why });
            self.mark_dead_leaving(dead, true);
        }
        old
    }
}

impl EventAge {
    /// This process stored it.
    pub(super) fn stored(since: SystemTime, seen: Instant) -> Self {
        Self {
            seen,
            since,
            before: None,
        }
    }

    /// This process found it in the file.
    pub(super) fn loaded(since: SystemTime, (seen, wall): (Instant, SystemTime)) -> Self {
        Self {
            seen,
            since,
            // A clock that was set back makes it new.
            before: Some(wall.duration_since(since).unwrap_or_default()),
        }
    }

    /// From when its age counts, by the wall clock.
    pub(super) fn since(self) -> SystemTime {
        self.since
    }

    /// Whether it is at least that old. See the module.
    fn at_least(self, limit: Duration, now: Instant, wall: SystemTime) -> bool {
        let here = now.saturating_duration_since(self.seen);
        let Some(before) = self.before else {
            return here >= limit;
        };
        let by_wall = wall.duration_since(self.since).unwrap_or_default();
        let both = by_wall.min(before.saturating_add(here));
        here >= limit || (both >= limit && here >= GRACE)
    }
}

/// Whole units, as in the configuration.
fn in_whole_units(limit: Duration) -> String {
    let seconds = limit.as_secs();
    match seconds {
        0 => format!("{limit:?}"),
        _ if seconds.is_multiple_of(86400) => format!("{} d", seconds / 86400),
        _ if seconds.is_multiple_of(3600) => format!("{} h", seconds / 3600),
        _ if seconds.is_multiple_of(60) => format!("{} min", seconds / 60),
        _ => format!("{seconds} s"),
    }
}

/// Long enough for some attempts at each event, and for a clock to be set after boot.
const GRACE: Duration = Duration::from_secs(3600);

//! Lending an event for one attempt, and what becomes of it.

use super::{EventQueue, SharedQueue};
use crate::{
    EventHead, EventSummary, QueueError,
    change::{QueueChange, Sequence},
    inbox::WriterCommand,
    index::LeaseEnd,
};
use bytes::Bytes;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{sync::oneshot, time::Instant};

/// The head of a lane, lent for one attempt. No other event of its lane is leased meanwhile. Dropping it gives the lane
/// back, without counting an attempt.
pub struct LeasedEvent {
    /// What is stored beside the body.
    pub head: EventHead,
    /// The body, as it was received.
    pub body: Bytes,
    /// Number of this attempt, counted from 1 since this process opened the queue.
    pub attempt: u32,
    lease: LeaseGuard,
}

/// Gives the lane back when it is dropped.
struct LeaseGuard {
    shared: Arc<SharedQueue>,
    sequence: Sequence,
    /// From when on it is due again.
    due: Option<Instant>,
}

impl Drop for LeaseGuard {
    fn drop(&mut self) {
        let due = self.due.unwrap_or_else(Instant::now);
        // Does nothing where the lease has ended otherwise.
        self.shared.index.lock().release_lease(self.sequence, due);
        self.shared.changed.notify_waiters();
    }
}

impl EventQueue {
    /// Lends the event that has been due for longest. Lanes take turns. `None`: nothing is due.
    ///
    /// # Errors
    /// Its body cannot be read. It is due again after some seconds.
    pub async fn lease_next(&self, now: Instant) -> Result<Option<LeasedEvent>, QueueError> {
        let leased = self.shared.index.lock().lease(now);
        let Some((sequence, attempt)) = leased else {
            return Ok(None);
        };
        // From here on: also where the caller stops waiting, the lane is given back.
        let mut lease = LeaseGuard {
            shared: self.shared.clone(),
            sequence,
            due: None,
        };
        let read = self
            .shared
            .ask(|reply| WriterCommand::Read { sequence, reply });
        match read.await {
            Ok((head, body)) => Ok(Some(LeasedEvent {
                head,
                body,
                attempt,
                lease,
            })),
            Err(error) => {
                lease.due = Some(now + READ_PAUSE);
                Err(error)
            }
        }
    }

    /// The vendor has taken it: it is removed.
    ///
    /// # Errors
    /// It is not removed yet. The queue keeps trying, and holds its lane until then: after a crash, it is delivered again
    /// before the next event of its lane.
    pub async fn delivered(&self, lease: LeasedEvent) -> Result<(), QueueError> {
        self.end(lease, LeaseEnd::Delivered).await.map(drop)
    }

    /// The attempt failed. Its lane waits until `not_before`. Whoever may use `agent events` sees `why`, up to 200 bytes.
    pub async fn failed(&self, lease: LeasedEvent, why: &str, not_before: Instant) {
        let sequence = lease.lease.sequence;
        self.shared.index.lock().failed(sequence, why, not_before);
        drop(lease);
    }

    /// No further attempt is made: it becomes a dead letter, and the next event of its lane is due. Returns the dead letters that made room
    /// for it.
    ///
    /// # Errors
    /// As [`delivered`](Self::delivered).
    pub async fn dead(
        &self,
        lease: LeasedEvent,
        why: &str,
    ) -> Result<Vec<EventSummary>, QueueError> {
        self.end(lease, LeaseEnd::Dead(why)).await
    }

    async fn end(
        &self,
        lease: LeasedEvent,
        end: LeaseEnd<'_>,
    ) -> Result<Vec<EventSummary>, QueueError> {
        let now = (Instant::now(), SystemTime::now());
        let sequence = lease.lease.sequence;
        let (answer, dropped) = {
            let mut index = self.shared.index.lock();
            let mut changes: Vec<QueueChange> =
                index.end_lease(sequence, end, now).into_iter().collect();
            let (removals, dropped) = index.room_for_dead_letters();
            changes.extend(removals);
            let (reply, answer) = oneshot::channel();
            let command = WriterCommand::Change {
                changes,
                must: true,
                reply,
            };
            if let Err(command) = self.shared.inbox.push(command) {
                take_back(&mut index, command, now.0);
                return Err(QueueError::Closed);
            }
            (answer, dropped)
        };
        drop(lease);
        SharedQueue::answer(answer).await.map(|()| dropped)
    }
}

/// The inbox is closed: the changes of a command that it did not take are not made.
pub(super) fn take_back(
    index: &mut crate::index::QueueIndex,
    command: WriterCommand,
    now: Instant,
) {
    match command {
        WriterCommand::Change { changes, .. } => {
            for change in &changes {
                index.reverted(change, now);
            }
        }
        WriterCommand::Store(_) | WriterCommand::Read { .. } | WriterCommand::ReadHead { .. } => {}
    }
}

/// Pause after an event could not be read: the file may be about to be opened again.
const READ_PAUSE: Duration = Duration::from_secs(5);

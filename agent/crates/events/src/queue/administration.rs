//! What happens to events besides their delivery: they are retried or dropped by hand, and grow too old.

use super::{EventQueue, SharedQueue, lease::take_back};
use crate::{
    EventSelection, EventSummary, QueueError,
    change::{QueueChange, Sequence},
    inbox::WriterCommand,
    index::{QueueIndex, SelectedEvent},
};
use std::time::SystemTime;
use tokio::{sync::oneshot, time::Instant};

/// The events that [`EventQueue::expire`] has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Events that became dead letters.
    pub dead: Vec<EventSummary>,
    /// Dead letters that were dropped.
    pub dropped: Vec<EventSummary>,
    /// There are more: call it again.
    pub more: bool,
}

impl EventQueue {
    /// Dead letters go to the end of their lanes, as far as there is room, and their age counts from now on; a waiting event
    /// is due now. Returns how many.
    ///
    /// # Errors
    /// The disk failed before any was retried.
    pub async fn retry(&self, what: EventSelection) -> Result<usize, QueueError> {
        let (mut retried, mut after) = (0, None);
        loop {
            let now = (Instant::now(), SystemTime::now());
            let (chosen, last) = match what {
                EventSelection::Id(id) => {
                    let selected = self.shared.index.lock().selected(id);
                    match selected {
                        Some(SelectedEvent::Queued(sequence)) => {
                            let made_due = self.shared.index.lock().make_due(sequence, now.0);
                            self.shared.changed.notify_waiters();
                            return Ok(usize::from(made_due));
                        }
                        Some(SelectedEvent::Dead(dead)) => (vec![dead], true),
                        None => return Ok(0),
                    }
                }
                EventSelection::AllDead => {
                    let chosen = self.shared.index.lock().oldest_dead(after, PER_COMMIT);
                    let last = chosen.len() < PER_COMMIT;
                    (chosen, last)
                }
            };
            after = chosen.last().copied();
            let changed = self.change(|index| {
                let changes = index.requeue(chosen, now.1);
                let count = changes.len();
                (changes, count)
            });
            match changed.await {
                Ok(count) => retried += count,
                Err(error) if retried == 0 => return Err(error),
                Err(_) => return Ok(retried),
            }
            if last {
                return Ok(retried);
            }
        }
    }

    /// Drops events. One that is being delivered is not dropped. Returns them, for the audit.
    ///
    /// # Errors
    /// The disk failed before any was dropped.
    pub async fn drop_events(&self, what: EventSelection) -> Result<Vec<EventSummary>, QueueError> {
        let (mut dropped, mut after) = (Vec::new(), None);
        loop {
            let (chosen, last) = match what {
                EventSelection::Id(id) => {
                    let selected = self.shared.index.lock().selected(id);
                    (selected.into_iter().collect(), true)
                }
                EventSelection::AllDead => {
                    let chosen: Vec<Sequence> =
                        self.shared.index.lock().oldest_dead(after, PER_COMMIT);
                    let last = chosen.len() < PER_COMMIT;
                    after = chosen.last().copied();
                    (
                        chosen
                            .into_iter()
                            .map(SelectedEvent::Dead)
                            .collect::<Vec<_>>(),
                        last,
                    )
                }
            };
            let now = Instant::now();
            let changed = self.change(|index| index.drop_by_hand(&chosen, now));
            match changed.await {
                Ok(more) => dropped.extend(more),
                Err(error) if dropped.is_empty() => return Err(error),
                Err(_) => return Ok(dropped),
            }
            if last {
                return Ok(dropped);
            }
        }
    }

    /// Events that are too old become dead letters; dead letters that are too old are dropped. Call it about once a minute,
    /// and again at once if there are more.
    ///
    /// `now` is the wall clock. It is not trusted alone: an event that this process has stored ages by the monotonic clock,
    /// and one that it found in the file is kept for an hour at least, whatever the clock says.
    ///
    /// # Errors
    /// The disk failed, or the queue is closed.
    pub async fn expire(&self, now: SystemTime) -> Result<Expired, QueueError> {
        let now = (Instant::now(), now);
        let changed = self.change(|index| {
            let old = index.too_old(now, PER_COMMIT);
            let (mut changes, mut dropped) = (old.changes, old.dropped);
            let (removals, made_room) = index.room_for_dead_letters();
            changes.extend(removals);
            dropped.extend(made_room);
            let expired = Expired {
                dead: old.dead,
                dropped,
                more: old.more,
            };
            (changes, expired)
        });
        changed.await
    }

    /// Marks events in the index and has the changes written. Where that fails, they are taken back.
    async fn change<T>(
        &self,
        mark: impl FnOnce(&mut QueueIndex) -> (Vec<QueueChange>, T),
    ) -> Result<T, QueueError> {
        let (answer, marked) = {
            let mut index = self.shared.index.lock();
            let (changes, marked) = mark(&mut index);
            if changes.is_empty() {
                return Ok(marked);
            }
            let (reply, answer) = oneshot::channel();
            let command = WriterCommand::Change {
                changes,
                must: false,
                reply,
            };
            if let Err(command) = self.shared.inbox.push(command) {
                take_back(&mut index, command, Instant::now());
                return Err(QueueError::Closed);
            }
            (answer, marked)
        };
        SharedQueue::answer(answer).await.map(|()| marked)
    }
}

/// Events of one commit: the others wait for it.
const PER_COMMIT: usize = 256;

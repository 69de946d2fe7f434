//! What an administrator does with events: retries them, or drops them.

use super::{DeliveryProgress, EventPlace, QueueIndex};
use crate::{
    EventId, EventSummary,
    change::{QueueChange, RemovalReason, Sequence},
};
use std::time::SystemTime;
use tokio::time::Instant;

/// An event that an administrator has chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SelectedEvent {
    Queued(Sequence),
    Dead(Sequence),
}

impl QueueIndex {
    /// Makes an event that waits for its next attempt due now.
    pub(crate) fn make_due(&mut self, sequence: Sequence, now: Instant) -> bool {
        let Some(event) = self.queued.get_mut(&sequence) else {
            return false;
        };
        let waits =
            event.progress == DeliveryProgress::Idle && event.not_before.is_some_and(|at| at > now);
        if waits {
            event.not_before = None;
            let name = event.facts.lane.clone();
            if let Some(lane) = self.lanes.get_mut(&name)
                && let Some((key, _)) = lane.entry.take()
            {
                self.due.remove(&key);
            }
            self.reschedule(&name, now);
        }
        waits
    }

    /// The changes that bring dead letters back to the end of their lanes, as far as there is room.
    pub(crate) fn requeue(&mut self, dead: Vec<Sequence>, wall: SystemTime) -> Vec<QueueChange> {
        let mut changes = Vec::new();
        for dead in dead {
            let Some(event) = self.dead.get(&dead).filter(|event| !event.leaving) else {
                continue;
            };
            let (source, size) = (event.facts.source.clone(), event.facts.size);
            if self.missing_room(&source, size).is_some() {
                continue;
            }
            self.mark_dead_leaving(dead, true);
            self.reserve(&source, size);
            changes.push(QueueChange::Requeue {
                dead,
                sequence: self.next_sequence(),
                retried_at: wall,
            });
        }
        changes
    }

    /// The changes that drop events by hand. What is being delivered stays.
    pub(crate) fn drop_by_hand(
        &mut self,
        selected: &[SelectedEvent],
        now: Instant,
    ) -> (Vec<QueueChange>, Vec<EventSummary>) {
        let (mut changes, mut dropped) = (Vec::new(), Vec::new());
        let why = RemovalReason::ByHand;
        for selected in selected {
            match *selected {
                SelectedEvent::Queued(sequence) => {
                    let event = self.queued.get(&sequence);
                    if let Some(event) =
                        event.filter(|event| event.progress == DeliveryProgress::Idle)
                    {
                        dropped.push(event.summary(Some(now)));
                        changes.push(QueueChange::Remove { sequence, why });
                        self.mark_leaving(sequence, now);
                    }
                }
                SelectedEvent::Dead(dead) => {
                    if let Some(event) = self.dead.get(&dead).filter(|event| !event.leaving) {
                        dropped.push(event.summary());
                        changes.push(QueueChange::RemoveDead { dead, why });
                        self.mark_dead_leaving(dead, true);
                    }
                }
            }
        }
        (changes, dropped)
    }

    /// The event with this id.
    pub(crate) fn selected(&self, id: EventId) -> Option<SelectedEvent> {
        match self.ids.get(&id)? {
            EventPlace::Queued(sequence) => Some(SelectedEvent::Queued(*sequence)),
            EventPlace::Dead(dead) => Some(SelectedEvent::Dead(*dead)),
            EventPlace::Storing(_) => None,
        }
    }

    /// The oldest dead letters that no commit changes.
    pub(crate) fn oldest_dead(&self, after: Option<Sequence>, most: usize) -> Vec<Sequence> {
        let from = after.map_or(0, |after| after.saturating_add(1));
        let idle = self.dead.range(from..).filter(|(_, event)| !event.leaving);
        idle.map(|(dead, _)| *dead).take(most).collect()
    }
}

//! What becomes of an event: its attempt fails, or a commit takes it away.

use super::{DeliveryProgress, EventAge, EventPlace, QueueIndex};
use crate::{
    EventSummary,
    change::{DeathDetails, QueueChange, RemovalReason, Sequence},
};
use std::time::SystemTime;
use tokio::time::Instant;

impl QueueIndex {
    /// The attempt failed: its lane waits until `not_before`.
    pub(crate) fn failed(&mut self, sequence: Sequence, why: &str, not_before: Instant) {
        let Some(event) = self.leased(sequence) else {
            return;
        };
        event.progress = DeliveryProgress::Idle;
        event.attempts = event.attempts.saturating_add(1);
        event.not_before = Some(not_before);
        let why = shortened(why);
        event.last_error = Some(why.as_str().into());
        let lane = event.facts.lane.clone();
        self.last_error = Some(why.into());
        self.totals.failed_attempts += 1;
        self.reschedule(&lane, not_before);
    }

    /// There was no attempt: it is due again from `due` on.
    pub(crate) fn release_lease(&mut self, sequence: Sequence, due: Instant) {
        if let Some(event) = self.leased(sequence) {
            event.progress = DeliveryProgress::Idle;
            let lane = event.facts.lane.clone();
            self.reschedule(&lane, due);
        }
    }

    /// The change that ends a leased event: it is held as leaving until that is on disk.
    pub(crate) fn end_lease(
        &mut self,
        sequence: Sequence,
        end: LeaseEnd<'_>,
        (now, wall): (Instant, SystemTime),
    ) -> Option<QueueChange> {
        let event = self.leased(sequence)?;
        event.progress = DeliveryProgress::Idle;
        // The attempt that ended it counts.
        let attempts = event.attempts.saturating_add(1);
        self.mark_leaving(sequence, now);
        Some(match end {
            LeaseEnd::Delivered => QueueChange::Remove {
                sequence,
                why: RemovalReason::Delivered,
            },
            LeaseEnd::Dead(why) => {
                self.totals.failed_attempts += 1;
                self.last_error = Some(shortened(why).into());
                self.dead_letter(sequence, attempts, shortened(why), wall)
            }
        })
    }

    pub(super) fn dead_letter(
        &mut self,
        sequence: Sequence,
        attempts: u32,
        why: String,
        died_at: SystemTime,
    ) -> QueueChange {
        let size = self
            .queued
            .get(&sequence)
            .map_or(0, |event| event.facts.size);
        self.dead_arriving_bytes = self.dead_arriving_bytes.saturating_add(size);
        QueueChange::MoveToDead {
            sequence,
            dead: self.next_sequence(),
            details: DeathDetails {
                died_at,
                attempts,
                why,
            },
        }
    }

    fn leased(&mut self, sequence: Sequence) -> Option<&mut super::QueuedEvent> {
        let event = self.queued.get_mut(&sequence);
        event.filter(|event| event.progress == DeliveryProgress::Leased)
    }

    /// A commit is to remove this event: it is not leased meanwhile, and its room counts as free for the same commit.
    pub(crate) fn mark_leaving(&mut self, sequence: Sequence, now: Instant) {
        let event = self.queued.get_mut(&sequence);
        if let Some(event) = event.filter(|event| event.progress == DeliveryProgress::Idle) {
            event.progress = DeliveryProgress::Leaving;
            let (lane, size) = (event.facts.lane.clone(), event.facts.size);
            let source = event.facts.source.clone();
            self.count_leaving(&source, size, true);
            self.reschedule(&lane, now);
        }
    }

    /// That commit failed, and is not repeated.
    pub(crate) fn unmark_leaving(&mut self, sequence: Sequence, now: Instant) {
        let event = self.queued.get_mut(&sequence);
        if let Some(event) = event.filter(|event| event.progress == DeliveryProgress::Leaving) {
            event.progress = DeliveryProgress::Idle;
            let (lane, size) = (event.facts.lane.clone(), event.facts.size);
            let source = event.facts.source.clone();
            self.count_leaving(&source, size, false);
            self.reschedule(&lane, now);
        }
    }

    pub(super) fn mark_dead_leaving(&mut self, dead: Sequence, leaving: bool) {
        if let Some(event) = self.dead.get_mut(&dead)
            && event.leaving != leaving
        {
            event.leaving = leaving;
            let (bytes, size) = (self.dead_leaving_bytes, event.facts.size);
            self.dead_leaving_bytes = match leaving {
                true => bytes.saturating_add(size),
                false => bytes.saturating_sub(size),
            };
        }
    }

    /// The oldest dead letters that must go so that all unfinished burials keep the bound, as changes of the same commit. A
    /// letter that is being buried always stays.
    pub(crate) fn room_for_dead_letters(&mut self) -> (Vec<QueueChange>, Vec<EventSummary>) {
        let kept = self.dead_bytes.saturating_sub(self.dead_leaving_bytes);
        let mut kept = kept.saturating_add(self.dead_arriving_bytes);
        let (mut removals, mut dropped) = (Vec::new(), Vec::new());
        for (dead, event) in self.dead.iter().filter(|(_, event)| !event.leaving) {
            if kept <= self.limits.max_dead_bytes {
                break;
            }
            kept = kept.saturating_sub(event.facts.size);
            dropped.push(event.summary());
            removals.push(*dead);
        }
        for dead in &removals {
            self.mark_dead_leaving(*dead, true);
        }
        let removal = |dead| QueueChange::RemoveDead {
            dead,
            why: RemovalReason::DeadBounds,
        };
        (removals.into_iter().map(removal).collect(), dropped)
    }

    fn forget_arriving(&mut self, sequence: Sequence) {
        let size = self
            .queued
            .get(&sequence)
            .map_or(0, |event| event.facts.size);
        self.dead_arriving_bytes = self.dead_arriving_bytes.saturating_sub(size);
    }

    /// The file has this change now.
    pub(crate) fn applied(&mut self, change: &QueueChange, now: Instant) {
        change.count(&mut self.totals);
        match change {
            QueueChange::Store {
                sequence,
                head,
                size,
                ..
            } => {
                let facts = self.facts(head, *size);
                let age = EventAge::stored(head.received_at, now);
                self.insert_queued(*sequence, facts, age, now);
            }
            QueueChange::Remove { sequence, why } => {
                if *why == RemovalReason::Delivered {
                    self.last_error = None;
                }
                self.take_queued(*sequence, now);
                // An event that made room is the loss that people must see.
                if *why != RemovalReason::MadeRoom {
                    self.clear_full();
                }
            }
            QueueChange::MoveToDead {
                sequence,
                dead,
                details,
            } => {
                self.forget_arriving(*sequence);
                let Some(event) = self.take_queued(*sequence, now) else {
                    return;
                };
                self.clear_full();
                // Loaded already, if an earlier try of this commit was reported as failed but was not.
                if self.dead.contains_key(dead) {
                    self.ids
                        .entry(event.facts.id)
                        .or_insert(EventPlace::Dead(*dead));
                    return;
                }
                let age = EventAge::stored(details.died_at, now);
                self.insert_dead(*dead, event.facts, age, details.clone());
            }
            QueueChange::RemoveDead { dead, .. } => {
                self.take_dead(*dead);
            }
            QueueChange::Requeue {
                dead,
                sequence,
                retried_at,
            } => {
                if let Some(event) = self.take_dead(*dead) {
                    let age = EventAge::stored(*retried_at, now);
                    self.insert_queued(*sequence, event.facts, age, now);
                }
            }
        }
    }

    /// The file does not have this change, and will not.
    pub(crate) fn reverted(&mut self, change: &QueueChange, now: Instant) {
        match change {
            QueueChange::Store {
                sequence,
                head,
                size,
                ..
            } => self.give_back(head, *sequence, *size),
            QueueChange::Remove { sequence, .. } => self.unmark_leaving(*sequence, now),
            QueueChange::MoveToDead { sequence, .. } => {
                self.forget_arriving(*sequence);
                self.unmark_leaving(*sequence, now);
            }
            QueueChange::RemoveDead { dead, .. } => self.mark_dead_leaving(*dead, false),
            QueueChange::Requeue { dead, .. } => {
                self.mark_dead_leaving(*dead, false);
                if let Some(event) = self.dead.get(dead) {
                    let (source, size) = (event.facts.source.clone(), event.facts.size);
                    self.release(&source, size);
                }
            }
        }
    }
}

/// How a lease ended permanently.
#[derive(Clone, Copy)]
pub(crate) enum LeaseEnd<'a> {
    Delivered,
    Dead(&'a str),
}

/// The text of an error is kept for each waiting event, so that its length counts against the memory of the index.
fn shortened(why: &str) -> String {
    agent_base::printable::printable_within(why, MAX_ERROR)
}

/// Bytes of an error that are kept.
const MAX_ERROR: usize = 200;

//! Whether there is room for an event, and what makes room.

use super::{DeliveryProgress, EventPlace, FullState, QueueIndex, SpaceUsage};
use crate::{
    EventHead, EventSummary, QueueBound, WhenFull,
    change::{QueueChange, RemovalReason, Sequence},
};
use std::{sync::Arc, time::SystemTime};
use tokio::time::Instant;

/// What is to be done with an event that was received.
pub(crate) enum AdmissionOutcome {
    /// Its room is reserved under this sequence. The changes remove the events that make room.
    Store {
        sequence: Sequence,
        removals: Vec<QueueChange>,
        dropped: Vec<EventSummary>,
    },
    /// It is here already, or will be after the same commit.
    Repeated,
    /// There is no room.
    Full(QueueBound),
}

impl QueueIndex {
    /// Reserves room for an event. What it returns must be followed by [`applied`](Self::applied) or
    /// [`reverted`](Self::reverted) for each change.
    pub(crate) fn admit(
        &mut self,
        head: &EventHead,
        size: u64,
        (now, wall): (Instant, SystemTime),
    ) -> AdmissionOutcome {
        if self.ids.contains_key(&head.id) {
            self.totals.repeated += 1;
            return AdmissionOutcome::Repeated;
        }
        let marked = match self.make_room(&head.source, size, now) {
            Ok(marked) => marked,
            Err(NoRoom(bound)) => {
                self.totals.refused_full += 1;
                self.note_full(bound, &head.source, wall);
                return AdmissionOutcome::Full(bound);
            }
        };
        match marked.bound {
            Some(bound) => self.note_full(bound, &head.source, wall),
            None => self.clear_full(),
        }
        let source: Arc<str> = match self.sources.get_key_value(head.source.as_str()) {
            Some((known, _)) => known.clone(),
            None => head.source.as_str().into(),
        };
        self.reserve(&source, size);
        let sequence = self.next_sequence();
        self.ids.insert(head.id, EventPlace::Storing(sequence));
        let removal = |sequence: &Sequence| QueueChange::Remove {
            sequence: *sequence,
            why: RemovalReason::MadeRoom,
        };
        let summaries = marked.to_drop.iter().filter_map(|oldest| {
            let event = self.queued.get(oldest)?;
            Some(event.summary(None))
        });
        AdmissionOutcome::Store {
            sequence,
            dropped: summaries.collect(),
            removals: marked.to_drop.iter().map(removal).collect(),
        }
    }

    /// Gives back what [`admit`](Self::admit) has reserved for an event that was not stored.
    pub(super) fn give_back(&mut self, head: &EventHead, sequence: Sequence, size: u64) {
        self.forget_id(head.id, EventPlace::Storing(sequence));
        self.release(&head.source, size);
    }

    /// Whether an event fits without dropping another.
    pub(super) fn missing_room(&self, source: &str, size: u64) -> Option<QueueBound> {
        let of_source = self.sources.get(source).copied().unwrap_or_default();
        let beyond = |used: u64, most: u64| used.saturating_add(size) > most;
        if beyond(
            of_source.remaining_bytes(),
            self.limits.max_bytes_per_source,
        ) {
            Some(QueueBound::BytesOfSource)
        } else if beyond(self.usage.remaining_bytes(), self.limits.max_bytes) {
            Some(QueueBound::Bytes)
        } else if self.usage.remaining_events() >= self.limits.max_events {
            Some(QueueBound::Events)
        } else {
            None
        }
    }

    fn make_room(&mut self, source: &str, size: u64, now: Instant) -> Result<RoomMade, NoRoom> {
        let mut marked = RoomMade::default();
        // No number of dropped events makes room for it.
        if size > self.limits.max_bytes_per_source {
            return Err(NoRoom(QueueBound::BytesOfSource));
        } else if size > self.limits.max_bytes {
            return Err(NoRoom(QueueBound::Bytes));
        }
        // The search continues where it ended, and restarts for another bound.
        let mut from = 0;
        while let Some(bound) = self.missing_room(source, size) {
            if marked.bound != Some(bound) {
                from = 0;
            }
            let oldest = match self.limits.when_full {
                WhenFull::DropOldest => self.oldest_idle(bound, source, from),
                WhenFull::Refuse => None,
            };
            let Some(oldest) = oldest else {
                for oldest in marked.to_drop {
                    self.unmark_leaving(oldest, now);
                }
                return Err(NoRoom(bound));
            };
            self.mark_leaving(oldest, now);
            from = oldest;
            marked.to_drop.push(oldest);
            marked.bound = Some(bound);
        }
        Ok(marked)
    }

    /// One that is being delivered makes no room: it may have arrived.
    fn oldest_idle(&self, bound: QueueBound, source: &str, from: Sequence) -> Option<Sequence> {
        let candidates = self.queued.range(from..);
        let mut idle = candidates.filter(|(_, event)| event.progress == DeliveryProgress::Idle);
        let found = match bound {
            QueueBound::BytesOfSource => idle.find(|(_, event)| *event.facts.source == *source),
            QueueBound::Bytes | QueueBound::Events => idle.next(),
        };
        found.map(|(sequence, _)| *sequence)
    }

    fn note_full(&mut self, bound: QueueBound, source: &str, wall: SystemTime) {
        let since = self.full.as_ref().map_or(wall, |full| full.since);
        self.full = Some(FullState {
            since,
            bound,
            source: source.into(),
        });
    }

    /// Not full any more: a tenth of the bound is free.
    pub(super) fn clear_full(&mut self) {
        let Some(full) = &self.full else { return };
        let of_source = self.sources.get(&full.source).copied().unwrap_or_default();
        let (used, most) = match full.bound {
            QueueBound::Bytes => (self.usage.bytes, self.limits.max_bytes),
            QueueBound::BytesOfSource => (of_source.bytes, self.limits.max_bytes_per_source),
            QueueBound::Events => (self.usage.events as u64, self.limits.max_events as u64),
        };
        if used <= most - most / 10 {
            self.full = None;
        }
    }

    pub(super) fn reserve(&mut self, source: &Arc<str>, size: u64) {
        let of_source = self.sources.entry(source.clone()).or_default();
        for usage in [&mut self.usage, of_source] {
            usage.bytes = usage.bytes.saturating_add(size);
            usage.events += 1;
        }
    }

    pub(super) fn release(&mut self, source: &str, size: u64) {
        let free = |usage: &mut SpaceUsage| {
            usage.bytes = usage.bytes.saturating_sub(size);
            usage.events = usage.events.saturating_sub(1);
        };
        free(&mut self.usage);
        if let Some(of_source) = self.sources.get_mut(source) {
            free(of_source);
            if of_source.events == 0 {
                self.sources.remove(source);
            }
        }
    }

    pub(super) fn count_leaving(&mut self, source: &str, size: u64, leaving: bool) {
        let of_source = self.sources.get_mut(source);
        for usage in [Some(&mut self.usage), of_source].into_iter().flatten() {
            match leaving {
                true => {
                    usage.leaving_bytes = usage.leaving_bytes.saturating_add(size);
                    usage.leaving_events += 1;
                }
                false => {
                    usage.leaving_bytes = usage.leaving_bytes.saturating_sub(size);
                    usage.leaving_events = usage.leaving_events.saturating_sub(1);
                }
            }
        }
    }
}

/// Events that are to make room, and the last bound that they made it for.
#[derive(Default)]
struct RoomMade {
    to_drop: Vec<Sequence>,
    bound: Option<QueueBound>,
}

struct NoRoom(QueueBound);

//! The queue in memory: which events there are, which may be leased, and which bounds are reached. Pure: no disk, and the
//! clocks are arguments. Bodies, targets and headers stay in the file.
//!
//! An event takes about 400 bytes here, so that `max_events` bounds the whole. Nothing here changes before the file has:
//! a change is reserved or marked first (`admit`, `mark_leaving`), then applied or taken back.

mod admission;
mod by_hand;
mod expiry;
mod settling;
mod turns;
mod views;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

use crate::{
    EventHead, EventId, QueueBound, QueueLimits, QueueTotals,
    change::{DeathDetails, Sequence},
};
use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

pub(crate) use admission::AdmissionOutcome;
pub(crate) use by_hand::SelectedEvent;
pub(crate) use settling::LeaseEnd;

/// All events of a queue, without their bodies.
pub(crate) struct QueueIndex {
    pub(crate) limits: QueueLimits,
    pub(crate) totals: QueueTotals,
    /// Why the file cannot be written right now.
    pub(crate) disk_error: Option<String>,
    queued: BTreeMap<Sequence, QueuedEvent>,
    dead: BTreeMap<Sequence, DeadEvent>,
    ids: HashMap<EventId, EventPlace>,
    lanes: HashMap<Arc<str>, EventLane>,
    /// The lanes whose head may be leased: from when, and their turn among those of the same time.
    due: BTreeMap<(Instant, u64), Arc<str>>,
    usage: SpaceUsage,
    /// Of each sender with queued events.
    sources: HashMap<Arc<str>, SpaceUsage>,
    dead_bytes: u64,
    /// Bytes of dead letters that the next commits remove.
    dead_leaving_bytes: u64,
    /// Bytes of queued events that the next commits make dead letters.
    dead_arriving_bytes: u64,
    full: Option<FullState>,
    last_error: Option<Arc<str>>,
    next_sequence: Sequence,
    next_turn: u64,
}

/// Where the event with an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventPlace {
    /// Reserved, not on disk yet.
    Storing(Sequence),
    Queued(Sequence),
    Dead(Sequence),
}

/// What is known of an event as long as it is here.
#[derive(Clone, Debug)]
struct EventFacts {
    id: EventId,
    received_at: SystemTime,
    lane: Arc<str>,
    event_type: Option<Box<str>>,
    issue_key: Option<Box<str>>,
    source: Arc<str>,
    body_bytes: u64,
    /// Bytes that it counts for.
    size: u64,
}

struct QueuedEvent {
    facts: EventFacts,
    age: EventAge,
    progress: DeliveryProgress,
    attempts: u32,
    last_error: Option<Arc<str>>,
    not_before: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DeliveryProgress {
    Idle,
    Leased,
    /// A commit removes it, or is to be repeated until it does.
    Leaving,
}

struct DeadEvent {
    facts: EventFacts,
    age: EventAge,
    details: DeathDetails,
    leaving: bool,
}

/// How old an event is. Clocks jump, so two are asked: see [`EventAge::at_least`].
#[derive(Clone, Copy, Debug)]
struct EventAge {
    /// When this process first saw it.
    seen: Instant,
    /// The time by the wall clock from which its age counts.
    since: SystemTime,
    /// What the wall clock said of its age when this process loaded it. `None`: this process stored it.
    before: Option<Duration>,
}

/// Events of one lane, in order.
#[derive(Default)]
struct EventLane {
    events: VecDeque<Sequence>,
    /// The head's entry in `due`, and which head that was.
    entry: Option<((Instant, u64), Sequence)>,
}

#[derive(Clone, Copy, Debug, Default)]
struct SpaceUsage {
    bytes: u64,
    events: usize,
    /// The part that the next commits remove.
    leaving_bytes: u64,
    leaving_events: usize,
}

impl SpaceUsage {
    fn remaining_bytes(self) -> u64 {
        self.bytes.saturating_sub(self.leaving_bytes)
    }

    fn remaining_events(self) -> usize {
        self.events.saturating_sub(self.leaving_events)
    }
}

/// Since when events are refused or dropped, and by which bound.
struct FullState {
    since: SystemTime,
    bound: QueueBound,
    source: Arc<str>,
}

impl QueueIndex {
    pub(crate) fn new(limits: QueueLimits, totals: QueueTotals) -> Self {
        Self {
            limits,
            totals,
            disk_error: None,
            queued: BTreeMap::new(),
            dead: BTreeMap::new(),
            ids: HashMap::new(),
            lanes: HashMap::new(),
            due: BTreeMap::new(),
            usage: SpaceUsage::default(),
            sources: HashMap::new(),
            dead_bytes: 0,
            dead_leaving_bytes: 0,
            dead_arriving_bytes: 0,
            full: None,
            last_error: None,
            next_sequence: 0,
            next_turn: 0,
        }
    }

    /// Takes an event from the file, at the start or after the file was opened again. One that is known stays as it is.
    pub(crate) fn load_queued(
        &mut self,
        sequence: Sequence,
        head: &EventHead,
        size: u64,
        now: (Instant, SystemTime),
    ) {
        self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
        if self.queued.contains_key(&sequence) {
            return;
        }
        let age = EventAge::loaded(head.retried_at.unwrap_or(head.received_at), now);
        let facts = self.facts(head, size);
        self.reserve(&facts.source, size);
        self.insert_queued(sequence, facts, age, now.0);
    }

    /// The same of a dead letter.
    pub(crate) fn load_dead(
        &mut self,
        dead: Sequence,
        head: &EventHead,
        size: u64,
        details: DeathDetails,
        now: (Instant, SystemTime),
    ) {
        self.next_sequence = self.next_sequence.max(dead.saturating_add(1));
        if self.dead.contains_key(&dead) {
            return;
        }
        let age = EventAge::loaded(details.died_at, now);
        let facts = self.facts(head, size);
        self.insert_dead(dead, facts, age, details);
    }

    /// Forgets what the file does not have: a commit that was reported as failed had changed it all the same. What is
    /// leaving stays until its commit is repeated.
    pub(crate) fn forget_missing(
        &mut self,
        is_queued: impl Fn(Sequence) -> bool,
        is_dead: impl Fn(Sequence) -> bool,
        now: Instant,
    ) {
        let missing = |(sequence, event): (&Sequence, &QueuedEvent)| {
            let gone = event.progress != DeliveryProgress::Leaving && !is_queued(*sequence);
            gone.then_some(*sequence)
        };
        let queued: Vec<_> = self.queued.iter().filter_map(missing).collect();
        for sequence in queued {
            self.take_queued(sequence, now);
        }
        let missing = |(dead, event): (&Sequence, &DeadEvent)| {
            (!event.leaving && !is_dead(*dead)).then_some(*dead)
        };
        let dead: Vec<_> = self.dead.iter().filter_map(missing).collect();
        for dead in dead {
            self.take_dead(dead);
        }
    }

    /// A place that no event has had in this process.
    pub(crate) fn next_sequence(&mut self) -> Sequence {
        let sequence = self.next_sequence;
        self.next_sequence = sequence.saturating_add(1);
        sequence
    }

    fn facts(&self, head: &EventHead, size: u64) -> EventFacts {
        let shared = |known: Option<Arc<str>>, text: &str| known.unwrap_or_else(|| text.into());
        let lane = self.lanes.get_key_value(head.lane.as_str());
        let source = self.sources.get_key_value(head.source.as_str());
        EventFacts {
            id: head.id,
            received_at: head.received_at,
            lane: shared(lane.map(|(name, _)| name.clone()), &head.lane),
            event_type: head.event_type.as_deref().map(Into::into),
            issue_key: head.issue_key.as_deref().map(Into::into),
            source: shared(source.map(|(name, _)| name.clone()), &head.source),
            body_bytes: head.body_bytes,
            size,
        }
    }

    /// Its bytes are reserved already.
    fn insert_queued(
        &mut self,
        sequence: Sequence,
        facts: EventFacts,
        age: EventAge,
        now: Instant,
    ) {
        let lane = facts.lane.clone();
        let place = self
            .ids
            .entry(facts.id)
            .or_insert(EventPlace::Queued(sequence));
        if *place == EventPlace::Storing(sequence) {
            *place = EventPlace::Queued(sequence);
        }
        let event = QueuedEvent {
            facts,
            age,
            progress: DeliveryProgress::Idle,
            attempts: 0,
            last_error: None,
            not_before: None,
        };
        self.queued.insert(sequence, event);
        let events = &mut self.lanes.entry(lane.clone()).or_default().events;
        // At the end, but for one that is found when the file is opened again.
        let at = events.partition_point(|other| *other < sequence);
        events.insert(at, sequence);
        self.reschedule(&lane, now);
    }

    fn insert_dead(
        &mut self,
        dead: Sequence,
        facts: EventFacts,
        age: EventAge,
        details: DeathDetails,
    ) {
        self.ids.entry(facts.id).or_insert(EventPlace::Dead(dead));
        self.dead_bytes = self.dead_bytes.saturating_add(facts.size);
        let event = DeadEvent {
            facts,
            age,
            details,
            leaving: false,
        };
        self.dead.insert(dead, event);
    }

    /// Takes an event out, whatever its state, and frees its bytes.
    fn take_queued(&mut self, sequence: Sequence, now: Instant) -> Option<QueuedEvent> {
        let event = self.queued.remove(&sequence)?;
        if event.progress == DeliveryProgress::Leaving {
            self.count_leaving(&event.facts.source, event.facts.size, false);
        }
        self.release(&event.facts.source, event.facts.size);
        self.forget_id(event.facts.id, EventPlace::Queued(sequence));
        if let Some(lane) = self.lanes.get_mut(&event.facts.lane)
            && let Ok(at) = lane.events.binary_search(&sequence)
        {
            lane.events.remove(at);
        }
        self.reschedule(&event.facts.lane, now);
        Some(event)
    }

    fn take_dead(&mut self, dead: Sequence) -> Option<DeadEvent> {
        let event = self.dead.remove(&dead)?;
        self.dead_bytes = self.dead_bytes.saturating_sub(event.facts.size);
        if event.leaving {
            self.dead_leaving_bytes = self.dead_leaving_bytes.saturating_sub(event.facts.size);
        }
        self.forget_id(event.facts.id, EventPlace::Dead(dead));
        Some(event)
    }

    /// Only if it is of this place: a file may hold an event twice, after a commit that was reported as failed.
    fn forget_id(&mut self, id: EventId, place: EventPlace) {
        if self.ids.get(&id) == Some(&place) {
            self.ids.remove(&id);
        }
    }
}

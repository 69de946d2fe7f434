//! What people see of the index.

use super::{DeadEvent, DeliveryProgress, EventFacts, EventPlace, QueueIndex, QueuedEvent};
use crate::{EventId, EventState, EventSummary, ListFilter, QueueFigures};
use std::time::SystemTime;
use tokio::time::Instant;

impl QueueIndex {
    /// The queue in numbers.
    pub(crate) fn figures(&self, now: Instant) -> QueueFigures {
        // What is due later has failed before.
        let later = self.due.range((now, u64::MAX)..).next();
        QueueFigures {
            events: self.queued.len(),
            bytes: self.usage.bytes,
            max_bytes: self.limits.max_bytes,
            max_events: self.limits.max_events,
            oldest_received: self.oldest_received(),
            next_attempt: later.map(|((at, _), _)| *at),
            last_error: self.last_error.as_deref().map(Into::into),
            dead_events: self.dead.len(),
            dead_bytes: self.dead_bytes,
            full_since: self.full.as_ref().map(|full| (full.since, full.bound)),
            disk_error: self.disk_error.clone(),
            totals: self.totals,
        }
    }

    /// Whether all events are delivered or dead.
    pub(crate) fn has_no_queued(&self) -> bool {
        self.queued.is_empty()
    }

    /// That of the first in the order: a dead letter that was retried counts as new.
    fn oldest_received(&self) -> Option<SystemTime> {
        let (_, oldest) = self.queued.first_key_value()?;
        Some(oldest.age.since())
    }

    /// Events in their order, queued ones first.
    pub(crate) fn list(
        &self,
        what: ListFilter,
        after: Option<EventId>,
        limit: usize,
        now: Instant,
    ) -> Vec<EventSummary> {
        let after = after.and_then(|id| self.ids.get(&id).copied());
        let (queued, dead) = match what {
            ListFilter::All => (true, true),
            ListFilter::Queued => (true, false),
            ListFilter::Dead => (false, true),
        };
        // From where on, in each table.
        let (from_queued, from_dead) = match after {
            Some(EventPlace::Queued(sequence)) => (Some(sequence.saturating_add(1)), Some(0)),
            Some(EventPlace::Dead(sequence)) => (None, Some(sequence.saturating_add(1))),
            Some(EventPlace::Storing(_)) | None => (Some(0), Some(0)),
        };
        let queued_events = from_queued.filter(|_| queued).into_iter().flat_map(|from| {
            let events = self.queued.range(from..);
            events.map(move |(_, event)| event.summary(Some(now)))
        });
        let dead_events = from_dead.filter(|_| dead).into_iter().flat_map(|from| {
            let events = self.dead.range(from..);
            events.map(|(_, event)| event.summary())
        });
        queued_events.chain(dead_events).take(limit).collect()
    }

    /// One event.
    pub(crate) fn find(&self, id: EventId, now: Instant) -> Option<EventSummary> {
        match self.ids.get(&id)? {
            EventPlace::Queued(sequence) => {
                let event = self.queued.get(sequence)?;
                Some(event.summary(Some(now)))
            }
            EventPlace::Dead(dead) => Some(self.dead.get(dead)?.summary()),
            EventPlace::Storing(_) => None,
        }
    }
}

impl QueuedEvent {
    /// Without `now`, the event is about to leave.
    pub(super) fn summary(&self, now: Option<Instant>) -> EventSummary {
        let next_attempt = self
            .not_before
            .filter(|at| now.is_some_and(|now| *at > now));
        let state = match self.progress {
            DeliveryProgress::Leased => EventState::Delivering,
            DeliveryProgress::Idle | DeliveryProgress::Leaving if next_attempt.is_some() => {
                EventState::Waiting
            }
            DeliveryProgress::Idle | DeliveryProgress::Leaving => EventState::Queued,
        };
        EventSummary {
            attempts: self.attempts,
            last_error: self.last_error.as_deref().map(Into::into),
            next_attempt,
            ..self.facts.summary(state)
        }
    }
}

impl DeadEvent {
    pub(super) fn summary(&self) -> EventSummary {
        EventSummary {
            attempts: self.details.attempts,
            last_error: Some(self.details.why.clone()),
            died_at: Some(self.details.died_at),
            ..self.facts.summary(EventState::Dead)
        }
    }
}

impl EventFacts {
    fn summary(&self, state: EventState) -> EventSummary {
        EventSummary {
            id: self.id,
            state,
            received_at: self.received_at,
            lane: self.lane.as_ref().to_owned(),
            event_type: self.event_type.as_deref().map(Into::into),
            issue_key: self.issue_key.as_deref().map(Into::into),
            source: self.source.as_ref().to_owned(),
            body_bytes: self.body_bytes,
            attempts: 0,
            last_error: None,
            next_attempt: None,
            died_at: None,
        }
    }
}

//! Whose turn it is. Each lane offers its head; lanes take turns, so that none starves another.

use super::{DeliveryProgress, QueueIndex};
use crate::{DueEvents, change::Sequence};
use tokio::time::Instant;

impl QueueIndex {
    /// Whether there is something to lease.
    pub(crate) fn due(&self, now: Instant) -> DueEvents {
        match self.due.first_key_value() {
            Some(((at, _), _)) if *at <= now => DueEvents::Now,
            Some(((at, _), _)) => DueEvents::At(*at),
            None => DueEvents::Nothing,
        }
    }

    /// Lends the head that has been due for longest; and the number of this attempt.
    pub(crate) fn lease(&mut self, now: Instant) -> Option<(Sequence, u32)> {
        let (key, lane) = self.due.first_key_value()?;
        if key.0 > now {
            return None;
        }
        let lane = lane.clone();
        let (_, sequence) = self.lanes.get(&lane)?.entry?;
        let event = self.queued.get_mut(&sequence)?;
        event.progress = DeliveryProgress::Leased;
        let attempt = event.attempts.saturating_add(1);
        self.reschedule(&lane, now);
        Some((sequence, attempt))
    }

    /// Makes the entry of a lane that which its head asks for. A lane without events is forgotten. A head that is in its
    /// place keeps its turn.
    pub(super) fn reschedule(&mut self, name: &str, now: Instant) {
        let Some(lane) = self.lanes.get_mut(name) else {
            return;
        };
        let head = lane.events.front().copied();
        let waits = |sequence: Sequence| {
            let event = self.queued.get(&sequence)?;
            let idle = event.progress == DeliveryProgress::Idle;
            idle.then_some((sequence, event.not_before))
        };
        let wanted = head.and_then(waits);
        if let (Some((_, entry)), Some((sequence, _))) = (lane.entry, wanted)
            && entry == sequence
        {
            return;
        }
        if let Some((key, _)) = lane.entry.take() {
            self.due.remove(&key);
        }
        if let Some((sequence, not_before)) = wanted {
            let key = (not_before.unwrap_or(now), self.next_turn);
            self.next_turn = self.next_turn.saturating_add(1);
            lane.entry = Some((key, sequence));
            let shared = self
                .queued
                .get(&sequence)
                .map(|event| event.facts.lane.clone());
            self.due.insert(key, shared.unwrap_or_else(|| name.into()));
        } else if head.is_none() {
            self.lanes.remove(name);
        }
    }
}

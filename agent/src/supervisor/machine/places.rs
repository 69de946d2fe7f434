//! Which session holds which slot number of a forward whose bind names the slot. A new session takes another number than
//! all others of this agent, so that it never waits for the place of a session that is dead or drains.

use super::SessionId;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// The slot numbers of this agent, and who has them.
#[derive(Default)]
pub(super) struct PlaceBook {
    /// The numbers that may be used, in the order of preference.
    slots: Vec<u16>,
    /// The forwards whose bind names the slot.
    slotted: BTreeSet<usize>,
    /// By forward and slot number: the session that holds or requests it.
    taken: BTreeMap<(usize, u16), SessionId>,
    /// By gateway, forward and slot number: not to be asked for before this.
    refused: BTreeMap<(usize, usize, u16), Duration>,
    /// By forward and slot number: a session ended here without releasing it. The gateway may not know that, so others
    /// are preferred until this.
    left: BTreeMap<(usize, u16), Duration>,
    /// Another process of this agent may use these numbers.
    others: BTreeSet<u16>,
}

/// Which numbers of the range a process may ask for, while two processes of one agent run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum SlotShare {
    /// All of them: it is alone.
    All,
    /// Those that it holds now.
    Held,
    /// All but these, which the other process holds.
    Except(BTreeSet<u16>),
}

impl PlaceBook {
    /// Sets what the configuration says. Numbers that are held stay with their sessions.
    pub(super) fn configure(&mut self, slots: Vec<u16>, slotted: &[usize]) {
        self.slots = slots;
        self.slotted = slotted.iter().copied().collect();
        self.refused.clear();
        self.left.clear();
    }

    /// Divides the numbers with another process of this agent. What is held stays held.
    pub(super) fn share(&mut self, share: SlotShare) {
        let held = self.held();
        let all = self.slots.iter().copied();
        self.others = match share {
            SlotShare::All => BTreeSet::new(),
            SlotShare::Held => all.filter(|slot| !held.contains(slot)).collect(),
            SlotShare::Except(others) => others,
        };
    }

    /// The numbers that sessions hold or have requested.
    pub(super) fn held(&self) -> BTreeSet<u16> {
        self.taken.keys().map(|(_, slot)| *slot).collect()
    }

    /// Whether each session has a place of its own for this forward.
    pub(super) fn is_slotted(&self, forward: usize) -> bool {
        self.slotted.contains(&forward)
    }

    /// Takes a number that no session of ours has and that was not refused lately, for one request: the lowest, and after
    /// those the ones where a session has just ended. `None` for a forward without slots, whose place is shared.
    pub(super) fn take(
        &mut self,
        now: Duration,
        id: SessionId,
        gateway: usize,
        forward: usize,
    ) -> Result<Option<u16>, PlaceShortage> {
        if !self.is_slotted(forward) {
            return Ok(None);
        }
        if !self.has_free(now, gateway, forward) {
            self.forget_refusals(now, gateway, forward);
        }
        let left = |slot: &u16| {
            let until = self.left.get(&(forward, *slot)).copied();
            until.filter(|until| *until > now)
        };
        // `min_by_key` returns the first of equals.
        let free = self.free(now, gateway, forward).min_by_key(left);
        let free = free.ok_or_else(|| self.shortage(forward))?;
        self.left.remove(&(forward, free));
        self.taken.insert((forward, free), id);
        Ok(Some(free))
    }

    /// The number that this session has, if it has one.
    pub(super) fn slot_of(&self, id: SessionId, forward: usize) -> Option<u16> {
        let mut taken = self.taken.iter();
        taken
            .find(|((of, _), holder)| *of == forward && **holder == id)
            .map(|((_, slot), _)| *slot)
    }

    /// The gateway has refused this session's place, or somebody else has it. Returns whether another number is free; if
    /// none is, all are free to be asked for again after the caller's wait.
    pub(super) fn refuse(
        &mut self,
        now: Duration,
        id: SessionId,
        gateway: usize,
        forward: usize,
    ) -> bool {
        let Some(slot) = self.slot_of(id, forward) else {
            return false;
        };
        self.taken.remove(&(forward, slot));
        self.refused
            .insert((gateway, forward, slot), now + REFUSED_LATELY);
        if self.has_free(now, gateway, forward) {
            return true;
        }
        self.forget_refusals(now, gateway, forward);
        false
    }

    /// This session's place is lost. It keeps the number until it has released it, and takes another one then if it can;
    /// else the same one, at once: no gateway has refused it.
    pub(super) fn avoid(&mut self, now: Duration, id: SessionId, gateway: usize, forward: usize) {
        if let Some(slot) = self.slot_of(id, forward)
            && self.has_free(now, gateway, forward)
        {
            let place = (gateway, forward, slot);
            self.refused.insert(place, now + REFUSED_LATELY);
        }
    }

    /// Whether a number is free that was not refused lately.
    pub(super) fn has_free(&self, now: Duration, gateway: usize, forward: usize) -> bool {
        self.free(now, gateway, forward).next().is_some()
    }

    /// This session has ended and released nothing.
    pub(super) fn ended(&mut self, now: Duration, id: SessionId) {
        let left = &mut self.left;
        self.taken.retain(|place, holder| {
            if *holder == id {
                left.insert(*place, now + REFUSED_LATELY);
            }
            *holder != id
        });
    }

    /// Keeps the numbers of which `holds` says that the session still needs them.
    pub(super) fn retain(&mut self, holds: impl Fn(SessionId, usize) -> bool) {
        self.taken.retain(|(forward, _), id| holds(*id, *forward));
    }

    fn shortage(&self, forward: usize) -> PlaceShortage {
        let mut slots = self.slots.iter();
        let taken =
            |slot: &u16| self.taken.contains_key(&(forward, *slot)) || self.others.contains(slot);
        match slots.all(taken) {
            true => PlaceShortage::AllTaken,
            false => PlaceShortage::JustRefused,
        }
    }

    /// A refusal of this moment stays: another session of ours may have run out of numbers.
    fn forget_refusals(&mut self, now: Duration, gateway: usize, forward: usize) {
        self.refused.retain(|(at, of, _), until| {
            (*at, *of) != (gateway, forward) || *until > now + REFUSED_LATELY - SHORTEST_REFUSAL
        });
    }

    fn free(&self, now: Duration, gateway: usize, forward: usize) -> impl Iterator<Item = u16> {
        let slots = self.slots.iter().copied();
        slots.filter(move |slot| {
            let until = self.refused.get(&(gateway, forward, *slot));
            !self.taken.contains_key(&(forward, *slot))
                && !self.others.contains(slot)
                && until.is_none_or(|until| *until <= now)
        })
    }
}

/// Why no number can be asked for now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PlaceShortage {
    /// Sessions of this agent have all numbers.
    AllTaken,
    /// The gateway has refused the others just now.
    JustRefused,
}

/// A place that was refused is not the first choice for this long: whoever has it keeps it for a while.
const REFUSED_LATELY: Duration = Duration::from_secs(60);
/// A place is not asked for again sooner after a refusal: the shortest wait of a forward.
const SHORTEST_REFUSAL: Duration = Duration::from_millis(40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_place_is_avoided_only_where_another_number_is_free() {
        let id = SessionId {
            slot: 0,
            generation: 1,
        };
        for (slots, next) in [(vec![0], 0), (vec![0, 1], 1)] {
            let mut book = PlaceBook::default();
            book.configure(slots, &[0]);
            assert_eq!(book.take(Duration::ZERO, id, 0, 0), Ok(Some(0)));
            book.avoid(Duration::ZERO, id, 0, 0);
            // It has released the place.
            book.retain(|_, _| false);
            assert_eq!(book.take(Duration::ZERO, id, 0, 0), Ok(Some(next)));
        }
    }
}

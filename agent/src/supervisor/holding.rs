//! What becomes of the forwards: asked for, held, let go of, and handed from one session to the next.

use super::{
    backoff,
    slot::{Farewell, Held},
    step::{Action, Id, Machine},
};
use std::time::Duration;

impl Machine {
    pub(super) fn granted(&mut self, id: Id, forward: usize, actions: &mut Vec<Action>) {
        match self.held(id, forward) {
            Some(held @ Held::Requested { .. }) => {
                *held = Held::Granted;
                // From here on the session that was there before is not needed for it.
                self.take_over(id.slot, forward, actions);
            }
            // It was asked for before it was taken out of the configuration.
            Some(held @ Held::Parting(Farewell::Requested)) => {
                *held = Held::Parting(Farewell::Cancelling);
                actions.push(Action::Cancel(id, forward));
            }
            _ => {}
        }
        // It was asked for before the session was left.
        if let Some(farewell) = self.farewell(id, forward)
            && *farewell == Farewell::Requested
        {
            *farewell = Farewell::Cancelling;
            actions.push(Action::Cancel(id, forward));
        }
    }

    pub(super) fn refused(
        &mut self,
        now: Duration,
        id: Id,
        forward: usize,
        jitter: f64,
        actions: &mut Vec<Action>,
    ) {
        match self.held(id, forward).copied() {
            Some(Held::Requested { refusals }) => {
                // Where only one may listen, the session that was there before lets go first: at another gateway too,
                // which may be another way to the same machine.
                let held = match self.take_over(id.slot, forward, actions) {
                    Some(from) => Held::Moving { from },
                    None => Held::Refused {
                        retry_at: now + backoff::forward(refusals, jitter),
                        refusals: refusals.saturating_add(1),
                    },
                };
                if let Some(live) = self.live(id) {
                    live.forwards.insert(forward, held);
                }
            }
            Some(Held::Parting(Farewell::Requested)) => self.parted(id, forward),
            _ => {}
        }
        if let Some(farewell) = self.farewell(id, forward)
            && *farewell == Farewell::Requested
        {
            *farewell = Farewell::Gone;
            self.gone(now, id, forward);
        }
    }

    pub(super) fn released(&mut self, now: Duration, id: Id, forward: usize) {
        if let Some(Held::Parting(Farewell::Cancelling)) = self.held(id, forward) {
            self.parted(id, forward);
        }
        if let Some(farewell) = self.farewell(id, forward)
            && *farewell == Farewell::Cancelling
        {
            *farewell = Farewell::Gone;
            self.gone(now, id, forward);
        }
    }

    fn parted(&mut self, id: Id, forward: usize) {
        if let Some(live) = self.live(id) {
            live.forwards.remove(&forward);
        }
    }

    /// Makes the older sessions of a connection let go of a forward that they keep. Gives the last of them.
    fn take_over(
        &mut self,
        index: usize,
        forward: usize,
        actions: &mut Vec<Action>,
    ) -> Option<u64> {
        let slot = self.slots.get_mut(index)?;
        let mut last = None;
        for leaving in &mut slot.leaving {
            if leaving.forwards.get(&forward) == Some(&Farewell::Keeping) {
                leaving.let_go(index, |f| f == forward, actions);
                last = Some(leaving.generation);
            }
        }
        last
    }

    fn gone(&mut self, now: Duration, id: Id, forward: usize) {
        if let Some(gateway) = self.leaving(id).map(|leaving| leaving.gateway) {
            self.freed(now, id, gateway, forward);
        }
    }

    /// A forward that a session on its way out held is free: its successor asks now, or else whoever
    /// stands by.
    pub(super) fn freed(&mut self, now: Duration, id: Id, gateway: usize, forward: usize) {
        let from = id.generation;
        let successor = self.slots.get_mut(id.slot).and_then(|slot| {
            let held = slot.current.as_mut()?.forwards.get_mut(&forward)?;
            (*held == Held::Moving { from }).then_some(held)
        });
        match successor {
            Some(held) => *held = Held::Due { refusals: 0 },
            None => self.hurry(now, gateway, forward),
        }
    }

    /// Those that stand by for a forward of this gateway ask at once: its holder is gone.
    pub(super) fn hurry(&mut self, now: Duration, gateway: usize, forward: usize) {
        let lives = self.slots.iter_mut().filter_map(|s| s.current.as_mut());
        for live in lives.filter(|live| live.gateway == gateway) {
            if let Some(held @ Held::Refused { .. }) = live.forwards.get_mut(&forward) {
                *held = Held::Refused {
                    retry_at: now,
                    refusals: 0,
                };
            }
        }
    }
}

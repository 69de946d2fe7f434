//! The gateways and forwards behind the state machine's numbers.

use super::machine::DesiredState;
use crate::tunnel::{ForwardTemplate, GatewayAddress, Settings};
use std::sync::Arc;

/// The current settings, with a number for each gateway and forward.
#[derive(Clone)]
pub(super) struct IdRegistry {
    pub settings: Arc<Settings>,
    gateways: Vec<(usize, GatewayAddress)>,
    forwards: Vec<(usize, ForwardTemplate)>,
    /// Forwards that are not configured any more, and not released everywhere yet.
    former: Vec<(usize, ForwardTemplate)>,
    /// The next unused number.
    next: usize,
}

impl IdRegistry {
    pub(super) fn new(settings: Arc<Settings>) -> Self {
        let mut ids = Self {
            settings: Arc::clone(&settings),
            gateways: Vec::new(),
            forwards: Vec::new(),
            former: Vec::new(),
            next: 0,
        };
        ids.change(settings);
        ids
    }

    /// Replaces the settings. Gateways and forwards in both keep their numbers.
    pub(super) fn change(&mut self, settings: Arc<Settings>) {
        self.gateways = numbered(&settings.gateways, &self.gateways, &mut self.next);
        let forwards = numbered(&settings.forwards, &self.forwards, &mut self.next);
        let before = std::mem::replace(&mut self.forwards, forwards);
        let gone = before
            .into_iter()
            .filter(|one| !self.forwards.contains(one));
        self.former.extend(gone);
        self.settings = settings;
    }

    /// Forgets former forwards that no session involves any more.
    pub(super) fn forget(&mut self, known: impl Fn(usize) -> bool) {
        self.former.retain(|(number, _)| known(*number));
    }

    /// The settings as the machine needs them; `replace_sessions` as in [`DesiredState`].
    pub(super) fn desired_state(&self, replace_sessions: bool) -> DesiredState {
        DesiredState {
            connections: self.settings.connections,
            gateways: self.gateways.iter().map(|(number, _)| *number).collect(),
            forwards: self.forwards.iter().map(|(number, _)| *number).collect(),
            slotted: self.slotted().collect(),
            slots: self.settings.slots.iter().collect(),
            replace_sessions,
        }
    }

    /// Numbers of the forwards whose bind names the slot.
    fn slotted(&self) -> impl Iterator<Item = usize> {
        let slotted = self
            .forwards()
            .filter(|(_, forward)| forward.bind.has_slot());
        slotted.map(|(number, _)| number)
    }

    /// Whether a forward binds a socket path that sessions share.
    pub(super) fn shares_socket(&self) -> bool {
        let mut binds = self.forwards().map(|(_, forward)| &forward.bind);
        binds.any(|bind| bind.is_socket() && !bind.has_slot())
    }

    /// Numbers of the configured gateways, in their order.
    pub(super) fn gateways(&self) -> impl Iterator<Item = usize> {
        self.gateways.iter().map(|(number, _)| *number)
    }

    pub(super) fn gateway(&self, number: usize) -> Option<&GatewayAddress> {
        let found = self.gateways.iter().find(|(known, _)| *known == number);
        found.map(|(_, gateway)| gateway)
    }

    /// The numbers of the gateway at this address: more than one if it is configured more than once.
    pub(super) fn numbers_of(&self, gateway: &GatewayAddress) -> Vec<usize> {
        let all = self.gateways.iter();
        let same = all.filter(|(_, known)| known == gateway);
        same.map(|(number, _)| *number).collect()
    }

    pub(super) fn forward(&self, number: usize) -> Option<&ForwardTemplate> {
        let all = self.forwards.iter().chain(&self.former);
        let mut found = all.filter(|(known, _)| *known == number);
        found.next().map(|(_, forward)| forward)
    }

    /// Names of the configured and former forwards that `which` selects.
    pub(super) fn named(&self, which: impl Fn(usize) -> bool) -> Vec<Arc<str>> {
        let all = self.forwards.iter().chain(&self.former);
        let all = all.filter(|(number, _)| which(*number));
        all.map(|(_, forward)| Arc::clone(&forward.name)).collect()
    }

    /// Numbers of the configured forwards, in their order.
    pub(super) fn forwards(&self) -> impl Iterator<Item = (usize, &ForwardTemplate)> {
        let all = self.forwards.iter();
        all.map(|(number, forward)| (*number, forward))
    }
}

/// A gateway that is configured twice gets two numbers.
fn numbered<T: Clone + PartialEq>(
    named: &[T],
    before: &[(usize, T)],
    next: &mut usize,
) -> Vec<(usize, T)> {
    let mut known = before.to_vec();
    let number = |one: &T| {
        let number = match known.iter().position(|(_, other)| other == one) {
            Some(at) => known.remove(at).0,
            None => {
                *next += 1;
                *next
            }
        };
        (number, one.clone())
    };
    named.iter().map(number).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_stays_keeps_its_number_and_no_number_is_given_twice() {
        let (mut next, named) = (0, |list: &[&str]| -> Vec<String> {
            list.iter().map(|&name| name.to_owned()).collect()
        });
        let first = numbered(&named(&["a", "b"]), &[], &mut next);
        let second = numbered(&named(&["c", "a"]), &first, &mut next);
        let third = numbered(&named(&["b", "c", "c"]), &second, &mut next);
        let numbers = |all: &[(usize, String)]| all.iter().map(|(n, _)| *n).collect::<Vec<_>>();
        assert_eq!(numbers(&first), [1, 2]);
        assert_eq!(numbers(&second), [3, 1]);
        assert_eq!(numbers(&third), [4, 3, 5]);
    }
}

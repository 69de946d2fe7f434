//! Bind addresses that name a slot, so that each session of an agent listens at a place of its own.

use crate::address::{AddressError, BindAddress};
use std::{fmt, ops::RangeInclusive, str::FromStr};

/// Where the gateway listens: one address for all sessions, or one for each slot number. `/s/jira-{slot}.sock` and
/// `127.0.0.1:{8080+slot}` name the slot.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BindTemplate {
    /// The same address for each session.
    Fixed(BindAddress),
    /// One TCP port for each slot.
    Port {
        /// Address to listen on, as the gateway understands it.
        host: String,
        /// The port of slot 0, 1..=65535.
        first: u16,
    },
    /// One socket path for each slot: the text before and after each `{slot}`, at least two pieces.
    Socket(Vec<String>),
}

impl BindTemplate {
    /// Whether each slot has an address of its own.
    pub fn has_slot(&self) -> bool {
        !matches!(self, Self::Fixed(_))
    }

    /// Whether it is a unix socket.
    pub fn is_socket(&self) -> bool {
        matches!(self, Self::Socket(_) | Self::Fixed(BindAddress::Socket(_)))
    }

    /// The address of this slot. A port beyond 65535 becomes 65535; [`check`](Self::check) refuses such a range.
    pub fn at(&self, slot: u16) -> BindAddress {
        match self {
            Self::Fixed(bind) => bind.clone(),
            Self::Port { host, first } => BindAddress::Tcp {
                host: host.clone(),
                port: first.saturating_add(slot),
            },
            Self::Socket(pieces) => BindAddress::Socket(pieces.join(&slot.to_string())),
        }
    }

    /// Whether every slot of the range has a valid address.
    ///
    /// # Errors
    /// The address of the last slot is not one.
    pub fn check(&self, slots: SlotRange) -> Result<(), AddressError> {
        match self {
            Self::Fixed(_) => Ok(()),
            Self::Port { first, .. } => match first.checked_add(slots.last) {
                Some(_) => Ok(()),
                None => Err(AddressError::SlotPort {
                    first: *first,
                    slot: slots.last,
                }),
            },
            // The largest number makes the longest path.
            Self::Socket(_) => self
                .at(slots.last)
                .to_string()
                .parse::<BindAddress>()
                .map(drop),
        }
    }

    /// The addresses of these slots, each once.
    pub fn addresses(&self, slots: SlotRange) -> Vec<BindAddress> {
        match self {
            Self::Fixed(bind) => vec![bind.clone()],
            Self::Port { .. } | Self::Socket(_) => slots.iter().map(|slot| self.at(slot)).collect(),
        }
    }

    /// Whether two sessions could be asked to listen at the same address.
    pub fn overlaps(&self, other: &Self, slots: SlotRange) -> bool {
        let theirs = other.addresses(slots);
        let mut ours = self.addresses(slots).into_iter();
        // A gateway that chooses the port chooses another each time.
        ours.any(|bind| !matches!(bind, BindAddress::Tcp { port: 0, .. }) && theirs.contains(&bind))
    }
}

impl fmt::Display for BindTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(bind) => bind.fmt(f),
            Self::Port { host, first } if host.contains(':') => {
                write!(f, "[{host}]:{{{first}+slot}}")
            }
            Self::Port { host, first } => write!(f, "{host}:{{{first}+slot}}"),
            Self::Socket(pieces) => f.write_str(&pieces.join(SLOT)),
        }
    }
}

impl From<BindAddress> for BindTemplate {
    fn from(bind: BindAddress) -> Self {
        Self::Fixed(bind)
    }
}

impl FromStr for BindTemplate {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if !text.contains(['{', '}']) {
            return text.parse().map(Self::Fixed);
        }
        let wrong =
            || AddressError::BadTemplate(text.escape_default().take(LONGEST_SHOWN).collect());
        if text.starts_with('/') {
            let pieces: Vec<String> = text.split(SLOT).map(str::to_owned).collect();
            let stray = pieces.iter().any(|piece| piece.contains(['{', '}']));
            if stray {
                return Err(wrong());
            }
            // The smallest number: `check` does the same with the largest one.
            pieces.join("0").parse::<BindAddress>()?;
            return Ok(Self::Socket(pieces));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let first = port
            .strip_prefix('{')
            .and_then(|port| port.strip_suffix("+slot}"));
        let first = first.and_then(|first| first.parse::<u16>().ok());
        let first = first.filter(|first| *first > 0).ok_or_else(wrong)?;
        match format!("{host}:{first}").parse()? {
            BindAddress::Tcp { host, .. } if !host.contains(['{', '}']) => {
                Ok(Self::Port { host, first })
            }
            BindAddress::Tcp { .. } | BindAddress::Socket(_) => Err(wrong()),
        }
    }
}

/// The slot numbers that one agent may use, first to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotRange {
    first: u16,
    last: u16,
}

impl SlotRange {
    /// The numbers from 0, two for each connection: a session that is replaced keeps its place until the new one serves.
    pub fn for_connections(connections: usize) -> Self {
        let count = u16::try_from(connections)
            .unwrap_or(u16::MAX)
            .saturating_mul(2);
        Self {
            first: 0,
            last: count.saturating_sub(1).min(HIGHEST_SLOT),
        }
    }

    /// Each number, the lowest first.
    pub fn iter(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }

    /// How many numbers there are, at least 1.
    pub fn count(self) -> usize {
        usize::from(self.last - self.first) + 1
    }
}

impl Default for SlotRange {
    /// Of two connections, the default of the agent.
    fn default() -> Self {
        Self::for_connections(2)
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for SlotRange {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError::BadSlots(text.escape_default().take(LONGEST_SHOWN).collect());
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| plain).ok_or_else(wrong)
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(text)?, number(text)?),
        };
        match first <= last && last <= HIGHEST_SLOT {
            true => Ok(Self { first, last }),
            false => Err(wrong()),
        }
    }
}

const SLOT: &str = "{slot}";
/// Sixteen connections need 32 numbers; this is enough for eight such hosts.
pub(crate) const HIGHEST_SLOT: u16 = 255;
/// A wrong value is repeated up to this many characters.
const LONGEST_SHOWN: usize = 107;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn template(text: &str) -> BindTemplate {
        text.parse().unwrap()
    }

    #[test]
    fn each_slot_has_an_address_of_its_own() {
        for (text, slot, bind) in [
            ("/s/jira-{slot}.sock", 3, "/s/jira-3.sock"),
            ("/s/{slot}/jira-{slot}.sock", 12, "/s/12/jira-12.sock"),
            ("127.0.0.1:{8080+slot}", 2, "127.0.0.1:8082"),
            ("[::1]:{8080+slot}", 0, "[::1]:8080"),
            ("localhost:8080", 7, "localhost:8080"),
            ("/s/jira.sock", 7, "/s/jira.sock"),
        ] {
            let template = template(text);
            assert_eq!(template.to_string(), text);
            assert_eq!(template.at(slot).to_string(), bind);
            assert_eq!(template.has_slot(), text.contains("slot}"), "{text}");
        }
    }

    #[test]
    fn a_template_that_is_none_is_refused_with_an_example() {
        for bad in [
            "/s/jira-{slots}.sock",
            "/s/jira-{slot.sock",
            "/s/}{slot}",
            "127.0.0.1:{slot}",
            "127.0.0.1:{0+slot}",
            "127.0.0.1:{70000+slot}",
            "127.0.0.{slot}:8080",
            "127.0.0.{slot}:{8080+slot}",
            "{slot}",
        ] {
            let error = bad.parse::<BindTemplate>().unwrap_err().to_string();
            assert!(error.contains("/s/jira-{slot}.sock"), "{bad}: {error}");
        }
        assert!("/s/{slot}/".parse::<BindTemplate>().is_err());
    }

    #[test]
    fn the_last_slot_must_have_an_address_too() {
        let slots: SlotRange = "0-10".parse().unwrap();
        assert!(template("127.0.0.1:{65525+slot}").check(slots).is_ok());
        assert!(template("127.0.0.1:{65526+slot}").check(slots).is_err());
        let path = |length: usize| template(&format!("/{}{{slot}}", "s".repeat(length)));
        assert!(path(104).check(slots).is_ok());
        assert!(path(105).check(slots).is_err(), "108 bytes with slot 10");
    }

    #[test]
    fn a_range_is_one_number_or_two() {
        let range = |text: &str| text.parse::<SlotRange>();
        assert_eq!(
            range("4-7").unwrap().iter().collect::<Vec<_>>(),
            [4, 5, 6, 7]
        );
        assert_eq!(range("5").unwrap().to_string(), "5-5");
        for bad in ["", "-", "3-", "-3", "7-4", "0-256", "+1-2", "1-2-3", "a"] {
            assert!(range(bad).is_err(), "{bad}");
        }
        assert_eq!(SlotRange::default().to_string(), "0-3");
        assert_eq!(SlotRange::for_connections(1).count(), 2);
    }

    #[test]
    fn templates_overlap_where_two_slots_have_the_same_address() {
        let overlap = |a, b| template(a).overlaps(&template(b), SlotRange::default());
        assert!(overlap("127.0.0.1:{8080+slot}", "127.0.0.1:8083"));
        assert!(!overlap("127.0.0.1:{8080+slot}", "127.0.0.1:8084"));
        assert!(overlap("/s/{slot}", "/s/2"));
        assert!(!overlap("127.0.0.1:0", "127.0.0.1:0"));
    }
}

//! The counts of a receiver. They follow from the entries of its journal alone, in their order.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

/// What was received, as one line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum JournalEntry {
    /// An event with a genuine signature.
    Event {
        /// Its `webhook-id`.
        id: String,
        /// The number of its issue, if it names one.
        issue: Option<String>,
        /// Its place among the events of the issue.
        sequence: Option<u64>,
    },
    /// A request without a genuine signature.
    Forged,
    /// A genuine signature whose time is too far from now.
    Stale,
}

/// How an entry was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum EntryOutcome {
    /// The event is new.
    Accepted,
    /// An event with this id was received before.
    Repeat,
    /// The request was refused.
    Refused,
}

/// The counts of a receiver since its journal was created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverStats {
    /// Events, each counted once.
    pub events: u64,
    /// Deliveries of an event that was received before.
    pub repeats: u64,
    /// Events that came after a later one of the same issue.
    pub out_of_order: u64,
    /// Requests without a genuine signature.
    pub forged: u64,
    /// Genuine signatures whose time was too far from the receiver's.
    pub stale: u64,
    /// Events that were answered with `--status`, since the start; they are not in the journal.
    pub failed_on_purpose: u64,
    /// Issues that had an event.
    pub issues: u64,
}

/// Ids and places seen so far, and the counts.
#[derive(Default)]
pub(super) struct ReceiverTally {
    ids: HashSet<String>,
    latest: HashMap<String, u64>,
    stats: ReceiverStats,
}

impl ReceiverTally {
    /// Whether no further event can be told from a repeat.
    pub(super) fn is_full(&self) -> bool {
        self.ids.len() >= MAX_EVENTS
    }

    pub(super) fn add(&mut self, entry: &JournalEntry) -> EntryOutcome {
        match entry {
            JournalEntry::Forged => {
                self.stats.forged += 1;
                EntryOutcome::Refused
            }
            JournalEntry::Stale => {
                self.stats.stale += 1;
                EntryOutcome::Refused
            }
            JournalEntry::Event {
                id,
                issue,
                sequence,
            } => {
                if !self.ids.insert(id.clone()) {
                    self.stats.repeats += 1;
                    return EntryOutcome::Repeat;
                }
                self.stats.events += 1;
                if let (Some(issue), Some(sequence)) = (issue, sequence) {
                    self.place(issue, *sequence);
                }
                EntryOutcome::Accepted
            }
        }
    }

    pub(super) fn stats(&self) -> ReceiverStats {
        self.stats.clone()
    }

    fn place(&mut self, issue: &str, sequence: u64) {
        match self.latest.get_mut(issue) {
            Some(latest) if sequence < *latest => self.stats.out_of_order += 1,
            Some(latest) => *latest = sequence,
            None => {
                self.latest.insert(issue.to_owned(), sequence);
                self.stats.issues += 1;
            }
        }
    }
}

/// Ids in memory: some 200 MiB.
const MAX_EVENTS: usize = 2_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, issue: &str, sequence: u64) -> JournalEntry {
        JournalEntry::Event {
            id: id.into(),
            issue: Some(issue.into()),
            sequence: Some(sequence),
        }
    }

    #[test]
    fn events_repeats_and_overtaking_are_told_apart() {
        let mut tally = ReceiverTally::default();
        for (entry, outcome) in [
            (event("a", "1", 10), EntryOutcome::Accepted),
            (event("b", "1", 20), EntryOutcome::Accepted),
            // A repeat of an earlier event is no disorder.
            (event("a", "1", 10), EntryOutcome::Repeat),
            (event("c", "2", 5), EntryOutcome::Accepted),
            (event("d", "1", 15), EntryOutcome::Accepted),
            (event("e", "1", 20), EntryOutcome::Accepted),
            (JournalEntry::Forged, EntryOutcome::Refused),
            (JournalEntry::Stale, EntryOutcome::Refused),
        ] {
            assert_eq!(tally.add(&entry), outcome, "{entry:?}");
        }
        let wanted = ReceiverStats {
            events: 5,
            repeats: 1,
            out_of_order: 1,
            forged: 1,
            stale: 1,
            failed_on_purpose: 0,
            issues: 2,
        };
        assert_eq!(tally.stats(), wanted);
    }
}

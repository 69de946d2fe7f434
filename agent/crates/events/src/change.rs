//! What a commit changes: computed by the index, written by the tables, then applied to the index or taken back.

use crate::{EventHead, QueueTotals};
use bytes::Bytes;
use std::time::SystemTime;

/// Place of an event in the order of a table. Never used twice by one process.
pub(crate) type Sequence = u64;

/// One change to the file.
pub(crate) enum QueueChange {
    /// A new event.
    Store {
        sequence: Sequence,
        head: Box<EventHead>,
        /// The head in JSON.
        text: Vec<u8>,
        body: Bytes,
        /// Bytes that it counts for.
        size: u64,
    },
    /// A queued event goes.
    Remove {
        sequence: Sequence,
        why: RemovalReason,
    },
    /// A queued event becomes a dead letter.
    MoveToDead {
        sequence: Sequence,
        dead: Sequence,
        details: DeathDetails,
    },
    /// A dead letter goes.
    RemoveDead { dead: Sequence, why: RemovalReason },
    /// A dead letter is queued again.
    Requeue {
        dead: Sequence,
        sequence: Sequence,
        retried_at: SystemTime,
    },
}

impl QueueChange {
    /// Counts it.
    pub(crate) fn count(&self, totals: &mut QueueTotals) {
        let count = match self {
            Self::Store { .. } => &mut totals.stored,
            Self::MoveToDead { .. } => &mut totals.died,
            Self::Remove { why, .. } | Self::RemoveDead { why, .. } => match why {
                RemovalReason::Delivered => &mut totals.delivered,
                RemovalReason::MadeRoom => &mut totals.dropped_full,
                RemovalReason::ByHand => &mut totals.dropped_by_hand,
                RemovalReason::DeadBounds => &mut totals.dropped_dead,
            },
            Self::Requeue { .. } => return,
        };
        *count = count.saturating_add(1);
    }
}

/// Why an event leaves the file. Each has its own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemovalReason {
    Delivered,
    MadeRoom,
    ByHand,
    /// A dead letter that is too old, or beyond the bound of dead letters.
    DeadBounds,
}

/// What is known of a dead letter besides its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DeathDetails {
    pub(crate) died_at: SystemTime,
    pub(crate) attempts: u32,
    pub(crate) why: String,
}

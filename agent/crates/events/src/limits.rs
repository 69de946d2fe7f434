//! The bounds of a queue.

use std::time::Duration;

/// What happens to an event for which a full queue has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WhenFull {
    /// It is refused. Nothing that was acknowledged is lost.
    Refuse,
    /// The oldest events make room, and are counted.
    DropOldest,
}

/// The bounds of a queue. They may change while it is open ([`EventQueue::set_limits`](crate::EventQueue::set_limits)):
/// what is stored already stays, also where it is more than the new bounds allow.
///
/// Sizes count the body and what is stored beside it. The file is larger: it keeps values in pages of 4 KiB times a power
/// of two, so that a value may occupy twice its size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Bytes of all queued events.
    pub max_bytes: u64,
    /// Bytes of the queued events of one sender's address.
    pub max_bytes_per_source: u64,
    /// Queued events. It bounds the memory of the index, which takes about 400 bytes an event.
    pub max_events: usize,
    /// What happens beyond the three bounds above.
    pub when_full: WhenFull,
    /// An event that is older becomes a dead letter.
    pub retry_for: Duration,
    /// A dead letter that is older is dropped, and counted.
    pub keep_dead: Duration,
    /// Bytes of all dead letters. Beyond it the oldest are dropped, and counted.
    pub max_dead_bytes: u64,
    /// Free bytes that storing leaves on the file system: removing an event needs some, too.
    pub reserve_bytes: u64,
}

impl Default for QueueLimits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self {
            max_bytes: 512 << 20,
            max_bytes_per_source: 256 << 20,
            max_events: 200_000,
            when_full: WhenFull::Refuse,
            retry_for: 3 * DAY,
            keep_dead: 30 * DAY,
            max_dead_bytes: 64 << 20,
            reserve_bytes: 64 << 20,
        }
    }
}

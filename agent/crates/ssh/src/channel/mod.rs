//! Above russh: the only way the rest of the code sees an SSH channel.
//!
//! A russh session waits for the reader of each of its channels: one stalled reader would stall all of them, keep-alives
//! and rekeys included. So a pump per channel always receives, into memory and then into an unlinked file, and resets a
//! channel that exceeds its bound. Writers wait for the transport's backlog, not in russh. Closing follows one order,
//! because russh keeps 3.5 KiB for each channel that we close first. Nothing here knows HTTP.
//!
//! | module | what it holds |
//! |---|---|
//! | `stream` | [`ChannelStream`], what the application reads and writes |
//! | `budget` | [`SessionBudget`], the bounds and counters of all channels of one session |
//! | `close_reason` | [`CloseReason`], why a channel ended, and what the application sees of it |
//! | `inbox` | bytes received and not read yet: where they are and what they cost |
//! | `spool` | the unlinked file, accessed on blocking threads |
//! | `pump` | the task that drains russh and closes the channel |
//! | `outgoing` | one chunk on its way into russh, through the gate |
//! | `halves` | the two halves of a russh channel, as traits |

mod budget;
mod close_reason;
mod halves;
mod inbox;
mod outgoing;
mod pump;
mod spool;
mod stream;
#[cfg(test)]
mod tests;

pub use budget::{SessionBudget, SpoolResets};
pub use close_reason::CloseReason;
pub use stream::ChannelStream;

use agent_base::disk::FreeSpaceFloor;
use std::{path::PathBuf, time::Duration};

/// Bounds of the channels of one session. Each is a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelLimits {
    /// SSH window in bytes (RFC 4254 §5.2): what the peer may have in flight on one channel. One
    /// channel's upload is at most this per round trip; the peer keeps about as much for each channel
    /// whose data waits.
    pub window: u32,
    /// Bytes held in memory per channel before the spool file is used. What is on its way to the
    /// file comes on top, at most 8 MiB; where the disk does not take that for a second, the channel
    /// is reset.
    pub memory: usize,
    /// Bytes held in memory by all channels of the session together before each is left 64 KiB and
    /// the spool file.
    pub memory_per_session: usize,
    /// Bytes of spool file per channel; past it that channel is reset. At least the largest upload allowed.
    pub spool_per_channel: u64,
    /// Memory and spool bytes of all channels of the session together. A channel that holds less
    /// than 64 KiB is not reset for what others hold.
    pub spool_per_session: u64,
    /// What spool files leave free on their disk.
    pub spool_floor: FreeSpaceFloor,
    /// Folder of the unlinked spool files. `/tmp` may be memory.
    pub spool_dir: PathBuf,
    /// After our EOF: how long the peer's CLOSE is waited for before we close first.
    pub close_wait: Duration,
    /// After the application left: bytes still swallowed before we close first.
    pub discard: u64,
    /// One spool read or write may take this long; then that channel is reset.
    pub spool_timeout: Duration,
}

impl Default for ChannelLimits {
    fn default() -> Self {
        Self {
            window: 1 << 20,
            memory: 1 << 20,
            memory_per_session: 64 << 20,
            spool_per_channel: 1 << 30,
            spool_per_session: 8 << 30,
            spool_floor: FreeSpaceFloor {
                bytes: 256 << 20,
                parts: 10,
            },
            spool_dir: std::env::temp_dir(),
            close_wait: Duration::from_secs(10),
            discard: 4 << 20,
            spool_timeout: Duration::from_secs(30),
        }
    }
}

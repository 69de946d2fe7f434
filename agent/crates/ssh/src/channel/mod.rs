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
//! | `budget` | [`SessionBudget`], the bounds and counters of all channels of one session; [`ProcessBudget`], of all sessions |
//! | `close_reason` | [`CloseReason`], why a channel ended, and what the application sees of it |
//! | `inbox` | bytes received and not read yet: where they are and what they cost |
//! | `spool` | the unlinked file, accessed on blocking threads |
//! | `pump` | the task that drains russh and closes the channel |
//! | `outgoing` | one chunk that is given to russh, through the gate |
//! | `halves` | the two halves of a russh channel, as traits |
//! | `window` | the SSH window by the distance to the peer |

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
mod window;

pub use budget::{ProcessBudget, SessionBudget, SpoolResets};
pub use close_reason::CloseReason;
pub use stream::{ChannelProbe, ChannelStream};

use agent_base::disk::FreeSpaceFloor;
use std::{path::PathBuf, time::Duration};

/// Bounds of the channels of one session. Each is a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelLimits {
    /// SSH window in bytes (RFC 4254 §5.2): what the peer may have in flight on one channel, of which
    /// one channel's upload moves half per round trip. The peer keeps up to as much for each channel
    /// whose data waits. `None`: by the round trip, see [`window_at`](Self::window_at).
    pub window: Option<u32>,
    /// Bytes held in memory per channel before the spool file is used. What is on its way to the
    /// file comes on top, at most 8 MiB; where the disk does not take that for a second, the channel
    /// is reset.
    pub memory: usize,
    /// Bytes held in memory by all channels of the session together before each is left 64 KiB and
    /// the spool file.
    pub memory_per_session: usize,
    /// The same for all sessions of the process together.
    pub memory_per_process: usize,
    /// Bytes of spool file per channel; past it that channel is reset. At least the largest upload allowed.
    pub spool_per_channel: u64,
    /// Memory and spool bytes of all channels of the session together. A channel that holds less
    /// than 64 KiB is not reset for what others hold.
    pub spool_per_session: u64,
    /// The same for all sessions of the process together.
    pub spool_per_process: u64,
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
            window: None,
            memory: 1 << 20,
            memory_per_session: 64 << 20,
            memory_per_process: 16 << 20,
            spool_per_channel: 1 << 30,
            spool_per_session: 8 << 30,
            spool_per_process: 8 << 30,
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

impl ChannelLimits {
    /// The window in bytes of a session with this round trip to the peer. Without a setting: 1 MiB below 2 ms, 4 to 16 MiB
    /// above, 4 MiB where it is not known.
    #[must_use]
    pub fn window_at(&self, round_trip: Option<Duration>) -> u32 {
        self.window
            .unwrap_or_else(|| window::window_for(round_trip))
    }
}

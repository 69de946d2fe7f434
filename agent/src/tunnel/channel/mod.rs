//! Above russh: the only way the rest of the code sees an SSH channel.

use std::{path::PathBuf, time::Duration};

/// Bounds of the channels of one session. Each is a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes held in memory per channel before the spool file is used.
    pub memory: usize,
    /// Bytes of spool file per channel; past it that channel is reset. At least the largest upload allowed.
    pub spool_per_channel: u64,
    /// Memory and spool bytes of all channels of the session together.
    pub spool_per_session: u64,
    /// Folder of the unlinked spool files. `/tmp` may be memory.
    pub spool_dir: PathBuf,
    /// After our EOF: how long the peer's CLOSE is waited for before we close first.
    pub close_wait: Duration,
    /// After the application left: bytes still swallowed before we close first.
    pub discard: u64,
    /// One spool read or write may take this long; then that channel is reset.
    pub spool_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 1 << 20,
            spool_per_channel: 1 << 30,
            spool_per_session: 8 << 30,
            spool_dir: std::env::temp_dir(),
            close_wait: Duration::from_secs(10),
            discard: 4 << 20,
            spool_timeout: Duration::from_secs(30),
        }
    }
}

/// One SSH channel as a byte stream (`AsyncRead + AsyncWrite + Unpin + Send`).
pub struct ChannelStream {}

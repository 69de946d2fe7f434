//! Below russh: the byte stream handed to `connect_stream` / `run_stream`, whose writes never wait.
//!
//! A russh session does not read while it writes. Two such sessions that both wait in a socket write never read again,
//! and none of their timers run. So [`SshTransport::poll_write`] appends to a buffer and is always ready, and a separate
//! task writes that buffer to the socket. The size of the buffer, the backlog, replaces back-pressure: channels check it
//! through the [`Gate`]. Nothing here knows SSH.
//!
//! | module | what it holds |
//! |---|---|
//! | `stream` | [`SshTransport`], what russh reads and writes |
//! | `handle` | [`TransportHandle`], the view of it outside russh: backlog, ages, abort |
//! | `queue` | the buffer, the backlog and the gate's arithmetic, without clock or tasks |
//! | `gate` | [`Gate`], one channel's access to the gate |
//! | `pacing` | the gate's marks, scaled to the measured rate of the link |
//! | `writer` | the task that writes the buffer to the socket |
//! | `delivery` | the end: what was written still arrives |
//! | `watch` | the stall timer outside russh |
//! | `socket` | options of the TCP socket |
//! | `tcp_pair` | what the far kernel has not acknowledged |
//!
//! [`SshTransport::poll_write`]: SshTransport

mod delivery;
mod gate;
mod handle;
mod pacing;
mod queue;
pub mod socket;
mod stream;
mod tcp_pair;
#[cfg(test)]
mod tests;
mod watch;
mod writer;

pub use gate::Gate;
pub use handle::TransportHandle;
pub use stream::SshTransport;
pub use tcp_pair::TcpPair;

use std::time::Duration;

/// Bounds of one transport. Each is a setting; the defaults are what was measured to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportLimits {
    /// Backlog in bytes above which channel writers are held back. On a link slower than this per
    /// 50 ms the mark is lowered by itself, not below 128 KiB.
    pub high_mark: usize,
    /// Backlog in bytes at which they are let through again; lowered in proportion.
    pub low_mark: usize,
    /// Backlog in bytes at which the session is ended.
    pub cap: usize,
    /// Size in bytes of the read buffer.
    pub read_buffer: usize,
    /// How long shutdown may wait for the kernel, counted from the last byte it took; twice this from the last byte
    /// that the far kernel acknowledged, where ours reports that. Ten times this in all, however slowly bytes still go,
    /// unless [`TransportHandle::set_shutdown_deadline`] has set another end.
    pub shutdown_grace: Duration,
}

impl Default for TransportLimits {
    fn default() -> Self {
        Self {
            high_mark: 256 << 10,
            low_mark: 128 << 10,
            cap: 64 << 20,
            read_buffer: 128 << 10,
            shutdown_grace: Duration::from_secs(3),
        }
    }
}

//! Below russh: the byte stream handed to `connect_stream` / `run_stream`, whose writes never wait.

use std::time::Duration;

/// Bounds of one transport. Each is a setting; the defaults are what was measured to work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Backlog in bytes above which channel writers are held back.
    pub high_mark: usize,
    /// Backlog in bytes at which they are let through again.
    pub low_mark: usize,
    /// Backlog in bytes at which the session is ended.
    pub cap: usize,
    /// Size in bytes of the read buffer.
    pub read_buffer: usize,
    /// How long shutdown may wait for the kernel, counted from the last byte it took.
    pub shutdown_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            high_mark: 1 << 20,
            low_mark: 512 << 10,
            cap: 64 << 20,
            read_buffer: 128 << 10,
            shutdown_grace: Duration::from_secs(3),
        }
    }
}

//! One record per request, allowed or refused, through a bounded queue that never holds up traffic.

use std::path::PathBuf;

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where records go.
    pub sink: Sink,
    /// Records waiting to be written; past it they are dropped and counted.
    pub queue: usize,
}

/// Where audit records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sink {
    /// JSON lines appended to this file (0640); reopened on SIGHUP-style rotation by inode change.
    File(PathBuf),
    /// The systemd journal; stderr where there is none.
    Journal,
    /// Nowhere.
    Off,
}

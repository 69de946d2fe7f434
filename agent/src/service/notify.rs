//! Notifications to systemd (`sd_notify(3)`): one datagram each, to the socket in `NOTIFY_SOCKET`; none if it is not set.
//!
//! The socket is opened once, so that a full descriptor table cannot starve the watchdog, and never blocks.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    time::Duration,
};

/// Sends notifications to systemd, if it started this process.
pub(super) struct SystemdNotifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl SystemdNotifier {
    /// Configured by the environment that systemd sets.
    pub(super) fn from_environment() -> Self {
        let to = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            open(&name)
                .inspect_err(|error| {
                    tracing::warn!(
                        %error,
                        remedy = "start the agent with systemd, or unset NOTIFY_SOCKET",
                        "cannot use NOTIFY_SOCKET; systemd does not receive the state of this agent"
                    );
                })
                .ok()
        });
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| *usec > 0 && ours && to.is_some());
        Self {
            to,
            watchdog: watchdog.map(Duration::from_micros),
        }
    }

    /// Whether systemd asked to be notified.
    pub(super) fn is_enabled(&self) -> bool {
        self.to.is_some()
    }

    /// `WatchdogSec`: systemd restarts the service after this time without a ping.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The configuration is valid and everything runs, connected or not.
    pub(super) async fn ready(&self) {
        self.send("READY=1").await;
    }

    /// The configuration is being read again; ends with [`ready`](Self::ready).
    pub(super) async fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let usec = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}"))
            .await;
    }

    /// The agent is stopping, which takes `limit` at most: systemd waits that long, whatever the unit says.
    pub(super) async fn stopping(&self, limit: Duration) {
        let usec = limit.as_micros();
        self.send(&format!(
            "STOPPING=1\nSTATUS=draining: requests in progress finish\nEXTEND_TIMEOUT_USEC={usec}"
        ))
        .await;
    }

    /// Another process of this unit is the main one from now on.
    pub(super) async fn main_process(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}")).await;
    }

    /// One line for `systemctl status`.
    pub(super) async fn status(&self, line: &str) {
        self.send(&format!("STATUS={line}")).await;
    }

    /// Sends `WATCHDOG=1` to systemd.
    pub(super) async fn ping_watchdog(&self) {
        self.send("WATCHDOG=1").await;
    }

    /// Retries for a second if systemd does not read, then gives up.
    async fn send(&self, message: &str) {
        let Some((socket, to)) = &self.to else {
            return;
        };
        for _ in 0..MAX_TRIES {
            match socket.send_to_addr(message.as_bytes(), to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(%error, "cannot notify systemd");
                    return;
                }
                Ok(_) => return,
            }
            tokio::time::sleep(RETRY_PAUSE).await;
        }
    }

    #[cfg(test)]
    pub(super) fn to(path: &std::path::Path) -> Self {
        Self {
            to: Some(open(path.as_os_str()).unwrap_or_else(|error| panic!("{error}"))),
            watchdog: None,
        }
    }
}

/// A path, or after `@` an abstract name.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let to = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, to))
}

/// systemd reads within microseconds; after a second of retries the notification is dropped.
const MAX_TRIES: usize = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(50);

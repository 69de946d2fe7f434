//! What systemd is told (`sd_notify(3)`): one datagram for each thing, to the socket that `NOTIFY_SOCKET` names. Says
//! nothing where that is not set.
//!
//! The socket is opened once, so that a full descriptor table cannot keep the watchdog unfed, and never blocks.

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

/// The way to systemd.
pub(super) struct SystemdNotifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl SystemdNotifier {
    /// As systemd has set the environment of this process.
    pub(super) fn from_environment() -> Self {
        let to = std::env::var_os("NOTIFY_SOCKET").and_then(|name| {
            open(&name)
                .inspect_err(|error| {
                    tracing::warn!(
                        %error,
                        remedy = "start the agent by systemd, or unset NOTIFY_SOCKET",
                        "NOTIFY_SOCKET cannot be used, so that systemd does not learn the state of this agent"
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

    /// `WatchdogSec`: systemd restarts the service when it has heard nothing for this long.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Configuration judged, rooms running; connected or not.
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

    /// On its way out, which takes `limit` at most: systemd waits for so long, whatever the unit says.
    pub(super) async fn stopping(&self, limit: Duration) {
        let usec = limit.as_micros();
        self.send(&format!(
            "STOPPING=1\nSTATUS=draining: requests under way finish\nEXTEND_TIMEOUT_USEC={usec}"
        ))
        .await;
    }

    /// One line for `systemctl status`.
    pub(super) async fn status(&self, line: &str) {
        self.send(&format!("STATUS={line}")).await;
    }

    /// Sends `WATCHDOG=1` to systemd.
    pub(super) async fn ping_watchdog(&self) {
        self.send("WATCHDOG=1").await;
    }

    /// Waits a little where systemd does not read, then gives up.
    async fn send(&self, message: &str) {
        let Some((socket, to)) = &self.to else {
            return;
        };
        for _ in 0..TRIES {
            match socket.send_to_addr(message.as_bytes(), to) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => {
                    tracing::debug!(%error, "systemd was not told");
                    return;
                }
                Ok(_) => return,
            }
            tokio::time::sleep(PAUSE).await;
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

/// systemd reads within microseconds; what it has not taken within a second is dropped.
const TRIES: usize = 20;
const PAUSE: Duration = Duration::from_millis(50);

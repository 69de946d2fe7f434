//! What systemd receives while the agent runs: watchdog pings while the supervisor responds, and the state in one line.

use super::notify::SystemdNotifier;
use crate::{
    status::{StatusReport, headline},
    supervisor::SupervisorHandle,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Feeds the watchdog until `stop`, if the unit has one.
pub(super) async fn feed(
    notify: Arc<SystemdNotifier>,
    supervisor: SupervisorHandle,
    stop: CancellationToken,
) {
    if let Some(limit) = notify.watchdog() {
        let answers = || supervisor.ping();
        let feeding = feed_while(&notify, limit / PINGS_PER_PERIOD, answers);
        stop.run_until_cancelled(feeding).await;
    }
}

/// Pings only if `alive` answers before the next ping is due: a loop that hangs, a runtime without free threads or a
/// stopped clock all end in silence.
async fn feed_while<F: Future<Output = bool>>(
    notify: &SystemdNotifier,
    every: Duration,
    alive: impl Fn() -> F,
) {
    let mut ticks = interval(every.max(MIN_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(ticks.period(), alive()).await {
            Ok(true) => notify.ping_watchdog().await,
            _ => tracing::error!(
                "the connection supervisor does not respond; systemd restarts the agent if this lasts (WatchdogSec)"
            ),
        }
    }
}

/// Sends each new headline until `stop`.
pub(super) async fn notify_status(
    notify: Arc<SystemdNotifier>,
    report: impl Fn() -> StatusReport,
    stop: CancellationToken,
) {
    if !notify.is_enabled() {
        return;
    }
    let mut last_line = String::new();
    let notifying = async {
        loop {
            let line = headline(&report());
            if line != last_line {
                notify.status(&line).await;
                last_line = line;
            }
            tokio::time::sleep(STATUS_INTERVAL).await;
        }
    };
    stop.run_until_cancelled(notifying).await;
}

/// Pings per watchdog period: one may be lost.
const PINGS_PER_PERIOD: u32 = 3;
/// Shorter watchdog periods make no sense.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
/// Pause between two readings of the status.
const STATUS_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        future::{pending, ready},
        os::unix::net::UnixDatagram,
    };

    fn received(socket: &UnixDatagram) -> Vec<String> {
        let mut received = Vec::new();
        let mut buffer = [0; 256];
        while let Ok(length) = socket.recv(&mut buffer) {
            received.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        received
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_loop_that_answers_in_time_feeds_the_watchdog() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notify = SystemdNotifier::to(&path);
        let every = Duration::from_secs(10);
        let of = |seconds| Duration::from_secs(seconds);
        let _ = timeout(of(25), feed_while(&notify, every, || ready(true))).await;
        assert_eq!(received(&socket), ["WATCHDOG=1"; 3]);
        let _ = timeout(of(60), feed_while(&notify, every, || ready(false))).await;
        let _ = timeout(of(60), feed_while(&notify, every, pending)).await;
        let late = || async {
            tokio::time::sleep(of(11)).await;
            true
        };
        let _ = timeout(of(60), feed_while(&notify, every, late)).await;
        assert!(received(&socket).is_empty());
    }
}

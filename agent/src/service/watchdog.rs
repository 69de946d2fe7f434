//! What systemd hears while the agent runs: that the inner loop lives, and the state in one line.

use super::notify::SystemdNotifier;
use crate::{
    status::{StatusReport, headline},
    supervisor::SupervisorHandle,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;

/// Feeds the watchdog until `stop`, where systemd wants it.
pub(super) async fn feed(
    notify: Arc<SystemdNotifier>,
    supervisor: SupervisorHandle,
    stop: CancellationToken,
) {
    if let Some(limit) = notify.watchdog() {
        let answers = || supervisor.ping();
        let feeding = feed_while(&notify, limit / SHARE, answers);
        stop.run_until_cancelled(feeding).await;
    }
}

/// Asks every so often, and feeds only where the answer comes before the next question is due: a loop that hangs, a
/// runtime without free threads or a stopped clock all end in silence.
async fn feed_while<F: Future<Output = bool>>(
    notify: &SystemdNotifier,
    every: Duration,
    alive: impl Fn() -> F,
) {
    let mut ticks = interval(every.max(SHORTEST));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match timeout(ticks.period(), alive()).await {
            Ok(true) => notify.ping_watchdog().await,
            _ => tracing::error!(
                "the loop that keeps the connections does not answer; the watchdog is not fed, so that systemd restarts the agent if this lasts"
            ),
        }
    }
}

/// Tells each new headline until `stop`.
pub(super) async fn notify_status(
    notify: Arc<SystemdNotifier>,
    report: impl Fn() -> StatusReport,
    stop: CancellationToken,
) {
    if !notify.is_enabled() {
        return;
    }
    let mut told = String::new();
    let telling = async {
        loop {
            let line = headline(&report());
            if line != told {
                notify.status(&line).await;
                told = line;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    stop.run_until_cancelled(telling).await;
}

/// Of the time that systemd gives: one lost question is forgiven.
const SHARE: u32 = 3;
/// A watchdog of less is no use to anybody.
const SHORTEST: Duration = Duration::from_millis(10);
/// Between two looks at the status.
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{
        future::{pending, ready},
        os::unix::net::UnixDatagram,
    };

    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut heard = Vec::new();
        let mut buffer = [0; 256];
        while let Ok(length) = socket.recv(&mut buffer) {
            heard.push(String::from_utf8(buffer[..length].to_vec()).unwrap());
        }
        heard
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
        assert_eq!(heard(&socket), ["WATCHDOG=1"; 3]);
        let _ = timeout(of(60), feed_while(&notify, every, || ready(false))).await;
        let _ = timeout(of(60), feed_while(&notify, every, pending)).await;
        let late = || async {
            tokio::time::sleep(of(11)).await;
            true
        };
        let _ = timeout(of(60), feed_while(&notify, every, late)).await;
        assert!(heard(&socket).is_empty());
    }
}

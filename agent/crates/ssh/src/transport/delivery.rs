//! The end of a transport: what was written still arrives, within bounds.
//!
//! A kernel resets a connection that is closed before what the peer still sends has come, and drops what it has not
//! delivered. So the socket stays open, and is read, until the far kernel has acknowledged everything.

use super::TransportHandle;
use std::time::Duration;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

/// Waits until the writer task has handed everything to the kernel, and the far kernel has acknowledged it. Aborts a
/// transport in which nothing moves for the grace, or which is not done at its deadline.
pub(super) async fn deliver(
    handle: &TransportHandle,
    mut writer: JoinHandle<()>,
    peer_closed: &CancellationToken,
) {
    let begun = Instant::now();
    let latest = handle
        .shutdown_deadline()
        .unwrap_or(begun + handle.limits.shutdown_grace * MAX_GRACES);
    let mut moved_at = None;
    let mut acknowledged = None;
    let mut is_written = false;
    let mut waiting = 0;
    loop {
        let listed = handle.unacknowledged().await;
        if let Some(unacknowledged) = listed {
            let now = handle.sent().saturating_sub(unacknowledged);
            let before = acknowledged.replace(now);
            if before.is_some_and(|before| now > before) {
                moved_at = Some(Instant::now());
            }
            waiting = unacknowledged;
        }
        if is_written && (listed.is_none() || waiting == 0) {
            break;
        }
        let now = Instant::now();
        let (quiet, grace) = quiet(handle, begun, moved_at, listed.is_some());
        let left = grace
            .saturating_sub(quiet)
            .min(latest.saturating_duration_since(now));
        if left.is_zero() {
            handle.abort("shutdown: the far side did not take the last bytes in time");
            return;
        }
        let look = match listed {
            Some(_) => left.min(LOOK_INTERVAL),
            None => left,
        };
        tokio::select! {
            _ = &mut writer, if !is_written => is_written = true,
            () = peer_closed.cancelled(), if is_written => return,
            () = handle.died() => return,
            () = sleep(look) => {}
        }
    }
    if !handle.has_tcp() {
        return;
    }
    // The peer ends the connection when it has read the goodbye. What it sends before that would be answered by a reset.
    loop {
        let silent = handle.rx_age().min(begun.elapsed());
        let left = FAREWELL
            .saturating_sub(silent)
            .min(latest.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return;
        }
        tokio::select! {
            () = peer_closed.cancelled() => return,
            () = handle.died() => return,
            () = sleep(left) => {}
        }
    }
}

/// For how long nothing has moved, and for how long that may be.
fn quiet(
    handle: &TransportHandle,
    begun: Instant,
    moved_at: Option<Instant>,
    is_listed: bool,
) -> (Duration, Duration) {
    let grace = handle.limits.shutdown_grace;
    if is_listed {
        let taken = handle.taken_age().min(begun.elapsed());
        let quiet = moved_at.map_or(taken, |at| taken.min(at.elapsed()));
        return (quiet, grace * LISTED_GRACES);
    }
    // A peer that was stuck before the shutdown gets no second grace.
    match handle.backlog() {
        0 => (handle.taken_age().min(begun.elapsed()), grace),
        _ => (handle.tx_age(), grace),
    }
}

/// Without a deadline of its own, a shutdown ends after this many times the grace, even while bytes are still sent.
const MAX_GRACES: u32 = 10;
/// A packet that is lost twice on a link with a round trip of a second is acknowledged after more than three.
const LISTED_GRACES: u32 = 2;
/// Between two looks at what the far kernel has acknowledged.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// For a peer that has everything to close the connection, counted from the last byte that it sent.
const FAREWELL: Duration = Duration::from_secs(1);

//! Signs of this host that what failed before may work now: a link, an address or a route has changed, or the host was
//! suspended. Without them the agent works too: it only waits longer before it dials.

use rustix::{
    io::Errno,
    net::{AddressFamily, SocketFlags, SocketType, bind, netlink::SocketAddrNetlink, socket_with},
    time::{ClockId, clock_gettime},
};
use std::{io, time::Duration};
use tokio::{
    net::UnixDatagram,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};

/// The signs of one host, in order.
pub(super) struct HostChanges {
    /// `None` where netlink is not permitted.
    routes: Option<UnixDatagram>,
    suspended: Duration,
    /// The earliest moment of the next sign.
    quiet_until: Instant,
    /// Time without signs after the last one.
    quiet: Duration,
}

/// What has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostChange {
    /// A link, an address or a route.
    Network,
    /// The host was suspended for this long.
    Resumed(Duration),
}

impl HostChanges {
    /// Logs once where the kernel's messages cannot be read. Needs a tokio runtime.
    pub(super) fn new() -> Self {
        let routes = match open_routes() {
            Ok(routes) => Some(routes),
            Err(error) => {
                tracing::info!(
                    %error,
                    remedy = "to reconnect sooner after such changes, permit AF_NETLINK (RestrictAddressFamilies= of the unit)",
                    "changes of this host's addresses and routes are not seen"
                );
                None
            }
        };
        Self {
            routes,
            suspended: time_suspended(),
            quiet_until: Instant::now(),
            quiet: QUIET,
        }
    }

    /// Waits for the next change. Changes that come together are one, and there is at most one a second. On a host whose
    /// routes change all the time (BGP, containers) there are fewer: each ends dials that no one has answered yet.
    pub(super) async fn next(&mut self) -> HostChange {
        sleep_until(self.quiet_until).await;
        let listening = Instant::now();
        let mut ticks = interval(SUSPEND_POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let change = loop {
            tokio::select! {
                changed = next_message(&mut self.routes) => match changed {
                    true => break HostChange::Network,
                    false => self.routes = None,
                },
                _ = ticks.tick() => {
                    let suspended = time_suspended();
                    let slept = suspended.saturating_sub(self.suspended);
                    self.suspended = suspended;
                    if slept >= SHORTEST_SUSPEND {
                        break HostChange::Resumed(slept);
                    }
                }
            }
        };
        self.quiet = match listening.elapsed() < QUIET {
            true => (self.quiet * 2).min(LONGEST_QUIET),
            false => QUIET,
        };
        self.quiet_until = Instant::now() + self.quiet;
        // An address comes with its routes.
        sleep(SETTLE).await;
        change
    }
}

/// Waits for a message about a link, an address or a route, and reads those that are there. `false`: there will be no more.
async fn next_message(routes: &mut Option<UnixDatagram>) -> bool {
    let Some(routes) = routes else {
        return std::future::pending().await;
    };
    // What has changed does not matter, so that the rest of a message may be cut off.
    let mut message = [0_u8; 64];
    match routes.recv(&mut message).await {
        Ok(_) => {}
        // Messages were lost, so there were some.
        Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {}
        Err(error) => {
            tracing::info!(%error, "changes of this host's addresses and routes are not seen any more");
            return false;
        }
    }
    for _ in 0..MAX_MESSAGES {
        if routes.try_recv(&mut message).is_err() {
            break;
        }
    }
    true
}

/// rtnetlink(7): messages of the kernel about links, and IPv4 and IPv6 addresses and routes.
fn open_routes() -> io::Result<UnixDatagram> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Protocol 0 is NETLINK_ROUTE.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, None)?;
    bind(&socket, &SocketAddrNetlink::new(0, GROUPS))?;
    // It is received from like any socket of datagrams; tokio has no type for other families without unsafe code.
    UnixDatagram::from_std(socket.into())
}

/// The time that the host has spent suspended since its start: one of the two clocks counts it.
fn time_suspended() -> Duration {
    let clock = |id| {
        let time = clock_gettime(id);
        let seconds = Duration::from_secs(time.tv_sec.try_into().unwrap_or_default());
        seconds + Duration::from_nanos(time.tv_nsec.try_into().unwrap_or_default())
    };
    clock(ClockId::Boottime).saturating_sub(clock(ClockId::Monotonic))
}

/// RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_IFADDR, RTMGRP_IPV6_ROUTE.
const GROUPS: u32 = 0x1 | 0x10 | 0x40 | 0x100 | 0x400;
/// Time without further signs after one.
const QUIET: Duration = Duration::from_secs(1);
/// The same while changes follow each other: a dial through a slow resolver and a lost packet takes seconds.
const LONGEST_QUIET: Duration = Duration::from_secs(16);
/// Time for the other changes that belong to the first one.
const SETTLE: Duration = Duration::from_millis(50);
/// Both clocks are compared this often.
const SUSPEND_POLL: Duration = Duration::from_secs(2);
/// The clocks are not read at the same moment; sessions survive a shorter break.
const SHORTEST_SUSPEND: Duration = Duration::from_secs(1);
/// Messages that are read without a pause for other tasks.
const MAX_MESSAGES: usize = 256;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::time::timeout;

    #[tokio::test]
    async fn a_host_that_does_not_change_gives_no_sign_of_a_suspend() {
        let mut changes = HostChanges::new();
        changes.routes = None;
        let quiet = timeout(Duration::from_millis(100), changes.next()).await;
        assert_eq!(quiet.ok(), None);
    }

    #[tokio::test]
    async fn time_in_suspend_is_a_sign() {
        let mut changes = HostChanges::new();
        changes.routes = None;
        // As if the clocks had been closer before.
        let Some(before) = changes.suspended.checked_sub(SHORTEST_SUSPEND) else {
            return;
        };
        changes.suspended = before;
        let change = changes.next().await;
        assert!(matches!(change, HostChange::Resumed(_)), "{change:?}");
    }

    /// Each sign ends the dials without an answer: with one a second, a dial that takes longer would never succeed.
    #[tokio::test(start_paused = true)]
    async fn a_host_that_changes_all_the_time_gives_few_signs() {
        let (kernel, routes) = UnixDatagram::pair().unwrap();
        let mut changes = HostChanges::new();
        changes.routes = Some(routes);
        let churning = tokio::spawn(async move {
            for _ in 0..600 {
                kernel.send(b"route").await.unwrap();
                sleep(Duration::from_millis(100)).await;
            }
            kernel
        });
        let begun = Instant::now();
        let mut signs = Vec::new();
        while begun.elapsed() < Duration::from_secs(60) {
            changes.next().await;
            signs.push(begun.elapsed().as_secs());
        }
        assert!(
            signs.starts_with(&[0, 1]) || signs.starts_with(&[0, 2]),
            "{signs:?}"
        );
        assert!((4..10).contains(&signs.len()), "{signs:?}");
        // After a pause the next sign comes at once.
        let kernel = churning.await.unwrap();
        while timeout(LONGEST_QUIET * 2, changes.next()).await.is_ok() {}
        for _ in 0..2 {
            sleep(LONGEST_QUIET).await;
            kernel.send(b"route").await.unwrap();
            let change = timeout(QUIET, changes.next()).await;
            assert_eq!(change.ok(), Some(HostChange::Network));
        }
    }
}

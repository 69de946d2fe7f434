//! What point 5 of the events promises: a storm of events while agent, gateway and receiver are killed at random moments and
//! the disk fills up. None is lost, repeats carry the id of the first delivery, and each issue keeps its order.
//!
//! `STORM_EVENTS=100000` makes it the whole proof; `STORM_SEED` repeats the moments of an earlier run. Needs root: the agent's
//! state lies on a small disk of its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod jira;
mod parts;

use e2e::wait::until;
use jira::EventSource;
use parts::{DISK_BYTES, StormParts};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    env,
    time::{Duration, Instant},
};

/// What is killed next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    Agent,
    Gateway,
    Receiver,
    DiskFull,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_event_is_lost_while_everything_is_killed() {
    let events = number("STORM_EVENTS").unwrap_or(2_000);
    let seed = number("STORM_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    let mut random = StdRng::seed_from_u64(seed);
    eprintln!("{events} events, STORM_SEED={seed}");
    let mut parts = StormParts::start().await.unwrap();
    let began = Instant::now();
    let source = EventSource::start(&parts.outlet_url(), events);
    let mut faults = [0_u32; 4];
    // At least one of each kind, also where all events are out before.
    let kinds = [
        Fault::Agent,
        Fault::Gateway,
        Fault::Receiver,
        Fault::DiskFull,
    ];
    let mut round = 0;
    while !source.is_done() || round < kinds.len() {
        tokio::time::sleep(Duration::from_millis(random.random_range(200..1_500))).await;
        let fault = match kinds.get(round) {
            Some(fault) => *fault,
            // A killed agent costs the source a second of repeats; the others cost it nothing.
            None => kinds[random.random_range(0..kinds.len())],
        };
        round += 1;
        faults[fault as usize] += 1;
        match fault {
            Fault::Agent => parts.kill_agent(),
            Fault::Gateway => parts.kill_gateway(),
            Fault::Receiver => parts.kill_receiver(),
            Fault::DiskFull => {
                parts.fill_disk();
                tokio::time::sleep(Duration::from_millis(random.random_range(200..900))).await;
                parts.free_disk();
            }
        }
    }
    let accepted = began.elapsed();
    let sent = source.stop().await;
    assert_eq!(sent.accepted, events, "{sent:?}");

    // All that got 202 arrives, without a further call of Jira.
    let delivered = async || {
        parts
            .stats()
            .await
            .is_some_and(|stats| stats.events >= events)
    };
    let deadline = Instant::now() + Duration::from_secs(60) + accepted;
    while !delivered().await && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let empty = until("an empty queue", async || {
        parts.queue_is_empty().await.then_some(())
    });
    let empty = empty.await;
    let stats = parts.stats().await.unwrap();
    let [agent, gateway, receiver, disk] = faults;
    let text = format!(
        "{events} events accepted in {accepted:.1?}, delivered in {:.1?}; killed: agent {agent}, gateway {gateway}, receiver {receiver}; \
         disk of {} MiB full: {disk}; Jira repeated {} calls after {} refusals and {} broken connections; receiver: {stats:?}",
        began.elapsed(),
        DISK_BYTES >> 20,
        sent.refused + sent.broken,
        sent.refused,
        sent.broken,
    );
    eprintln!("{text}");
    empty.unwrap();
    assert_eq!(stats.events, events, "lost or invented: {text}");
    assert_eq!(stats.out_of_order, 0, "{text}");
    assert_eq!((stats.forged, stats.stale), (0, 0), "{text}");
    assert_eq!(stats.issues, u64::from(jira::ISSUES), "{text}");
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}

//! When a bare sshd ends a session whose link is lost, and what it cuts on a living bad link: the figures behind the
//! settings that docs/vendor-guide.md recommends.

use super::{ChaosContext, liveness::load_bad_link};
use crate::{
    vendor::SteadyLoad,
    world::{ChaosWorld, PlaceKind, SshdTimers, WorldOptions},
};
use anyhow::Result;
use e2e::lab::CutDirection;
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// All settings at the same time, each with hosts of its own. They do hardly any work.
pub(crate) async fn sshd_timers(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    if place != PlaceKind::SshdPort {
        return Ok(());
    }
    let freed = SETTINGS
        .iter()
        .flat_map(|timers| [true, false].map(|busy| freed(context, *timers, busy)));
    let cut = SETTINGS.iter().map(|timers| cut(context, *timers));
    let (freed, cut) = tokio::join!(join_all(freed), join_all(cut));
    freed.into_iter().chain(cut).collect()
}

/// From the moment in which the link drops everything until nothing listens on the agent's port any more.
async fn freed(context: &ChaosContext, timers: SshdTimers, busy: bool) -> Result<()> {
    let options = WorldOptions {
        timers,
        ..WorldOptions::default()
    };
    let world = ChaosWorld::with(&[PlaceKind::SshdPort], options).await?;
    let gateway = world.gateway();
    let load = busy.then(|| SteadyLoad::every(&gateway.host, &gateway.target(), EVERY));
    sleep(Duration::from_secs(7)).await;
    gateway.link.cut(CutDirection::Both);
    let lost = Instant::now();
    let watched = context.by_length(Duration::from_secs(60), WATCH, LONG_WATCH);
    while gateway.host.listens(PORT) && lost.elapsed() < watched {
        sleep(Duration::from_millis(50)).await;
    }
    let time = (!gateway.host.listens(PORT)).then(|| lost.elapsed());
    let state = if busy { "busy" } else { "at rest" };
    let name = format!("{}: port free, {state}", name(timers));
    context.report.time_of(AT, &name, time);
    drop(load);
    Ok(())
}

async fn cut(context: &ChaosContext, timers: SshdTimers) -> Result<()> {
    let length = context.by_length(
        Duration::from_secs(60),
        Duration::from_secs(600),
        Duration::from_secs(1800),
    );
    let outcome = load_bad_link(PlaceKind::SshdPort, timers, length).await?;
    let name = format!(
        "{}: sessions cut in {} s of a living bad link",
        name(timers),
        length.as_secs()
    );
    let text = format!("{}{}", outcome.cut, outcome.details());
    context.report.info(AT, &name, text);
    Ok(())
}

fn name(timers: SshdTimers) -> String {
    let SshdTimers {
        interval,
        count,
        retries2,
    } = timers;
    let retries2 = retries2.map_or_else(|| "as shipped".to_owned(), |count| count.to_string());
    format!("ClientAlive {interval} s × {count}, tcp_retries2 {retries2}")
}

const fn timers(interval: u32, count: u32, retries2: u32) -> SshdTimers {
    SshdTimers {
        interval,
        count,
        retries2: Some(retries2),
    }
}

/// 15 is the kernel's default.
const SETTINGS: [SshdTimers; 12] = [
    timers(5, 2, 15),
    timers(5, 2, 8),
    timers(5, 2, 5),
    timers(5, 2, 4),
    timers(5, 2, 3),
    timers(3, 2, 15),
    timers(3, 2, 5),
    timers(3, 2, 4),
    timers(3, 2, 3),
    timers(3, 1, 4),
    timers(2, 2, 4),
    timers(2, 1, 5),
];
const AT: (&str, &str) = ("sshd-timers", "sshd port");
/// More often than ClientAliveInterval: sshd then never sends its messages.
const EVERY: Duration = Duration::from_secs(1);
const PORT: u16 = 8080;
const WATCH: Duration = Duration::from_secs(300);
const LONG_WATCH: Duration = Duration::from_secs(1200);

//! Point 3: gateways that are killed, restarted, cut and lost, one and two of them.

use super::ChaosContext;
use crate::{
    report::seconds,
    vendor::{SteadyLoad, longest_gap, tally},
    world::{ChaosWorld, PlaceKind, WorldOptions, is_proven},
};
use agent::status::OverallState;
use anyhow::Result;
use e2e::lab::CutDirection;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Killed for 3 s; restarted; its session processes killed.
pub(crate) async fn killed(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let at = ("killed", place.name());
    let world = ChaosWorld::start(place).await?;
    let gateway = world.gateway();
    sleep(Duration::from_secs(3)).await;
    let load = SteadyLoad::every(&gateway.host, &gateway.target(), EVERY);
    sleep(Duration::from_secs(1)).await;
    gateway.kill();
    sleep(Duration::from_secs(3)).await;
    gateway.start_again().await?;
    let back = load.first_answer(Instant::now(), WATCH).await;
    let name = "killed for 3 s, answered again";
    context.report.time(at, name, back, BACK);
    world.agent().until_proven(WATCH).await?;
    sleep(Duration::from_secs(2)).await;
    gateway.restart().await?;
    let back = load.first_answer(Instant::now(), WATCH).await;
    context.report.time(
        at,
        "restarted, answered again",
        back,
        Duration::from_secs(1),
    );
    if place.is_bare_sshd() {
        world.agent().until_proven(WATCH).await?;
        sleep(Duration::from_secs(2)).await;
        let killed = Instant::now();
        gateway.kill_sessions()?;
        let back = load
            .first_answer(killed + Duration::from_millis(50), WATCH)
            .await;
        context.report.time(
            at,
            "session killed, answered again",
            back,
            Duration::from_secs(1),
        );
    }
    let records = load.stop().await;
    context
        .report
        .info(at, "requests meanwhile", tally(&records));
    Ok(())
}

/// The connection is reset every 4.3 s.
pub(crate) async fn flapping(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let gateway = world.gateway();
    sleep(Duration::from_secs(3)).await;
    let load = SteadyLoad::every(&gateway.host, &gateway.target(), EVERY);
    let began = Instant::now();
    let mut last = began;
    for _ in 0..context.by_length(3, 5, 12) {
        gateway.reset_for(Duration::from_millis(300)).await?;
        last = Instant::now();
        sleep(Duration::from_secs(4)).await;
    }
    let back = load.first_answer(last, WATCH).await;
    let at = ("flapping", place.name());
    let name = "answered again after resets every 4.3 s";
    context.report.time(at, name, back, Duration::from_secs(1));
    let records = load.stop().await;
    let gap = longest_gap(&records, began);
    context
        .report
        .time(at, "longest gap meanwhile", Some(gap), BACK);
    Ok(())
}

/// A cut that lasted long enough for every back-off to have grown.
pub(crate) async fn heal(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let length = context.by_length(
        Duration::from_secs(15),
        // The back-off has reached its ceiling of 5 s long before.
        Duration::from_secs(60),
        Duration::from_secs(3600),
    );
    let world = ChaosWorld::start(place).await?;
    let gateway = world.gateway();
    sleep(Duration::from_secs(3)).await;
    // A request every 2 s, as a vendor's poller sends: it keeps the dead session's port busy.
    let poller = SteadyLoad::every(&gateway.host, &gateway.target(), Duration::from_secs(2));
    gateway.link.cut(CutDirection::Both);
    sleep(length).await;
    let healed = Instant::now();
    gateway.link.heal();
    let load = SteadyLoad::every(&gateway.host, &gateway.target(), EVERY);
    let back = load.first_answer(healed, WATCH).await;
    let at = ("heal", place.name());
    let name = format!("answered again after a cut of {}", seconds(length));
    context.report.time(at, &name, back, BACK);
    drop(poller);
    Ok(())
}

/// Two gateways, with one connection and with the default.
pub(crate) async fn two(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    if context.is_short() && place != PlaceKind::Stub {
        return Ok(());
    }
    if place == PlaceKind::SshdSocket {
        let why = "not measured: here, both gateways would bind one path of one file system";
        context
            .report
            .info(("two", place.name()), "two gateways", why.to_owned());
        return Ok(());
    }
    if !context.is_short() {
        takeover(context, place, "default connections", "").await?;
        takeover(context, place, "one connection", "connections = 1\n").await?;
    }
    home(context, place).await
}

/// The first gateway's link is cut: when does the second answer?
async fn takeover(
    context: &ChaosContext,
    place: PlaceKind,
    name: &str,
    tunnel: &str,
) -> Result<()> {
    let options = WorldOptions {
        tunnel: tunnel.to_owned(),
        ..WorldOptions::default()
    };
    let world = ChaosWorld::with(&[place, place], options).await?;
    let second = &world.gateways[1];
    sleep(Duration::from_secs(3)).await;
    let load = SteadyLoad::every(&second.host, &second.target(), EVERY);
    let busy = SteadyLoad::every(&world.gateway().host, &world.gateway().target(), EVERY);
    sleep(Duration::from_secs(1)).await;
    let cut = Instant::now();
    // The process is gone and its host answers nothing, as after a power loss.
    world.gateway().kill();
    world.gateway().link.cut(CutDirection::Both);
    let back = load.first_answer(cut, WATCH).await;
    let at = ("two", place.name());
    let name = format!("first gateway lost, answered by the second ({name})");
    // Each gateway has a session, however few connections are configured.
    context.report.time(at, &name, back, Duration::from_secs(1));
    drop(busy);
    Ok(())
}

/// The first gateway is away for 3 s: its return is used, and its absence is said.
async fn home(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::with(&[place, place], WorldOptions::default()).await?;
    let (first, agent) = (world.gateway(), world.agent());
    sleep(Duration::from_secs(3)).await;
    let at = ("two", place.name());
    let killed = Instant::now();
    first.kill();
    let degraded = agent.until(
        "the status to say that a gateway is missing",
        Duration::from_secs(3),
        |s| s.overall != OverallState::Proven,
    );
    let degraded = degraded.await.ok();
    context.report.time(
        at,
        "status degraded while a gateway is missing",
        degraded,
        Duration::from_secs(2),
    );
    sleep(Duration::from_secs(3).saturating_sub(killed.elapsed())).await;
    first.start_again().await?;
    let returned = Instant::now();
    let load = SteadyLoad::every(&first.host, &first.target(), EVERY);
    let back = load.first_answer(returned, WATCH).await;
    context
        .report
        .time(at, "first gateway used again after 3 s", back, BACK);
    let address = first.ssh().to_owned();
    let proven = agent.until("a session at the first gateway", WATCH, |status| {
        status.overall == OverallState::Proven
            && status
                .connections
                .iter()
                .any(|c| c.gateway == address && is_proven(c))
    });
    let proven = proven.await.ok().map(|_| returned.elapsed());
    context.report.time(at, "status proven again", proven, BACK);
    Ok(())
}

const EVERY: Duration = Duration::from_millis(100);
/// Point 3: back with one gateway, after an outage of an hour too.
const BACK: Duration = Duration::from_secs(5);
const WATCH: Duration = Duration::from_secs(60);

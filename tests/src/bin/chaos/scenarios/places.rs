//! Point 2: what is bound is proved by a request through it, so that a path that is stolen or removed is seen.

use super::ChaosContext;
use crate::{
    vendor::SteadyLoad,
    world::{ChaosWorld, PlaceKind, WorldOptions},
};
use agent::status::OverallState;
use anyhow::Result;
use std::{
    fs,
    os::unix::net::UnixListener,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Only where a socket path is what the agent binds.
pub(crate) async fn stolen(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    if place != PlaceKind::SshdSocket {
        return Ok(());
    }
    for steals in [true, false] {
        let world = ChaosWorld::start(place).await?;
        let (gateway, agent) = (world.gateway(), world.agent());
        sleep(Duration::from_secs(3)).await;
        let socket = PathBuf::from(gateway.bind());
        let began = Instant::now();
        fs::remove_file(&socket)?;
        // One that accepts and says nothing.
        let thief = steals.then(|| UnixListener::bind(&socket)).transpose()?;
        let what = match steals {
            true => "stolen socket path",
            false => "removed socket path",
        };
        watch(context, what, &world, began).await?;
        drop((agent, thief));
    }
    two_agents(context).await
}

/// Two agents on one path; the one that holds it is stopped.
async fn two_agents(context: &ChaosContext) -> Result<()> {
    let world = ChaosWorld::start(PlaceKind::SshdSocket).await?;
    let other = world.add_agent("other", &WorldOptions::default()).await?;
    other
        .until("its session", WATCH, |s| s.overall != OverallState::Down)
        .await?;
    sleep(Duration::from_secs(5)).await;
    other.signal("TERM").await?;
    other.ended(WATCH).await?;
    watch(
        context,
        "two agents on one path, the last stopped",
        &world,
        Instant::now(),
    )
    .await
}

async fn watch(
    context: &ChaosContext,
    what: &str,
    world: &ChaosWorld,
    began: Instant,
) -> Result<()> {
    let at = ("stolen", PlaceKind::SshdSocket.name());
    let agent = world.agent();
    let load = SteadyLoad::every(
        &world.gateway().host,
        &world.gateway().target(),
        Duration::from_millis(500),
    );
    let said = agent.until("the status to say so", Duration::from_secs(20), |s| {
        s.overall != OverallState::Proven
    });
    let (said, back) = tokio::join!(said, load.first_answer(began, Duration::from_secs(30)));
    // It may be back before anybody could have read the status.
    let said = said.ok().or(back);
    context
        .report
        .time(at, &format!("{what}, said or corrected"), said, SEEN);
    context.report.time(
        at,
        &format!("{what}, answered again"),
        back,
        SEEN + Duration::from_secs(2),
    );
    Ok(())
}

/// Point 2: seen within 10 s.
const SEEN: Duration = Duration::from_secs(10);
const WATCH: Duration = Duration::from_secs(60);

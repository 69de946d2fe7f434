//! Point 4: restarts and upgrades of the agent under load.

use super::ChaosContext;
use crate::{
    vendor::{CallRecord, SteadyLoad, longest_gap, tally},
    world::{ChaosWorld, PlaceKind},
};
use anyhow::{Context, Result};
use std::{
    process::Command,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// SIGTERM and a new start, as `systemctl restart` does.
pub(crate) async fn restart(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let (gateway, agent) = (world.gateway(), world.agent());
    sleep(Duration::from_secs(2)).await;
    let load = SteadyLoad::workers(&gateway.host, &gateway.target(), WORKERS, ANSWER);
    sleep(Duration::from_secs(2)).await;
    let rounds = context.by_length(2, 10, 100);
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        agent.signal("TERM").await?;
        agent.ended(WATCH).await?;
        agent.start_again(&world.site).await?;
        agent.until_proven(WATCH).await?;
        sleep(Duration::from_secs(2)).await;
        gaps.push(longest_gap(&load.records(), began));
    }
    let records = load.stop().await;
    let at = ("restart", place.name());
    account(context, at, "restart", rounds, &records, &world);
    let gap = gaps.into_iter().max().unwrap_or_default();
    context
        .report
        .time(at, "longest gap at a restart", Some(gap), gap_goal(place));
    Ok(())
}

/// The new process starts beside the old one and takes over.
pub(crate) async fn upgrade(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let at = ("upgrade", place.name());
    let help = Command::new(e2e::agent::binary("agent"))
        .args(["upgrade", "--help"])
        .output()?;
    if !help.status.success() {
        context.report.missing(
            at,
            "hand-over",
            "this agent has no `agent upgrade`".to_owned(),
        );
        return Ok(());
    }
    let world = ChaosWorld::start(place).await?;
    let (gateway, agent) = (world.gateway(), world.agent());
    sleep(Duration::from_secs(2)).await;
    let load = SteadyLoad::workers(&gateway.host, &gateway.target(), WORKERS, ANSWER);
    sleep(Duration::from_secs(2)).await;
    let rounds = context.by_length(1, 10, 100);
    let mut gaps = Vec::new();
    for _ in 0..rounds {
        let began = Instant::now();
        let before = agent.status().await.context("no status")?.agent.pid;
        let command = agent.command(&["upgrade"]).await;
        let done = world
            .site
            .blocking(move || {
                let mut command = command;
                command.output()
            })
            .await??;
        anyhow::ensure!(done.status.success(), "agent upgrade: {done:?}");
        agent
            .until("another process to answer", WATCH, |s| {
                s.agent.pid != before
            })
            .await?;
        agent.until_proven(WATCH).await?;
        sleep(Duration::from_secs(2)).await;
        gaps.push(longest_gap(&load.records(), began));
    }
    let records = load.stop().await;
    account(context, at, "upgrade", rounds, &records, &world);
    let gap = gaps.into_iter().max().unwrap_or_default();
    context
        .report
        .time(at, "longest gap at an upgrade", Some(gap), gap_goal(place));
    Ok(())
}

fn account(
    context: &ChaosContext,
    at: (&str, &str),
    what: &str,
    rounds: u32,
    records: &[CallRecord],
    world: &ChaosWorld,
) {
    let refused = records.iter().filter(|r| r.is_not_sent()).count() as u64;
    let lost = records.iter().filter(|r| r.is_lost()).count() as u64;
    let each = |n: u64| {
        format!(
            " in {rounds} ({:.1} per {what})",
            n as f64 / f64::from(rounds)
        )
    };
    let report = &context.report;
    report.counted(at, &format!("lost per {what}"), lost, 0, each(lost));
    let place = world.gateway().kind;
    let name = format!("refused per {what}");
    // One bare port cannot be held for a process that is not there.
    match place {
        PlaceKind::GatewayOpenssh | PlaceKind::Stub => {
            report.counted(at, &name, refused, 0, each(refused));
        }
        PlaceKind::SshdPort | PlaceKind::SshdSocket | PlaceKind::SshdSlots => {
            report.info(at, &name, format!("{refused}{}", each(refused)));
        }
    }
    let twice = world
        .jira
        .records()
        .commits
        .values()
        .filter(|n| **n > 1)
        .count() as u64;
    report.count(at, "writes twice", twice, 0);
    report.info(at, "requests meanwhile", tally(records));
}

/// A bare port or socket is to be free for a tenth of a second at most; elsewhere a request waits up to 2 s.
fn gap_goal(place: PlaceKind) -> Duration {
    match place {
        PlaceKind::SshdPort | PlaceKind::SshdSocket | PlaceKind::SshdSlots => {
            ANSWER + Duration::from_millis(100)
        }
        PlaceKind::GatewayOpenssh | PlaceKind::Stub => Duration::from_secs(2),
    }
}

const WORKERS: usize = 6;
/// How long Jira takes for each write.
const ANSWER: Duration = Duration::from_millis(300);
const WATCH: Duration = Duration::from_secs(60);

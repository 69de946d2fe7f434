//! Point 8: Jira is protected, and the vendor gets its answer quickly.

use super::ChaosContext;
use crate::{
    vendor::{CallRecord, VendorRequest, call, next_id, tally},
    world::{ChaosWorld, PlaceKind},
};
use agent::status::OverallState;
use anyhow::Result;
use bytes::Bytes;
use http::Method;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// The gateway does not matter here: one kind is enough.
pub(crate) async fn jira(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    if place != PlaceKind::Stub {
        return Ok(());
    }
    frozen(context, place).await?;
    if context.is_short() {
        return Ok(());
    }
    slow(context, place).await?;
    limited(context, place).await?;
    closing(context, place).await
}

/// 200 callers while Jira's process is stopped.
async fn frozen(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let agent = world.agent();
    sleep(Duration::from_secs(2)).await;
    // So that the agent knows how long Jira usually takes.
    let warm = callers(&world, 40, Duration::ZERO, Duration::from_secs(20)).await?;
    anyhow::ensure!(warm.iter().all(CallRecord::is_answered), "{}", tally(&warm));
    world.jira.freeze();
    let frozen = Instant::now();
    let limit = context.by_length(
        Duration::from_secs(15),
        Duration::from_secs(60),
        Duration::from_secs(150),
    );
    let waiting = callers(&world, 200, Duration::ZERO, limit);
    let degraded = agent.until("the status to be degraded", Duration::from_secs(60), |s| {
        s.overall != OverallState::Proven
    });
    let (records, degraded) = tokio::join!(waiting, degraded);
    let records = records?;
    let at = ("jira", place.name());
    let report = &context.report;
    let goal = Duration::from_secs(10);
    report.time(at, "Jira stopped: status degraded", degraded.ok(), goal);
    let queued = records
        .iter()
        .filter(|r| r.is_not_sent())
        .map(CallRecord::took)
        .max();
    let name = "Jira stopped: longest answer to a queued request";
    report.time(at, name, queued, Duration::from_secs(2));
    report.info(at, "Jira stopped: outcomes of 200 callers", tally(&records));
    // Once it is known, the next callers wait a second at most. One of them may be sent, to try Jira for all others.
    if frozen.elapsed() < Duration::from_secs(40) || !context.is_short() {
        let next = callers(&world, 20, Duration::ZERO, Duration::from_secs(30)).await?;
        let (tried, refused): (Vec<_>, Vec<_>) = next.iter().partition(|r| !r.is_not_sent());
        let name = "Jira stopped: of the next 20 callers, sent to try Jira";
        report.holds(at, name, tried.len() <= 1, format!("{}", tried.len()));
        let longest = refused.iter().map(|record| record.took()).max();
        report.time(
            at,
            "Jira stopped: answer to the next caller",
            longest,
            Duration::from_secs(1),
        );
    }
    world.jira.thaw();
    let thawed = Instant::now();
    world.gateway().serves(Duration::from_secs(60)).await?;
    let back = Some(thawed.elapsed());
    report.time(
        at,
        "Jira continues: answered again",
        back,
        Duration::from_secs(5),
    );
    Ok(())
}

/// Each answer takes 10 s, 200 callers.
async fn slow(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    sleep(Duration::from_secs(2)).await;
    world.jira.delay(Duration::from_secs(10));
    let records = callers(&world, 200, Duration::ZERO, Duration::from_secs(150)).await?;
    let at = ("jira", place.name());
    let busy = records
        .iter()
        .filter(|r| r.is_not_sent())
        .map(CallRecord::took)
        .max();
    let name = "Jira slow, 200 callers: answer to what cannot be served";
    context.report.time(
        at,
        name,
        busy.or(Some(Duration::ZERO)),
        Duration::from_secs(1),
    );
    let load = world.jira.load();
    context.report.info(
        at,
        "Jira slow: outcomes, most at once",
        format!("{}; {}", tally(&records), load.peak),
    );
    Ok(())
}

/// 429 with `Retry-After: 7`.
async fn limited(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    sleep(Duration::from_secs(2)).await;
    world.jira.limit(Some(7));
    let first = callers(&world, 1, Duration::ZERO, Duration::from_secs(20)).await?;
    let seen = world.jira.records().heads.len();
    let records = callers(&world, 50, Duration::ZERO, Duration::from_secs(20)).await?;
    let reached = (world.jira.records().heads.len() - seen) as u64;
    let at = ("jira", place.name());
    let name = "Jira limits (Retry-After: 7): of 50 further requests, sent";
    context.report.count(at, name, reached, 0);
    let told = records
        .iter()
        .all(|r| r.retry_after.is_some_and(|s| (1..=8).contains(&s)));
    context.report.holds(
        at,
        "each answer names when to return",
        told,
        format!("{}; {}", tally(&first), tally(&records)),
    );
    world.jira.limit(None);
    sleep(Duration::from_secs(8)).await;
    let after = callers(&world, 5, Duration::ZERO, Duration::from_secs(20)).await?;
    let good = after.iter().all(CallRecord::is_answered);
    context
        .report
        .holds(at, "answered after that time", good, tally(&after));
    Ok(())
}

/// Jira closes kept-alive connections at random.
async fn closing(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    sleep(Duration::from_secs(2)).await;
    world.jira.close_kept_alive(0.4);
    let gateway = world.gateway();
    let mut workers = Vec::new();
    for _ in 0..6 {
        let target = gateway.target();
        workers.push(gateway.host.spawn(async move {
            let mut records = Vec::new();
            for n in 0..800 {
                let id = next_id();
                let request = match n % 2 {
                    0 => VendorRequest::get(&id),
                    _ => VendorRequest::post(&id, Duration::ZERO, Bytes::from_static(b"{}")),
                };
                records.push(call(target.clone(), request).await);
                sleep(Duration::from_millis(u64::from(rand::random::<u8>() % 4))).await;
            }
            records
        }));
    }
    let mut records = Vec::new();
    for worker in workers {
        records.extend(worker.await?);
    }
    let lost = |method: Method| {
        records
            .iter()
            .filter(|r| r.is_lost() && r.method == method)
            .count() as u64
    };
    let at = ("jira", place.name());
    let more = format!(" of {} requests", records.len());
    let name = "Jira closes kept-alive connections: GETs told maybe_sent";
    context.report.counted(at, name, lost(Method::GET), 0, more);
    let name = "Jira closes kept-alive connections: POSTs told maybe_sent";
    context
        .report
        .info(at, name, lost(Method::POST).to_string());
    let twice = world
        .jira
        .records()
        .commits
        .values()
        .filter(|n| **n > 1)
        .count() as u64;
    context.report.count(at, "writes twice", twice, 0);
    Ok(())
}

/// That many requests at once, reads and writes.
async fn callers(
    world: &ChaosWorld,
    count: usize,
    delay: Duration,
    limit: Duration,
) -> Result<Vec<CallRecord>> {
    let gateway = world.gateway();
    let mut tasks = Vec::new();
    for n in 0..count {
        let id = next_id();
        let request = match n % 2 {
            0 => VendorRequest::get(&id),
            _ if delay.is_zero() => VendorRequest {
                path: format!("/rest/api/2/issue/{id}/comment?id={id}"),
                ..VendorRequest::post(&id, delay, Bytes::from_static(b"{}"))
            },
            _ => VendorRequest::post(&id, delay, Bytes::from_static(b"{}")),
        };
        tasks.push(
            gateway
                .host
                .spawn(call(gateway.target(), request.within(limit))),
        );
    }
    let mut records = Vec::new();
    for task in tasks {
        records.push(task.await?);
    }
    Ok(records)
}

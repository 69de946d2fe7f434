//! `chaos soak`: the stub and OpenSSH together under load, all faults in random order, and an account of every request.

use super::{
    report::{print_line, seconds},
    scenarios::{
        ChaosContext, memory,
        writes::{WriteAccount, Writers, one_fault},
    },
    vendor::{CallRecord, tally},
    world::{ChaosWorld, PlaceKind, WorldOptions},
};
use anyhow::{Context, Result};
use e2e::process::resident;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::{
    collections::{BTreeMap, HashSet},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// One agent at both gateways, with default settings.
pub(crate) async fn soak(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    if context.places.first() != Some(&place) {
        return Ok(());
    }
    let at = ("soak", "stub and sshd port");
    print_line(&format!(
        "soak: seed {}, {} minutes",
        context.seed, context.minutes
    ));
    let mut random = StdRng::seed_from_u64(context.seed);
    let kinds = [PlaceKind::Stub, PlaceKind::SshdPort];
    let world = ChaosWorld::with(&kinds, WorldOptions::default()).await?;
    let agent = world.agent();
    world.gateways[1].serves(Duration::from_secs(30)).await?;
    sleep(Duration::from_secs(3)).await;
    let start = usage(agent.pid().await)?;
    let load: Vec<Writers> = world
        .gateways
        .iter()
        .map(|gateway| Writers::start(&gateway.host, &gateway.target(), 5))
        .collect();
    let end = Instant::now() + Duration::from_secs_f64(context.minutes * 60.0);
    let mut faults: BTreeMap<&str, u32> = BTreeMap::new();
    let mut quiet = Vec::new();
    while Instant::now() < end {
        sleep(Duration::from_millis(random.random_range(500..4000))).await;
        let gateway = random.random_range(0..kinds.len());
        let kind = one_fault(&world, gateway, &mut random, false).await?;
        *faults.entry(kind).or_default() += 1;
        load[gateway].answered_again(Duration::from_secs(30)).await;
        quiet.push(usage(agent.pid().await)?);
    }
    let mut records: Vec<CallRecord> = Vec::new();
    for writers in load {
        records.extend(writers.stop().await);
    }
    agent.until_proven(Duration::from_secs(60)).await?;
    sleep(Duration::from_secs(30)).await;
    let last = usage(agent.pid().await)?;
    let report = &context.report;
    let faults: Vec<String> = faults
        .iter()
        .map(|(kind, n)| format!("{n} {kind}"))
        .collect();
    let more = format!(
        " in {} attempts, {}, seed {}",
        records.len(),
        faults.join(", "),
        context.seed
    );
    let jira = world.jira.records();
    WriteAccount::of(&records, &jira).report(context, at, &more);
    report.info(at, "outcomes", tally(&records));
    let longest = records
        .iter()
        .map(CallRecord::took)
        .max()
        .unwrap_or_default();
    report.info(at, "longest request", seconds(longest));

    // Every request that Jira saw has an audit record, and every answer of the agent too.
    let audit = agent.audit().await;
    let recorded: HashSet<String> = audit.iter().filter_map(audited_id).collect();
    let known: HashSet<&str> = records.iter().map(|r| r.id.as_str()).collect();
    let seen = jira.heads.keys().filter(|id| known.contains(id.as_str()));
    let without = seen.filter(|id| !recorded.contains(id.as_str())).count() as u64;
    report.counted(
        at,
        "requests that Jira saw without an audit record",
        without,
        0,
        format!(" of {}", jira.heads.len()),
    );
    let answered = records.iter().filter(|r| r.is_answered());
    let without = answered.filter(|r| !recorded.contains(&r.id)).count() as u64;
    report.count(at, "answered requests without an audit record", without, 0);
    let status = agent.status().await.context("no status")?;
    let run = audit
        .iter()
        .filter(|line| line["run"] == status.audit.run.as_str())
        .count();
    let run = if run == 0 { audit.len() } else { run };
    let counted: u64 = status.forwards.iter().map(|f| f.requests).sum();
    report.counted(
        at,
        "difference of audit records and the agent's counter",
        counted.abs_diff(run as u64),
        0,
        format!(" ({counted} counted, {run} recorded)"),
    );
    report.count(
        at,
        "requests in flight at the end",
        status.forwards.iter().map(|f| f.in_flight).sum(),
        0,
    );
    let more = format!(" ({} at the start)", start.descriptors);
    report.counted(
        at,
        "descriptors at the end",
        last.descriptors,
        start.descriptors + 8,
        more,
    );
    report.at_most(at, "memory at the end", last.mib, 64.0, " MiB");
    let peak = quiet.iter().map(|usage| usage.mib).fold(0.0, f64::max);
    let middle = quiet.get(quiet.len() / 2).map_or(0.0, |usage| usage.mib);
    report.info(
        at,
        "memory: start, middle, peak, end",
        format!(
            "{:.1}, {middle:.1}, {peak:.1}, {:.1} MiB",
            start.mib, last.mib
        ),
    );
    Ok(())
}

/// The request's name in the path of an audit record.
fn audited_id(line: &serde_json::Value) -> Option<String> {
    let path = line["target"].as_str()?;
    let rest = path.strip_prefix("/rest/api/2/issue/")?;
    Some(rest.split(['/', '?']).next()?.to_owned())
}

/// What the agent's process uses.
struct ResourceUsage {
    mib: f64,
    descriptors: u64,
}

fn usage(pid: u32) -> Result<ResourceUsage> {
    Ok(ResourceUsage {
        mib: resident(pid)? as f64 / f64::from(1 << 20),
        descriptors: memory::descriptors(pid)?,
    })
}

//! Point 1: a path that no longer carries anything is noticed by both ends, and a slow one is not taken for dead.

use super::ChaosContext;
use crate::{
    vendor::{SteadyLoad, VendorRequest, call, next_id, tally},
    world::{AgentHandle, ChaosWorld, PlaceKind, is_proven},
};
use anyhow::{Context, Result};
use bytes::Bytes;
use e2e::lab::{CutDirection, LinkQuality};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Both ways and each way, busy and at rest.
pub(crate) async fn blackhole(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let all = [CutDirection::Both, CutDirection::Forth, CutDirection::Back];
    let directions = context.by_length(&all[..1], &all, &all);
    for direction in directions {
        for busy in [true, false] {
            // The short run tests one of the two at each gateway.
            if context.is_short() && busy != (place == PlaceKind::Stub) {
                continue;
            }
            cut(context, place, *direction, busy).await?;
        }
    }
    Ok(())
}

async fn cut(
    context: &ChaosContext,
    place: PlaceKind,
    direction: CutDirection,
    busy: bool,
) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let (gateway, agent) = (world.gateway(), world.agent());
    sleep(Duration::from_secs(3)).await;
    let load = busy.then(|| SteadyLoad::every(&gateway.host, &gateway.target(), EVERY));
    sleep(Duration::from_secs(2)).await;
    let watch = SessionWatch::begin(&world, &agent).await?;
    gateway.link.cut(direction);
    let (by_agent, by_gateway) = watch
        .run(!busy, context.by_length(SHORT_WATCH, WATCH, WATCH))
        .await;
    let name = format!("blackhole {direction:?}").to_lowercase();
    let at = (&*name, place.name());
    let (state, goal) = match busy {
        true => ("busy", BUSY),
        false => ("at rest", AT_REST),
    };
    let report = &context.report;
    report.time(
        at,
        &format!("{state}, noticed by the agent"),
        by_agent,
        goal,
    );
    report.time(
        at,
        &format!("{state}, noticed by the gateway"),
        by_gateway,
        goal,
    );
    let healed = Instant::now();
    gateway.link.heal();
    let load = load.unwrap_or_else(|| SteadyLoad::every(&gateway.host, &gateway.target(), EVERY));
    let back = load.first_answer(healed, WATCH).await;
    report.time(at, "answered again after the link heals", back, BACK);
    drop(load);
    Ok(())
}

/// The established flow disappears, new ones pass.
pub(crate) async fn nat(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let (gateway, agent) = (world.gateway(), world.agent());
    sleep(Duration::from_secs(3)).await;
    let load = SteadyLoad::every(&gateway.host, &gateway.target(), EVERY);
    sleep(Duration::from_secs(2)).await;
    let watch = SessionWatch::begin(&world, &agent).await?;
    let lost = Instant::now();
    let ports: Vec<String> = watch.sessions.iter().map(u16::to_string).collect();
    let ports = ports.join(",");
    gateway.host.nft(&format!(
        "table inet nat_lost {{\n chain in {{\n type filter hook input priority 0;\n tcp sport {{ {ports} }} drop;\n }}\n \
         chain out {{\n type filter hook output priority 0;\n tcp dport {{ {ports} }} drop;\n }}\n}}\n"
    ))?;
    let watched = context.by_length(SHORT_WATCH, WATCH, LONG_WATCH);
    let (by_agent, _) = watch.run(false, watched).await;
    let at = ("nat", place.name());
    context
        .report
        .time(at, "busy, noticed by the agent", by_agent, BUSY);
    let back = load
        .first_answer(lost + Duration::from_millis(200), watched)
        .await;
    let name = "answered again after the NAT mapping is lost";
    context.report.time(at, name, back, OUTAGE);
    Ok(())
}

/// The agent's host gets another address, as after a DHCP lease.
pub(crate) async fn address(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let gateway = world.gateway();
    sleep(Duration::from_secs(3)).await;
    let load = SteadyLoad::every(&gateway.host, &gateway.target(), EVERY);
    sleep(Duration::from_secs(2)).await;
    let changed = Instant::now();
    let device = ["dev", "link1"];
    let ip = |words: &[&str]| world.site.ip(&[words, &device].concat());
    ip(&["addr", "del", "10.77.1.1/24"])?;
    ip(&["addr", "add", "10.77.1.3/24"])?;
    let back = load
        .first_answer(changed + Duration::from_millis(200), WATCH)
        .await;
    let at = ("address", place.name());
    let name = "answered again after the agent's address changes";
    context.report.time(at, name, back, OUTAGE);
    Ok(())
}

/// The kernel still acknowledges what the gateway's processes no longer read.
pub(crate) async fn stopped(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let (gateway, agent) = (world.gateway(), world.agent());
    sleep(Duration::from_secs(5)).await;
    let watch = SessionWatch::begin(&world, &agent).await?;
    gateway.signal("STOP");
    let (by_agent, _) = watch.run(true, WATCH).await;
    let at = ("stopped", place.name());
    let name = "gateway stopped, noticed by the agent";
    context.report.time(at, name, by_agent, AT_REST);
    let continued = Instant::now();
    gateway.signal("CONT");
    let load = SteadyLoad::every(&gateway.host, &gateway.target(), EVERY);
    let back = load.first_answer(continued, WATCH).await;
    context
        .report
        .time(at, "answered again after it continues", back, BACK);
    Ok(())
}

/// Full load in both directions over a link that any satellite beats.
pub(crate) async fn badlink(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let quality = LinkQuality {
        delay: Duration::from_millis(300),
        loss: 0.05,
        rate: Some(64_000),
        queue: 64 << 10,
        offload: false,
    };
    let world = ChaosWorld::on_link(place, quality).await?;
    let (gateway, agent) = (world.gateway(), world.agent());
    let before = agent.status().await.context("no status")?;
    let sessions = gateway.sessions();
    let length = context.by_length(
        Duration::from_secs(45),
        Duration::from_secs(180),
        Duration::from_secs(600),
    );
    let end = Instant::now() + length;
    let mut workers = Vec::new();
    for upload in [true, true, false, false] {
        let target = gateway.target();
        workers.push(gateway.host.spawn(async move {
            let mut records = Vec::new();
            while Instant::now() < end {
                let request = match upload {
                    true => VendorRequest::post(
                        &next_id(),
                        Duration::ZERO,
                        Bytes::from(vec![b'x'; 20_000]),
                    ),
                    false => VendorRequest {
                        path: format!("/secure/attachment/1/a?id={}&size=20000", next_id()),
                        ..VendorRequest::get("")
                    },
                };
                records.push(call(target.clone(), request.within(length)).await);
            }
            records
        }));
    }
    let mut records = Vec::new();
    for worker in workers {
        records.extend(worker.await?);
    }
    let after = agent.status().await.context("no status")?;
    let replaced: u64 = after
        .connections
        .iter()
        .zip(&before.connections)
        .map(|(after, before)| after.generation - before.generation)
        .sum();
    let lost = sessions.difference(&gateway.sessions()).count() as u64;
    let at = ("badlink", place.name());
    let name = format!(
        "sessions cut in {} s of a living bad link",
        length.as_secs()
    );
    let more = format!(" ({})", tally(&records));
    context
        .report
        .counted(at, &name, replaced.max(lost), 0, more);
    Ok(())
}

/// Watches the sessions of a moment until both ends have given them up.
struct SessionWatch<'a> {
    world: &'a ChaosWorld,
    agent: AgentHandle,
    generations: Vec<u64>,
    sessions: HashSet<u16>,
}

impl<'a> SessionWatch<'a> {
    async fn begin(world: &'a ChaosWorld, agent: &AgentHandle) -> Result<Self> {
        let status = agent.status().await.context("the agent gives no status")?;
        Ok(Self {
            world,
            agent: agent.clone(),
            generations: status.connections.iter().map(|c| c.generation).collect(),
            sessions: world.gateway().sessions(),
        })
    }

    /// When the status no longer says proven, of every connection or of one; and when the gateway sends
    /// nothing to any of the sessions any more.
    async fn run(&self, every: bool, limit: Duration) -> (Option<Duration>, Option<Duration>) {
        let began = Instant::now();
        let (mut by_agent, mut by_gateway) = (None, None);
        while began.elapsed() < limit && (by_agent.is_none() || by_gateway.is_none()) {
            if by_agent.is_none()
                && let Some(status) = self.agent.status().await
            {
                let pairs = status.connections.iter().zip(&self.generations);
                let mut gone =
                    pairs.map(|(c, generation)| !is_proven(c) || c.generation != *generation);
                let noticed = match every {
                    true => gone.all(|gone| gone),
                    false => gone.any(|gone| gone),
                };
                by_agent = noticed.then(|| began.elapsed());
            }
            if by_gateway.is_none() && self.world.gateway().has_given_up(&self.sessions) {
                by_gateway = Some(began.elapsed());
            }
            sleep(Duration::from_millis(50)).await;
        }
        (by_agent, by_gateway)
    }
}

/// A request this often while a part is broken.
const EVERY: Duration = Duration::from_millis(100);
/// Point 1: noticed while requests are sent.
const BUSY: Duration = Duration::from_secs(5);
/// Point 1: noticed while nothing is sent.
const AT_REST: Duration = Duration::from_secs(10);
/// Points 1 and 3: back with one gateway.
const BACK: Duration = Duration::from_secs(5);
/// Noticed and back.
const OUTAGE: Duration = Duration::from_secs(10);
const SHORT_WATCH: Duration = Duration::from_secs(15);
const WATCH: Duration = Duration::from_secs(60);
const LONG_WATCH: Duration = Duration::from_secs(1000);

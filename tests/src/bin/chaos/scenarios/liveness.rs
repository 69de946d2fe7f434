//! Point 1: a path that no longer carries anything is noticed by both ends, and a slow one is not taken for dead.

use super::ChaosContext;
use crate::{
    vendor::{SteadyLoad, VendorRequest, call, next_id, tally},
    world::{AgentHandle, ChaosWorld, PlaceKind, SshdTimers, WorldOptions, is_proven},
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
    // The same sshd at another address sees each direction as the first one does.
    let usual = match place {
        PlaceKind::SshdSocket | PlaceKind::SshdSlots => &all[..1],
        PlaceKind::SshdPort | PlaceKind::GatewayOpenssh | PlaceKind::Stub => &all,
    };
    let directions = context.by_length(&all[..1], usual, &all);
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
    let watched = context.by_length(SHORT_WATCH, WATCH, WATCH);
    let times = watch.run(!busy, watched, !context.is_short()).await;
    let name = format!("blackhole {direction:?}").to_lowercase();
    let at = (&*name, place.name());
    let (state, goal) = match busy {
        true => ("busy", BUSY),
        false => ("at rest", AT_REST),
    };
    let report = &context.report;
    let name = format!("{state}, noticed by the agent");
    report.time(at, &name, times.by_agent, goal);
    let name = format!("{state}, noticed by the gateway");
    match place {
        // A bare sshd cannot reach the goals (docs/vendor-guide.md).
        PlaceKind::SshdPort | PlaceKind::SshdSocket => {
            report.time_of(at, &name, times.session_ended);
        }
        PlaceKind::Stub => report.time(at, &name, times.session_ended, goal),
        PlaceKind::GatewayOpenssh | PlaceKind::SshdSlots => {
            report.time(at, &name, times.places_down, goal);
            let name = format!("{state}, session ended by sshd");
            report.time_of(at, &name, times.session_ended);
        }
    }
    let healed = Instant::now();
    gateway.link.heal();
    let load = load.unwrap_or_else(|| SteadyLoad::every(&gateway.host, &gateway.target(), EVERY));
    let back = load.first_answer(healed, WATCH).await;
    report.time(at, "answered again after the link heals", back, BACK);
    if busy {
        let records = load.stop().await;
        let in_flight = records
            .iter()
            .filter(|r| !r.is_answered())
            .map(|r| r.took());
        let longest = in_flight.max().unwrap_or_default();
        let text = format!("{}; longest wait {longest:.1?}", tally(&records));
        report.info(at, "busy, requests meanwhile", text);
    }
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
    let times = watch.run(false, SHORT_WATCH, false).await;
    let at = ("nat", place.name());
    let report = &context.report;
    report.time(at, "busy, noticed by the agent", times.by_agent, BUSY);
    let back = load
        .first_answer(lost + Duration::from_millis(200), watched)
        .await;
    let name = "answered again after the NAT mapping is lost";
    outage(context, at, place, name, back);
    Ok(())
}

/// One bare port belongs to the lost session until sshd ends it: a figure without a goal.
fn outage(
    context: &ChaosContext,
    at: (&str, &str),
    place: PlaceKind,
    name: &str,
    back: Option<Duration>,
) {
    match place {
        PlaceKind::SshdPort => context.report.time_of(at, name, back),
        PlaceKind::SshdSocket
        | PlaceKind::SshdSlots
        | PlaceKind::GatewayOpenssh
        | PlaceKind::Stub => context.report.time(at, name, back, OUTAGE),
    }
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
    outage(context, at, place, name, back);
    Ok(())
}

/// The kernel still acknowledges what the gateway's processes no longer read.
pub(crate) async fn stopped(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let world = ChaosWorld::start(place).await?;
    let (gateway, agent) = (world.gateway(), world.agent());
    sleep(Duration::from_secs(5)).await;
    let watch = SessionWatch::begin(&world, &agent).await?;
    gateway.signal("STOP");
    let times = watch.run(true, SHORT_WATCH, false).await;
    let at = ("stopped", place.name());
    let name = "gateway stopped, noticed by the agent";
    context.report.time(at, name, times.by_agent, AT_REST);
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
    let length = context.by_length(
        Duration::from_secs(45),
        Duration::from_secs(180),
        Duration::from_secs(600),
    );
    let outcome = load_bad_link(place, SshdTimers::default(), length).await?;
    let at = ("badlink", place.name());
    let name = format!(
        "sessions cut in {} s of a living bad link",
        length.as_secs()
    );
    let more = outcome.details();
    context.report.counted(at, &name, outcome.cut, 0, more);
    Ok(())
}

/// What a living bad link under full load did.
pub(super) struct BadLinkOutcome {
    /// Sessions that ended.
    pub(super) cut: u64,
    /// Of these, how many sshd ended because of `ClientAliveInterval`.
    by_client_alive: usize,
    /// Of these, how many the gateway's kernel ended.
    by_tcp: usize,
    requests: String,
}

impl BadLinkOutcome {
    /// All but the number, in parentheses.
    pub(super) fn details(&self) -> String {
        let Self {
            by_client_alive,
            by_tcp,
            requests,
            ..
        } = self;
        format!(" ({by_client_alive} by ClientAlive, {by_tcp} by the gateway's TCP; {requests})")
    }
}

/// Full load in both directions on a link of 64 kbit/s, 600 ms and 5 % loss.
pub(super) async fn load_bad_link(
    place: PlaceKind,
    timers: SshdTimers,
    length: Duration,
) -> Result<BadLinkOutcome> {
    let options = WorldOptions {
        quality: BAD_LINK,
        timers,
        ..WorldOptions::default()
    };
    let world = ChaosWorld::with(&[place], options).await?;
    let (gateway, agent) = (world.gateway(), world.agent());
    let before = agent.status().await.context("no status")?;
    let sessions = gateway.sessions();
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
                let record = call(target.clone(), request.within(length)).await;
                let is_answered = record.is_answered();
                records.push(record);
                if !is_answered {
                    sleep(EVERY).await;
                }
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
    let log = gateway.log();
    let ended = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    Ok(BadLinkOutcome {
        cut: replaced.max(lost),
        by_client_alive: ended("Timeout, client not responding"),
        by_tcp: ended("Connection timed out"),
        requests: tally(&records),
    })
}

/// Watches the sessions of a moment until both ends have given them up.
struct SessionWatch<'a> {
    world: &'a ChaosWorld,
    agent: AgentHandle,
    generations: Vec<u64>,
    sessions: HashSet<u16>,
    places: Option<HashSet<String>>,
}

/// When something was noticed, from the beginning of the watch.
#[derive(Default)]
struct NoticedTimes {
    /// The status no longer says proven, of every connection or of one.
    by_agent: Option<Duration>,
    /// HAProxy sends nothing to the places of the sessions any more; without HAProxy as `session_ended`.
    places_down: Option<Duration>,
    /// No connection of the sessions is established at the gateway any more.
    session_ended: Option<Duration>,
}

impl<'a> SessionWatch<'a> {
    async fn begin(world: &'a ChaosWorld, agent: &AgentHandle) -> Result<Self> {
        let status = agent.status().await.context("the agent gives no status")?;
        Ok(Self {
            world,
            agent: agent.clone(),
            generations: status.connections.iter().map(|c| c.generation).collect(),
            sessions: world.gateway().sessions(),
            places: world.gateway().places_up(),
        })
    }

    /// Watches until both ends have noticed; with `of_sshd` also until sshd has ended the sessions behind HAProxy.
    async fn run(&self, every: bool, limit: Duration, of_sshd: bool) -> NoticedTimes {
        let began = Instant::now();
        let mut times = NoticedTimes::default();
        loop {
            if times.by_agent.is_none()
                && let Some(status) = self.agent.status().await
            {
                let pairs = status.connections.iter().zip(&self.generations);
                let mut gone =
                    pairs.map(|(c, generation)| !is_proven(c) || c.generation != *generation);
                let noticed = match every {
                    true => gone.all(|gone| gone),
                    false => gone.any(|gone| gone),
                };
                times.by_agent = noticed.then(|| began.elapsed());
            }
            let gateway = self.world.gateway();
            if times.session_ended.is_none() && self.sessions.is_disjoint(&gateway.sessions()) {
                times.session_ended = Some(began.elapsed());
            }
            if times.places_down.is_none() {
                let down = match &self.places {
                    Some(places) => gateway
                        .places_up()
                        .is_some_and(|up| places.is_disjoint(&up)),
                    None => times.session_ended.is_some(),
                };
                times.places_down = down.then(|| began.elapsed());
            }
            let is_done = times.by_agent.is_some()
                && times.places_down.is_some()
                && (times.session_ended.is_some() || !of_sshd);
            if is_done || began.elapsed() > limit {
                return times;
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A link that any satellite beats.
const BAD_LINK: LinkQuality = LinkQuality {
    delay: Duration::from_millis(300),
    loss: 0.05,
    rate: Some(64_000),
    queue: 64 << 10,
    offload: false,
};
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

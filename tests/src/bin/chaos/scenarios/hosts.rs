//! Point 5: two hosts with an agent each. One is stopped: nothing is lost. One loses power: 5 s at most.

use super::ChaosContext;
use crate::{
    jira::ChaosJira,
    report::seconds,
    vendor::{SteadyLoad, tally},
    world::{ChaosWorld, JIRA_PORT, PlaceKind, WorldOptions, has_key},
};
use anyhow::Result;
use e2e::lab::{CutDirection, LabHost, LabLink, LinkQuality};
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Both ends of the story, each in a world of its own.
pub(crate) async fn hosts(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    stopped(context, place).await?;
    power_loss(context, place).await
}

/// Agents are stopped and started in turn under load.
async fn stopped(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let pair = HostPair::start(place).await?;
    let gateway = pair.world.gateway();
    let load = SteadyLoad::workers(
        &gateway.host,
        &gateway.target(),
        6,
        Duration::from_millis(300),
    );
    sleep(Duration::from_secs(2)).await;
    let rounds = context.by_length(1, 4, 20);
    for round in 0..rounds {
        let agent = pair.world.agent_at(round % 2);
        let host = match round % 2 {
            0 => &pair.world.site,
            _ => &pair.second,
        };
        agent.signal("TERM").await?;
        agent.ended(WATCH).await?;
        sleep(Duration::from_secs(3)).await;
        agent.start_again(host).await?;
        agent
            .until("its sessions", WATCH, |s| {
                s.overall != agent::status::OverallState::Down
            })
            .await?;
        sleep(Duration::from_secs(3)).await;
    }
    let records = load.stop().await;
    let at = ("hosts", place.name());
    let lost = records.iter().filter(|r| r.is_lost()).count() as u64;
    let refused = records.iter().filter(|r| r.is_not_sent()).count() as u64;
    let more = format!(" in {rounds} stops");
    context.report.counted(
        at,
        "two agents, one stopped in turn: lost",
        lost,
        0,
        more.clone(),
    );
    let name = "two agents, one stopped in turn: refused";
    match place {
        PlaceKind::GatewayOpenssh | PlaceKind::Stub => {
            context.report.counted(at, name, refused, 0, more);
        }
        PlaceKind::SshdPort | PlaceKind::SshdSocket | PlaceKind::SshdSlots => {
            context.report.info(at, name, format!("{refused}{more}"));
        }
    }
    context
        .report
        .info(at, "requests meanwhile", tally(&records));
    Ok(())
}

/// The host of the first agent disappears without a word.
async fn power_loss(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    let pair = HostPair::start(place).await?;
    let gateway = pair.world.gateway();
    let load = SteadyLoad::every(&gateway.host, &gateway.target(), Duration::from_millis(100));
    sleep(Duration::from_secs(2)).await;
    // The host whose agent serves, if one serves more than the other.
    let seen = || (pair.world.jira.load().seen, pair.jira.load().seen);
    let before = seen();
    sleep(Duration::from_secs(2)).await;
    let after = seen();
    let is_first = after.0 - before.0 >= after.1 - before.1;
    let (link, active) = match is_first {
        true => (&gateway.link, 0),
        false => (&pair.link, 1),
    };
    let lost = Instant::now();
    link.cut(CutDirection::Both);
    pair.world.agent_at(active).signal("KILL").await?;
    let watched = context.by_length(
        Duration::from_secs(15),
        Duration::from_secs(30),
        Duration::from_secs(200),
    );
    sleep(watched).await;
    // What is still in flight then ends as not answered.
    let records = load.stop().await;
    // From here on a request that begins is answered, and stays so.
    let after = records.iter().filter(|r| r.began > lost);
    let last_bad = after
        .filter(|r| !r.is_answered())
        .map(|r| r.began - lost)
        .max();
    let is_back = records
        .iter()
        .any(|r| r.is_answered() && r.began > lost + watched / 2);
    let at = ("hosts", place.name());
    let name = "host of the active agent loses power, answered again";
    let back = is_back.then(|| last_bad.unwrap_or_default());
    // A bare port misses it: the first agent's sshd has the one address until TCP notices the loss (two-hosts.md).
    context.report.time(at, name, back, Duration::from_secs(5));
    let gone: Vec<_> = records
        .iter()
        .filter(|r| r.began > lost && !r.is_answered())
        .collect();
    let longest = gone.iter().map(|r| r.took()).max().unwrap_or_default();
    let text = format!("{} (longest {})", tally(gone), seconds(longest));
    context
        .report
        .info(at, "requests not answered meanwhile", text);
    Ok(())
}

/// The usual world, and a second host with an agent and a Jira's address of its own.
struct HostPair {
    world: ChaosWorld,
    second: LabHost,
    link: LabLink,
    jira: ChaosJira,
}

impl HostPair {
    async fn start(place: PlaceKind) -> Result<Self> {
        let world = ChaosWorld::start(place).await?;
        let second = LabHost::new(&format!("b{}", place.name().replace(' ', "")))?;
        second.congestion_control("cubic")?;
        let gateway = world.gateway();
        let link = LabLink::join(&second, &gateway.host, 9, LinkQuality::default())?;
        let jira = ChaosJira::start(&second, JIRA_PORT).await?;
        let address = format!("{}:{}", link.second(), gateway.ssh_port());
        let slots = match has_key("slots") {
            true => "slots = \"4-7\"\n",
            false => "",
        };
        let options = WorldOptions {
            tunnel: slots.to_owned(),
            gateways: Some(vec![address]),
            ..WorldOptions::default()
        };
        let agent = world.add_agent_on(&second, "second", &options).await?;
        agent
            .until("its session", WATCH, |s| {
                s.overall != agent::status::OverallState::Down
            })
            .await?;
        sleep(Duration::from_secs(3)).await;
        Ok(Self {
            world,
            second,
            link,
            jira,
        })
    }
}

const WATCH: Duration = Duration::from_secs(60);

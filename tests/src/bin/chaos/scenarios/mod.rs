//! The scenarios by name. Each makes its own world, so that they can run alone and in any order.

mod arrival;
mod distance;
mod gateways;
mod hosts;
mod liveness;
pub(crate) mod memory;
mod places;
mod restart;
mod sshd_timers;
mod upstream;
pub(crate) mod writes;

use super::{
    report::{ChaosReport, print_line},
    soak,
    world::PlaceKind,
};
use anyhow::{Result, anyhow};
use futures_util::future::join_all;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// What all scenarios get.
pub(crate) struct ChaosContext {
    pub(crate) report: ChaosReport,
    pub(crate) places: Vec<PlaceKind>,
    pub(crate) length: RunLength,
    pub(crate) minutes: f64,
    pub(crate) seed: u64,
}

/// How much of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RunLength {
    /// Two minutes.
    Short,
    /// Three quarters of an hour.
    Usual,
    /// Several hours.
    Long,
}

/// A group of measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scenario {
    /// A link that silently drops packets: both ways and each way, busy and at rest
    Blackhole,
    /// A NAT mapping that is lost
    Nat,
    /// The agent's address changes
    Address,
    /// The gateway's processes are stopped (SIGSTOP)
    Stopped,
    /// A living link of 64 kbit/s, 600 ms and 5 % loss under full load is never cut
    Badlink,
    /// When a bare sshd ends a lost session, for several ClientAlive and tcp_retries2, and what these cut on a bad link
    SshdTimers,
    /// A gateway is killed, restarted, and its sessions are killed
    Killed,
    /// Resets again and again
    Flapping,
    /// A long cut heals
    Heal,
    /// Two gateways: the second takes over, the first is used again
    Two,
    /// The logins of 10,000 agents after a gateway's restart, simulated
    Arrival,
    /// Socket paths that are stolen or removed
    Stolen,
    /// Restarts of the agent under load
    Restart,
    /// Hand-over to a new process under load (`agent upgrade`)
    Upgrade,
    /// Two hosts with an agent each: one is stopped, one loses power
    Hosts,
    /// Writes while everything breaks: none twice, no false not_sent
    Writes,
    /// Throughput over distance, beside raw TCP and `ssh -R`
    Wan,
    /// Latency: a fresh connection, small requests beside bulk, stalls
    Latency,
    /// 200 stalled uploads, unread downloads and aborted uploads
    Memory,
    /// Few file descriptors
    Descriptors,
    /// A Jira that is stopped, slow, gone, limiting and closing connections
    Jira,
    /// All faults in random order under load, every request accounted for
    Soak,
}

impl Scenario {
    /// What runs without a name.
    pub(crate) fn of_length(length: RunLength) -> Vec<Self> {
        use Scenario as S;
        match length {
            RunLength::Short => vec![
                S::Blackhole,
                S::Two,
                S::Restart,
                S::Upgrade,
                S::Writes,
                S::Jira,
            ],
            RunLength::Usual => {
                let all = <Self as clap::ValueEnum>::value_variants();
                let alone = [S::Badlink, S::SshdTimers, S::Soak];
                all.iter().copied().filter(|s| !alone.contains(s)).collect()
            }
            RunLength::Long => {
                let all = <Self as clap::ValueEnum>::value_variants();
                all.iter().copied().filter(|s| *s != S::Soak).collect()
            }
        }
    }

    /// Whether a place for each connection makes a difference: it needs no run of the others.
    fn is_about_places(self) -> bool {
        use Scenario as S;
        matches!(
            self,
            S::Blackhole | S::Nat | S::Address | S::Stopped | S::Killed | S::Hosts
        )
    }

    /// Whether it waits for seconds and computes little: it then runs at all gateways at once, each in a world of its own.
    fn mostly_waits(self) -> bool {
        use Scenario as S;
        match self {
            S::Blackhole | S::Nat | S::Address | S::Stopped | S::Badlink => true,
            S::Killed | S::Flapping | S::Heal | S::Two | S::Stolen | S::Hosts => true,
            // Milliseconds, throughput and memory are measured alone.
            S::SshdTimers | S::Arrival | S::Restart | S::Upgrade | S::Writes => false,
            S::Wan | S::Latency | S::Memory | S::Descriptors | S::Jira | S::Soak => false,
        }
    }

    pub(crate) fn name(self) -> String {
        let value = <Self as clap::ValueEnum>::to_possible_value(&self);
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Runs them one after another; what breaks off is a row of its own.
pub(crate) async fn run(context: &ChaosContext, scenarios: &[Scenario]) {
    for scenario in scenarios {
        let began = Instant::now();
        let name = scenario.name();
        if *scenario == Scenario::Arrival {
            arrival::arrival(context);
            continue;
        }
        let places = context.places.iter().copied();
        let places = places.filter(|place| context.includes(*scenario, *place));
        let runs = places.map(|place| run_at(context, *scenario, place));
        if scenario.mostly_waits() {
            join_all(runs).await;
        } else {
            for run in runs {
                run.await;
            }
        }
        context.report.ended(&name, began.elapsed());
        print_line(&format!("--- {name}: {} s", began.elapsed().as_secs()));
    }
}

async fn run_at(context: &ChaosContext, scenario: Scenario, place: PlaceKind) {
    let name = scenario.name();
    let limit = context.limit(scenario);
    // Boxed: several run at once, and each is large.
    let done = timeout(limit, Box::pin(run_one(context, scenario, place))).await;
    let done = done.unwrap_or_else(|_| Err(anyhow!("still running after {limit:?}")));
    if let Err(error) = done {
        context.report.broken((&name, place.name()), &error);
    }
}

async fn run_one(context: &ChaosContext, scenario: Scenario, place: PlaceKind) -> Result<()> {
    match scenario {
        Scenario::Blackhole => liveness::blackhole(context, place).await,
        Scenario::Nat => liveness::nat(context, place).await,
        Scenario::Address => liveness::address(context, place).await,
        Scenario::Stopped => liveness::stopped(context, place).await,
        Scenario::Badlink => liveness::badlink(context, place).await,
        Scenario::SshdTimers => sshd_timers::sshd_timers(context, place).await,
        Scenario::Killed => gateways::killed(context, place).await,
        Scenario::Flapping => gateways::flapping(context, place).await,
        Scenario::Heal => gateways::heal(context, place).await,
        Scenario::Two => gateways::two(context, place).await,
        // Without a place.
        Scenario::Arrival => Ok(()),
        Scenario::Stolen => places::stolen(context, place).await,
        Scenario::Restart => restart::restart(context, place).await,
        Scenario::Upgrade => restart::upgrade(context, place).await,
        Scenario::Hosts => hosts::hosts(context, place).await,
        Scenario::Writes => writes::writes(context, place).await,
        Scenario::Wan => distance::wan(context, place).await,
        Scenario::Latency => distance::latency(context, place).await,
        Scenario::Memory => memory::memory(context, place).await,
        Scenario::Descriptors => memory::few_descriptors(context, place).await,
        Scenario::Jira => upstream::jira(context, place).await,
        Scenario::Soak => soak::soak(context, place).await,
    }
}

impl ChaosContext {
    /// The value for this run's length.
    pub(crate) fn by_length<T>(&self, short: T, usual: T, long: T) -> T {
        match self.length {
            RunLength::Short => short,
            RunLength::Usual => usual,
            RunLength::Long => long,
        }
    }

    /// Whether this run measures the scenario at this kind of gateway.
    fn includes(&self, scenario: Scenario, place: PlaceKind) -> bool {
        use Scenario as S;
        match (self.length, place) {
            // The short run is for the gateways that are promised to lose and refuse nothing.
            (RunLength::Short, _) => matches!(place, PlaceKind::Stub | PlaceKind::GatewayOpenssh),
            (_, PlaceKind::SshdSlots) => scenario.is_about_places(),
            // Both are the same sshd. A second run shows something new only where the bound address matters.
            (RunLength::Usual, PlaceKind::SshdSocket) if self.has_all_places() => matches!(
                scenario,
                S::Blackhole | S::Killed | S::Two | S::Stolen | S::Restart | S::Upgrade
            ),
            // Over a distance it is that sshd too: its HAProxy is on the vendor's side.
            (RunLength::Usual, PlaceKind::GatewayOpenssh) if self.has_all_places() => {
                scenario != S::Wan
            }
            (RunLength::Usual | RunLength::Long, _) => true,
        }
    }

    fn has_all_places(&self) -> bool {
        PlaceKind::ALL.iter().all(|kind| self.places.contains(kind))
    }

    /// Far more than a scenario takes at one gateway: only what hangs takes this long.
    fn limit(&self, scenario: Scenario) -> Duration {
        let minutes = match scenario {
            Scenario::Soak => self.minutes + 10.0,
            _ => self.by_length(4.0, 20.0, 180.0),
        };
        Duration::from_secs_f64(minutes * 60.0)
    }

    pub(crate) fn is_short(&self) -> bool {
        self.length == RunLength::Short
    }
}

//! How the logins of many agents arrive at a gateway that restarts, computed with the state machine itself: for the vendor,
//! who sizes the gateway, and for `chaos`, which prints it.

use super::machine::{DesiredState, StateMachine, SupervisorAction, SupervisorEvent};
use crate::tunnel::session::RetryPace;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

/// A restart of a gateway to which all agents have a session.
#[derive(Clone, Copy, Debug)]
pub struct GatewayRestart {
    /// Time in which nothing listens.
    pub down: Duration,
    /// The wait that the gateway asks for when it ends the sessions.
    pub retry_after: Option<Duration>,
    /// Logins that it accepts in one second; others fail at once.
    pub logins_per_second: usize,
}

/// The logins at a gateway per second, from the moment when it listens again.
#[derive(Clone, Debug, Default)]
pub struct ArrivalCurve {
    dials: Vec<usize>,
    logins: Vec<usize>,
}

impl ArrivalCurve {
    /// Computes the curve for agents with one connection and one gateway each. The same every time.
    pub fn simulate(agents: usize, restart: GatewayRestart) -> Self {
        let mut jitter = SmallRng::seed_from_u64(1);
        let mut machines = Vec::new();
        let mut queue = BinaryHeap::new();
        for agent in 0..agents {
            let machine = disconnected(restart.retry_after, jitter.random());
            queue.extend(machine.next_deadline().map(|due| Reverse((due, agent))));
            machines.push(machine);
        }
        let up = DISCONNECTED_AT + restart.down;
        let mut curve = Self::default();
        while let Some(Reverse((now, agent))) = queue.pop() {
            let Some(machine) = machines.get_mut(agent) else {
                continue;
            };
            if now > up + LONGEST {
                break;
            }
            let actions = machine.step(now, SupervisorEvent::Tick, jitter.random());
            if let Some(SupervisorAction::Dial(id, _)) = actions.first() {
                let since = now.checked_sub(up);
                if since.is_some_and(|since| curve.dial(since, restart.logins_per_second)) {
                    continue;
                }
                let failed = SupervisorEvent::OpenFailed(*id, RetryPace::Soon);
                machine.step(now + REFUSAL, failed, jitter.random());
            }
            queue.extend(machine.next_deadline().map(|due| Reverse((due, agent))));
        }
        curve
    }

    /// Notes a dial; returns whether it leads to a login.
    fn dial(&mut self, since: Duration, logins_per_second: usize) -> bool {
        let second = usize::try_from(since.as_secs()).unwrap_or(usize::MAX);
        if self.dials.len() <= second {
            self.dials.resize(second + 1, 0);
            self.logins.resize(second + 1, 0);
        }
        let (Some(dials), Some(logins)) = (self.dials.get_mut(second), self.logins.get_mut(second))
        else {
            return false;
        };
        *dials += 1;
        let accepted = *logins < logins_per_second;
        *logins += usize::from(accepted);
        accepted
    }

    /// Number of logins.
    pub fn logins(&self) -> usize {
        self.logins.iter().sum()
    }

    /// Number of dials in the busiest second, the failed ones included.
    pub fn most_dials(&self) -> usize {
        self.dials.iter().max().copied().unwrap_or_default()
    }

    /// The share of all logins that falls in the busiest second, 0 to 1.
    pub fn busiest_share(&self) -> f64 {
        let most = self.logins.iter().max().copied().unwrap_or_default();
        most as f64 / self.logins().max(1) as f64
    }

    /// Time until this share of the logins is done, in whole seconds.
    pub fn time_until(&self, share: f64) -> Duration {
        let wanted = (self.logins() as f64 * share).ceil() as usize;
        let mut done = 0;
        let after = self.logins.iter().take_while(|logins| {
            let before = done;
            done += **logins;
            before < wanted
        });
        Duration::from_secs(after.count() as u64)
    }
}

/// An agent whose proven session has ended.
fn disconnected(retry_after: Option<Duration>, jitter: f64) -> StateMachine {
    let mut machine = StateMachine::new(DesiredState {
        connections: 1,
        gateways: vec![0],
        ..DesiredState::default()
    });
    let actions = machine.step(Duration::ZERO, SupervisorEvent::Tick, jitter);
    if let Some(SupervisorAction::Dial(id, _)) = actions.first().copied() {
        machine.step(REFUSAL, SupervisorEvent::Opened(id), jitter);
        machine.step(REFUSAL, SupervisorEvent::Proven(id), jitter);
        let ended = SupervisorEvent::Ended(id, retry_after);
        machine.step(DISCONNECTED_AT, ended, jitter);
    }
    machine
}

/// When all sessions end, on the clock of the machines.
const DISCONNECTED_AT: Duration = Duration::from_secs(3600);
/// A dial to a gateway that does not listen fails after a round trip.
const REFUSAL: Duration = Duration::from_millis(20);
/// The simulation ends here, whoever is not back.
const LONGEST: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use super::*;

    fn curve(down: u64, retry_after: Option<u64>, logins_per_second: usize) -> ArrivalCurve {
        let restart = GatewayRestart {
            down: Duration::from_secs(down),
            retry_after: retry_after.map(Duration::from_secs),
            logins_per_second,
        };
        let curve = ArrivalCurve::simulate(500, restart);
        assert_eq!(curve.logins(), 500, "all agents are back");
        curve
    }

    #[test]
    fn agents_are_back_within_one_longest_wait() {
        for down in [1, 10, 60] {
            let curve = curve(down, None, usize::MAX);
            assert!(curve.time_until(1.0) <= Duration::from_secs(5));
            assert_eq!(
                curve.most_dials(),
                (curve.busiest_share() * 500.0).round() as usize
            );
        }
    }

    #[test]
    fn a_hint_spreads_the_logins_over_half_its_time() {
        let curve = curve(10, Some(20), usize::MAX);
        assert!(curve.busiest_share() < 0.2, "{curve:?}");
        assert!(curve.time_until(1.0) <= Duration::from_secs(20));
        assert!(curve.time_until(0.1) >= Duration::from_secs(10));
    }

    #[test]
    fn a_gateway_that_accepts_few_logins_gets_all_agents_back_in_turn() {
        let curve = curve(10, None, 20);
        assert!(curve.time_until(1.0) >= Duration::from_secs(500 / 20));
        assert!(curve.time_until(1.0) <= Duration::from_secs(500 / 20 * 2));
    }
}

//! The logins of 10,000 agents at a gateway that restarts, computed with the agent's state machine: no process runs.

use super::ChaosContext;
use agent::supervisor::{ArrivalCurve, GatewayRestart};
use std::time::Duration;

pub(crate) fn arrival(context: &ChaosContext) {
    let any = usize::MAX;
    for (name, down, retry_after, logins_per_second) in [
        ("down 1 s", 1, None, any),
        ("down 10 s", 10, None, any),
        ("down 60 s", 60, None, any),
        ("down 10 s, retry-after: 20", 10, Some(20), any),
        ("down 10 s, retry-after: 60", 10, Some(60), any),
        ("down 10 s, 400 logins/s", 10, None, 400),
    ] {
        let restart = GatewayRestart {
            down: Duration::from_secs(down),
            retry_after: retry_after.map(Duration::from_secs),
            logins_per_second,
        };
        let curve = ArrivalCurve::simulate(AGENTS, restart);
        let at = ("arrival", "simulated");
        let (ninety, all) = (curve.time_until(0.9), curve.time_until(1.0));
        let text = format!(
            "{:.0} % in the busiest second, 90 % in {} s, all in {} s; at most {} dials a second",
            100.0 * curve.busiest_share(),
            ninety.as_secs(),
            all.as_secs(),
            curve.most_dials()
        );
        context
            .report
            .holds(at, name, curve.logins() == AGENTS, text);
    }
}

const AGENTS: usize = 10_000;

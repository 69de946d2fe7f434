//! What the status shows of an outlet.

use super::outlet_table::{ActiveOutlet, OutletTable};
use crate::{
    outlet::ListenerCondition,
    status::{LayerReport, OutletReport, ProofState, StatusLayer},
};
use std::time::{Duration, Instant};

/// One report for each outlet.
pub(super) fn outlets(table: &OutletTable) -> Vec<OutletReport> {
    table
        .all()
        .iter()
        .map(|active| report(active, table))
        .collect()
}

fn report(active: &ActiveOutlet, table: &OutletTable) -> OutletReport {
    let settings = &active.config.settings;
    let listener = StatusLayer::default();
    let listen = match active.condition() {
        ListenerCondition::Listening(at) => {
            listener.proven(None);
            at.to_string()
        }
        ListenerCondition::Starting => settings.listen.to_string(),
        ListenerCondition::Failed(cause) => {
            listener.failed(ProofState::Failed, &cause, LISTEN_REMEDY);
            settings.listen.to_string()
        }
    };
    let now = Instant::now();
    let shown = |layer: &StatusLayer| LayerReport::new(&layer.snapshot(), now, NEVER_STALE);
    let counter = active.forward.counter();
    OutletReport {
        name: settings.name.to_string(),
        listen,
        to: settings.upstream.target.to_string(),
        mode: "pass".to_owned(),
        listener: shown(&listener).or_untried("not tried yet", "wait a second"),
        vendor: shown(&active.far).or_untried(UNTRIED, UNTRIED_REMEDY),
        paused: table.paused(&settings.name),
        in_flight: counter.in_flight(),
        requests: counter.total(),
    }
}

const LISTEN_REMEDY: &str = "free the address, or change listen of the outlet and reload";
const UNTRIED: &str = "no request yet";
const UNTRIED_REMEDY: &str = "agent check sends one";
/// Only requests of Jira prove it, and there may be none for weeks; the age is shown.
const NEVER_STALE: Duration = Duration::from_secs(10 * 365 * 86400);

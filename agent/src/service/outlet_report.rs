//! What the status shows of an outlet.

use super::{
    outlet_table::{ActiveOutlet, OutletTable},
    queue_watch::QueueWatch,
};
use crate::{
    outlet::{ListenerCondition, QueueCondition},
    status::{LayerReport, OutletReport, ProofState, QueueObservation, QueueReport, StatusLayer},
};
use std::time::{Duration, Instant, SystemTime};

/// One report for each outlet. `session_lives`: whether a session can carry events.
pub(super) fn outlets(
    table: &OutletTable,
    watch: &QueueWatch,
    session_lives: bool,
) -> Vec<OutletReport> {
    let all = table.all();
    let reports = all
        .iter()
        .map(|active| report(active, table, watch, session_lives));
    reports.collect()
}

fn report(
    active: &ActiveOutlet,
    table: &OutletTable,
    watch: &QueueWatch,
    session_lives: bool,
) -> OutletReport {
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
    let paused = table.paused(&settings.name);
    let is_delivering = session_lives && paused.is_none();
    let stores = active.store.is_some();
    OutletReport {
        name: settings.name.to_string(),
        listen,
        to: settings.upstream.target.to_string(),
        mode: if stores { "store" } else { "pass" }.to_owned(),
        listener: shown(&listener).or_untried("not tried yet", "wait a second"),
        vendor: shown(&active.far).or_untried(UNTRIED, UNTRIED_REMEDY),
        queue: queue(active, watch, is_delivering),
        paused,
        in_flight: counter.in_flight(),
        requests: counter.total(),
    }
}

fn queue(active: &ActiveOutlet, watch: &QueueWatch, is_delivering: bool) -> Option<QueueReport> {
    let queue = match active.store.as_ref()?.events.condition() {
        QueueCondition::Open(queue) => queue,
        QueueCondition::Opening | QueueCondition::Closed => return Some(QueueReport::opening()),
        QueueCondition::Failed(cause) => return Some(QueueReport::unusable(cause, OPEN_REMEDY)),
    };
    let figures = queue.figures();
    let outlook = watch.outlook(&active.config.settings.name, &queue, &figures);
    Some(QueueReport::of(&QueueObservation {
        figures: &figures,
        full_in: outlook.full_in,
        last_dead: outlook.last_dead,
        is_delivering,
        now: SystemTime::now(),
        instant: tokio::time::Instant::now(),
    }))
}

const OPEN_REMEDY: &str =
    "the agent opens it as soon as that is corrected; Jira gets 503 until then";
const LISTEN_REMEDY: &str = "free the address, or change listen of the outlet and reload";
const UNTRIED: &str = "no request yet";
const UNTRIED_REMEDY: &str = "agent check sends one";
/// Only requests of Jira prove it, and there may be none for weeks; the age is shown.
const NEVER_STALE: Duration = Duration::from_secs(10 * 365 * 86400);

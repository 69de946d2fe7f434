//! Writes while everything breaks: none takes effect twice, and a caller can rely on `not_sent`.

use super::ChaosContext;
use crate::{
    jira::{BreakPoint, JiraRecords},
    vendor::{CallRecord, VendorRequest, VendorTarget, call, next_id, tally},
    world::{ChaosWorld, PlaceKind},
};
use anyhow::Result;
use bytes::Bytes;
use e2e::lab::{CutDirection, LabHost};
use parking_lot::Mutex;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;

/// A cut every second at a random moment.
pub(crate) async fn writes(context: &ChaosContext, place: PlaceKind) -> Result<()> {
    if context.is_short() && place != PlaceKind::Stub {
        return Ok(());
    }
    let mut random = StdRng::seed_from_u64(context.seed);
    let world = ChaosWorld::start(place).await?;
    let writers = Writers::start(&world.gateway().host, &world.gateway().target(), 10);
    let cuts = context.by_length(10, 40, 240);
    for _ in 0..cuts {
        sleep(Duration::from_millis(random.random_range(200..900))).await;
        one_fault(&world, 0, &mut random, true).await?;
        writers.answered_again(Duration::from_secs(20)).await;
    }
    let records = writers.stop().await;
    let at = ("writes", place.name());
    let more = format!(
        " in {cuts} cuts, {} attempts, seed {}",
        records.len(),
        context.seed
    );
    WriteAccount::of(&records, &world.jira.records()).report(context, at, &more);
    context.report.info(at, "outcomes", tally(&records));
    Ok(())
}

/// One fault at random: of the link, the gateway, Jira, or (`kills`) the agent.
pub(crate) async fn one_fault(
    world: &ChaosWorld,
    gateway: usize,
    random: &mut StdRng,
    kills: bool,
) -> Result<&'static str> {
    let gateway = &world.gateways[gateway];
    let moment = Duration::from_millis(random.random_range(500..5000));
    let kind = random.random_range(0..24);
    Ok(match kind {
        0..5 => {
            gateway.reset_for(Duration::from_millis(50)).await?;
            "reset"
        }
        5..8 => {
            let all = [CutDirection::Both, CutDirection::Forth, CutDirection::Back];
            gateway
                .link
                .cut(*all.choose(random).unwrap_or(&CutDirection::Both));
            sleep(moment).await;
            gateway.link.heal();
            "cut link"
        }
        8..11 => {
            gateway.kill();
            sleep(Duration::from_millis(50)).await;
            gateway.start_again().await?;
            "killed gateway"
        }
        11..19 => {
            let points = [
                BreakPoint::Head,
                BreakPoint::Body,
                BreakPoint::Commit,
                BreakPoint::Answer,
            ];
            world
                .jira
                .break_next(*points.choose(random).unwrap_or(&BreakPoint::Head));
            sleep(Duration::from_millis(300)).await;
            world.jira.has_broken();
            "broken Jira"
        }
        19..22 => {
            world.jira.close_all();
            "closed Jira connections"
        }
        _ if kills => {
            let agent = world.agent();
            agent.signal("KILL").await?;
            agent.start_again(&world.site).await?;
            "killed agent"
        }
        _ => {
            let agent = world.agent();
            agent.signal("TERM").await?;
            agent.ended(Duration::from_secs(60)).await?;
            agent.start_again(&world.site).await?;
            "restarted agent"
        }
    })
}

/// Callers that create one issue after another; a write that was not sent is tried again.
pub(crate) struct Writers {
    records: Arc<Mutex<Vec<CallRecord>>>,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    pub(crate) fn start(host: &LabHost, target: &VendorTarget, count: usize) -> Self {
        let records = Arc::<Mutex<Vec<CallRecord>>>::default();
        let stop = CancellationToken::new();
        let work = || write(target.clone(), Arc::clone(&records), stop.clone());
        let tasks = (0..count).map(|_| host.spawn(work())).collect();
        Self {
            records,
            stop,
            tasks,
        }
    }

    /// Waits until a write that begins from now on is answered, at most `limit`.
    pub(crate) async fn answered_again(&self, limit: Duration) {
        let since = Instant::now();
        let is_back = || {
            self.records
                .lock()
                .iter()
                .rev()
                .take(200)
                .any(|r| r.is_answered() && r.began > since)
        };
        while since.elapsed() < limit && !is_back() {
            sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn stop(self) -> Vec<CallRecord> {
        self.stop.cancel();
        for task in self.tasks {
            let _ = task.await;
        }
        std::mem::take(&mut *self.records.lock())
    }
}

async fn write(
    target: VendorTarget,
    records: Arc<Mutex<Vec<CallRecord>>>,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        let issue = next_id();
        let length = *[200, 2_000, 20_000, 100_000, 400_000]
            .choose(&mut rand::rng())
            .unwrap_or(&200);
        let delay = *[0, 5, 60, 300].choose(&mut rand::rng()).unwrap_or(&0);
        for attempt in 0..6 {
            let id = format!("{issue}a{attempt}");
            let body = Bytes::from(vec![b'x'; length]);
            let request = VendorRequest::post(&id, Duration::from_millis(delay), body);
            let record = call(target.clone(), request).await;
            let again = record.is_not_sent();
            records.lock().push(record);
            if !again {
                break;
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What the callers were told, compared with what Jira saw.
pub(crate) struct WriteAccount {
    twice: u64,
    false_not_sent: u64,
    missing: u64,
    unknown: u64,
    unknown_unseen: u64,
}

impl WriteAccount {
    pub(crate) fn of(records: &[CallRecord], jira: &JiraRecords) -> Self {
        let mut by_issue: HashMap<&str, u32> = HashMap::new();
        for (id, times) in &jira.commits {
            let issue = id.split('a').next().unwrap_or_default();
            *by_issue.entry(issue).or_default() += times;
        }
        let count = |wanted: &dyn Fn(&CallRecord) -> bool| {
            records.iter().filter(|r| wanted(r)).count() as u64
        };
        Self {
            twice: by_issue.values().filter(|times| **times > 1).count() as u64,
            false_not_sent: count(&|r| r.is_not_sent() && jira.heads.contains_key(&r.id)),
            missing: count(&|r| {
                r.is_answered()
                    && r.method == http::Method::POST
                    && !jira.commits.contains_key(&r.id)
            }),
            unknown: count(&CallRecord::is_lost),
            unknown_unseen: count(&|r| r.is_lost() && !jira.heads.contains_key(&r.id)),
        }
    }

    pub(crate) fn report(&self, context: &ChaosContext, at: (&str, &str), more: &str) {
        let report = &context.report;
        report.counted(at, "writes twice", self.twice, 0, more.to_owned());
        report.count(at, "false not_sent", self.false_not_sent, 0);
        report.count(at, "answered and missing", self.missing, 0);
        let text = format!(
            "{} ({} never seen by Jira)",
            self.unknown, self.unknown_unseen
        );
        report.info(at, "told maybe_sent", text);
    }
}

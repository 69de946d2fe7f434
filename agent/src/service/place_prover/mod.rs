//! Proves the places that gateways have granted: a health request through a place must reach the session that holds it. The
//! gateway's own checks show that, else the agent calls the place itself. `judge` is the pure part, `self_call` the request.

mod judge;
mod self_call;

use self::judge::{CallOutcome, PlaceJudge};
use super::forward_table::ForwardTable;
use crate::{
    supervisor::{HeldPlace, HeldPlaceKey, SupervisorHandle},
    tunnel::{BindAddress, ListeningPlace, PlaceProof, PlaceTaker, UnprovenReason},
};
use std::{collections::HashMap, sync::Arc, time::Duration};
use tokio::{
    task::{self, JoinError, JoinSet},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

/// Judges all places that sessions hold.
pub(super) struct PlaceProver {
    supervisor: SupervisorHandle,
    forwards: Arc<ForwardTable>,
    watched: HashMap<HeldPlaceKey, WatchedPlace>,
    calls: JoinSet<FinishedCall>,
}

/// A place with its judge.
struct WatchedPlace {
    judge: PlaceJudge,
    place: Arc<ListeningPlace>,
    /// The call of this place that is running.
    running: Option<task::Id>,
    /// Other addresses that lead to the same port, and when each is called next.
    other_families: Vec<(BindAddress, Instant)>,
    /// When it was last held.
    seen: Instant,
}

impl WatchedPlace {
    fn note_panic(&mut self, call: task::Id, now: std::time::Instant) {
        if self.running == Some(call) {
            self.running = None;
            let requests = self.place.health_requests();
            self.judge
                .on_call(now, CallOutcome::Inconclusive, requests, requests, 0);
        }
    }
}

/// A call that has ended.
struct FinishedCall {
    held: HeldPlace,
    /// Requests that had come through the place before it.
    before: u64,
    outcome: CallOutcome,
    /// Addresses that answered oddly.
    strange: u32,
    other_families: Vec<(BindAddress, Instant)>,
}

impl PlaceProver {
    pub(super) fn new(supervisor: SupervisorHandle, forwards: Arc<ForwardTable>) -> Self {
        Self {
            supervisor,
            forwards,
            watched: HashMap::new(),
            calls: JoinSet::new(),
        }
    }

    /// Runs until `stop`.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut changes = self.supervisor.changes();
        let mut ticks = interval(POLL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => self.poll_all().await,
                // A place that was asked for again is called at once.
                Ok(()) = changes.changed() => self.poll_granted().await,
                Some(ended) = self.calls.join_next_with_id() => match ended {
                    Ok((_, call)) => self.finish(call).await,
                    Err(error) => self.note_panic(&error),
                },
            }
        }
    }

    async fn poll_all(&mut self) {
        let held = self.supervisor.held_places();
        let now = Instant::now();
        for place in &held {
            self.poll(place, now).await;
        }
        self.watched
            .retain(|_, watched| now.saturating_duration_since(watched.seen) < FORGOTTEN);
    }

    async fn poll_granted(&mut self) {
        let now = Instant::now();
        for held in self.supervisor.held_places() {
            let watched = self.watched.get(&held.key());
            if watched.is_none_or(|watched| !Arc::ptr_eq(&watched.place, &held.place)) {
                self.poll(&held, now).await;
            }
        }
    }

    async fn poll(&mut self, held: &HeldPlace, now: Instant) {
        if self.forwards.is_bytes(&held.name) {
            held.place
                .set_proof(PlaceProof::Granted(Some(UnprovenReason::Bytes)));
            return;
        }
        let std_now = now.into_std();
        let bind = held.place.bind();
        let watched = self.watched.entry(held.key()).or_insert_with(|| {
            let is_socket = matches!(bind, BindAddress::Socket(_));
            WatchedPlace {
                judge: PlaceJudge::new(std_now, is_socket),
                place: Arc::clone(&held.place),
                running: None,
                other_families: other_families(&bind, now),
                seen: now,
            }
        });
        watched.seen = now;
        if !Arc::ptr_eq(&watched.place, &held.place) {
            watched.place = Arc::clone(&held.place);
            // A call of the place before says nothing of this one.
            watched.running = None;
            watched.other_families = other_families(&bind, now);
            watched.judge.on_granted_again(std_now);
        }
        // A session whose gateway is silent is judged by its probes.
        if held.place.is_suspect() {
            return;
        }
        // Before the counter is read: what the answer proves has been counted then.
        let answered = held.session.answered_probe_sent_at();
        let before = held.place.health_requests();
        if watched.judge.poll(std_now, before, answered) && watched.running.is_none() {
            let (held, others) = (held.clone(), watched.other_families.clone());
            let task = self.calls.spawn(call(held, before, others));
            watched.running = Some(task.id());
        }
        let proof = watched.judge.proof().clone();
        self.publish(held, proof).await;
    }

    async fn finish(&mut self, call: FinishedCall) {
        let FinishedCall {
            held,
            before,
            outcome,
            strange,
            other_families,
        } = call;
        let Some(watched) = self.watched.get_mut(&held.key()) else {
            return;
        };
        // It was asked for again during the call.
        if !Arc::ptr_eq(&watched.place, &held.place) {
            return;
        }
        watched.running = None;
        watched.other_families = other_families;
        let now = Instant::now();
        let requests = held.place.health_requests();
        watched
            .judge
            .on_call(now.into_std(), outcome, before, requests, strange);
        let proof = watched.judge.proof().clone();
        self.publish(&held, proof).await;
        // Another call may be due at once.
        self.poll(&held, now).await;
    }

    /// A call has panicked: it says nothing, and the place is called again.
    fn note_panic(&mut self, error: &JoinError) {
        let now = Instant::now().into_std();
        for watched in self.watched.values_mut() {
            watched.note_panic(error.id(), now);
        }
    }

    /// Status, log and supervisor learn what has changed; the supervisor also what stays lost.
    async fn publish(&self, held: &HeldPlace, proof: PlaceProof) {
        let before = held.place.set_proof(proof.clone());
        if before == proof && !proof.is_broken() {
            return;
        }
        if before != proof {
            held.session.span().in_scope(|| log(held, &before, &proof));
        }
        self.supervisor.place_judged(held).await;
    }
}

fn log(held: &HeldPlace, before: &PlaceProof, proof: &PlaceProof) {
    let (forward, bind) = (&*held.name, held.place.bind());
    match proof {
        PlaceProof::Taken(PlaceTaker::OwnConnection(_)) | PlaceProof::Granted(_) => {
            let cause = proof.cause(&bind);
            tracing::debug!(forward, %bind, cause, "no request has shown that this session serves the place");
        }
        PlaceProof::Proven if before.is_broken() => {
            tracing::info!(forward, %bind, "requests at the place reach this session again");
        }
        PlaceProof::Proven => {
            tracing::debug!(forward, %bind, "a request through the place has reached this session");
        }
        PlaceProof::Taken(_) | PlaceProof::Lost(_) => tracing::warn!(
            forward,
            cause = proof.cause(&bind),
            remedy = proof.remedy(&bind),
            "requests at a place that the gateway granted do not reach this session"
        ),
    }
}

/// Calls the place, and its other addresses if requests may reach one of them.
async fn call(
    held: HeldPlace,
    before: u64,
    mut other_families: Vec<(BindAddress, Instant)>,
) -> FinishedCall {
    let first = self_call::call(&held, &held.place.bind()).await;
    let mut others = Vec::new();
    if let CallOutcome::Arrived | CallOutcome::Strange(..) = first {
        for (at, due) in &mut other_families {
            if *due > Instant::now() {
                continue;
            }
            let outcome = self_call::call(&held, at).await;
            // No client reaches another program there.
            let pause = match outcome {
                CallOutcome::NotConnected => FREE_FAMILY_PAUSE,
                CallOutcome::Prohibited | CallOutcome::NoAnswer => OTHER_FAMILY_PAUSE,
                CallOutcome::Inconclusive
                | CallOutcome::Arrived
                | CallOutcome::OwnConnection(_)
                | CallOutcome::OtherAgent
                | CallOutcome::Strange(..)
                | CallOutcome::OtherFree(_) => Duration::ZERO,
            };
            *due = Instant::now() + pause;
            others.push((at.clone(), outcome));
        }
    }
    let is_strange = |outcome: &CallOutcome| matches!(outcome, CallOutcome::Strange(..));
    let each = others.iter().map(|(_, outcome)| outcome);
    let strange = each.chain([&first]).filter(|one| is_strange(one)).count();
    let strange = u32::try_from(strange).unwrap_or(u32::MAX);
    let outcome = outcome_of_all(first, others);
    FinishedCall {
        held,
        before,
        outcome,
        strange,
        other_families,
    }
}

/// What the calls of a place and of its other addresses show together.
fn outcome_of_all(first: CallOutcome, others: Vec<(BindAddress, CallOutcome)>) -> CallOutcome {
    let arrived = others.iter().any(|(_, o)| *o == CallOutcome::Arrived);
    // A name may lead to the program, and one of its addresses to the session.
    let is_half =
        first == CallOutcome::Arrived || matches!(first, CallOutcome::Strange(..)) && arrived;
    if !is_half {
        return first;
    }
    let mut free = None;
    for (at, outcome) in others {
        match outcome {
            CallOutcome::OwnConnection(_) | CallOutcome::OtherAgent | CallOutcome::Strange(..) => {
                return outcome;
            }
            CallOutcome::NotConnected => free = Some(at),
            CallOutcome::Arrived
            | CallOutcome::Inconclusive
            | CallOutcome::NoAnswer
            | CallOutcome::Prohibited
            | CallOutcome::OtherFree(_) => {}
        }
    }
    match free {
        Some(at) if first == CallOutcome::Arrived => CallOutcome::OtherFree(at),
        _ => first,
    }
}

/// The addresses that clients of this name may try too: a gateway grants it if it can listen on one of them.
fn other_families(bind: &BindAddress, now: Instant) -> Vec<(BindAddress, Instant)> {
    let BindAddress::Tcp { host, port } = bind else {
        return Vec::new();
    };
    let families: &[&str] = match host.as_str() {
        "localhost" => &["127.0.0.1", "::1"],
        "" | "*" => &["::1"],
        _ => &[],
    };
    let at = |host: &&str| BindAddress::Tcp {
        host: (*host).to_owned(),
        port: *port,
    };
    families.iter().map(|host| (at(host), now)).collect()
}

/// Interval of looks at the places.
const POLL: Duration = Duration::from_secs(1);
/// A place that no session has held for this long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(60);
/// Nothing listens at an address: with the interval of calls and a second odd answer, a program that takes it later shows
/// within 10 s.
const FREE_FAMILY_PAUSE: Duration = Duration::from_secs(3);
/// An address that the agent may not call is seldom tried: sshd logs each attempt.
const OTHER_FAMILY_PAUSE: Duration = Duration::from_secs(600);

#[cfg(test)]
mod judge_tests;
#[cfg(test)]
mod tests;

//! Random schedules against a simple model: nothing is lost, nothing is lent twice, lanes keep their order.
#![allow(clippy::unwrap_used)]
use super::*;
use crate::{ListFilter, change::QueueChange};
use proptest::prelude::*;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
enum Step {
    Store { lane: u8, source: u8, size: u64 },
    Lease,
    Deliver(prop::sample::Index),
    Fail(prop::sample::Index, u64),
    Die(prop::sample::Index),
    GiveBack(prop::sample::Index),
    DropByHand(prop::sample::Index),
    ReviveAll,
    Expire,
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<(Step, bool)>> {
    let any_index = any::<prop::sample::Index>;
    let step = prop_oneof![
        6 => (0..4_u8, 0..2_u8, 1..40_u64)
            .prop_map(|(lane, source, size)| Step::Store { lane, source, size }),
        5 => Just(Step::Lease),
        4 => any_index().prop_map(Step::Deliver),
        2 => (any_index(), 0..100_u64).prop_map(|(at, wait)| Step::Fail(at, wait)),
        1 => any_index().prop_map(Step::Die),
        1 => any_index().prop_map(Step::GiveBack),
        1 => any_index().prop_map(Step::DropByHand),
        1 => Just(Step::ReviveAll),
        1 => Just(Step::Expire),
        2 => (0..60_u64).prop_map(Step::Pass),
    ];
    // Each with whether its commit succeeds.
    prop::collection::vec((step, prop::bool::weighted(0.85)), 1..120)
}

/// What the index should hold.
#[derive(Default)]
struct Model {
    /// In order.
    queued: Vec<(EventId, String)>,
    dead: Vec<EventId>,
    leased: Vec<(Sequence, EventId)>,
    /// Delivered or dead, and not on disk yet: their lanes are held.
    unsettled: Vec<(QueueChange, EventId)>,
}

struct Run {
    index: QueueIndex,
    model: Model,
    now: Instant,
    wall: SystemTime,
}

impl Run {
    fn clocks(&self) -> (Instant, SystemTime) {
        (self.now, self.wall)
    }

    fn id_of(&self, change: &QueueChange) -> EventId {
        match change {
            QueueChange::Store { head, .. } => head.id,
            QueueChange::Remove { sequence, .. } | QueueChange::MoveToDead { sequence, .. } => {
                self.index.queued[sequence].facts.id
            }
            QueueChange::RemoveDead { dead, .. } | QueueChange::Requeue { dead, .. } => {
                self.index.dead[dead].facts.id
            }
        }
    }

    /// One commit, as the writer makes it: what must be on disk first, and again after a failure.
    fn commit(&mut self, must: Vec<QueueChange>, may: Vec<QueueChange>, succeeds: bool) {
        let with_ids = |run: &Self, changes: Vec<QueueChange>| -> Vec<(QueueChange, EventId)> {
            let with_id = |change| (run.id_of(&change), change);
            changes
                .into_iter()
                .map(with_id)
                .map(|(id, change)| (change, id))
                .collect()
        };
        let must = with_ids(self, must);
        let may = with_ids(self, may);
        let mut all = std::mem::take(&mut self.model.unsettled);
        all.extend(must);
        if !succeeds {
            for (change, _) in &may {
                self.index.reverted(change, self.now);
            }
            self.model.unsettled = all;
            return;
        }
        all.extend(may);
        for (change, id) in all {
            self.index.applied(&change, self.now);
            let model = &mut self.model;
            match &change {
                QueueChange::Store { head, .. } => model.queued.push((id, head.lane.clone())),
                QueueChange::Remove { .. } => model.queued.retain(|(other, _)| *other != id),
                QueueChange::MoveToDead { .. } => {
                    model.queued.retain(|(other, _)| *other != id);
                    model.dead.push(id);
                }
                QueueChange::RemoveDead { .. } => model.dead.retain(|other| *other != id),
                QueueChange::Requeue { sequence, .. } => {
                    model.dead.retain(|other| *other != id);
                    let lane = self.index.queued[sequence].facts.lane.as_ref().to_owned();
                    model.queued.push((id, lane));
                }
            }
        }
    }

    fn step(&mut self, step: Step, succeeds: bool) {
        let (now, wall) = self.clocks();
        match step {
            Step::Store { lane, source, size } => {
                let head = Box::new(EventHead {
                    id: EventId::random(),
                    received_at: wall,
                    retried_at: None,
                    method: String::new(),
                    target: String::new(),
                    headers: vec![],
                    source: source.to_string(),
                    lane: lane.to_string(),
                    event_type: None,
                    issue_key: None,
                    body_bytes: size,
                });
                let admission = self.index.admit(&head, size, (now, wall));
                if let AdmissionOutcome::Store {
                    sequence,
                    removals,
                    dropped,
                } = admission
                {
                    assert_eq!(dropped.len(), removals.len());
                    let mut may = removals;
                    may.push(QueueChange::Store {
                        sequence,
                        head,
                        text: vec![],
                        body: bytes::Bytes::new(),
                        size,
                    });
                    self.commit(vec![], may, succeeds);
                }
            }
            Step::Lease => {
                if let Some((sequence, _)) = self.index.lease(now) {
                    let facts = &self.index.queued[&sequence].facts;
                    let (id, lane) = (facts.id, facts.lane.as_ref().to_owned());
                    let first = self.model.queued.iter().find(|(_, other)| *other == lane);
                    assert_eq!(first.unwrap().0, id, "not the head of its lane");
                    self.model.leased.push((sequence, id));
                }
            }
            Step::Deliver(at) => self.end(at, LeaseEnd::Delivered, succeeds),
            Step::Die(at) => self.end(at, LeaseEnd::Dead("refused"), succeeds),
            Step::Fail(at, wait) => {
                if let Some((sequence, _)) = self.take_lease(at) {
                    let not_before = now + Duration::from_secs(wait);
                    self.index.failed(sequence, "500", not_before);
                }
            }
            Step::GiveBack(at) => {
                if let Some((sequence, _)) = self.take_lease(at) {
                    self.index.release_lease(sequence, now);
                }
            }
            Step::DropByHand(at) => {
                let ids: Vec<_> = self.index.ids.keys().copied().collect();
                if !ids.is_empty() {
                    let selected = self.index.selected(ids[at.index(ids.len())]);
                    let selected: Vec<_> = selected.into_iter().collect();
                    let (may, _) = self.index.drop_by_hand(&selected, now);
                    self.commit(vec![], may, succeeds);
                }
            }
            Step::ReviveAll => {
                let dead = self.index.oldest_dead(None, 3);
                let may = self.index.requeue(dead, wall);
                self.commit(vec![], may, succeeds);
            }
            Step::Expire => {
                let mut may = self.index.too_old((now, wall), 4).changes;
                may.extend(self.index.room_for_dead_letters().0);
                self.commit(vec![], may, succeeds);
            }
            Step::Pass(seconds) => {
                self.now += Duration::from_secs(seconds);
                self.wall += Duration::from_secs(seconds);
            }
        }
    }

    fn take_lease(&mut self, at: prop::sample::Index) -> Option<(Sequence, EventId)> {
        let leases = &mut self.model.leased;
        (!leases.is_empty()).then(|| leases.swap_remove(at.index(leases.len())))
    }

    fn end(&mut self, at: prop::sample::Index, end: LeaseEnd<'_>, succeeds: bool) {
        if let Some((sequence, _)) = self.take_lease(at) {
            let change = self.index.end_lease(sequence, end, self.clocks());
            let must = change
                .into_iter()
                .chain(self.index.room_for_dead_letters().0);
            let must = must.collect();
            self.commit(must, vec![], succeeds);
        }
    }

    fn check(&self) {
        let ids = |what| -> BTreeSet<EventId> {
            let list = self.index.list(what, None, usize::MAX, self.now);
            list.into_iter().map(|event| event.id).collect()
        };
        let queued: BTreeSet<_> = self.model.queued.iter().map(|(id, _)| *id).collect();
        assert_eq!(ids(ListFilter::Queued), queued);
        let dead: BTreeSet<_> = self.model.dead.iter().copied().collect();
        assert_eq!(ids(ListFilter::Dead), dead);
        let index = &self.index;
        let bytes: u64 = index.queued.values().map(|event| event.facts.size).sum();
        assert_eq!(index.usage.bytes, bytes);
        assert!(bytes <= index.limits.max_bytes && index.queued.len() <= index.limits.max_events);
        let of_sources: u64 = index.sources.values().map(|usage| usage.bytes).sum();
        assert_eq!(of_sources, bytes);
        let within = |usage: &SpaceUsage| usage.bytes <= index.limits.max_bytes_per_source;
        assert!(index.sources.values().all(within));
        let dead: u64 = index.dead.values().map(|event| event.facts.size).sum();
        assert_eq!(index.dead_bytes, dead);
        // A lane is due if and only if its head is neither leased nor leaving.
        let waiting = |lane: &EventLane| {
            let head = index.queued[lane.events.front().unwrap()].progress;
            assert_eq!(head == DeliveryProgress::Idle, lane.entry.is_some());
            lane.entry.is_some()
        };
        let due = index.lanes.values().filter(|lane| waiting(lane)).count();
        assert_eq!(due, index.due.len());
        assert_eq!(index.ids.len(), queued.len() + self.model.dead.len());
    }

    /// With a disk and a vendor that work, everything arrives, each lane in its order.
    fn drain(&mut self) {
        self.commit(vec![], vec![], true);
        for (sequence, _) in std::mem::take(&mut self.model.leased) {
            self.index.release_lease(sequence, self.now);
        }
        self.now += Duration::from_secs(1000);
        let mut left = self.model.queued.clone();
        while let Some((sequence, _)) = self.index.lease(self.now) {
            let facts = &self.index.queued[&sequence].facts;
            let (id, lane) = (facts.id, facts.lane.as_ref().to_owned());
            let first = left.iter().position(|(_, other)| *other == lane).unwrap();
            assert_eq!(left.remove(first).0, id);
            let change = self
                .index
                .end_lease(sequence, LeaseEnd::Delivered, self.clocks());
            self.commit(change.into_iter().collect(), vec![], true);
        }
        assert!(left.is_empty(), "{left:?}");
        self.check();
        assert!(self.index.lanes.is_empty() && self.index.sources.is_empty());
        let usage = self.index.usage;
        assert_eq!((usage.leaving_bytes, usage.leaving_events), (0, 0));
        assert_eq!(self.index.dead_leaving_bytes, 0);
        assert_eq!(self.index.dead_arriving_bytes, 0);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn nothing_is_lost_or_lent_twice_and_lanes_keep_their_order(
        steps in steps(),
        drops_oldest in any::<bool>(),
    ) {
        let limits = QueueLimits {
            max_bytes: 300,
            max_bytes_per_source: 200,
            max_events: 15,
            max_dead_bytes: 60,
            retry_for: Duration::from_secs(300),
            keep_dead: Duration::from_secs(900),
            when_full: match drops_oldest {
                true => crate::WhenFull::DropOldest,
                false => crate::WhenFull::Refuse,
            },
            ..QueueLimits::default()
        };
        let mut run = Run {
            index: QueueIndex::new(limits, QueueTotals::default()),
            model: Model::default(),
            now: Instant::now(),
            wall: SystemTime::now(),
        };
        for (step, succeeds) in steps {
            run.step(step, succeeds);
            run.check();
        }
        run.drain();
    }
}

#[test]
fn lanes_take_turns_however_long_one_is() {
    let mut run = Run {
        index: QueueIndex::new(QueueLimits::default(), QueueTotals::default()),
        model: Model::default(),
        now: Instant::now(),
        wall: SystemTime::now(),
    };
    let store = |run: &mut Run, lane| {
        let step = Step::Store {
            lane,
            source: 0,
            size: 1,
        };
        run.step(step, true);
    };
    for _ in 0..100 {
        store(&mut run, 1);
    }
    for _ in 0..3 {
        store(&mut run, 2);
    }
    let mut lanes = String::new();
    for _ in 0..7 {
        // The long lane grows all the time.
        store(&mut run, 1);
        let (sequence, _) = run.index.lease(run.now).unwrap();
        lanes.push_str(&run.index.queued[&sequence].facts.lane);
        let change = run
            .index
            .end_lease(sequence, LeaseEnd::Delivered, run.clocks());
        run.commit(change.into_iter().collect(), vec![], true);
    }
    assert_eq!(lanes, "1212121");
}

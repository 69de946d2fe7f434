#![allow(clippy::unwrap_used)]
mod ages;

use super::*;
use crate::{
    DueEvents, EventState, ListFilter, QueueBound, WhenFull,
    change::{QueueChange, RemovalReason},
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

/// An index and its clocks. What is admitted is applied at once.
struct Bench {
    index: QueueIndex,
    now: Instant,
    wall: SystemTime,
}

impl Bench {
    fn new(limits: QueueLimits) -> Self {
        Self {
            index: QueueIndex::new(limits, QueueTotals::default()),
            now: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    fn clocks(&self) -> (Instant, SystemTime) {
        (self.now, self.wall)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.wall += time;
    }

    fn head(&self, lane: &str, source: &str) -> EventHead {
        EventHead {
            id: EventId::random(),
            received_at: self.wall,
            retried_at: None,
            method: "POST".into(),
            target: "/".into(),
            headers: vec![],
            source: source.into(),
            lane: lane.into(),
            event_type: None,
            issue_key: None,
            body_bytes: 1,
        }
    }

    /// Stores an event of this size, and returns which were dropped for it.
    fn store(&mut self, lane: &str, source: &str, size: u64) -> Result<Vec<EventId>, QueueBound> {
        let head = Box::new(self.head(lane, source));
        match self.index.admit(&head, size, self.clocks()) {
            AdmissionOutcome::Store {
                sequence,
                removals,
                dropped,
            } => {
                let store = QueueChange::Store {
                    sequence,
                    head,
                    text: vec![],
                    body: bytes::Bytes::new(),
                    size,
                };
                for change in removals.iter().chain([&store]) {
                    self.index.applied(change, self.now);
                }
                Ok(dropped.into_iter().map(|event| event.id).collect())
            }
            AdmissionOutcome::Repeated => panic!("a random id"),
            AdmissionOutcome::Full(bound) => Err(bound),
        }
    }

    fn ids(&self, what: ListFilter) -> Vec<EventId> {
        let list = self.index.list(what, None, usize::MAX, self.now);
        list.into_iter().map(|event| event.id).collect()
    }

    fn bury(&mut self, size: u64) {
        self.store("", "a", size).unwrap();
        let (sequence, _) = self.index.lease(self.now).unwrap();
        let end = LeaseEnd::Dead("refused");
        let mut changes: Vec<_> = self
            .index
            .end_lease(sequence, end, self.clocks())
            .into_iter()
            .collect();
        changes.extend(self.index.room_for_dead_letters().0);
        for change in &changes {
            self.index.applied(change, self.now);
        }
    }

    fn expire(&mut self) -> (usize, usize) {
        let old = self.index.too_old(self.clocks(), usize::MAX - 1);
        for change in &old.changes {
            self.index.applied(change, self.now);
        }
        (old.dead.len(), old.dropped.len())
    }
}

fn limits() -> QueueLimits {
    QueueLimits {
        max_bytes: 1000,
        max_bytes_per_source: 600,
        max_events: 10,
        max_dead_bytes: 300,
        ..QueueLimits::default()
    }
}

#[test]
fn each_bound_refuses_and_is_named_and_nothing_is_lost() {
    let mut bench = Bench::new(limits());
    bench.store("1", "a", 600).unwrap();
    assert_eq!(bench.store("1", "a", 1), Err(QueueBound::BytesOfSource));
    bench.store("1", "b", 400).unwrap();
    assert_eq!(bench.store("1", "c", 1), Err(QueueBound::Bytes));
    let figures = bench.index.figures(bench.now);
    assert_eq!((figures.events, figures.bytes), (2, 1000));
    assert_eq!(figures.totals.refused_full, 2);
    assert_eq!(figures.full_since, Some((bench.wall, QueueBound::Bytes)));

    let mut bench = Bench::new(limits());
    for at in 0..10 {
        bench.store(&at.to_string(), "a", 1).unwrap();
    }
    assert_eq!(bench.store("x", "b", 1), Err(QueueBound::Events));
    assert_eq!(bench.ids(ListFilter::All).len(), 10);
}

#[test]
fn where_the_oldest_make_room_they_are_of_the_bound_that_is_reached_and_are_counted() {
    let mut bench = Bench::new(QueueLimits {
        when_full: WhenFull::DropOldest,
        ..limits()
    });
    bench.store("1", "b", 300).unwrap();
    bench.store("1", "a", 300).unwrap();
    bench.store("1", "a", 300).unwrap();
    let before = bench.ids(ListFilter::Queued);
    // The sender's own bound: its own oldest goes, not the oldest of all.
    assert_eq!(bench.store("1", "a", 200), Ok(vec![before[1]]));
    // The bound of all, which 300 + 300 + 200 + 300 exceeds: the oldest of all.
    assert_eq!(bench.store("1", "c", 300), Ok(vec![before[0]]));
    let figures = bench.index.figures(bench.now);
    assert_eq!((figures.events, figures.bytes), (3, 800));
    assert_eq!(figures.totals.refused_full, 0);
    assert!(figures.full_since.is_some());
    // What never fits drops nothing.
    assert_eq!(bench.store("1", "d", 601), Err(QueueBound::BytesOfSource));
    assert_eq!(bench.index.figures(bench.now).events, 3);
}

#[test]
fn an_event_that_is_being_delivered_makes_no_room() {
    let mut bench = Bench::new(QueueLimits {
        when_full: WhenFull::DropOldest,
        max_events: 2,
        ..limits()
    });
    bench.store("1", "a", 1).unwrap();
    bench.store("1", "a", 1).unwrap();
    let ids = bench.ids(ListFilter::Queued);
    bench.index.lease(bench.now).unwrap();
    assert_eq!(bench.store("1", "a", 1), Ok(vec![ids[1]]));
    let left = bench.ids(ListFilter::Queued);
    assert_eq!((left.len(), left[0]), (2, ids[0]));
}

#[test]
fn a_full_queue_is_not_full_any_more_once_a_tenth_is_free() {
    let mut bench = Bench::new(limits());
    for _ in 0..10 {
        bench.store("1", "a", 1).unwrap();
    }
    bench.store("1", "a", 1).unwrap_err();
    assert!(bench.index.figures(bench.now).full_since.is_some());
    let (sequence, _) = bench.index.lease(bench.now).unwrap();
    let now = bench.clocks();
    let change = bench.index.end_lease(sequence, LeaseEnd::Delivered, now);
    // Not before it is on disk.
    assert!(bench.index.figures(bench.now).full_since.is_some());
    bench.index.applied(&change.unwrap(), bench.now);
    assert_eq!(bench.index.figures(bench.now).full_since, None);
}

#[test]
fn a_commit_that_failed_leaves_the_index_as_it_was() {
    let mut bench = Bench::new(QueueLimits {
        when_full: WhenFull::DropOldest,
        ..limits()
    });
    bench.store("1", "a", 600).unwrap();
    bench.store("1", "b", 400).unwrap();
    bench.bury_first_of_lane_2();
    let before = bench.index.figures(bench.now);
    let due = bench.index.due(bench.now);
    let head = Box::new(bench.head("2", "a"));
    let now = bench.clocks();
    let AdmissionOutcome::Store {
        sequence, removals, ..
    } = bench.index.admit(&head, 500, now)
    else {
        panic!("there is room");
    };
    assert!(!removals.is_empty());
    let store = QueueChange::Store {
        sequence,
        head,
        text: vec![],
        body: bytes::Bytes::new(),
        size: 500,
    };
    for change in removals.iter().chain([&store]) {
        bench.index.reverted(change, bench.now);
    }
    bench.index.limits.max_bytes = 2000;
    let dead = bench.index.oldest_dead(None, 10);
    let requeued = bench.index.requeue(dead, bench.wall);
    assert_eq!(requeued.len(), 1);
    for change in &requeued {
        bench.index.reverted(change, bench.now);
    }
    let after = bench.index.figures(bench.now);
    assert_eq!((before.events, before.bytes), (after.events, after.bytes));
    assert_eq!(before.dead_bytes, after.dead_bytes);
    assert_eq!(before.totals, after.totals);
    assert_eq!(bench.index.due(bench.now), due);
    assert_eq!(bench.index.usage.leaving_bytes, 0);
    assert_eq!(bench.index.dead_leaving_bytes, 0);
}

impl Bench {
    fn bury_first_of_lane_2(&mut self) {
        // Of another sender, and small: the bounds of the others stay as they are.
        let limits = self.index.limits.clone();
        self.index.limits.max_bytes = u64::MAX;
        self.store("2", "z", 50).unwrap();
        self.index.limits = limits;
        let now = self.clocks();
        let last = *self.index.queued.last_key_value().unwrap().0;
        while let Some((sequence, _)) = self.index.lease(self.now) {
            if sequence == last {
                let end = LeaseEnd::Dead("refused");
                let change = self.index.end_lease(sequence, end, now).unwrap();
                self.index.applied(&change, self.now);
                break;
            }
        }
        let leased: Vec<_> = self.index.queued.keys().copied().collect();
        for sequence in leased {
            self.index.release_lease(sequence, self.now);
        }
    }
}

#[test]
fn dead_letters_have_a_bound_and_the_oldest_go() {
    let mut bench = Bench::new(limits());
    for _ in 0..3 {
        bench.bury(100);
    }
    let before = bench.ids(ListFilter::Dead);
    assert_eq!(before.len(), 3);
    bench.bury(150);
    let after = bench.ids(ListFilter::Dead);
    assert_eq!((after.len(), after[0]), (2, before[2]));
    assert_eq!(bench.index.totals.dropped_dead, 2);
    // One that is larger than the bound replaces all others, and stays.
    bench.bury(400);
    assert_eq!(bench.ids(ListFilter::Dead).len(), 1);
    assert_eq!(bench.index.dead_arriving_bytes, 0);
    assert_eq!(bench.index.dead_leaving_bytes, 0);
}

#[test]
fn an_event_that_is_here_already_is_not_stored_again_also_as_a_dead_letter() {
    let mut bench = Bench::new(limits());
    bench.bury(10);
    let id = bench.ids(ListFilter::Dead)[0];
    let mut head = bench.head("1", "a");
    head.id = id;
    let now = bench.clocks();
    assert!(matches!(
        bench.index.admit(&head, 1, now),
        AdmissionOutcome::Repeated
    ));
    // Two in the same commit.
    head.id = EventId::random();
    assert!(matches!(
        bench.index.admit(&head, 1, now),
        AdmissionOutcome::Store { .. }
    ));
    assert!(matches!(
        bench.index.admit(&head, 1, now),
        AdmissionOutcome::Repeated
    ));
    assert_eq!(bench.index.totals.repeated, 2);
}

#[test]
fn a_failed_head_holds_its_lane_and_no_other() {
    let mut bench = Bench::new(limits());
    bench.store("1", "a", 1).unwrap();
    bench.store("1", "a", 1).unwrap();
    bench.store("2", "a", 1).unwrap();
    let (first, attempt) = bench.index.lease(bench.now).unwrap();
    assert_eq!(attempt, 1);
    let again = bench.now + HOUR;
    bench.index.failed(first, "500", again);
    let (other, _) = bench.index.lease(bench.now).unwrap();
    assert_eq!(bench.index.queued[&other].facts.lane.as_ref(), "2");
    assert_eq!(bench.index.lease(bench.now), None);
    assert_eq!(bench.index.due(bench.now), DueEvents::At(again));
    let list = bench.index.list(ListFilter::All, None, 9, bench.now);
    let states: Vec<_> = list.iter().map(|event| event.state).collect();
    let expected = [
        EventState::Waiting,
        EventState::Queued,
        EventState::Delivering,
    ];
    assert_eq!(states, expected);
    assert_eq!(list[0].last_error.as_deref(), Some("500"));
    assert_eq!(bench.index.figures(bench.now).next_attempt, Some(again));
    // By hand, it is due at once.
    assert!(bench.index.make_due(first, bench.now));
    assert!(!bench.index.make_due(first, bench.now));
    assert_eq!(bench.index.lease(bench.now), Some((first, 2)));
}

#[test]
fn a_dead_letter_that_is_retried_goes_to_the_end_of_its_lane_and_is_young_again() {
    let mut bench = Bench::new(limits());
    bench.bury(10);
    let id = bench.ids(ListFilter::Dead)[0];
    bench.pass(4 * DAY);
    bench.store("", "a", 1).unwrap();
    let dead = bench.index.oldest_dead(None, 10);
    let changes = bench.index.requeue(dead, bench.wall);
    for change in &changes {
        bench.index.applied(change, bench.now);
    }
    assert_eq!(bench.ids(ListFilter::Queued)[1], id);
    assert_eq!(bench.ids(ListFilter::Dead).len(), 0);
    assert_eq!(bench.expire(), (0, 0));
    assert_eq!(bench.index.dead_leaving_bytes, 0);
}

#[test]
fn what_the_file_lost_is_forgotten_and_what_it_has_besides_is_found() {
    let mut bench = Bench::new(limits());
    bench.store("1", "a", 1).unwrap();
    bench.store("1", "a", 1).unwrap();
    let sequences: Vec<_> = bench.index.queued.keys().copied().collect();
    bench
        .index
        .forget_missing(|at| at == sequences[1], |_| true, bench.now);
    assert_eq!(bench.index.queued.len(), 1);
    let (head, now) = (bench.head("1", "a"), bench.clocks());
    bench.index.load_queued(100, &head, 1, now);
    bench.index.load_queued(100, &head, 1, now);
    assert_eq!(bench.index.figures(bench.now).bytes, 2);
    assert_eq!(bench.index.lease(bench.now).unwrap().0, sequences[1]);
    // What is leaving stays until its commit has been repeated.
    let change = bench
        .index
        .end_lease(sequences[1], LeaseEnd::Delivered, now)
        .unwrap();
    bench
        .index
        .forget_missing(|at| at == 100, |_| true, bench.now);
    assert_eq!(bench.index.lease(bench.now), None);
    bench.index.applied(&change, bench.now);
    assert_eq!(bench.index.lease(bench.now).unwrap().0, 100);
    assert!(bench.index.next_sequence() > 100);
    assert!(matches!(
        change,
        QueueChange::Remove {
            why: RemovalReason::Delivered,
            ..
        }
    ));
}

#[test]
fn an_error_that_is_kept_has_a_bound() {
    let mut bench = Bench::new(limits());
    bench.store("1", "a", 1).unwrap();
    let (sequence, _) = bench.index.lease(bench.now).unwrap();
    bench.index.failed(sequence, &"x".repeat(10_000), bench.now);
    let event = bench
        .index
        .list(ListFilter::All, None, 1, bench.now)
        .remove(0);
    assert!(event.last_error.unwrap().len() < 210);
}

#![allow(clippy::unwrap_used, clippy::expect_used)]
use super::*;
use std::collections::VecDeque;

const CHUNK: usize = 32 << 10;
/// The mark before a rate is known.
const HIGH: usize = 128 << 10;
const PASSED: usize = HIGH / CHUNK + 1;

fn queue() -> WriteQueue {
    WriteQueue::new(&TransportLimits::default(), Instant::now())
}

fn passes(queue: &mut WriteQueue) -> bool {
    matches!(
        queue.ask(CHUNK, &mut 0, Waker::noop()),
        GateAnswer::Pass { .. }
    )
}

fn ticket(queue: &mut WriteQueue) -> Ticket {
    match queue.ask(CHUNK, &mut 0, Waker::noop()) {
        GateAnswer::Wait { ticket } => ticket,
        GateAnswer::Pass { .. } => panic!("the gate is open"),
    }
}

fn is_through(queue: &mut WriteQueue, ticket: Ticket) -> bool {
    matches!(
        queue.ask_again(ticket, Waker::noop()),
        GateAnswer::Pass { .. }
    )
}

#[test]
fn a_hundred_writers_that_ask_at_once_do_not_pass_together() {
    let mut queue = queue();
    let passed = (0..100).filter(|_| passes(&mut queue)).count();
    assert_eq!(passed, PASSED);
}

#[test]
fn the_gate_opens_at_the_low_mark_and_not_before() {
    let mut queue = queue();
    let now = Instant::now();
    queue.push(&vec![0; HIGH + 1], now).ok().unwrap();
    let ticket = ticket(&mut queue);
    queue.taken(50 << 10, now);
    assert!(!is_through(&mut queue, ticket));
    queue.taken(15 << 10, now);
    assert!(is_through(&mut queue, ticket));
}

#[test]
fn writers_are_let_through_in_turn() {
    let mut queue = queue();
    let now = Instant::now();
    queue.push(&vec![0; HIGH + 1], now).ok().unwrap();
    let tickets: Vec<Ticket> = (0..40).map(|_| ticket(&mut queue)).collect();
    let woken = queue.taken(HIGH + 1, now).len();
    assert_eq!(woken, PASSED);
    assert!(tickets[..PASSED].iter().all(|t| is_through(&mut queue, *t)));
    assert!(
        tickets[PASSED..]
            .iter()
            .all(|t| !is_through(&mut queue, *t))
    );
    assert!(!passes(&mut queue), "a newcomer passed those who wait");
}

#[test]
fn one_who_leaves_the_line_gives_its_place_to_the_next() {
    let mut queue = queue();
    let now = Instant::now();
    queue.push(&vec![0; HIGH + 1], now).ok().unwrap();
    let tickets: Vec<Ticket> = (0..50).map(|_| ticket(&mut queue)).collect();
    queue.taken(HIGH + 1, now);
    for gone in &tickets[..PASSED] {
        queue.leave(*gone, CHUNK);
    }
    assert!(is_through(&mut queue, tickets[PASSED]));
}

#[test]
fn what_hangs_in_a_channel_without_window_is_forgotten_when_nothing_moves() {
    let mut queue = queue();
    while passes(&mut queue) {}
    assert!(queue.is_shut());
    queue.forget_admitted();
    assert!(passes(&mut queue));
}

#[test]
fn what_was_forgotten_cannot_be_given_back() {
    let mut queue = queue();
    let GateAnswer::Pass { generation } = queue.ask(CHUNK, &mut 0, Waker::noop()) else {
        panic!("the gate is shut");
    };
    queue.forget_admitted();
    while passes(&mut queue) {}
    for _ in 0..20 {
        queue.give_back(CHUNK, generation);
    }
    assert!(queue.is_shut());
}

#[test]
fn past_the_cap_bytes_are_refused() {
    let mut queue = queue();
    let now = Instant::now();
    queue.push(&vec![0; 64 << 20], now).ok().unwrap();
    assert!(matches!(queue.push(&[0], now), Err(PushError::OverCap)));
}

/// A channel with much to send: each chunk follows the last one.
#[derive(Default)]
struct Bulk {
    finish: u64,
    waits: Option<Ticket>,
    passed: usize,
}

impl Bulk {
    /// Asks until it has to wait.
    fn fill(&mut self, queue: &mut WriteQueue) {
        if self.waits.is_some_and(|ticket| is_through(queue, ticket)) {
            self.waits = None;
            self.passed += 1;
        }
        while self.waits.is_none() {
            match queue.ask(CHUNK, &mut self.finish, Waker::noop()) {
                GateAnswer::Pass { .. } => self.passed += 1,
                GateAnswer::Wait { ticket } => self.waits = Some(ticket),
            }
        }
    }

    fn shuts(queue: &mut WriteQueue) -> Self {
        let mut bulk = Self::default();
        bulk.fill(queue);
        bulk
    }
}

fn small(queue: &mut WriteQueue, finish: &mut u64) -> Option<Ticket> {
    match queue.ask(1000, finish, Waker::noop()) {
        GateAnswer::Pass { .. } => None,
        GateAnswer::Wait { ticket } => Some(ticket),
    }
}

#[test]
fn a_channel_that_paused_passes_a_gate_that_a_bulk_transfer_has_shut() {
    let mut queue = queue();
    Bulk::shuts(&mut queue);
    assert!(queue.is_shut());
    let mut finish = 0;
    assert_eq!(small(&mut queue, &mut finish), None);
    assert!(small(&mut queue, &mut finish).is_some(), "only its first");
}

#[test]
fn what_passes_a_shut_gate_is_bounded() {
    let mut queue = queue();
    Bulk::shuts(&mut queue);
    let passed = (0..1000).filter(|_| {
        let asked = queue.ask(CHUNK, &mut 0, Waker::noop());
        matches!(asked, GateAnswer::Pass { .. })
    });
    assert!(passed.count() <= RESERVE / CHUNK + 1);
}

#[test]
fn small_channels_come_before_bulk_channels_that_wait_longer() {
    let mut queue = queue();
    let now = Instant::now();
    let first = Bulk::shuts(&mut queue);
    let mut finish = first.finish - 2 * CHUNK as u64;
    let behind = small(&mut queue, &mut finish).unwrap();
    assert!(behind < first.waits.unwrap());
    queue.push(&[0; HIGH + CHUNK], now).ok().unwrap();
    queue.taken(HIGH + CHUNK, now);
    assert!(is_through(&mut queue, behind));
}

#[test]
fn bulk_channels_take_turns() {
    let mut queue = queue();
    let now = Instant::now();
    let mut both = [Bulk::default(), Bulk::default()];
    for _ in 0..200 {
        for bulk in &mut both {
            bulk.fill(&mut queue);
        }
        queue.push(&[0; CHUNK], now).ok().unwrap();
        queue.taken(CHUNK, now);
    }
    let [one, other] = both.map(|bulk| bulk.passed);
    assert!(one.min(other) > 50, "{one} and {other}");
}

/// Callers that open a channel for each small answer, and ask for the next as soon as they have one.
fn shares(callers: usize, answer: usize, rounds: usize) -> (usize, usize) {
    let mut queue = queue();
    let now = Instant::now();
    let mut bulk = Bulk::default();
    let mut waiting: Vec<Ticket> = Vec::new();
    // What is in the buffer: the caller's answer, or a chunk of the bulk transfer.
    let mut sent = VecDeque::new();
    let mut idle = callers;
    let mut small = 0;
    let mut bulk_seen = 0;
    for _ in 0..rounds {
        bulk.fill(&mut queue);
        while bulk_seen < bulk.passed {
            bulk_seen += 1;
            queue.push(&vec![0; CHUNK], now).ok().unwrap();
            sent.push_back((CHUNK, false));
        }
        waiting.retain(|ticket| {
            let through = is_through(&mut queue, *ticket);
            if through {
                queue.push(&vec![0; answer], now).ok().unwrap();
                sent.push_back((answer, true));
            }
            !through
        });
        for _ in 0..std::mem::take(&mut idle) {
            match queue.ask(answer, &mut 0, Waker::noop()) {
                GateAnswer::Pass { .. } => {
                    queue.push(&vec![0; answer], now).ok().unwrap();
                    sent.push_back((answer, true));
                }
                GateAnswer::Wait { ticket } => waiting.push(ticket),
            }
        }
        if let Some((bytes, is_small)) = sent.pop_front() {
            queue.taken(bytes, now);
            if is_small {
                small += 1;
                idle += 1;
            }
        }
    }
    (small, bulk.passed)
}

#[test]
fn new_channels_one_after_the_other_do_not_starve_a_bulk_transfer() {
    for callers in [4, 10, 100] {
        let answer = 20 << 10;
        let (small, bulk) = shares(callers, answer, 4000);
        let (small, bulk) = (small * answer, bulk * CHUNK);
        let fair = (small + bulk) / (callers + 1);
        assert!(
            bulk * 2 > fair && small > fair,
            "{callers}: {small} and {bulk}"
        );
    }
}

//! The buffer between russh and the socket, and the gate's arithmetic. Time is an argument, wakers are results: it has no
//! clock, no task and no lock.

use super::{TransportLimits, pacing::Pacing};
use std::{collections::BTreeMap, task::Waker};
use tokio::time::Instant;

/// Bytes that wait for the kernel, and writers that wait to add to them.
pub(super) struct WriteQueue {
    buffer: Vec<u8>,
    /// Bytes in `buffer`, and those of the writer task that the kernel has not taken.
    backlog: usize,
    /// Bytes admitted that russh has not written yet. Without them a hundred writers would pass the gate together before
    /// the backlog shows the first byte.
    admitted: usize,
    /// Counts resets of `admitted`, so that bytes from before a reset are not given back.
    generation: u64,
    shut: bool,
    closing: bool,
    pacing: Pacing,
    cap: usize,
    next_number: u64,
    /// Virtual time: bytes that one channel with something to send was let through, or would have been as one of those that
    /// wait. A channel's next chunk starts where its last one ended, or now if it has paused, so that small requests come
    /// before a bulk transfer.
    virtual_time: u64,
    /// Bytes of the chunk that was admitted last. They count in the virtual time when the next one is.
    last: usize,
    /// Bytes that passed the gate since it was shut.
    ahead: usize,
    waiting: BTreeMap<Ticket, Waiter>,
}

/// A writer's place among those that wait: by the virtual time at which its chunk starts, then in the order of arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticket {
    start: u64,
    number: u64,
}

struct Waiter {
    bytes: usize,
    waker: Waker,
}

/// Whether a writer may write, or has to wait.
pub(super) enum GateAnswer {
    /// Admitted; the generation is needed to give bytes back.
    Pass { generation: u64 },
    /// Wait; the ticket is the writer's place in the queue.
    Wait { ticket: Ticket },
}

/// Why bytes were not accepted.
pub(super) enum PushError {
    /// The backlog would exceed the cap.
    OverCap,
    /// A shutdown has begun.
    Closing,
}

impl WriteQueue {
    pub(super) fn new(limits: &TransportLimits, now: Instant) -> Self {
        Self {
            buffer: Vec::new(),
            backlog: 0,
            admitted: 0,
            generation: 0,
            shut: false,
            closing: false,
            pacing: Pacing::new(limits, now),
            cap: limits.cap,
            next_number: 0,
            virtual_time: 0,
            last: 0,
            ahead: 0,
            waiting: BTreeMap::new(),
        }
    }

    pub(super) fn backlog(&self) -> usize {
        self.backlog
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    /// No more bytes are accepted.
    pub(super) fn close(&mut self) {
        self.closing = true;
    }

    /// Whether the gate is shut, so that admitted bytes may have to be forgotten.
    pub(super) fn is_shut(&self) -> bool {
        self.shut
    }

    /// Appends what russh writes.
    pub(super) fn push(&mut self, bytes: &[u8], now: Instant) -> Result<Vec<Waker>, PushError> {
        if self.closing {
            return Err(PushError::Closing);
        }
        if self.backlog.saturating_add(bytes.len()) > self.cap {
            return Err(PushError::OverCap);
        }
        if self.backlog == 0 {
            self.pacing.begin(now);
        }
        self.buffer.extend_from_slice(bytes);
        self.backlog += bytes.len();
        self.admitted = self.admitted.saturating_sub(bytes.len());
        self.shut |= self.load() > self.pacing.high();
        Ok(self.grant())
    }

    /// Swaps the buffer with an empty one.
    pub(super) fn swap(&mut self, empty: &mut Vec<u8>) {
        debug_assert!(empty.is_empty());
        std::mem::swap(&mut self.buffer, empty);
    }

    /// Allocated size of the buffer in bytes.
    pub(super) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// The kernel took `n` bytes.
    pub(super) fn taken(&mut self, n: usize, now: Instant) -> Vec<Waker> {
        self.backlog = self.backlog.saturating_sub(n);
        self.pacing.taken(n, now);
        self.grant()
    }

    /// A writer above russh asks to add `bytes`. `finish` is the virtual time at which its channel's last chunk ended; it
    /// is set to the end of this one.
    pub(super) fn ask(&mut self, bytes: usize, finish: &mut u64, waker: &Waker) -> GateAnswer {
        let paused = finish.saturating_add(QUANTUM) <= self.virtual_time;
        let start = self.virtual_time.max(*finish);
        *finish = start.saturating_add(bytes as u64);
        let fits = !self.shut && self.waiting.is_empty();
        // One chunk of a channel that sent nothing while others sent a quantum. The sum has a bound too: otherwise new channels,
        // one after the other, keep the gate shut for those that wait.
        let ahead =
            paused && self.load() <= self.pacing.high() + RESERVE && self.ahead + bytes <= RESERVE;
        if fits || ahead {
            if !fits {
                self.ahead += bytes;
            }
            self.admit(bytes, start);
            return GateAnswer::Pass {
                generation: self.generation,
            };
        }
        let number = self.next_number;
        self.next_number += 1;
        let ticket = Ticket { start, number };
        let waker = waker.clone();
        self.waiting.insert(ticket, Waiter { bytes, waker });
        GateAnswer::Wait { ticket }
    }

    /// Asks again with a ticket.
    pub(super) fn ask_again(&mut self, ticket: Ticket, waker: &Waker) -> GateAnswer {
        match self.waiting.get_mut(&ticket) {
            Some(waiter) => {
                waiter.waker.clone_from(waker);
                GateAnswer::Wait { ticket }
            }
            None => GateAnswer::Pass {
                generation: self.generation,
            },
        }
    }

    /// Leaves the queue of writers. `bytes` are given back if the ticket was admitted already.
    pub(super) fn leave(&mut self, ticket: Ticket, bytes: usize) -> Vec<Waker> {
        if self.waiting.remove(&ticket).is_some() {
            return Vec::new();
        }
        self.give_back(bytes, self.generation)
    }

    /// `bytes` were admitted, but russh will not write them.
    pub(super) fn give_back(&mut self, bytes: usize, generation: u64) -> Vec<Waker> {
        if generation == self.generation {
            self.admitted = self.admitted.saturating_sub(bytes);
        }
        self.grant()
    }

    /// Forgets admitted bytes that russh has not written for a while: their channel has no window, or has ended. Other
    /// channels must not wait for them.
    pub(super) fn forget_admitted(&mut self) -> Vec<Waker> {
        if self.backlog == 0 {
            self.admitted = 0;
            self.generation += 1;
        }
        self.grant()
    }

    /// Releases all writers: the session is dead, and russh reports that to them.
    pub(super) fn release_all(&mut self) -> Vec<Waker> {
        self.open();
        std::mem::take(&mut self.waiting)
            .into_values()
            .map(|waiter| waiter.waker)
            .collect()
    }

    fn load(&self) -> usize {
        self.backlog + self.admitted
    }

    fn open(&mut self) {
        self.shut = false;
        self.ahead = 0;
    }

    fn admit(&mut self, bytes: usize, start: u64) {
        let last = std::mem::replace(&mut self.last, bytes);
        let share = match self.waiting.len() {
            0 => 0,
            others => last / (others + 1),
        };
        self.virtual_time = self.virtual_time.saturating_add(share as u64).max(start);
        self.admitted += bytes;
        self.shut |= self.load() > self.pacing.high();
    }

    /// Admits as many waiting writers as fit, in the order of their tickets.
    fn grant(&mut self) -> Vec<Waker> {
        if self.load() <= self.pacing.low() {
            self.open();
        }
        let mut wake = Vec::new();
        while !self.shut
            && let Some((ticket, waiter)) = self.waiting.pop_first()
        {
            self.admit(waiter.bytes, ticket.start);
            wake.push(waiter.waker);
        }
        wake
    }
}

/// Bytes of other channels after which a silent channel counts as one that has paused: one chunk.
const QUANTUM: u64 = 32 << 10;
/// Bytes above the high mark that channels may add which have paused, until the gate opens again.
const RESERVE: usize = 128 << 10;

#[cfg(test)]
mod tests {
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
}

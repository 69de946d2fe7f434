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
mod tests;

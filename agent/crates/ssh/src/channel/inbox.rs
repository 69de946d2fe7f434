//! Bytes received on one channel and not read yet: where they are, in which order, at what cost. No I/O and no task: the
//! pump executes the jobs that are planned here.

use super::{
    CloseReason, SessionBudget,
    budget::BudgetCharge,
    spool::{SpoolJob, SpoolJobResult},
};
use bytes::{Buf, Bytes};
use std::{collections::VecDeque, sync::Arc, task::Waker};
use tokio::io::ReadBuf;

/// Read in this order: `head`, the file from `read` to `written`, the bytes of a running write, `tail`.
pub(super) struct Inbox {
    budget: Arc<SessionBudget>,
    charge: BudgetCharge,
    head: MessageQueue,
    read: u64,
    written: u64,
    tail: MessageQueue,
    /// The job that the pump executes.
    running: Option<RunningSpoolJob>,
    /// The last job was a read: a write is next, so that neither starves.
    read_last: bool,
    patience: ReaderPatience,
    eof: bool,
    end: Option<CloseReason>,
    abandoned: bool,
    reader: Option<Waker>,
    /// The reader must be woken.
    readable: bool,
}

/// Messages in memory.
#[derive(Default)]
struct MessageQueue {
    queue: VecDeque<Bytes>,
    cost: usize,
}

enum RunningSpoolJob {
    Write { bytes: usize, cost: usize },
    Read { bytes: usize },
}

/// Whether a full inbox waits for its reader before it uses the file. A reader at work makes room within milliseconds; the
/// file would cost both more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReaderPatience {
    /// It will wait once it is full.
    Left,
    /// It is full, and waits.
    Waiting,
    /// It has waited in vain: the file is used until all of it is read.
    Spent,
}

/// The result of a read.
pub(super) enum ReadOutcome {
    /// Bytes were put into its buffer.
    Read,
    /// Nothing to read yet; the waker is kept.
    Wait,
    /// There will be no more bytes: `Ok` is the peer's EOF.
    Over(Result<(), CloseReason>),
}

impl Inbox {
    pub(super) fn new(budget: Arc<SessionBudget>) -> Self {
        Self {
            charge: BudgetCharge::new(Arc::clone(&budget)),
            budget,
            head: MessageQueue::default(),
            read: 0,
            written: 0,
            tail: MessageQueue::default(),
            running: None,
            read_last: false,
            patience: ReaderPatience::Left,
            eof: false,
            end: None,
            abandoned: false,
            reader: None,
            readable: false,
        }
    }

    /// Takes one message, or returns the bound that it would exceed. Messages for an application that has dropped its
    /// stream are discarded.
    pub(super) fn push(&mut self, data: Bytes) -> Result<(), CloseReason> {
        if self.is_discarding() {
            return Ok(());
        }
        let cost = data.len() + MESSAGE_COST;
        let held = self.memory() + cost;
        let limits = self.budget.limits();
        if held > MIN_MEMORY && !self.budget.has_room(cost as u64) {
            return Err(CloseReason::Overflow);
        }
        let in_order = !self.on_disk() && self.tail.queue.is_empty();
        if in_order && self.head.cost < self.memory_limit() {
            self.head.push(data);
        } else {
            let ahead = self.tail.cost + self.in_write() + cost;
            if self.written - self.read + ahead as u64 > limits.spool_per_channel {
                return Err(CloseReason::Overflow);
            }
            self.tail.push(data);
        }
        self.update_charge();
        self.readable = true;
        Ok(())
    }

    /// The next job for the pump, if none is running.
    pub(super) fn plan(&mut self) -> Option<SpoolJob> {
        self.promote();
        if self.running.is_some() || self.is_discarding() {
            return None;
        }
        let may_read = self.written > self.read && self.has_room();
        let batch = self.batch();
        let may_write = self.tail.cost >= batch;
        if may_read && !(may_write && self.read_last) {
            let left = self.written - self.read;
            let length = usize::try_from(left).unwrap_or(batch).min(batch);
            self.read_last = true;
            self.running = Some(RunningSpoolJob::Read { bytes: length });
            return Some(SpoolJob::Read {
                position: self.read,
                length,
                last: length as u64 == left,
            });
        }
        if !may_write {
            return None;
        }
        let (mut bytes, mut length, mut cost) = (Vec::new(), 0, 0);
        while length < batch
            && let Some((message, paid)) = self.tail.pop()
        {
            length += message.len();
            cost += paid;
            bytes.push(message);
        }
        self.read_last = false;
        self.running = Some(RunningSpoolJob::Write {
            bytes: length,
            cost,
        });
        Some(SpoolJob::Write {
            position: self.written,
            bytes,
        })
    }

    /// A job has finished.
    pub(super) fn finish(&mut self, done: SpoolJobResult) {
        match (self.running.take(), done) {
            (Some(RunningSpoolJob::Write { bytes, .. }), SpoolJobResult::Written)
                if !self.is_discarding() =>
            {
                self.written += bytes as u64;
            }
            (Some(RunningSpoolJob::Read { .. }), SpoolJobResult::Read(bytes))
                if !self.is_discarding() =>
            {
                self.read += bytes.len() as u64;
                self.head.push(bytes);
            }
            _ => {}
        }
        self.promote();
        self.update_charge();
        self.readable = true;
    }

    /// Whether too much waits for the disk. Nothing may be pushed then.
    pub(super) fn is_behind(&self) -> bool {
        self.tail.cost + self.in_write() > self.disk_queue_limit()
    }

    /// Whether nothing should be pushed for a moment, because the reader may make room without the file.
    pub(super) fn awaits_reader(&mut self) -> bool {
        let in_memory = !self.on_disk() && self.tail.queue.is_empty();
        let may_wait = in_memory && !self.is_discarding() && !self.budget.is_memory_half_used();
        let is_full = self.head.cost >= self.memory_limit();
        if in_memory && self.has_room() {
            self.patience = ReaderPatience::Left;
        } else if may_wait && is_full && self.patience == ReaderPatience::Left {
            self.patience = ReaderPatience::Waiting;
        }
        may_wait && self.patience == ReaderPatience::Waiting
    }

    /// The reader made no room in time.
    pub(super) fn stop_waiting(&mut self) {
        self.patience = ReaderPatience::Spent;
    }

    /// The peer will send no more.
    pub(super) fn set_eof(&mut self) {
        self.eof = true;
        self.readable = true;
    }

    /// The channel has ended. After a reset everything is discarded: a body with a gap must not look complete.
    pub(super) fn set_end(&mut self, end: CloseReason) {
        self.end.get_or_insert(end);
        if end.is_reset() {
            self.discard();
        }
        self.readable = true;
    }

    /// The application has dropped its stream.
    pub(super) fn abandon(&mut self) {
        self.abandoned = true;
        self.reader = None;
        self.discard();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    pub(super) fn has_eof(&self) -> bool {
        self.eof
    }

    /// Whether the peer has sent nothing that is unread, and may still send.
    pub(super) fn is_quiet(&self) -> bool {
        let is_open = self.end.is_none() && !self.eof;
        is_open && !self.on_disk() && self.head.queue.is_empty() && self.tail.queue.is_empty()
    }

    pub(super) fn end(&self) -> Option<CloseReason> {
        self.end
    }

    /// Whether the pump still has work after the channel's end.
    pub(super) fn has_spooled(&self) -> bool {
        !self.is_discarding() && (self.on_disk() || !self.tail.queue.is_empty())
    }

    /// Reads what is in memory.
    pub(super) fn read(&mut self, buf: &mut ReadBuf<'_>, waker: &Waker) -> ReadOutcome {
        self.promote();
        let before = buf.remaining();
        while buf.remaining() > 0 && self.head.read(buf) {}
        if buf.remaining() < before || before == 0 {
            self.update_charge();
            return ReadOutcome::Read;
        }
        if !self.has_spooled() {
            match self.end {
                Some(end) if end.is_reset() => return ReadOutcome::Over(Err(end)),
                _ if self.eof => return ReadOutcome::Over(Ok(())),
                Some(end) => return ReadOutcome::Over(Err(end)),
                None => {}
            }
        }
        match &mut self.reader {
            Some(kept) => kept.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
        ReadOutcome::Wait
    }

    /// The waker of the reader, if there is something to read. Call it outside the lock: a waker may run anything.
    pub(super) fn reader_to_wake(&mut self) -> Option<Waker> {
        if std::mem::take(&mut self.readable) {
            self.reader.take()
        } else {
            None
        }
    }

    /// Whether the pump would find a job, or the room that it waits for.
    pub(super) fn wants_pump(&self) -> bool {
        let would_read = self.running.is_none() && self.written > self.read;
        let has_waited = self.patience == ReaderPatience::Waiting;
        (would_read || has_waited) && self.has_room()
    }

    /// Whether half of the memory is free again.
    fn has_room(&self) -> bool {
        self.head.cost < self.memory_limit() / 2
    }

    /// Whether everything received is discarded.
    fn is_discarding(&self) -> bool {
        self.abandoned || self.end.is_some_and(CloseReason::is_reset)
    }

    /// Moves bytes that need not be spooled to the head.
    fn promote(&mut self) {
        if !self.on_disk() && !self.tail.queue.is_empty() && self.has_room() {
            self.head.cost += std::mem::take(&mut self.tail.cost);
            self.head.queue.append(&mut self.tail.queue);
        }
    }

    /// Bytes in memory above which the disk is used.
    fn memory_limit(&self) -> usize {
        let memory = self.budget.limits().memory;
        match self.budget.is_memory_short() {
            false => memory,
            true => memory.min(MIN_MEMORY),
        }
    }

    /// Bytes that wait for the disk until they are written together, and that are read from it at once.
    fn batch(&self) -> usize {
        match self.budget.is_memory_short() {
            false => BATCH,
            true => MIN_BATCH,
        }
    }

    /// Bytes that may wait for the disk.
    fn disk_queue_limit(&self) -> usize {
        match self.budget.is_memory_short() {
            false => MAX_DISK_QUEUE,
            true => 2 * MIN_BATCH,
        }
    }

    fn on_disk(&self) -> bool {
        self.written > self.read || self.in_write() > 0
    }

    /// Bytes that a running write has taken from the tail.
    fn in_write(&self) -> usize {
        match self.running {
            Some(RunningSpoolJob::Write { cost, .. }) => cost,
            _ => 0,
        }
    }

    fn memory(&self) -> usize {
        let reading = match self.running {
            Some(RunningSpoolJob::Read { bytes }) => bytes,
            _ => 0,
        };
        self.head.cost + self.tail.cost + self.in_write() + reading
    }

    fn discard(&mut self) {
        self.head = MessageQueue::default();
        self.tail = MessageQueue::default();
        self.read = self.written;
        self.update_charge();
    }

    fn update_charge(&mut self) {
        let memory = self.memory() as u64;
        self.charge.set(memory, self.written - self.read);
    }
}

impl MessageQueue {
    fn push(&mut self, data: Bytes) {
        self.cost += data.len() + MESSAGE_COST;
        self.queue.push_back(data);
    }

    fn pop(&mut self) -> Option<(Bytes, usize)> {
        let data = self.queue.pop_front()?;
        let cost = data.len() + MESSAGE_COST;
        self.cost -= cost;
        Some((data, cost))
    }

    /// Moves bytes of the first message into `buf`; `false` when there is none.
    fn read(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(first) = self.queue.front_mut() else {
            return false;
        };
        let n = first.len().min(buf.remaining());
        buf.put_slice(&first[..n]);
        first.advance(n);
        self.cost -= n;
        if first.is_empty() {
            self.queue.pop_front();
            self.cost -= MESSAGE_COST;
        }
        if self.queue.is_empty() && self.queue.capacity() > MAX_IDLE_SLOTS {
            self.queue = VecDeque::new();
        }
        true
    }
}

/// Memory of one queued message besides its bytes, so that a flood of one-byte packets is counted.
const MESSAGE_COST: usize = 128;
/// Bytes written to or read from the file at once.
const BATCH: usize = 256 << 10;
/// The same while memory is short: one message, so that a channel at rest holds little more than [`MIN_MEMORY`].
const MIN_BATCH: usize = 32 << 10;
/// Bytes that may wait for a disk that is slower than the link for a moment; two small batches while memory is short.
const MAX_DISK_QUEUE: usize = 8 << 20;
/// Bytes that a channel may always use, whatever the others use: a request's head and a small body.
const MIN_MEMORY: usize = 64 << 10;
/// Allocated slots that an empty queue keeps.
const MAX_IDLE_SLOTS: usize = 64;

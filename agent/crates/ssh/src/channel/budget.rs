//! Bounds and counters that all channels of one session share, and those that all sessions of the process share.

use super::{ChannelLimits, CloseReason};
use crate::transport::TransportHandle;
use parking_lot::Mutex;
use std::{
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Instant,
};
use tokio::sync::Semaphore;

/// What the channels of all sessions of the process hold together. A host has one memory and one disk, however many
/// sessions its agent has.
pub struct ProcessBudget {
    used: AtomicU64,
    memory: AtomicU64,
    /// Admits spool jobs to the blocking threads.
    spool_jobs: Semaphore,
}

impl ProcessBudget {
    /// The budget of this process.
    pub fn of_process() -> Arc<Self> {
        static PROCESS: LazyLock<Arc<ProcessBudget>> = LazyLock::new(Arc::default);
        Arc::clone(&PROCESS)
    }

    /// Bytes received and not read, in memory and on disk, bookkeeping included.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// The part of [`used`](Self::used) that is in memory.
    pub fn memory(&self) -> u64 {
        self.memory.load(Relaxed)
    }

    pub(super) fn spool_jobs(&self) -> &Semaphore {
        &self.spool_jobs
    }
}

impl Default for ProcessBudget {
    fn default() -> Self {
        Self {
            used: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            spool_jobs: Semaphore::new(SPOOL_JOBS),
        }
    }
}

/// Bounds and counters of the channels of one SSH session. Dropped with the last of them.
pub struct SessionBudget {
    transport: Arc<TransportHandle>,
    process: Arc<ProcessBudget>,
    limits: ChannelLimits,
    used: AtomicU64,
    memory: AtomicU64,
    open_channels: AtomicUsize,
    unanswered: AtomicUsize,
    closed_first: AtomicU64,
    resets: AtomicU64,
    spool_resets: Mutex<SpoolResets>,
    /// Spool files that could not be used.
    spool_faults: AtomicU64,
    stuck_spools: Arc<AtomicUsize>,
}

impl SessionBudget {
    /// The budget of the session that runs on this transport, within that of this process.
    pub fn new(handle: Arc<TransportHandle>, limits: ChannelLimits) -> Arc<Self> {
        Self::within(ProcessBudget::of_process(), handle, limits)
    }

    /// As [`new`](Self::new), within another budget than that of this process.
    pub(super) fn within(
        process: Arc<ProcessBudget>,
        handle: Arc<TransportHandle>,
        limits: ChannelLimits,
    ) -> Arc<Self> {
        Arc::new(Self {
            transport: handle,
            process,
            limits,
            used: AtomicU64::new(0),
            memory: AtomicU64::new(0),
            open_channels: AtomicUsize::new(0),
            unanswered: AtomicUsize::new(0),
            closed_first: AtomicU64::new(0),
            resets: AtomicU64::new(0),
            spool_resets: Mutex::default(),
            spool_faults: AtomicU64::new(0),
            stuck_spools: Arc::new(AtomicUsize::new(0)),
        })
    }

    /// The transport that the session runs on.
    pub fn transport(&self) -> &Arc<TransportHandle> {
        &self.transport
    }

    /// The limits that apply to each channel and to the session.
    pub fn limits(&self) -> &ChannelLimits {
        &self.limits
    }

    /// Bytes received and not read, in memory and on disk, bookkeeping included.
    pub fn used(&self) -> u64 {
        self.used.load(Relaxed)
    }

    /// The part of [`used`](Self::used) that is in memory.
    pub fn memory(&self) -> u64 {
        self.memory.load(Relaxed)
    }

    /// What all sessions hold together.
    pub(super) fn process(&self) -> &ProcessBudget {
        &self.process
    }

    /// Whether the channels of the session, or of the process, hold as much memory as they may together.
    pub(super) fn is_memory_short(&self) -> bool {
        self.memory() >= self.limits.memory_per_session as u64
            || self.process.memory() >= self.limits.memory_per_process as u64
    }

    /// Whether little memory is left for channels that wait for their readers: russh queues up to 3 MiB for each of them,
    /// which is not counted here.
    pub(super) fn is_memory_half_used(&self) -> bool {
        self.memory() >= self.limits.memory_per_session as u64 / 2
            || self.process.memory() >= self.limits.memory_per_process as u64 / 2
    }

    /// Whether the session and the process may hold `bytes` more, in memory or on disk.
    pub(super) fn has_room(&self, bytes: u64) -> bool {
        self.used() + bytes <= self.limits.spool_per_session
            && self.process.used() + bytes <= self.limits.spool_per_process
    }

    /// Number of channels that are not closed on both sides, or whose bytes are not all read.
    pub fn open_channels(&self) -> usize {
        self.open_channels.load(Relaxed)
    }

    /// Number of channels with received bytes and no answer yet.
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Relaxed)
    }

    pub(super) fn note_unanswered(&self, awaiting: bool) {
        match awaiting {
            true => self.unanswered.fetch_add(1, Relaxed),
            false => self.unanswered.fetch_sub(1, Relaxed),
        };
    }

    /// Number of channels that we closed before the peer did. Each costs russh about 3.5 KiB for the life of the session,
    /// so a session with many of them is replaced.
    pub fn closed_first(&self) -> u64 {
        self.closed_first.load(Relaxed)
    }

    /// Number of channels reset because they exceeded a bound or their spool failed.
    pub fn resets(&self) -> u64 {
        self.resets.load(Relaxed)
    }

    /// Resets because the spool had no room, or failed.
    pub fn spool_resets(&self) -> SpoolResets {
        self.spool_resets.lock().clone()
    }

    pub(super) fn open(self: &Arc<Self>) -> OpenChannelGuard {
        self.open_channels.fetch_add(1, Relaxed);
        OpenChannelGuard(Arc::clone(self))
    }

    pub(super) fn note_closed_first(&self) {
        self.closed_first.fetch_add(1, Relaxed);
    }

    pub(super) fn note_reset(&self, end: CloseReason) {
        self.resets.fetch_add(1, Relaxed);
        if matches!(end, CloseReason::SpoolFull | CloseReason::SpoolFailed) {
            let mut resets = self.spool_resets.lock();
            resets.count += 1;
            resets.last = Some((Instant::now(), end));
        }
    }

    /// Counts one more fault and returns the total of this session.
    pub(super) fn note_spool_fault(&self) -> u64 {
        self.spool_faults.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// Spool operations that missed their deadline and still hang.
    pub(super) fn stuck_spools(&self) -> &Arc<AtomicUsize> {
        &self.stuck_spools
    }
}

/// Channels reset because their spool had no room, or failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpoolResets {
    /// Number of channels that were reset.
    pub count: u64,
    /// Time and cause of the last reset.
    pub last: Option<(Instant, CloseReason)>,
}

impl SpoolResets {
    /// Adds the resets of another session.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        let later =
            |(at, _): &(Instant, CloseReason)| self.last.is_none_or(|(last, _)| *at >= last);
        if other.last.as_ref().is_some_and(later) {
            self.last = other.last;
        }
    }
}

/// Counts one channel for as long as it exists.
pub(super) struct OpenChannelGuard(Arc<SessionBudget>);

impl Drop for OpenChannelGuard {
    fn drop(&mut self) {
        self.0.open_channels.fetch_sub(1, Relaxed);
    }
}

/// One channel's share of the budget. It is set to a total and never incremented, so that it cannot drift. Dropping it
/// returns everything.
pub(super) struct BudgetCharge {
    budget: Arc<SessionBudget>,
    memory: u64,
    disk: u64,
}

impl BudgetCharge {
    pub(super) fn new(budget: Arc<SessionBudget>) -> Self {
        Self {
            budget,
            memory: 0,
            disk: 0,
        }
    }

    pub(super) fn set(&mut self, memory: u64, disk: u64) {
        let process = &self.budget.process;
        for total in [&self.budget.memory, &process.memory] {
            shift(total, self.memory, memory);
        }
        for total in [&self.budget.used, &process.used] {
            shift(total, self.memory + self.disk, memory + disk);
        }
        (self.memory, self.disk) = (memory, disk);
    }
}

impl Drop for BudgetCharge {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

fn shift(total: &AtomicU64, from: u64, to: u64) {
    if to >= from {
        total.fetch_add(to - from, Relaxed);
    } else {
        total.fetch_sub(from - to, Relaxed);
    }
}

/// Spool jobs that run at once, of 512 blocking threads. Each has its bytes in memory and a thread; a page cache takes
/// them no faster from more.
const SPOOL_JOBS: usize = 8;

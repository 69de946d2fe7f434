//! The task that always drains russh, and closes the channel in the order that leaks the least.

use super::{
    CloseReason, SessionBudget,
    budget::OpenChannelGuard,
    halves::{ChannelReceiver, ChannelSender},
    inbox::Inbox,
    outgoing::ChannelWriter,
    spool::{SpoolFile, SpoolJob, SpoolJobResult},
};
use agent_base::descriptors;
use futures_util::{future::BoxFuture, task::AtomicWaker};
use parking_lot::{Mutex, MutexGuard};
use russh::ChannelMsg;
use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

/// Shared between a stream and its pump.
pub(super) struct PumpShared {
    pub(super) budget: Arc<SessionBudget>,
    inbox: Mutex<Inbox>,
    /// Wakes the pump when the application has read, or has dropped the stream.
    pub(super) stream_changed: Notify,
    /// The writer is woken when the channel ends.
    pub(super) writer: AtomicWaker,
    /// Set when the stream is dropped: its last write and EOF are still sent.
    pub(super) orphaned_writer: Mutex<Option<ChannelWriter>>,
    /// Bytes were received, and nothing was answered yet.
    unanswered: AtomicBool,
    /// The peer sends no more, whatever of it is still unread.
    disconnected: AtomicBool,
    /// Woken when `disconnected` is set.
    disconnect_watcher: AtomicWaker,
    /// Woken when the channel ends.
    close_watcher: AtomicWaker,
}

impl PumpShared {
    pub(super) fn new(budget: Arc<SessionBudget>) -> Arc<Self> {
        Arc::new(Self {
            inbox: Mutex::new(Inbox::new(Arc::clone(&budget))),
            budget,
            stream_changed: Notify::new(),
            writer: AtomicWaker::new(),
            orphaned_writer: Mutex::new(None),
            unanswered: AtomicBool::new(false),
            disconnected: AtomicBool::new(false),
            disconnect_watcher: AtomicWaker::new(),
            close_watcher: AtomicWaker::new(),
        })
    }

    pub(super) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock()
    }

    /// Changes the inbox, and wakes its reader if there is something to read.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Inbox) -> T) -> T {
        let (result, reader) = {
            let mut inbox = self.inbox();
            let result = change(&mut inbox);
            (result, inbox.reader_to_wake())
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        result
    }

    /// Sets whether the channel counts among the unanswered ones.
    pub(super) fn set_unanswered(&self, awaits: bool) {
        if self.unanswered.load(Relaxed) != awaits
            && self.unanswered.swap(awaits, Relaxed) != awaits
        {
            self.budget.note_unanswered(awaits);
        }
    }

    /// Ready once the peer sends no more. For one waiter.
    pub(super) fn poll_disconnected(&self, cx: &Context<'_>) -> Poll<()> {
        if !self.disconnected.load(Acquire) {
            self.disconnect_watcher.register(cx.waker());
            if !self.disconnected.load(Acquire) {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// Ready once the channel has ended, with whether EOF came before. For one waiter.
    pub(super) fn poll_closed(&self, cx: &Context<'_>) -> Poll<bool> {
        self.close_watcher.register(cx.waker());
        let inbox = self.inbox();
        match inbox.end() {
            Some(_) => Poll::Ready(inbox.has_eof()),
            None => Poll::Pending,
        }
    }

    fn set_disconnected(&self) {
        self.disconnected.store(true, Release);
        self.disconnect_watcher.wake();
    }

    fn finish(&self, end: CloseReason) {
        self.set_unanswered(false);
        self.update(|inbox| inbox.set_end(end));
        self.writer.wake();
        self.close_watcher.wake();
        self.set_disconnected();
    }
}

/// Runs until a channel is closed on both sides and its bytes are read.
pub(super) async fn pump(
    shared: Arc<PumpShared>,
    receiver: impl ChannelReceiver,
    sender: Arc<dyn ChannelSender>,
    _counted: OpenChannelGuard,
) {
    let mut disk = SpoolWorker::new(Arc::clone(&shared));
    let ended = drain(&shared, receiver, &mut disk).await;
    // The receiver is dropped: russh discards this channel's input now and does not wait for us.
    shared.finish(ended.end);
    if !ended.by_peer {
        shared.budget.note_closed_first();
        if ended.end.is_reset() {
            shared.budget.note_reset(ended.end);
            let (cause, bytes_held) = (ended.end, shared.budget.used());
            let text = "a channel was reset; other requests are not affected";
            // A gateway must not be able to fill the log.
            match shared.budget.resets() {
                0..=MAX_LOGGED_FAULTS => tracing::warn!(%cause, bytes_held, "{text}"),
                _ => tracing::debug!(%cause, bytes_held, "{text}"),
            }
        }
        // Fails only if the session has ended.
        let _ = sender.close().await;
    }
    // The application may still be reading what was spooled.
    while shared.inbox().has_spooled() {
        tokio::select! {
            worked = disk.work() => if let Err(end) = worked {
                shared.finish(end);
            },
            () = shared.stream_changed.notified() => {}
        }
    }
}

struct ChannelEnd {
    end: CloseReason,
    by_peer: bool,
}

/// Drains until the channel ends. Nothing is awaited outside the `select!`: during a rekey russh
/// accepts nothing from us, and would then wait for a receiver that is not drained.
async fn drain(
    shared: &PumpShared,
    mut receiver: impl ChannelReceiver,
    disk: &mut SpoolWorker,
) -> ChannelEnd {
    let limits = shared.budget.limits();
    let ours = |end| ChannelEnd {
        end,
        by_peer: false,
    };
    let peers = |end| ChannelEnd { end, by_peer: true };
    let mut last_writes: Option<ChannelWriter> = None;
    let mut close_at = None;
    let mut behind_since = None;
    let mut full_since = None;
    let mut discarded = 0u64;
    loop {
        if close_at.is_none() && shared.inbox().is_abandoned() {
            close_at = Some(Instant::now() + limits.close_wait);
            last_writes = shared.orphaned_writer.lock().take();
            // Not after `close_wait`: the file may hold a descriptor and a gigabyte.
            disk.release();
        }
        let (behind, full) = {
            let mut inbox = shared.inbox();
            (inbox.is_behind(), inbox.awaits_reader())
        };
        keep_since(&mut behind_since, behind);
        keep_since(&mut full_since, full);
        tokio::select! {
            message = receiver.next(), if !behind && !full => match message {
                // Empty data is not EOF (RFC 4254 §5.2 allows it).
                Some(ChannelMsg::Data { data }) if data.is_empty() => {}
                Some(ChannelMsg::Data { data }) if close_at.is_some() => {
                    discarded += data.len() as u64;
                    if discarded > limits.discard {
                        return ours(CloseReason::Closed);
                    }
                }
                Some(ChannelMsg::Data { data }) => {
                    shared.set_unanswered(true);
                    if let Err(end) = shared.update(|inbox| inbox.push(data)) {
                        return ours(end);
                    }
                }
                Some(ChannelMsg::Eof) => {
                    shared.update(Inbox::set_eof);
                    shared.set_disconnected();
                }
                Some(ChannelMsg::Close) => return peers(CloseReason::Closed),
                Some(_) => {}
                None => return peers(CloseReason::SessionEnded),
            },
            worked = disk.work() => if let Err(end) = worked {
                return ours(end);
            },
            _ = send(&mut last_writes) => {
                last_writes = None;
                close_at = Some(Instant::now() + limits.close_wait);
            }
            () = until(close_at) => return ours(CloseReason::Closed),
            () = until(behind_since.map(|since| since + PATIENCE)) => {
                if shared.budget.note_spool_fault() <= MAX_LOGGED_FAULTS {
                    tracing::warn!(folder = %limits.spool_dir.display(), remedy = "check the load of that disk",
                        "the disk of the spool file is too slow; one request is cut off");
                }
                return ours(CloseReason::SpoolFailed);
            }
            () = until(full_since.map(|since| since + READER_WAIT)) => shared.inbox().stop_waiting(),
            () = shared.stream_changed.notified() => {}
        }
    }
}

/// Keeps the time from which on something is so.
fn keep_since(since: &mut Option<Instant>, is_so: bool) {
    match is_so {
        true => _ = since.get_or_insert_with(Instant::now),
        false => *since = None,
    }
}

/// Sends the last write, then EOF. Pending where there is nothing to send.
async fn send(last_writes: &mut Option<ChannelWriter>) {
    poll_fn(|cx| match last_writes {
        Some(outgoing) => outgoing.poll_eof(cx).map(drop),
        None => Poll::Pending,
    })
    .await;
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Executes the inbox's jobs one after the other.
struct SpoolWorker {
    shared: Arc<PumpShared>,
    spool: Option<SpoolFile>,
    job: Option<BoxFuture<'static, (SpoolFile, io::Result<SpoolJobResult>)>>,
}

impl SpoolWorker {
    fn new(shared: Arc<PumpShared>) -> Self {
        Self {
            shared,
            spool: Some(SpoolFile::default()),
            job: None,
        }
    }

    /// Returns when a job is done; pending while there is none. Cancel-safe.
    async fn work(&mut self) -> Result<(), CloseReason> {
        if self.job.is_none() {
            let planned = self.shared.update(Inbox::plan);
            self.job = planned.map(|job| self.begin(job));
        }
        let Some(job) = &mut self.job else {
            return std::future::pending().await;
        };
        let (spool, done) = job.await;
        self.job = None;
        self.spool = (!self.shared.inbox().is_abandoned()).then_some(spool);
        match done {
            Ok(done) => {
                self.shared.update(|inbox| inbox.finish(done));
                Ok(())
            }
            // The budget of descriptors logs and counts it.
            Err(error) if descriptors::is_shortage(&error) => Err(CloseReason::NoDescriptor),
            Err(error) => {
                let full = matches!(
                    error.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                );
                // The gateway can cause this any number of times.
                if self.shared.budget.note_spool_fault() <= MAX_LOGGED_FAULTS {
                    let folder = self.shared.budget.limits().spool_dir.display();
                    match full {
                        true => tracing::warn!(
                            %error,
                            %folder,
                            remedy = "make room, or name another folder in tunnel.channel.spool_dir",
                            "no room for the spool file; one request is cut off"
                        ),
                        false => tracing::warn!(
                            %error,
                            %folder,
                            remedy = "check the disk of that folder",
                            "the spool file failed; one request is cut off"
                        ),
                    }
                }
                Err(if full {
                    CloseReason::SpoolFull
                } else {
                    CloseReason::SpoolFailed
                })
            }
        }
    }

    /// Closes the file, whose bytes nothing reads any more; a running job does so at its end.
    fn release(&mut self) {
        self.spool = None;
    }

    fn begin(
        &mut self,
        job: SpoolJob,
    ) -> BoxFuture<'static, (SpoolFile, io::Result<SpoolJobResult>)> {
        let spool = self.spool.take().unwrap_or_default();
        Box::pin(spool.work(job, Arc::clone(&self.shared.budget)))
    }
}

/// Resets and spool faults of one session that are logged as warnings; status counts all of them.
const MAX_LOGGED_FAULTS: u64 = 10;
/// How long a full channel waits for its reader before it uses the file. russh queues 100 messages meanwhile, then all
/// channels of the session wait: short beside a round trip, and long beside the time that a reader at work takes.
const READER_WAIT: Duration = Duration::from_millis(10);
/// A channel that blocks its session for this long because the disk is behind is reset. Shorter than every keep-alive, and
/// longer than a busy machine takes to write a few megabytes to its page cache.
const PATIENCE: Duration = Duration::from_secs(1);

//! The thread that turns queued records into numbered lines.
//!
//! Lines that the sink does not take are retried each second: they are lost only if the agent stops first. Meanwhile the
//! queue fills, and records that do not fit into it are counted as dropped.

use super::{
    AuditRecord, WriterMessage,
    condition::AuditState,
    record::rfc3339,
    sink::{BatchProgress, LineSink},
};
use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, Thread},
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Ends the writer's thread.
pub struct AuditTask {
    running: Option<RunningWriter>,
}

struct RunningWriter {
    queue: mpsc::Sender<WriterMessage>,
    shared: Arc<AuditState>,
    thread: Thread,
    end: oneshot::Receiver<()>,
}

impl AuditTask {
    pub(super) fn start(
        queue: mpsc::Sender<WriterMessage>,
        records: mpsc::Receiver<WriterMessage>,
        sink: Box<dyn LineSink>,
        shared: Arc<AuditState>,
    ) -> Self {
        let (ended, end) = oneshot::channel();
        let writer = AuditWriter {
            sink,
            shared: Arc::clone(&shared),
            batch: LineBatch::default(),
            seq: 0,
            reported: 0,
            failing: false,
            summary_due_at: None,
        };
        let spawned = thread::Builder::new()
            .name(String::from("audit"))
            .spawn(move || {
                writer.run(&records);
                let _ = ended.send(());
            });
        let running = match spawned {
            Ok(handle) => Some(RunningWriter {
                queue,
                shared,
                thread: handle.thread().clone(),
                end,
            }),
            Err(error) => {
                // The queue has no receiver: every record counts as dropped.
                tracing::error!(
                    %error,
                    remedy = "raise the limit of tasks of the unit (TasksMax)",
                    "no audit is written: cannot start a thread"
                );
                shared.set_fault(Some(format!(
                    "cannot start the thread that writes: {error}"
                )));
                None
            }
        };
        Self { running }
    }

    pub(super) fn idle() -> Self {
        Self { running: None }
    }

    /// Writes what is queued, then ends. Returns false if `limit` passed first (a hung disk); the thread then keeps
    /// running.
    pub async fn shutdown(self, limit: Duration) -> bool {
        let Some(running) = self.running else {
            return true;
        };
        running.shared.stopping.store(true, Ordering::Release);
        // A closed queue means that the thread has ended already.
        let _ = running.queue.send(WriterMessage::Stop);
        running.thread.unpark();
        tokio::time::timeout(limit, running.end).await.is_ok()
    }
}

struct AuditWriter {
    sink: Box<dyn LineSink>,
    shared: Arc<AuditState>,
    batch: LineBatch,
    /// Sequence number of the last line.
    seq: u64,
    /// Dropped records that a line has reported.
    reported: u64,
    failing: bool,
    /// When the counted refusals get their line.
    summary_due_at: Option<Instant>,
}

/// Lines on their way to the sink.
#[derive(Default)]
struct LineBatch {
    lines: Vec<u8>,
    /// Bytes that the sink has taken.
    taken: usize,
    records: u64,
    /// Released when the lines are written.
    permits: Vec<OwnedSemaphorePermit>,
}

/// How much was taken out of the queue.
#[derive(Clone, Copy, PartialEq, Eq)]
enum GatherResult {
    /// Everything that was queued.
    All,
    /// One batch; there may be more.
    Batch,
    /// Everything, and no more will follow.
    Stopped,
}

impl AuditWriter {
    fn run(mut self, records: &mpsc::Receiver<WriterMessage>) {
        self.probe_sink();
        loop {
            let gathered = match records.recv_timeout(self.next_timeout()) {
                Ok(message) => self.gather(message, records),
                Err(RecvTimeoutError::Timeout) => GatherResult::All,
                Err(RecvTimeoutError::Disconnected) => GatherResult::Stopped,
            };
            let (begun, stop) = (Instant::now(), gathered == GatherResult::Stopped);
            self.write_summary(stop);
            self.report_dropped();
            self.write_out();
            if stop {
                return;
            }
            if self.failing || self.shared.required {
                self.probe_sink();
            }
            // Letting records gather saves a wake-up of this thread for each of them.
            if gathered == GatherResult::All {
                thread::park_timeout(GATHER.saturating_sub(begun.elapsed()));
            }
        }
    }

    /// Takes what is queued, up to a batch.
    fn gather(
        &mut self,
        first: WriterMessage,
        records: &mpsc::Receiver<WriterMessage>,
    ) -> GatherResult {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                WriterMessage::Record(record, place) => self.add(&record, place),
                WriterMessage::Summarize => {
                    self.summary_due_at = Some(Instant::now() + SUM_UP_EVERY)
                }
                WriterMessage::Stop => return GatherResult::Stopped,
            }
            if self.batch.lines.len() >= BATCH {
                return GatherResult::Batch;
            }
            next = records.try_recv().ok();
        }
        GatherResult::All
    }

    fn add(&mut self, record: &AuditRecord, place: OwnedSemaphorePermit) {
        let begin = self.batch.lines.len();
        if serde_json::to_writer(&mut self.batch.lines, record).is_err() {
            // Plain data: it cannot happen.
            self.batch.lines.truncate(begin);
            self.shared.dropped(1);
            return;
        }
        self.number();
        self.batch.records += 1;
        self.batch.permits.push(place);
    }

    fn add_event(&mut self, event: &serde_json::Value) {
        self.batch
            .lines
            .extend_from_slice(event.to_string().as_bytes());
        self.number();
    }

    /// Adds run and sequence number to the object just written, and ends its line.
    fn number(&mut self) {
        self.seq += 1;
        let lines = &mut self.batch.lines;
        lines.pop();
        let end = format!(",\"run\":\"{}\",\"seq\":{}}}\n", self.shared.run, self.seq);
        lines.extend_from_slice(end.as_bytes());
    }

    fn write_summary(&mut self, now: bool) {
        if !now && self.summary_due_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        self.summary_due_at = None;
        for (forward, summary) in self.shared.refusals.take() {
            self.add_event(&summary.line(&forward));
        }
    }

    /// Each lost record takes a number, so that the gap is as large as the loss.
    fn report_dropped(&mut self) {
        let dropped = self.shared.dropped_total();
        if dropped > self.reported {
            self.seq += dropped - self.reported;
            self.add_event(&serde_json::json!({
                "time": rfc3339(SystemTime::now()),
                "event": "audit_records_dropped",
                "dropped": dropped - self.reported,
                "dropped_total": dropped,
            }));
            self.reported = dropped;
        }
    }

    /// Returns when the sink has taken the batch, or the agent stops.
    fn write_out(&mut self) {
        while !self.batch.lines.is_empty() {
            let last = self.shared.stopping.load(Ordering::Acquire);
            self.shared.writing(true);
            let progress = self.sink.write(&self.batch.lines, self.batch.taken);
            self.shared.writing(false);
            let BatchProgress { taken, lost, error } = progress;
            self.batch.taken = taken;
            if lost > 0 {
                self.shared.dropped(lost);
            }
            match error {
                None => {
                    let records = self.batch.records.saturating_sub(lost);
                    self.shared.wrote(records);
                    self.batch.clear();
                }
                Some(error) => {
                    self.shared.failed_to_write();
                    self.failed(&error);
                    if last {
                        self.give_up();
                        return;
                    }
                    thread::park_timeout(RETRY);
                }
            }
        }
    }

    /// The agent stops, and the sink takes nothing.
    fn give_up(&mut self) {
        let records = self.batch.records;
        self.shared.dropped(records);
        self.batch.clear();
        tracing::error!(
            sink = self.sink.name(),
            records,
            "audit records lost: they could not be written before the agent stopped"
        );
    }

    /// Asks the sink whether lines can be written now.
    fn probe_sink(&mut self) {
        self.shared.writing(true);
        let probed = self.sink.probe();
        self.shared.writing(false);
        match probed {
            Ok(()) => {
                self.shared.set_fault(None);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(sink = self.sink.name(), "the audit is written again");
                }
            }
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&mut self, error: &std::io::Error) {
        let sink = self.sink.name();
        self.shared
            .set_fault(Some(format!("cannot write to {sink}: {error}")));
        if !std::mem::replace(&mut self.failing, true) {
            let requests = match self.shared.required {
                true => "requests get 503 until it can",
                false => "records wait until audit.queue is full, then they are lost",
            };
            tracing::error!(
                sink,
                %error,
                "the audit cannot be written: {requests}; make room, or give the agent's user write permission"
            );
        }
    }

    /// How long to wait for records.
    fn next_timeout(&self) -> Duration {
        let until_sum = self
            .summary_due_at
            .map(|at| at.saturating_duration_since(Instant::now()));
        let until_look = (self.failing || self.shared.required).then_some(RETRY);
        let next = [until_sum, until_look].into_iter().flatten().min();
        next.unwrap_or(FOREVER)
    }
}

impl LineBatch {
    fn clear(&mut self) {
        self.lines.clear();
        self.taken = 0;
        self.records = 0;
        self.permits.clear();
    }
}

/// Bytes of one write.
const BATCH: usize = 64 << 10;
/// Under load one wake-up per 10 ms instead of one per record; at 20,000 requests a second that is 200 records, far below
/// the queue.
const GATHER: Duration = Duration::from_millis(10);
/// Between two attempts at a sink that has failed, and between two probes of one that is required.
const RETRY: Duration = Duration::from_secs(1);
/// Interval of the lines that summarize refused requests.
const SUM_UP_EVERY: Duration = Duration::from_secs(10);
/// Stands for no limit.
const FOREVER: Duration = Duration::from_secs(86_400);

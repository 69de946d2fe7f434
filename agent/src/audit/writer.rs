//! The thread that turns queued records into lines.

use super::{Counts, Message, Record, record::rfc3339, sink::LineSink};
use std::{
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant, SystemTime},
};
use tokio::sync::{mpsc, oneshot};

/// The writer's thread, as the one that ends it sees it.
pub struct Task {
    running: Option<(mpsc::Sender<Message>, oneshot::Receiver<()>)>,
}

impl Task {
    pub(super) fn start(
        queue: mpsc::Sender<Message>,
        records: mpsc::Receiver<Message>,
        sink: Box<dyn LineSink>,
        counts: Arc<Counts>,
    ) -> Self {
        let (ended, end) = oneshot::channel();
        let writer = Writer {
            sink,
            counts: counts.clone(),
            reported: 0,
            failing: false,
        };
        let spawned = thread::Builder::new()
            .name(String::from("audit"))
            .spawn(move || {
                writer.run(records);
                let _ = ended.send(());
            });
        if let Err(error) = spawned {
            // The queue's receiving end is gone: every record counts as dropped.
            tracing::error!(%error, "no audit: the system gives no thread");
        }
        Self {
            running: Some((queue, end)),
        }
    }

    pub(super) fn idle() -> Self {
        Self { running: None }
    }

    /// Writes what is queued, then ends. Returns false where `limit` passed first (a hung disk):
    /// the thread is then left to itself.
    pub async fn shutdown(self, limit: Duration) -> bool {
        let Some((queue, end)) = self.running else {
            return true;
        };
        let stop = async {
            // A closed queue means that the thread has ended already.
            let _ = queue.send(Message::Stop).await;
            let _ = end.await;
        };
        tokio::time::timeout(limit, stop).await.is_ok()
    }
}

struct Writer {
    sink: Box<dyn LineSink>,
    counts: Arc<Counts>,
    /// Dropped records that a line has told of.
    reported: u64,
    failing: bool,
}

impl Writer {
    #[expect(
        clippy::disallowed_methods,
        reason = "this thread is the writer's own; no runtime is on it"
    )]
    fn run(mut self, mut records: mpsc::Receiver<Message>) {
        let mut lines = Vec::with_capacity(BATCH);
        let mut stop = false;
        while !stop {
            let Some(mut message) = records.blocking_recv() else {
                return;
            };
            let begun = Instant::now();
            let mut count = 0;
            loop {
                match message {
                    Message::Record(record) => count += u64::from(append(&mut lines, &record)),
                    Message::Stop => {
                        stop = true;
                        break;
                    }
                }
                if lines.len() >= BATCH {
                    break;
                }
                match records.try_recv() {
                    Ok(next) => message = next,
                    Err(_) => break,
                }
            }
            self.report_dropped(&mut lines);
            self.write(&lines, count);
            lines.clear();
            // Letting records gather spares the traffic a wake-up of this thread for each of them.
            if !stop && records.is_empty() {
                thread::sleep(GATHER.saturating_sub(begun.elapsed()));
            }
        }
    }

    fn report_dropped(&mut self, lines: &mut Vec<u8>) {
        let dropped = self.counts.dropped.load(Ordering::Relaxed);
        if dropped > self.reported {
            let line = serde_json::json!({
                "time": rfc3339(SystemTime::now()),
                "event": "audit_records_dropped",
                "dropped": dropped - self.reported,
                "dropped_total": dropped,
            });
            lines.extend_from_slice(line.to_string().as_bytes());
            lines.push(b'\n');
            self.reported = dropped;
        }
    }

    fn write(&mut self, lines: &[u8], count: u64) {
        if lines.is_empty() {
            return;
        }
        match self.sink.write(lines) {
            Ok(()) => {
                self.counts.written.fetch_add(count, Ordering::Relaxed);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(sink = self.sink.name(), "audit is written again");
                }
            }
            Err(error) => {
                self.counts.write_errors.fetch_add(1, Ordering::Relaxed);
                self.counts.dropped.fetch_add(count, Ordering::Relaxed);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(
                        sink = self.sink.name(),
                        %error,
                        "audit records are being lost; make room or give the agent's user write permission"
                    );
                }
            }
        }
    }
}

fn append(lines: &mut Vec<u8>, record: &Record) -> bool {
    let length = lines.len();
    if serde_json::to_writer(&mut *lines, record).is_err() {
        lines.truncate(length);
        return false;
    }
    lines.push(b'\n');
    true
}

/// Bytes of one write.
const BATCH: usize = 64 << 10;
/// Under load one wake-up per 10 ms instead of one per record; at 20,000 requests a second that is
/// 200 records, far below the queue.
const GATHER: Duration = Duration::from_millis(10);

//! Whether audit records are written, what was lost, and what to do about it.

use super::{Settings, SinkChoice, refusals::RefusalCounts};
use parking_lot::Mutex;
use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant, SystemTime},
};

/// The state of the audit, for status and metrics.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditCondition {
    /// Lines of requests handed to the sink.
    pub written: u64,
    /// Records that were lost: the queue was full, or the agent stopped before they could be written.
    pub dropped: u64,
    /// How often writing to the sink failed.
    pub write_errors: u64,
    /// Requests that have no line of their own, but are counted in one.
    pub summed: u64,
    /// Name of this run of the agent in each of its lines.
    pub run: String,
    /// Where lines go, as text.
    pub sink: String,
    /// Why records go to this sink.
    pub sink_reason: String,
    /// Whether requests wait for it.
    pub required: bool,
    /// Whether lines go anywhere.
    pub on: bool,
    /// Why nothing can be written now.
    pub fault: Option<String>,
    /// When the last record was lost.
    pub last_dropped: Option<Duration>,
}

impl AuditCondition {
    /// Whether a record was lost within [`RECENT_LOSS`].
    pub fn has_lost_recently(&self) -> bool {
        self.last_dropped.is_some_and(|ago| ago < RECENT_LOSS)
    }
}

/// Shared by the request path, the writer and status.
pub(super) struct AuditState {
    pub(super) required: bool,
    pub(super) run: String,
    pub(super) refusals: RefusalCounts,
    /// The writer is to end.
    pub(super) stopping: AtomicBool,
    sink: String,
    sink_reason: String,
    /// The sink may lose lines silently although each is required.
    may_lose_silently: bool,
    started: Instant,
    written: AtomicU64,
    dropped: AtomicU64,
    write_errors: AtomicU64,
    /// Milliseconds from `started` to the last loss, and 1.
    last_dropped: AtomicU64,
    /// Milliseconds from `started` to the begin of the write that has not returned, and 1; 0 where there is none.
    writing_since: AtomicU64,
    /// Whether `fault` is set; read by each request.
    has_fault: AtomicBool,
    fault: Mutex<Option<String>>,
}

impl Default for AuditState {
    fn default() -> Self {
        Self {
            required: false,
            run: run_id(),
            refusals: RefusalCounts::default(),
            stopping: AtomicBool::new(false),
            sink: String::from("off"),
            sink_reason: String::new(),
            may_lose_silently: false,
            started: Instant::now(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            write_errors: AtomicU64::new(0),
            last_dropped: AtomicU64::new(0),
            writing_since: AtomicU64::new(0),
            has_fault: AtomicBool::new(false),
            fault: Mutex::new(None),
        }
    }
}

impl AuditState {
    pub(super) fn new(settings: &Settings, choice: &SinkChoice) -> Self {
        Self {
            required: settings.required,
            sink: choice.to_string(),
            sink_reason: choice.reason.clone(),
            may_lose_silently: settings.required && choice.may_lose_silently(),
            ..Self::default()
        }
    }

    pub(super) fn wrote(&self, records: u64) {
        self.written.fetch_add(records, Relaxed);
    }

    pub(super) fn failed_to_write(&self) {
        self.write_errors.fetch_add(1, Relaxed);
    }

    pub(super) fn dropped(&self, records: u64) {
        if records > 0 {
            self.dropped.fetch_add(records, Relaxed);
            self.last_dropped.store(self.now() + 1, Relaxed);
        }
    }

    pub(super) fn dropped_total(&self) -> u64 {
        self.dropped.load(Relaxed)
    }

    /// Marks the time during which a write to the sink has not returned.
    pub(super) fn writing(&self, is: bool) {
        let since = if is { self.now() + 1 } else { 0 };
        self.writing_since.store(since, Relaxed);
    }

    /// Why the sink takes no lines now; `None` if it does.
    pub(super) fn set_fault(&self, cause: Option<String>) {
        let mut fault = self.fault.lock();
        self.has_fault.store(cause.is_some(), Relaxed);
        *fault = cause;
    }

    /// Why no record can be written now; `None` if one can.
    pub(super) fn cannot_write(&self) -> Option<String> {
        if self.may_lose_silently {
            return Some(String::from(SILENT_LOSS));
        }
        let hanging = match self.writing_since.load(Relaxed) {
            0 => Duration::ZERO,
            since => Duration::from_millis(self.now().saturating_sub(since - 1)),
        };
        if hanging >= HANGS_AFTER {
            let seconds = hanging.as_secs();
            return Some(format!(
                "a write to {} has not returned for {seconds} s",
                self.sink
            ));
        }
        match self.has_fault.load(Relaxed) {
            true => self.fault.lock().clone(),
            false => None,
        }
    }

    pub(super) fn condition(&self, on: bool) -> AuditCondition {
        let last = self.last_dropped.load(Relaxed);
        let ago = || Duration::from_millis(self.now().saturating_sub(last - 1));
        AuditCondition {
            written: self.written.load(Relaxed),
            dropped: self.dropped_total(),
            write_errors: self.write_errors.load(Relaxed),
            summed: self.refusals.total(),
            run: self.run.clone(),
            sink: self.sink.clone(),
            sink_reason: self.sink_reason.clone(),
            required: self.required,
            on,
            fault: self.cannot_write(),
            last_dropped: (last > 0).then(ago),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }
}

/// Sixteen hexadecimal digits: milliseconds since 1970, so that later runs sort later, then chance.
fn run_id() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let millis = since.map_or(0, |since| since.as_millis() as u64);
    format!(
        "{:012x}{:04x}",
        millis & ((1 << 48) - 1),
        rand::random::<u16>()
    )
}

/// How long the audit counts as degraded after a lost record: longer than a lunch break and than any interval of
/// monitoring. A restart ends it, too.
pub const RECENT_LOSS: Duration = Duration::from_secs(3600);
/// A local disk takes a batch within milliseconds, journald within a second.
const HANGS_AFTER: Duration = Duration::from_secs(5);
const SILENT_LOSS: &str = "journald may silently drop lines of this service, and audit.required is set: set audit.file, remove \
                      audit.sink, or lift journald's rate limit in the unit";

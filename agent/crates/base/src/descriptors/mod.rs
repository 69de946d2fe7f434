//! File descriptors of the process. What a vendor's requests open is promised before it is opened, and stays below a reserve:
//! the runtime socket, the tunnel and the files of audit and state can always open theirs.
//!
//! The promises are here; `shortage` is what is said when none is left.

mod shortage;

pub use shortage::{DescriptorShortage, REMEDY, describe, is_shortage};

use parking_lot::Mutex;
use rustix::process::{Resource, getrlimit};
use std::{
    error::Error,
    fs,
    future::poll_fn,
    io,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::{Duration, Instant},
};

/// What descriptors are for. Neither takes those of the other: a request that has its connection also gets its spool file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescriptorUse {
    /// A connection; one over which a request is sent may need two.
    Connection,
    /// The file of what one channel has received and no reader has taken.
    SpoolFile,
    /// A session or a listener: always granted, and taken from what is left for requests.
    Tunnel,
}

/// The descriptors that requests may use, counted from promise to close.
pub struct DescriptorBudget {
    /// The soft limit now: an administrator may change it in a running process.
    limit: fn() -> Option<u64>,
    /// Open when the first descriptor was promised.
    at_start: u64,
    promises: Mutex<DescriptorPromises>,
}

#[derive(Default)]
struct DescriptorPromises {
    connections: u64,
    spool_files: u64,
    tunnel: u64,
    refused: u64,
    last_refused: Option<Instant>,
    last_logged: Option<Instant>,
}

/// Some promised descriptors. Drop it when they are closed.
#[derive(Debug)]
#[must_use = "dropping it says that they are closed"]
pub struct DescriptorPermit {
    budget: Arc<DescriptorBudget>,
    purpose: DescriptorUse,
    count: u64,
}

/// What a [`DescriptorBudget`] has promised and refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DescriptorSnapshot {
    /// The soft limit of open files; `None`: there is none.
    pub limit: Option<u64>,
    /// Descriptors that requests leave.
    pub reserve: u64,
    /// Promised and not closed.
    pub promised: u64,
    /// How often none was left, since the start.
    pub refused: u64,
    /// How long ago that was the last time.
    pub last_refused: Option<Duration>,
}

impl DescriptorBudget {
    /// The budget of this process. What it has open at the first call is taken as what it needs without requests.
    pub fn of_process() -> &'static Arc<Self> {
        static PROCESS: LazyLock<Arc<DescriptorBudget>> =
            LazyLock::new(|| Arc::new(DescriptorBudget::new(process_limit, open_now())));
        &PROCESS
    }

    fn new(limit: fn() -> Option<u64>, at_start: u64) -> Self {
        Self {
            limit,
            at_start,
            promises: Mutex::default(),
        }
    }

    /// Promises descriptors to one request, or counts and logs that only the reserve is left.
    pub fn take(
        self: &Arc<Self>,
        purpose: DescriptorUse,
        count: u64,
    ) -> Result<DescriptorPermit, DescriptorShortage> {
        self.try_take(purpose, count)
            .inspect_err(|shortage| self.note_shortage(shortage))
    }

    /// Counts descriptors of a session or a listener, which is opened in any case.
    pub fn claim(self: &Arc<Self>, count: u64) -> DescriptorPermit {
        self.promises.lock().tunnel += count;
        DescriptorPermit {
            budget: Arc::clone(self),
            purpose: DescriptorUse::Tunnel,
            count,
        }
    }

    /// Accepts one connection with a descriptor promised to it, and leaves further ones in the kernel's queue while none can
    /// be. The promise is made when a connection is there, so that many idle listeners take nothing and none accepts
    /// without it. `poll_accept`: that of the listener.
    pub async fn accept<T>(
        self: &Arc<Self>,
        mut poll_accept: impl FnMut(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> io::Result<(T, DescriptorPermit)> {
        loop {
            let accepted = poll_fn(|cx| {
                let Ok(permit) = self.try_take(DescriptorUse::Connection, 1) else {
                    return Poll::Ready(None);
                };
                poll_accept(cx).map(|accepted| Some(accepted.map(|accepted| (accepted, permit))))
            });
            match accepted.await {
                Some(accepted) => return accepted,
                None => self.has_free().await,
            }
        }
    }

    /// Completes while one more connection can be promised.
    async fn has_free(self: &Arc<Self>) {
        let mut free = self.take(DescriptorUse::Connection, 1).map(drop);
        while free.is_err() {
            tokio::time::sleep(RETRY).await;
            free = self.try_take(DescriptorUse::Connection, 1).map(drop);
        }
    }

    /// Counts a shortage that the kernel has reported, and logs it once a minute.
    pub fn note_shortage(&self, cause: &dyn Error) {
        self.note(cause, 1);
    }

    /// The same shortage as before still lasts: it is not counted again, however often a listener tries meanwhile.
    pub fn note_lasting_shortage(&self, cause: &dyn Error) {
        self.note(cause, 0);
    }

    fn note(&self, cause: &dyn Error, count: u64) {
        let now = Instant::now();
        let mut promises = self.promises.lock();
        promises.refused += count;
        promises.last_refused = Some(now);
        let is_due = |last| now.saturating_duration_since(last) >= LOG_PAUSE;
        if promises.last_logged.is_none_or(is_due) {
            promises.last_logged = Some(now);
            let refused = promises.refused;
            drop(promises);
            tracing::warn!(
                %cause,
                refused,
                remedy = REMEDY,
                "no file descriptor is left for further requests"
            );
        }
    }

    /// Logs that few requests can be in flight, if that is so. Call it at the start.
    pub fn warn_if_few(&self) {
        let (connections, limit) = (self.capacity(DescriptorUse::Connection), (self.limit)());
        if connections < FEW {
            tracing::warn!(
                limit,
                connections,
                remedy = REMEDY,
                "the limit of open files is low: few requests can be in flight"
            );
        }
    }

    /// What it has promised and refused until now.
    pub fn snapshot(&self) -> DescriptorSnapshot {
        let limit = (self.limit)();
        let promises = self.promises.lock();
        DescriptorSnapshot {
            limit,
            reserve: limit.map_or(0, reserve),
            promised: promises.connections + promises.spool_files,
            refused: promises.refused,
            last_refused: promises.last_refused.map(|last| last.elapsed()),
        }
    }

    /// Descriptors for this purpose in all.
    fn capacity(&self, purpose: DescriptorUse) -> u64 {
        let tunnel = self.promises.lock().tunnel;
        (self.limit)().map_or(u64::MAX, |limit| self.share(limit, tunnel, purpose))
    }

    fn try_take(
        self: &Arc<Self>,
        purpose: DescriptorUse,
        count: u64,
    ) -> Result<DescriptorPermit, DescriptorShortage> {
        let limit = (self.limit)();
        let mut promises = self.promises.lock();
        if let Some(limit) = limit {
            let share = self.share(limit, promises.tunnel, purpose);
            if *promises.of(purpose) + count > share {
                let reserve = reserve(limit);
                return Err(DescriptorShortage { limit, reserve });
            }
        }
        *promises.of(purpose) += count;
        Ok(DescriptorPermit {
            budget: Arc::clone(self),
            purpose,
            count,
        })
    }

    fn share(&self, limit: u64, tunnel: u64, purpose: DescriptorUse) -> u64 {
        let spare = limit.saturating_sub(self.at_start + tunnel + reserve(limit));
        match purpose {
            // Two thirds: a connection of two descriptors may need one spool file.
            DescriptorUse::Connection => spare - spare.div_ceil(3),
            DescriptorUse::SpoolFile => spare.div_ceil(3),
            DescriptorUse::Tunnel => u64::MAX,
        }
    }
}

impl DescriptorPromises {
    fn of(&mut self, purpose: DescriptorUse) -> &mut u64 {
        match purpose {
            DescriptorUse::Connection => &mut self.connections,
            DescriptorUse::SpoolFile => &mut self.spool_files,
            DescriptorUse::Tunnel => &mut self.tunnel,
        }
    }
}

impl std::fmt::Debug for DescriptorBudget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.snapshot().fmt(f)
    }
}

impl DescriptorPermit {
    /// Splits one descriptor off, which is closed by itself.
    pub fn split_one(&mut self) -> Option<Self> {
        self.count = self.count.checked_sub(1)?;
        Some(Self {
            budget: Arc::clone(&self.budget),
            purpose: self.purpose,
            count: 1,
        })
    }
}

impl Drop for DescriptorPermit {
    fn drop(&mut self) {
        *self.budget.promises.lock().of(self.purpose) -= self.count;
    }
}

fn process_limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Descriptors that the process has open. Reads /proc, so call it once.
fn open_now() -> u64 {
    match fs::read_dir("/proc/self/fd") {
        // The listing has one itself.
        Ok(open) => (open.count() as u64).saturating_sub(1),
        Err(_) => UNKNOWN_OPEN,
    }
}

/// A few connections of the runtime socket, sessions with their name look-ups and successors, and files of audit, state and
/// secrets. 16 sessions, the most that can be configured, need 32 more for their successors.
fn reserve(limit: u64) -> u64 {
    (LEAST_RESERVE + limit / 16).min(MOST_RESERVE)
}

const LEAST_RESERVE: u64 = 24;
const MOST_RESERVE: u64 = 96;
/// Where /proc cannot be read: twice what an agent with two sessions has.
const UNKNOWN_OPEN: u64 = 32;
/// Two for each connection to Jira, of which the default is 64 for a forward.
const FEW: u64 = 128;
/// Between two lines of the log: requests of a vendor must not fill it.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// Between two looks of a listener that waits.
const RETRY: Duration = Duration::from_millis(50);

#[cfg(test)]
mod tests;

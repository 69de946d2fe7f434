//! Blocking work on a disk that may hang, such as a network disk whose server is gone. Nothing can end a thread that hangs
//! there, and the runtime has 512: callers have a deadline, and the number of hanging threads is bounded.
//!
//! `floor` keeps part of a disk free of what a peer can make grow, `reserve` sets space aside for what must be saved even
//! on a disk that others have filled.

mod floor;
mod reserve;

pub use floor::{BelowFloor, FreeSpaceFloor};
pub use reserve::{DiskReserve, is_full};

use std::{io, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

/// Runs blocking work on its own threads, a few at a time. Clones share the limit.
#[derive(Clone, Debug)]
pub struct DiskExecutor(Arc<Semaphore>);

impl Default for DiskExecutor {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONCURRENT)))
    }
}

/// Always equal: it is how work is done, not what is configured.
impl PartialEq for DiskExecutor {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for DiskExecutor {}

impl DiskExecutor {
    /// Runs `work` and returns its result. [`io::ErrorKind::TimedOut`]: not done within [`DISK_TIMEOUT`], or too much
    /// hangs already; it may still be done later.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        self.run_within(DISK_TIMEOUT, work).await
    }

    async fn run_within<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<T> {
        let done = async {
            let permit = self.0.clone().acquire_owned().await;
            let permit = permit.map_err(io::Error::other)?;
            let work = move || {
                // Released when the work ends, not when the caller stops waiting.
                let _permit = permit;
                work()
            };
            let done = tokio::task::spawn_blocking(work).await;
            // It panicked, or the runtime is shutting down.
            done.map_err(io::Error::other)
        };
        match timeout(limit, done).await {
            Ok(done) => done,
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("the disk did not answer within {limit:?}"),
            )),
        }
    }
}

/// Runs the same blocking work repeatedly, but never a second time before the last run has ended.
pub struct SingleFlight<T>(Option<JoinHandle<T>>);

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> SingleFlight<T> {
    /// The result, which may be that of an earlier run that took longer than its limit. `None`: none within `limit`.
    pub async fn run(
        &mut self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<io::Result<T>> {
        let asked = self
            .0
            .get_or_insert_with(|| tokio::task::spawn_blocking(work));
        let answer = timeout(limit, asked).await.ok()?;
        self.0 = None;
        Some(answer.map_err(io::Error::other))
    }
}

/// Two fsyncs take milliseconds; a network disk that hangs must not delay requests forever.
pub const DISK_TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent work of one forward, and how many threads may hang for it.
const MAX_CONCURRENT: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use parking_lot::Mutex;
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    /// Shorter than anything hangs here.
    const SOON: Duration = Duration::from_millis(5);

    /// Work that hangs until the sender is dropped, and how often it was begun.
    fn hanging() -> (
        mpsc::Sender<()>,
        Arc<AtomicUsize>,
        impl Fn() -> usize + Clone + Send + 'static,
    ) {
        let (release, hangs) = mpsc::channel::<()>();
        let (hangs, begun) = (Arc::new(Mutex::new(hangs)), Arc::new(AtomicUsize::new(0)));
        let count = begun.clone();
        let work = move || {
            let nth = count.fetch_add(1, Ordering::SeqCst) + 1;
            let _ = hangs.lock().recv();
            nth
        };
        (release, begun, work)
    }

    #[tokio::test]
    async fn on_a_disk_that_hangs_a_few_threads_are_lost_and_no_more() {
        let (release, begun, work) = hanging();
        let disk = DiskExecutor::default();
        for _ in 0..MAX_CONCURRENT * 3 {
            let failed = disk.clone().run_within(SOON, work.clone()).await;
            assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert!(begun.load(Ordering::SeqCst) <= MAX_CONCURRENT);
        // Once the disk answers, new work runs again.
        drop(release);
        assert_eq!(disk.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_question_that_hangs_is_not_asked_twice_and_its_answer_is_not_lost() {
        let (release, begun, work) = hanging();
        let mut flight = SingleFlight::default();
        for _ in 0..5 {
            assert!(flight.run(SOON, work.clone()).await.is_none());
        }
        drop(release);
        let late = flight.run(DISK_TIMEOUT, work.clone()).await;
        assert_eq!(late.unwrap().unwrap(), 1);
        let next = flight.run(DISK_TIMEOUT, work).await;
        assert_eq!(next.unwrap().unwrap(), 2);
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}

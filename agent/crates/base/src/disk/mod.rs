//! Blocking work on a disk that may hang, as a network disk does whose server is gone. Nothing can end a
//! thread that hangs there, and the runtime has 512: whoever waits has a deadline, and what hangs is
//! bounded.
//!
//! `floor` keeps a part of a disk free of what a peer can make grow, `reserve` keeps some bytes for what must be
//! saved even on a disk that others have filled.

mod floor;
mod reserve;

pub use floor::{BelowFloor, FreeSpaceFloor};
pub use reserve::{DiskReserve, is_full};

use std::{io, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};

/// Does one thing after another, a few of them at a time. Clones share the bound.
#[derive(Clone, Debug)]
pub struct DiskExecutor(Arc<Semaphore>);

impl Default for DiskExecutor {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_CONCURRENT)))
    }
}

/// It says how work is done, not what is configured.
impl PartialEq for DiskExecutor {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for DiskExecutor {}

impl DiskExecutor {
    /// What `work` gives. [`io::ErrorKind::TimedOut`]: not within [`DISK_TIMEOUT`], or too much hangs
    /// already; it may be done later all the same.
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
            let turn = self.0.clone().acquire_owned().await;
            let turn = turn.map_err(io::Error::other)?;
            let work = move || {
                // Given back when the work ends, not when nobody waits for it any more.
                let _turn = turn;
                work()
            };
            let done = tokio::task::spawn_blocking(work).await;
            // It panicked, or the runtime ends.
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

/// The same question again and again, never asked anew before the last one is answered.
pub struct SingleFlight<T>(Option<JoinHandle<T>>);

impl<T> Default for SingleFlight<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Send + 'static> SingleFlight<T> {
    /// The answer, which may be that to an earlier question that nobody waited for to the end.
    /// `None`: there is none within `limit`.
    pub async fn run(
        &mut self,
        limit: Duration,
        question: impl FnOnce() -> T + Send + 'static,
    ) -> Option<io::Result<T>> {
        let asked = self
            .0
            .get_or_insert_with(|| tokio::task::spawn_blocking(question));
        let answer = timeout(limit, asked).await.ok()?;
        self.0 = None;
        Some(answer.map_err(io::Error::other))
    }
}

/// Two fsyncs take milliseconds; a network disk that hangs must not hold requests up for ever.
pub const DISK_TIMEOUT: Duration = Duration::from_secs(10);
/// As much as may be under way for one forward, and as many threads as it may lose.
const MAX_CONCURRENT: usize = 4;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::{
        Mutex,
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
            let _ = hangs.lock().unwrap().recv();
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
        // Once it answers, all goes on.
        drop(release);
        assert_eq!(disk.run(|| 7).await.unwrap(), 7);
    }

    #[tokio::test]
    async fn a_question_that_hangs_is_not_asked_twice_and_its_answer_is_not_lost() {
        let (release, begun, work) = hanging();
        let mut inquiry = SingleFlight::default();
        for _ in 0..5 {
            assert!(inquiry.run(SOON, work.clone()).await.is_none());
        }
        drop(release);
        let late = inquiry.run(DISK_TIMEOUT, work.clone()).await;
        assert_eq!(late.unwrap().unwrap(), 1);
        let next = inquiry.run(DISK_TIMEOUT, work).await;
        assert_eq!(next.unwrap().unwrap(), 2);
        assert_eq!(begun.load(Ordering::SeqCst), 2);
    }
}

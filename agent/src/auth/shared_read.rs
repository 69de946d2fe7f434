//! Reads a file at most once a second, by one task at a time, for everyone who needs what is in it. A disk that hangs
//! costs a request little while a value is cached.

use crate::disk::SingleFlight;
use parking_lot::Mutex;
use std::{io, time::Duration};
use tokio::time::{Instant, timeout};

/// The reads of one file, or of some that are read together, each giving an `R`.
pub(super) struct SharedRead<R> {
    read_at: Mutex<Option<Instant>>,
    /// Held by the one task that reads; a read that hangs is waited for by the next one.
    single_flight: tokio::sync::Mutex<SingleFlight<R>>,
}

/// What the caller has from earlier reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum CacheContent {
    Nothing,
    Error,
    Value,
}

impl<R> Default for SharedRead<R> {
    fn default() -> Self {
        Self {
            read_at: Mutex::default(),
            single_flight: tokio::sync::Mutex::default(),
        }
    }
}

impl<R: Send + 'static> SharedRead<R> {
    /// Makes the next call of [`run_if_due`](Self::run_if_due) read, however recent the last read is.
    pub(super) fn invalidate(&self) {
        *self.read_at.lock() = None;
    }

    /// Reads unless that was done within the last second, and hands the result to `apply` before anyone else continues.
    /// `None` is a disk that did not answer within `limit`, or within 200 ms where a value is cached.
    pub(super) async fn run_if_due<F>(
        &self,
        limit: Duration,
        content: impl Fn() -> CacheContent,
        prepare: impl FnOnce() -> F,
        apply: impl FnOnce(Option<io::Result<R>>),
    ) where
        F: FnOnce() -> R + Send + 'static,
    {
        if self.is_fresh() {
            return;
        }
        // Another task's read takes no time on a disk that works, and may find what was missing until now.
        let mut flight = match timeout(CACHED_READ_TIMEOUT, self.single_flight.lock()).await {
            Ok(flight) => flight,
            Err(_) if content() != CacheContent::Nothing => return,
            Err(_) => self.single_flight.lock().await,
        };
        if self.is_fresh() {
            return;
        }
        let limit = match content() {
            CacheContent::Value => CACHED_READ_TIMEOUT,
            CacheContent::Error | CacheContent::Nothing => limit,
        };
        let result = flight.run(limit, prepare()).await;
        apply(result);
        *self.read_at.lock() = Some(Instant::now());
    }

    fn is_fresh(&self) -> bool {
        let read_at = *self.read_at.lock();
        read_at.is_some_and(|at| at.elapsed() < CHECK_INTERVAL)
    }
}

/// A changed file is noticed after this at the latest.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a request waits for the disk while a cached value will do.
const CACHED_READ_TIMEOUT: Duration = Duration::from_millis(200);

//! Looks whether the spool's disk still has the room that must stay free on it: a channel that needs more than its
//! memory fails where it has not, and status says so before one does.

use super::configuration::Configuration;
use crate::{
    disk::Inquiry,
    status::SpoolReport,
    tunnel::channel::{Limits, SpoolResets},
};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

pub(super) struct SpoolWatch {
    configuration: Arc<Configuration>,
    /// What the last look found; `None` before the first.
    room: Mutex<Option<Result<(), String>>>,
}

impl SpoolWatch {
    pub(super) fn new(configuration: Arc<Configuration>) -> Self {
        Self {
            configuration,
            room: Mutex::default(),
        }
    }

    /// Looks again and again until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let looking = async {
            let mut inquiry = Inquiry::default();
            loop {
                let limits = self.configuration.current().tunnel.channel.clone();
                let found = inquiry.ask(LOOK_LIMIT, move || look(&limits)).await;
                let found = match found {
                    Some(Ok(found)) => found.map_err(|error| error.to_string()),
                    Some(Err(error)) => Err(error.to_string()),
                    None => Err(format!("its disk did not answer within {LOOK_LIMIT:?}")),
                };
                self.note(found);
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(looking).await;
    }

    pub(super) fn report(&self, resets: &SpoolResets) -> SpoolReport {
        let configuration = self.configuration.current();
        let folder = &configuration.tunnel.channel.spool_dir;
        let room = self.lock().clone();
        let room = room.as_ref().map(|room| match room {
            Ok(()) => Ok(()),
            Err(fault) => Err(fault.as_str()),
        });
        SpoolReport::of(folder, room, resets, Instant::now())
    }

    fn note(&self, found: Result<(), String>) {
        let mut room = self.lock();
        match (&*room, &found) {
            (Some(Err(_)), Ok(())) => tracing::info!("the spool's disk has room again"),
            (Some(Ok(())) | None, Err(fault)) => tracing::warn!(
                cause = fault,
                remedy =
                    "make room on its disk, or name another folder in tunnel.channel.spool_dir",
                "the spool's disk has no room; requests that need it fail"
            ),
            _ => {}
        }
        *room = Some(found);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        // Written whole.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks on the disk.
fn look(limits: &Limits) -> io::Result<()> {
    match limits.spool_floor.allows_in(&limits.spool_dir, 0) {
        // A channel that needs the folder makes it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        found => found,
    }
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// As long as one spool operation of a channel may take before that channel is reset, or less.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

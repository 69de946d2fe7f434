//! Looks again and again whether what must be written can be, so that status says it before something is lost: the spool's
//! disk has the room that must stay free on it, or a channel that needs more than its memory fails; the state folder takes a
//! pause and refreshed tokens, or they do not outlive a restart.

use super::configuration::ActiveConfiguration;
use crate::{
    config::Config,
    disk::{DiskReserve, SingleFlight},
    status::{SpoolReport, StateFolderReport},
    tunnel::channel::SpoolResets,
};
use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Which folder is looked at.
#[derive(Clone, Copy)]
enum Folder {
    Spool,
    State,
}

pub(super) struct DiskWatch {
    configuration: Arc<ActiveConfiguration>,
    folder: Folder,
    /// What the last look found; `None` before the first.
    room: Mutex<Option<Result<(), String>>>,
}

impl DiskWatch {
    pub(super) fn of_spool(configuration: Arc<ActiveConfiguration>) -> Self {
        Self::new(configuration, Folder::Spool)
    }

    pub(super) fn of_state_folder(configuration: Arc<ActiveConfiguration>) -> Self {
        Self::new(configuration, Folder::State)
    }

    fn new(configuration: Arc<ActiveConfiguration>, folder: Folder) -> Self {
        Self {
            configuration,
            folder,
            room: Mutex::default(),
        }
    }

    /// Looks again and again until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let looking = async {
            let mut inquiry = SingleFlight::default();
            loop {
                let (folder, config) = (self.folder, self.configuration.current());
                let found = inquiry.run(LOOK_LIMIT, move || folder.look(&config)).await;
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

    /// Of the spool.
    pub(super) fn spool(&self, resets: &SpoolResets) -> SpoolReport {
        let configuration = self.configuration.current();
        let folder = &configuration.tunnel.channel.spool_dir;
        let room = self.lock().clone();
        SpoolReport::of(folder, borrowed(&room), resets, Instant::now())
    }

    /// Of the state folder.
    pub(super) fn state_folder(&self) -> StateFolderReport {
        let configuration = self.configuration.current();
        let room = self.lock().clone();
        StateFolderReport::of(&configuration.state_dir, borrowed(&room))
    }

    fn note(&self, found: Result<(), String>) {
        let mut room = self.lock();
        match (&*room, &found) {
            (Some(Err(_)), Ok(())) => match self.folder {
                Folder::Spool => tracing::info!("the spool's disk has room again"),
                Folder::State => tracing::info!("the state folder takes pauses and tokens again"),
            },
            (Some(Ok(())) | None, Err(fault)) => match self.folder {
                Folder::Spool => tracing::warn!(
                    cause = fault,
                    remedy =
                        "make room on its disk, or name another folder in tunnel.channel.spool_dir",
                    "the spool's disk has no room; requests that need it fail"
                ),
                Folder::State => tracing::warn!(
                    cause = fault,
                    folder = %self.configuration.current().state_dir.display(),
                    remedy = "make room on its disk, or let the agent's user write there",
                    "the state folder takes nothing: a pause or a refreshed token that cannot be saved is lost with a restart"
                ),
            },
            _ => {}
        }
        *room = Some(found);
    }

    fn lock(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        // Written whole.
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn borrowed(room: &Option<Result<(), String>>) -> Option<Result<(), &str>> {
    let room = room.as_ref()?;
    Some(room.as_ref().copied().map_err(String::as_str))
}

impl Folder {
    /// Blocks on the disk.
    fn look(self, config: &Config) -> io::Result<()> {
        match self {
            Self::Spool => {
                let limits = &config.tunnel.channel;
                match limits.spool_floor.allows_in(&limits.spool_dir, 0) {
                    // A channel that needs the folder makes it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    found => found,
                }
            }
            Self::State => DiskReserve::of(&config.state_dir).is_usable(),
        }
    }
}

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// As long as one spool operation of a channel may take before that channel is reset, or less.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

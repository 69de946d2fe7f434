//! Probes each second whether spool and state folder can be written, so that the status shows it before something is
//! lost: without the spool, a channel that needs more than its memory fails; without the state folder, a restart loses
//! new pauses and refreshed tokens.

use super::configuration::ActiveConfiguration;
use crate::{
    config::Config,
    descriptors,
    disk::{DiskReserve, SingleFlight},
    status::{SpoolReport, StateFolderReport},
    tunnel::channel::SpoolResets,
};
use parking_lot::Mutex;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio_util::sync::CancellationToken;

/// Which folder is probed.
#[derive(Clone, Copy)]
enum Folder {
    Spool,
    State,
}

/// Watches one of the two folders.
pub(super) struct DiskWatch {
    configuration: Arc<ActiveConfiguration>,
    folder: Folder,
    /// Result of the last probe; `None` before the first.
    last_result: Mutex<Option<Result<(), String>>>,
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
            last_result: Mutex::default(),
        }
    }

    /// Probes the folder until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let probing = async {
            let mut flight = SingleFlight::default();
            loop {
                let (folder, config) = (self.folder, self.configuration.current());
                let found = flight
                    .run(PROBE_TIMEOUT, move || folder.probe(&config))
                    .await;
                let found = match found {
                    Some(Ok(found)) => found.map_err(|error| descriptors::describe(&error)),
                    Some(Err(error)) => Err(error.to_string()),
                    None => Err(format!("its disk did not answer within {PROBE_TIMEOUT:?}")),
                };
                self.record(found);
                tokio::time::sleep(PROBE_INTERVAL).await;
            }
        };
        stop.run_until_cancelled(probing).await;
    }

    /// The spool's section of the status; `resets` are the channels that it failed.
    pub(super) fn spool(&self, resets: &SpoolResets) -> SpoolReport {
        let configuration = self.configuration.current();
        let folder = &configuration.tunnel.channel.spool_dir;
        let last_result = self.last_result.lock().clone();
        SpoolReport::of(folder, borrowed(&last_result), resets, Instant::now())
    }

    /// The state folder's section of the status.
    pub(super) fn state_folder(&self) -> StateFolderReport {
        let configuration = self.configuration.current();
        let last_result = self.last_result.lock().clone();
        StateFolderReport::of(&configuration.state_dir, borrowed(&last_result))
    }

    fn record(&self, found: Result<(), String>) {
        let mut last_result = self.last_result.lock();
        match (&*last_result, &found) {
            (Some(Err(_)), Ok(())) => match self.folder {
                Folder::Spool => tracing::info!("the spool can be written again"),
                Folder::State => tracing::info!("the state folder can be written again"),
            },
            (Some(Ok(())) | None, Err(fault)) => match self.folder {
                Folder::Spool => tracing::warn!(
                    cause = fault,
                    folder = %self.configuration.current().tunnel.channel.spool_dir.display(),
                    remedy = "free space on its disk, or set tunnel.channel.spool_dir to another folder",
                    "the spool cannot be written; requests that need it fail"
                ),
                Folder::State => tracing::warn!(
                    cause = fault,
                    folder = %self.configuration.current().state_dir.display(),
                    remedy = "free space on its disk, or make it writable for the agent's user",
                    "the state folder cannot be written; a restart loses new pauses and refreshed tokens"
                ),
            },
            _ => {}
        }
        *last_result = Some(found);
    }
}

fn borrowed(last_result: &Option<Result<(), String>>) -> Option<Result<(), &str>> {
    let last_result = last_result.as_ref()?;
    Some(last_result.as_ref().copied().map_err(String::as_str))
}

impl Folder {
    /// Blocks on the disk.
    fn probe(self, config: &Config) -> io::Result<()> {
        match self {
            Self::Spool => {
                let limits = &config.tunnel.channel;
                match limits.spool_floor.allows_in(&limits.spool_dir, 0) {
                    // A channel that needs the folder creates it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    found => found,
                }
            }
            Self::State => DiskReserve::of(&config.state_dir).is_usable(),
        }
    }
}

/// Pause between two probes.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// At most what a channel waits for one spool operation before it is reset.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

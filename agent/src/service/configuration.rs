//! Which configuration holds, since when, and what became of the last change.

use crate::{
    audit,
    config::{Config, ConfigSources},
    status::{ConfigurationReport, RefusedConfiguration},
    telemetry,
};
use std::{
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// The configuration that holds, and the way to its next version.
pub(super) struct ActiveConfiguration {
    pub(super) sources: ConfigSources,
    /// What the process was started with and holds until its end.
    pub(super) started: StartupSettings,
    state: Mutex<ConfigurationState>,
}

/// Not the rest, which holds secrets that a reload takes away.
pub(super) struct StartupSettings {
    pub(super) audit: audit::Settings,
    pub(super) log_format: telemetry::LogLineFormat,
    pub(super) state_dir: PathBuf,
    pub(super) runtime_dir: PathBuf,
}

struct ConfigurationState {
    config: Arc<Config>,
    report: ConfigurationReport,
}

impl ActiveConfiguration {
    /// Starts with the configuration that was read at the start.
    pub(super) fn new(sources: ConfigSources, config: Config) -> Self {
        let started = StartupSettings {
            audit: config.audit.clone(),
            log_format: config.log.format,
            state_dir: config.state_dir.clone(),
            runtime_dir: config.runtime_dir.clone(),
        };
        let state = ConfigurationState {
            config: Arc::new(config),
            report: ConfigurationReport {
                loaded: now(),
                ..ConfigurationReport::default()
            },
        };
        Self {
            sources,
            started,
            state: Mutex::new(state),
        }
    }

    /// The one that holds.
    pub(super) fn current(&self) -> Arc<Config> {
        Arc::clone(&self.lock().config)
    }

    /// Another one holds. `restart`: the sections of it that wait for a restart.
    pub(super) fn accepted(&self, config: Config, restart: Vec<String>) {
        let mut state = self.lock();
        state.config = Arc::new(config);
        state.report = ConfigurationReport {
            loaded: now(),
            refused: None,
            restart,
        };
    }

    /// The same one goes on.
    pub(super) fn refused(&self, why: &str) {
        let problems = why.lines().take(MAX_PROBLEMS).map(str::to_owned);
        self.lock().report.refused = Some(RefusedConfiguration {
            time: now(),
            problems: problems.collect(),
        });
    }

    /// The section `configuration` of the status.
    pub(super) fn report(&self) -> ConfigurationReport {
        self.lock().report.clone()
    }

    fn lock(&self) -> MutexGuard<'_, ConfigurationState> {
        // A panic while this lock is held leaves whole values behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Lines of what is wrong that status shows; all of them are in the log.
const MAX_PROBLEMS: usize = 20;

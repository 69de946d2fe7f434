//! Which configuration is in use, since when, and the outcome of the last reload.

use crate::{
    audit,
    config::{Config, ConfigSources},
    status::{ConfigurationReport, RefusedConfiguration},
    telemetry,
};
use parking_lot::Mutex;
use std::{path::PathBuf, sync::Arc, time::SystemTime};

/// The configuration in use, and where to read the next one from.
pub(super) struct ActiveConfiguration {
    pub(super) sources: ConfigSources,
    /// Settings that only a restart changes.
    pub(super) started: StartupSettings,
    state: Mutex<ConfigurationState>,
}

/// Only these: the rest holds secrets that a reload removes.
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

    /// The configuration in use.
    pub(super) fn current(&self) -> Arc<Config> {
        Arc::clone(&self.state.lock().config)
    }

    /// Records that a reload was applied. `restart`: the sections that need a restart.
    pub(super) fn accepted(&self, config: Config, restart: Vec<String>) {
        let mut state = self.state.lock();
        state.config = Arc::new(config);
        state.report = ConfigurationReport {
            loaded: now(),
            refused: None,
            restart,
        };
    }

    /// Records that a reload was refused; the configuration in use stays.
    pub(super) fn refused(&self, why: &str) {
        let problems = why.lines().take(MAX_PROBLEMS).map(str::to_owned);
        self.state.lock().report.refused = Some(RefusedConfiguration {
            time: now(),
            problems: problems.collect(),
        });
    }

    /// The section `configuration` of the status.
    pub(super) fn report(&self) -> ConfigurationReport {
        self.state.lock().report.clone()
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Problems that the status shows; the log has all of them.
const MAX_PROBLEMS: usize = 20;

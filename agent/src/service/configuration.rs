//! Which configuration holds, since when, and what became of the last change.

use crate::{
    config::{Config, Sources},
    status::{ConfigurationReport, RefusedConfiguration},
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// The configuration that holds, and the way to its next version.
pub(super) struct Configuration {
    pub(super) sources: Sources,
    /// What the process was started with: some of it holds until its end.
    pub(super) started: Config,
    state: Mutex<State>,
}

struct State {
    config: Arc<Config>,
    report: ConfigurationReport,
}

impl Configuration {
    /// Just read.
    pub(super) fn new(sources: Sources, config: Config) -> Self {
        let state = State {
            config: Arc::new(config.clone()),
            report: ConfigurationReport {
                loaded: now(),
                ..ConfigurationReport::default()
            },
        };
        Self {
            sources,
            started: config,
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

    /// For the status.
    pub(super) fn report(&self) -> ConfigurationReport {
        self.lock().report.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while this lock is held leaves whole values behind.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Lines of what is wrong that status shows; all of them are in the log.
const MAX_PROBLEMS: usize = 20;

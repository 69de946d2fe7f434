//! What a log level may be, and changing it while the agent runs.

use std::sync::{Arc, Mutex, PoisonError};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Registry, filter::Targets, reload};

/// Why a level was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no log level; use error, warn, info, debug, trace or off, also per module: \"info,agent::tunnel=debug\""
)]
pub struct LevelError(String);

/// Checks a level, and gives the filter that it means.
pub fn parse_level(text: &str) -> Result<Targets, LevelError> {
    let refuse = || LevelError(text.to_owned());
    for part in text.split(',') {
        // Alone, the filter would take a mistyped level for the name of a module, and log nothing.
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if !WORDS.contains(&level.trim().to_lowercase().as_str()) {
            return Err(refuse());
        }
    }
    text.parse().map_err(|_| refuse())
}

/// Changes the level of the running process. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    filter: reload::Handle<Targets, Registry>,
    state: Arc<Mutex<State>>,
}

struct State {
    /// What the configuration says, to come back to.
    configured: String,
    current: String,
}

pub(super) fn reloadable(
    level: &str,
) -> Result<(reload::Layer<Targets, Registry>, Handle), LevelError> {
    let (layer, filter) = reload::Layer::new(parse_level(level)?);
    let state = State {
        configured: level.to_owned(),
        current: level.to_owned(),
    };
    let state = Arc::new(Mutex::new(state));
    Ok((layer, Handle { filter, state }))
}

impl Handle {
    /// Sets the level until the next change or restart.
    pub fn set_level(&self, level: &str) -> Result<(), LevelError> {
        let filter = parse_level(level)?;
        {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            // Fails only where the subscriber is gone, and with it the lines.
            let _ = self.filter.reload(filter);
            state.current = level.to_owned();
        }
        tracing::warn!("the log level is now {level}");
        Ok(())
    }

    /// Sets the level that the configuration says now, to which [`restore`](Self::restore) goes back.
    pub fn configure(&self, level: &str) -> Result<(), LevelError> {
        self.set_level(level)?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        level.clone_into(&mut state.configured);
        Ok(())
    }

    /// The level in force.
    pub fn level(&self) -> String {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.current.clone()
    }

    /// One step more: from `info` to `debug`, from `debug` to `trace`. Parts for single modules are left
    /// out, since what is looked for may lie in any of them.
    pub fn raise(&self) {
        let raised = match one_step_more(&self.level()) {
            LevelFilter::DEBUG => "debug",
            LevelFilter::TRACE => "trace",
            LevelFilter::INFO => "info",
            LevelFilter::WARN => "warn",
            _ => "error",
        };
        // A plain level always parses.
        let _ = self.set_level(raised);
    }

    /// Back to the configured level.
    pub fn restore(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let configured = state.configured.clone();
        drop(state);
        // It was parsed when logging was set up.
        let _ = self.set_level(&configured);
    }
}

fn one_step_more(level: &str) -> LevelFilter {
    let general = level.split(',').filter(|part| !part.contains('='));
    let general = general.filter_map(|part| part.trim().parse::<LevelFilter>().ok());
    match general.max().unwrap_or(LevelFilter::ERROR) {
        LevelFilter::OFF => LevelFilter::ERROR,
        LevelFilter::ERROR => LevelFilter::WARN,
        LevelFilter::WARN => LevelFilter::INFO,
        LevelFilter::INFO => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    }
}

/// Not asked of the filter's own parser, which also takes numbers and nothing at all.
const WORDS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn a_mistyped_level_is_refused_and_not_taken_for_a_module() {
        for good in [
            "info",
            "off",
            "info,agent::tunnel=debug",
            "agent=trace,warn",
        ] {
            assert!(parse_level(good).is_ok(), "{good}");
        }
        for bad in ["", "verbose", "inof", "info,agent=loud", "3", "info,,debug"] {
            assert!(parse_level(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_level_goes_up_step_by_step_and_comes_back() {
        let (filter, handle) = reloadable("info,agent::tunnel=warn").unwrap();
        let subscriber = tracing_subscriber::registry().with(filter);
        tracing::subscriber::with_default(subscriber, || {
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
            handle.raise();
            assert!(tracing::enabled!(tracing::Level::DEBUG));
            handle.raise();
            assert!(tracing::enabled!(tracing::Level::TRACE));
            handle.raise();
            assert_eq!(handle.level(), "trace");
            handle.restore();
            assert_eq!(handle.level(), "info,agent::tunnel=warn");
            assert!(!tracing::enabled!(tracing::Level::DEBUG));
        });
    }

    #[test]
    fn a_refused_level_leaves_the_one_in_force() {
        let (_filter, handle) = reloadable("warn").unwrap();
        assert!(handle.set_level("loud").is_err());
        assert_eq!(handle.level(), "warn");
    }
}

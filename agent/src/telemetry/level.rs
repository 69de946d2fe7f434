//! Log levels: parsing them, and changing them while the agent runs.

use parking_lot::Mutex;
use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tracing::{Event, Metadata, level_filters::LevelFilter};
use tracing_subscriber::{
    Registry,
    filter::Targets,
    layer::{Context, Filter},
    reload,
};

/// The text is not a log level.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is not a log level; use error, warn, info, debug, trace or off, also per module: \"info,agent::tunnel=debug\""
)]
pub struct LogLevelError(String);

/// Parses a level into its filter.
pub fn parse_level(text: &str) -> Result<Targets, LogLevelError> {
    let refuse = || LogLevelError(text.to_owned());
    for part in text.split(',') {
        // The filter's own parser would take a mistyped level for the name of a module, and log nothing.
        let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
        if !WORDS.contains(&level.trim().to_lowercase().as_str()) {
            return Err(refuse());
        }
    }
    filter(text).ok_or_else(refuse)
}

/// A level without a module applies to the agent's own lines. Whatever a peer does to a library also leads to a line of
/// the agent; the library's own lines help only to debug it, and a peer can cause any number of them. So libraries log
/// only errors, and russh nothing, unless a directive names them or the level is `trace`.
fn filter(text: &str) -> Option<Targets> {
    let (directives, general): (Vec<_>, Vec<_>) =
        text.split(',').partition(|part| part.contains('='));
    let mut filter = Targets::new();
    if let Some(own) = general.last() {
        let own: LevelFilter = own.trim().parse().ok()?;
        filter = match own {
            LevelFilter::TRACE => filter.with_default(own),
            _ => filter
                .with_default(own.min(LevelFilter::ERROR))
                .with_target(OWN, own)
                .with_target("russh", LevelFilter::OFF),
        };
    }
    let directives: Targets = with_member_crates(&directives).join(",").parse().ok()?;
    Some(filter.with_targets(directives))
}

/// Adds the directives that reach the modules in member crates. What was written comes last and the longer name after the
/// shorter, because the last directive for a name counts.
fn with_member_crates<'a>(written: &[&'a str]) -> Vec<Cow<'a, str>> {
    let mut shorter_first = written.to_vec();
    shorter_first.sort_by_key(|directive| {
        directive.len() - directive.rsplit('=').next().map_or(0, str::len)
    });
    let mut all = Vec::new();
    for (target, level) in shorter_first
        .iter()
        .filter_map(|directive| directive.rsplit_once('='))
    {
        let target = target.trim();
        for (module, member) in MEMBER_CRATES {
            // As the filter itself compares: by the beginning, whether or not that is a whole name.
            if let Some(below) = target.strip_prefix(module) {
                all.push(format!("{member}{below}={level}").into());
            } else if module.starts_with(target) {
                all.push(format!("{member}={level}").into());
            }
        }
    }
    all.extend(written.iter().copied().map(Cow::Borrowed));
    all
}

/// Whether a level asks for the lines of libraries: then they are not limited.
fn opens_libraries(text: &str) -> bool {
    text.split(',').any(|part| match part.split_once('=') {
        Some((target, _)) => !is_own(target.trim()),
        None => part.trim().eq_ignore_ascii_case("trace"),
    })
}

fn is_own(target: &str) -> bool {
    target
        .strip_prefix(OWN)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with("::") || rest.starts_with('_'))
}

/// Changes the level of the running process. Cheap to clone.
#[derive(Clone)]
pub struct LogLevelHandle {
    filter: reload::Handle<Targets, Registry>,
    libraries: LibraryLogLimit,
    state: Arc<Mutex<LogLevelState>>,
}

struct LogLevelState {
    /// The level of the configuration, for [`restore`](LogLevelHandle::restore).
    configured: String,
    current: String,
}

/// Allows a few lines of libraries per minute, unless the level asks for them: a peer that makes them log cannot fill the
/// log.
#[derive(Clone)]
pub(super) struct LibraryLogLimit {
    open: Arc<AtomicBool>,
    minute: Arc<Mutex<(Instant, u32)>>,
}

impl LibraryLogLimit {
    fn new(level: &str) -> Self {
        Self {
            open: Arc::new(AtomicBool::new(opens_libraries(level))),
            minute: Arc::new(Mutex::new((Instant::now(), 0))),
        }
    }

    fn allows(&self, now: Instant) -> bool {
        let mut minute = self.minute.lock();
        if now.saturating_duration_since(minute.0) >= MINUTE {
            *minute = (now, 0);
        }
        minute.1 = minute.1.saturating_add(1);
        minute.1 <= LIBRARY_LINES
    }
}

impl<S> Filter<S> for LibraryLogLimit {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        is_own(event.metadata().target()) || self.open.load(Relaxed) || self.allows(Instant::now())
    }
}

pub(super) fn reloadable(
    level: &str,
) -> Result<
    (
        reload::Layer<Targets, Registry>,
        LibraryLogLimit,
        LogLevelHandle,
    ),
    LogLevelError,
> {
    let (layer, filter) = reload::Layer::new(parse_level(level)?);
    let limit = LibraryLogLimit::new(level);
    let state = LogLevelState {
        configured: level.to_owned(),
        current: level.to_owned(),
    };
    let state = Arc::new(Mutex::new(state));
    let libraries = limit.clone();
    Ok((
        layer,
        limit,
        LogLevelHandle {
            filter,
            libraries,
            state,
        },
    ))
}

impl LogLevelHandle {
    /// Sets the level until the next change or restart.
    pub fn set_level(&self, level: &str) -> Result<(), LogLevelError> {
        let filter = parse_level(level)?;
        {
            let mut state = self.state.lock();
            // Fails only if the subscriber is gone, and with it the log.
            let _ = self.filter.reload(filter);
            self.libraries.open.store(opens_libraries(level), Relaxed);
            state.current = level.to_owned();
        }
        tracing::warn!("the log level is now {level}");
        Ok(())
    }

    /// Sets the level of a changed configuration, to which [`restore`](Self::restore) returns.
    pub fn configure(&self, level: &str) -> Result<(), LogLevelError> {
        self.set_level(level)?;
        let mut state = self.state.lock();
        level.clone_into(&mut state.configured);
        Ok(())
    }

    /// The current level, as it was last set.
    pub fn level(&self) -> String {
        let state = self.state.lock();
        state.current.clone()
    }

    /// Raises the level by one step: from `info` to `debug`, from `debug` to `trace`. Drops directives for single
    /// modules, since the fault may be in any of them.
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

    /// Returns to the configured level.
    pub fn restore(&self) {
        let state = self.state.lock();
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

/// What the agent's own lines are named after; those of a member crate begin with it too (`agent_ssh`).
const OWN: &str = "agent";
/// Modules that are member crates, whose lines have the crate's name: a level names them as modules of the agent.
const MEMBER_CRATES: [(&str, &str); 3] = [
    ("agent::policy", "agent_policy"),
    ("agent::tunnel::channel", "agent_ssh::channel"),
    ("agent::tunnel::transport", "agent_ssh::transport"),
];
/// Lines of libraries per minute: enough to see that something is wrong.
const LIBRARY_LINES: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);
/// The filter's own parser would also accept numbers and an empty text.
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
        let (filter, _limit, handle) = reloadable("info,agent::tunnel=warn").unwrap();
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
    fn libraries_log_errors_only_unless_they_are_asked_for() {
        let lets = |level: &str, target: &'static str, line| {
            parse_level(level).unwrap().would_enable(target, &line)
        };
        let (error, warn, debug) = (
            tracing::Level::ERROR,
            tracing::Level::WARN,
            tracing::Level::DEBUG,
        );
        for level in ["warn", "info", "debug", "debug,agent::http=warn"] {
            assert!(lets(level, "agent::tunnel", warn), "{level}");
            assert!(lets(level, "h2::proto", error), "{level}");
            assert!(!lets(level, "h2::proto", warn), "{level}");
            assert!(!lets(level, "russh::client", error), "{level}");
        }
        assert!(lets("info,h2=debug", "h2::proto", debug));
        assert!(!lets("info,h2=debug", "agent::http", debug));
        assert!(lets("info,russh=debug", "russh::client", debug));
        assert!(lets("trace", "russh::client", tracing::Level::TRACE));
        assert!(!lets("off", "h2::proto", error));
        assert!(lets("info,agent=debug", "agent::http", debug));
    }

    #[test]
    fn a_module_in_a_member_crate_keeps_its_name_in_a_level() {
        let lets = |level: &str, target: &'static str| {
            let filter = parse_level(level).unwrap();
            filter.would_enable(target, &tracing::Level::DEBUG)
        };
        let (channel, transport) = ("agent_ssh::channel::pump", "agent_ssh::transport::socket");
        for (level, of_channel, of_transport) in [
            ("info", false, false),
            ("debug", true, true),
            ("info,agent=debug", true, true),
            ("info,agent::tunnel=debug", true, true),
            ("info,agent::tunnel::channel=debug", true, false),
            ("info,agent::tunnel::channel::pump=debug", true, false),
            (
                "info,agent::tunnel::transport=debug,agent::tunnel=warn",
                false,
                true,
            ),
            ("debug,agent::tunnel=warn", false, false),
            ("info,agent::http=debug", false, false),
            ("info,agent_ssh=debug", true, true),
            (
                "agent_ssh::channel=info,debug,agent::tunnel=debug",
                false,
                true,
            ),
        ] {
            assert_eq!(lets(level, channel), of_channel, "{level}");
            assert_eq!(lets(level, transport), of_transport, "{level}");
            assert!(!opens_libraries(level), "{level}");
        }
        assert!(lets("info,agent::policy=debug", "agent_policy::rules"));
    }

    #[test]
    fn a_flood_of_a_library_is_a_few_lines_a_minute() {
        let limit = LibraryLogLimit::new("info");
        let start = Instant::now();
        let passed = (0..1000).filter(|_| limit.allows(start)).count();
        assert_eq!(passed, LIBRARY_LINES as usize);
        assert!(limit.allows(start + MINUTE));
        assert!(!opens_libraries("debug,agent::http=trace"));
        assert!(opens_libraries("info,h2=warn") && opens_libraries("trace"));
    }

    #[test]
    fn a_refused_level_leaves_the_one_in_force() {
        let (_filter, _limit, handle) = reloadable("warn").unwrap();
        assert!(handle.set_level("loud").is_err());
        assert_eq!(handle.level(), "warn");
    }
}

//! Logs: human on a terminal, JSON or journald otherwise; the level changes at run time.
//!
//! `level` is what a level may be, `signals` changes it by SIGUSR1 and SIGUSR2. Logging never waits for
//! a reader other than the terminal, pipe or journal itself.

mod level;
mod signals;

pub use level::{Handle, LevelError, parse_level};
pub use signals::signals;

use std::io::IsTerminal;
use tracing_subscriber::{Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A tracing filter: `info`, `agent=debug,info`.
    pub level: String,
    /// How lines look.
    pub format: Format,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Human on a terminal, journald under systemd, JSON otherwise.
    #[default]
    Auto,
    /// For a person.
    Human,
    /// One JSON object a line.
    Json,
    /// Native journal fields.
    Journald,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// Not a filter.
    #[error(transparent)]
    Level(#[from] LevelError),
    /// `format = "journald"` without a journal.
    #[error("the systemd journal cannot be reached ({0}); set log.format to \"json\" or \"human\"")]
    Journal(std::io::Error),
    /// Called twice in one process.
    #[error("logging is already set up")]
    Twice,
}

/// Sends this process's log lines where `settings` say, from now on. Everything but the journal goes to
/// standard error, so that standard output is the commands' own.
pub fn set_up(settings: &Settings) -> Result<Handle, SetUpError> {
    let (filter, handle) = level::reloadable(&settings.level)?;
    let lines = lines(settings.format)?;
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|_| SetUpError::Twice)?;
    Ok(handle)
}

fn lines(format: Format) -> Result<Box<dyn Layer<Registry> + Send + Sync>, SetUpError> {
    let terminal = std::io::stderr().is_terminal();
    // systemd sets it where standard error is the journal (systemd.exec(5)).
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    Ok(match resolve(format, terminal, journal) {
        Chosen::Human => {
            let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            to_stderr.with_ansi(colour).boxed()
        }
        Chosen::Json => to_stderr.json().flatten_event(true).boxed(),
        Chosen::Journald => tracing_journald::layer()
            .map_err(SetUpError::Journal)?
            .with_syslog_identifier(SYSLOG_IDENTIFIER.to_owned())
            .boxed(),
        // The variable is inherited by processes whose standard error is elsewhere.
        Chosen::JournaldOrJson => match tracing_journald::layer() {
            Ok(journal) => journal
                .with_syslog_identifier(SYSLOG_IDENTIFIER.to_owned())
                .boxed(),
            Err(_) => to_stderr.json().flatten_event(true).boxed(),
        },
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Chosen {
    Human,
    Json,
    Journald,
    JournaldOrJson,
}

fn resolve(format: Format, terminal: bool, journal: bool) -> Chosen {
    match format {
        Format::Human => Chosen::Human,
        Format::Json => Chosen::Json,
        Format::Journald => Chosen::Journald,
        Format::Auto if terminal => Chosen::Human,
        Format::Auto if journal => Chosen::JournaldOrJson,
        Format::Auto => Chosen::Json,
    }
}

/// The name by which `journalctl -t` finds the lines.
const SYSLOG_IDENTIFIER: &str = "jira-tunnel-agent";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_human_lines_and_the_journal_its_own() {
        for (format, terminal, journal, chosen) in [
            (Format::Auto, true, true, Chosen::Human),
            (Format::Auto, false, true, Chosen::JournaldOrJson),
            (Format::Auto, false, false, Chosen::Json),
            (Format::Json, true, true, Chosen::Json),
            (Format::Human, false, true, Chosen::Human),
            (Format::Journald, true, false, Chosen::Journald),
        ] {
            assert_eq!(resolve(format, terminal, journal), chosen);
        }
    }
}

//! Logs: human on a terminal, JSON or journald otherwise; the level changes at run time.
//!
//! `level` is what a level may be, `signals` changes it by SIGUSR1 and SIGUSR2. Lines for standard error go
//! through a bounded queue and a thread of its own: a terminal or pipe that nobody reads holds up no request,
//! it loses lines.

mod level;
mod signals;

pub use level::{Handle, LevelError, parse_level};
pub use signals::signals;

use std::io::IsTerminal;
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
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

/// Writes what is still queued when dropped: keep it until the process ends.
#[must_use]
pub struct Flush(#[expect(dead_code, reason = "its drop does the work")] Option<WorkerGuard>);

/// Sends this process's log lines where `settings` say, from now on. Everything but the journal goes to
/// standard error, so that standard output is the commands' own.
pub fn set_up(settings: &Settings) -> Result<(Handle, Flush), SetUpError> {
    let (filter, handle) = level::reloadable(&settings.level)?;
    let (lines, flush) = lines(settings.format)?;
    tracing_subscriber::registry()
        .with(lines.with_filter(filter))
        .try_init()
        .map_err(|_| SetUpError::Twice)?;
    Ok((handle, flush))
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

fn lines(format: Format) -> Result<(Lines, Flush), SetUpError> {
    let terminal = std::io::stderr().is_terminal();
    // systemd sets it where standard error is the journal (systemd.exec(5)).
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let chosen = resolve(format, terminal, journal);
    if matches!(chosen, Chosen::Journald | Chosen::JournaldOrJson) {
        match tracing_journald::layer() {
            Ok(journal) => {
                let journal = journal.with_syslog_identifier(SYSLOG_IDENTIFIER.to_owned());
                return Ok((journal.boxed(), Flush(None)));
            }
            Err(error) if chosen == Chosen::Journald => return Err(SetUpError::Journal(error)),
            // The variable is inherited by processes whose standard error is elsewhere.
            Err(_) => {}
        }
    }
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUED_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match chosen {
        Chosen::Human => {
            let colour = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
            to_stderr.with_ansi(colour).boxed()
        }
        _ => to_stderr.json().flatten_event(true).boxed(),
    };
    Ok((lines, Flush(Some(guard))))
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

/// Lines that wait for standard error; more are lost. At 200 bytes a line, below 1 MiB.
const QUEUED_LINES: usize = 4096;
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

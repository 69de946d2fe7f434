//! Logs: for a person on a terminal, JSON or journald otherwise; the level can change at run time.
//!
//! `level` parses and changes the level, `signals` does so on SIGUSR1 and SIGUSR2. `lines` collects the fields of an event
//! and of its spans, `sentence` makes one sentence of them, `journal` an entry of the systemd journal. Lines pass a bounded
//! queue and a separate thread: a terminal, pipe or journal that blocks does not delay requests, but loses lines. Audit
//! records do not pass here.

mod journal;
mod level;
mod lines;
mod sentence;
mod signals;

pub use level::{LogLevelError, LogLevelHandle, parse_level};
pub use signals::signals;

use self::{
    journal::{JOURNAL_SOCKET, JournalSocket},
    lines::{LineFormat, LineLayer},
};
use std::{
    io::{IsTerminal, Write},
    path::Path,
};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{Layer, filter::FilterExt, layer::SubscriberExt, util::SubscriberInitExt};

/// The `[log]` section of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A tracing filter: `info`, `agent=debug,info`.
    pub level: String,
    /// Format of the log lines.
    pub format: LogLineFormat,
}

/// Format of log lines: `log.format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLineFormat {
    /// Human on a terminal, journald under systemd, JSON otherwise.
    #[default]
    Auto,
    /// Text for a person to read.
    Human,
    /// One JSON object a line.
    Json,
    /// Native fields of the systemd journal.
    Journald,
}

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogSetupError {
    /// The level is not a valid filter.
    #[error(transparent)]
    Level(#[from] LogLevelError),
    /// `format = "journald"` without a journal.
    #[error("the systemd journal cannot be reached ({0}); set log.format to \"json\" or \"human\"")]
    Journal(std::io::Error),
    /// Called twice in one process.
    #[error("logging is already set up")]
    Twice,
}

/// Writes the queued lines when dropped: keep it until the process ends.
#[must_use]
pub struct FlushGuard(#[expect(dead_code, reason = "its drop does the work")] Option<WorkerGuard>);

/// Sets up logging for this process. All formats but the journal go to standard error, since standard output belongs to
/// the commands.
pub fn set_up(settings: &Settings) -> Result<(LogLevelHandle, FlushGuard), LogSetupError> {
    let (filter, limit, handle) = level::reloadable(&settings.level)?;
    let (lines, flush) = lines(settings.format)?;
    tracing_subscriber::registry()
        .with(lines.with_filter(filter.and(limit)))
        .try_init()
        .map_err(|_| LogSetupError::Twice)?;
    Ok((handle, flush))
}

fn lines(format: LogLineFormat) -> Result<(LineLayer<NonBlocking>, FlushGuard), LogSetupError> {
    let terminal = std::io::stderr().is_terminal();
    // systemd sets it if standard error is the journal (systemd.exec(5)).
    let journal = std::env::var_os("JOURNAL_STREAM").is_some();
    let chosen = resolve(format, terminal, journal);
    if matches!(
        chosen,
        ResolvedFormat::Journald | ResolvedFormat::JournaldOrJson
    ) {
        match JournalSocket::new(Path::new(JOURNAL_SOCKET)) {
            Ok(journal) => {
                let (queue, guard) = queue(journal);
                let lines = LineLayer::new(queue, LineFormat::Journal);
                return Ok((lines, FlushGuard(Some(guard))));
            }
            Err(error) if chosen == ResolvedFormat::Journald => {
                return Err(LogSetupError::Journal(error));
            }
            // The variable is inherited by processes whose standard error is elsewhere.
            Err(_) => {}
        }
    }
    let (writer, guard) = queue(std::io::stderr());
    let format = match chosen {
        ResolvedFormat::Human => LineFormat::Human {
            color: terminal && color_wanted(),
        },
        ResolvedFormat::Json | ResolvedFormat::Journald | ResolvedFormat::JournaldOrJson => {
            LineFormat::Json
        }
    };
    Ok((LineLayer::new(writer, format), FlushGuard(Some(guard))))
}

/// Whether the environment allows color: not with `NO_COLOR` (no-color.org), and not with `TERM=dumb`.
pub fn color_wanted() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// A writer that never blocks: a thread writes its lines to `out`; lines are lost if too many are queued.
fn queue(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUED_LINES)
        .thread_name("log")
        .finish(out)
}

#[derive(Debug, PartialEq, Eq)]
enum ResolvedFormat {
    Human,
    Json,
    Journald,
    JournaldOrJson,
}

fn resolve(format: LogLineFormat, terminal: bool, journal: bool) -> ResolvedFormat {
    match format {
        LogLineFormat::Human => ResolvedFormat::Human,
        LogLineFormat::Json => ResolvedFormat::Json,
        LogLineFormat::Journald => ResolvedFormat::Journald,
        LogLineFormat::Auto if terminal => ResolvedFormat::Human,
        LogLineFormat::Auto if journal => ResolvedFormat::JournaldOrJson,
        LogLineFormat::Auto => ResolvedFormat::Json,
    }
}

/// Lines that may be queued for standard error or the journal. At 200 bytes per line, less than 1 MiB; 8 MiB if each is
/// full of a peer's text (2 KiB per value, written twice).
const QUEUED_LINES: usize = 2048;

#[cfg(test)]
pub(crate) use lines::tests::CapturedLines;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::{sync::mpsc, time::Duration};

    /// Takes its first line, and the others only once somebody lets it.
    struct Stuck {
        taken: mpsc::Sender<Vec<u8>>,
        go_on: mpsc::Receiver<()>,
    }

    impl Write for Stuck {
        fn write(&mut self, line: &[u8]) -> std::io::Result<usize> {
            let _ = self.taken.send(line.to_vec());
            // An error means that the test lets everything through now.
            let _ = self.go_on.recv();
            Ok(line.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_costs_lines_and_no_time() {
        let ((taken, lines), (go_on, held)) = (mpsc::channel(), mpsc::channel());
        let stuck = Stuck { taken, go_on: held };
        let (mut writer, flush) = queue(stuck);
        writer.write_all(b"first\n").unwrap();
        assert_eq!(lines.recv().unwrap(), b"first\n");
        let (done, finished) = mpsc::channel();
        let logging = std::thread::spawn(move || {
            for _ in 0..2 * QUEUED_LINES {
                writer.write_all(b"more\n").unwrap();
            }
            done.send(()).unwrap();
        });
        finished
            .recv_timeout(Duration::from_secs(60))
            .expect("logging waits for the reader");
        logging.join().unwrap();
        drop(go_on);
        drop(flush);
        let kept = lines.iter().count();
        assert!((1..=QUEUED_LINES + 1).contains(&kept), "{kept} lines kept");
    }

    #[test]
    fn a_terminal_gets_human_lines_and_the_journal_its_own() {
        for (format, terminal, journal, chosen) in [
            (LogLineFormat::Auto, true, true, ResolvedFormat::Human),
            (
                LogLineFormat::Auto,
                false,
                true,
                ResolvedFormat::JournaldOrJson,
            ),
            (LogLineFormat::Auto, false, false, ResolvedFormat::Json),
            (LogLineFormat::Json, true, true, ResolvedFormat::Json),
            (LogLineFormat::Human, false, true, ResolvedFormat::Human),
            (
                LogLineFormat::Journald,
                true,
                false,
                ResolvedFormat::Journald,
            ),
        ] {
            assert_eq!(resolve(format, terminal, journal), chosen);
        }
    }
}

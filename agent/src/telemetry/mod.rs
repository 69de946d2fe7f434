//! Logs: human on a terminal, JSON or journald otherwise; the level changes at run time.
//!
//! `level` is what a level may be, `signals` changes it by SIGUSR1 and SIGUSR2. `sentence` makes one line of an event
//! and its fields, `journal` writes it where systemd is. Lines go through a bounded queue and a thread of its own: a
//! terminal, pipe or journal that takes nothing holds up no request, it loses lines.

mod journal;
mod level;
mod sentence;
mod signals;

pub use level::{Handle, LevelError, parse_level};
pub use signals::signals;

use self::{
    journal::{JOURNAL_SOCKET, JournalLayer, JournalSocket},
    sentence::SentenceFields,
};
use std::{
    io::{IsTerminal, Write},
    path::Path,
};
use tracing_appender::non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    Layer, Registry, filter::FilterExt, layer::SubscriberExt, util::SubscriberInitExt,
};

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
    let (filter, limit, handle) = level::reloadable(&settings.level)?;
    let (lines, flush) = lines(settings.format)?;
    tracing_subscriber::registry()
        .with(lines.with_filter(filter.and(limit)))
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
        match JournalSocket::new(Path::new(JOURNAL_SOCKET)) {
            Ok(journal) => {
                let (queue, guard) = queue(journal);
                let journal = JournalLayer::new(queue, SYSLOG_IDENTIFIER);
                return Ok((journal.boxed(), Flush(Some(guard))));
            }
            Err(error) if chosen == Chosen::Journald => return Err(SetUpError::Journal(error)),
            // The variable is inherited by processes whose standard error is elsewhere.
            Err(_) => {}
        }
    }
    let (writer, guard) = queue(std::io::stderr());
    let to_stderr = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match chosen {
        Chosen::Human => {
            let color = terminal && color_wanted();
            to_stderr
                .fmt_fields(SentenceFields)
                .with_ansi(color)
                .boxed()
        }
        _ => to_stderr.json().flatten_event(true).boxed(),
    };
    Ok((lines, Flush(Some(guard))))
}

/// Whether whoever reads a terminal wants color on it: not with `NO_COLOR` (no-color.org), and not on one that cannot
/// show it.
pub fn color_wanted() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// A writer that never waits: its lines go to `out` from a thread, and are lost where too many wait.
fn queue(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(QUEUED_LINES)
        .thread_name("log")
        .finish(out)
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

/// Lines that wait for standard error or the journal; more are lost. At 200 bytes a line below 1 MiB. Were each of them
/// full of a peer's text (2 KiB a value, written twice), 8 MiB.
const QUEUED_LINES: usize = 2048;
/// The name by which `journalctl -t` finds the lines.
const SYSLOG_IDENTIFIER: &str = "jira-tunnel-agent";

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
        let (done, told) = mpsc::channel();
        let logging = std::thread::spawn(move || {
            for _ in 0..2 * QUEUED_LINES {
                writer.write_all(b"more\n").unwrap();
            }
            done.send(()).unwrap();
        });
        told.recv_timeout(Duration::from_secs(60))
            .expect("whoever logs waits for whoever reads");
        logging.join().unwrap();
        drop(go_on);
        drop(flush);
        let kept = lines.iter().count();
        assert!((1..=QUEUED_LINES + 1).contains(&kept), "{kept} lines kept");
    }

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

//! Lines for the systemd journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! `MESSAGE` is the whole sentence, since plain `journalctl` shows nothing else; each field of the event is `F_NAME`
//! beside it. The layer of `tracing-journald` writes the bare message, and waits where the journal is slow; here the
//! caller's queue and thread do.

use super::sentence::{LogSentence, printable};
use std::{
    fmt::{Debug, Write as _},
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::layer::{Context, Layer};

/// The journal's socket: each write is one datagram, and so one entry. Addressed each time, so that a journal that was
/// restarted is found again.
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// Fails where nobody takes entries at `path`.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        let journal = Self {
            socket: UnixDatagram::unbound()?,
            path: path.to_owned(),
        };
        // The journal ignores an empty datagram.
        journal.socket.send_to(&[], path)?;
        Ok(journal)
    }
}

impl Write for JournalSocket {
    fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
        self.socket.send_to(entry, &self.path)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives each event to `queue`, as an entry of the journal in one write.
pub(super) struct JournalLayer<Queue> {
    queue: Queue,
    identifier: &'static str,
}

impl<Queue> JournalLayer<Queue> {
    /// `identifier` is what `journalctl -t` finds the entries by.
    pub(super) fn new(queue: Queue, identifier: &'static str) -> Self {
        Self { queue, identifier }
    }

    fn entry(&self, event: &Event<'_>) -> String {
        let mut fields = JournalFields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let mut entry = String::with_capacity(512);
        let mut put = |name: &str, value: &dyn std::fmt::Display| {
            // Writing to a string cannot fail; no value has a line break in it.
            let _ = writeln!(entry, "{name}={value}");
        };
        put("PRIORITY", &priority(metadata));
        put("SYSLOG_IDENTIFIER", &self.identifier);
        // The `log` crate's events all have the target "log".
        put(
            "TARGET",
            &fields.target.as_deref().unwrap_or(metadata.target()),
        );
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            put("CODE_FILE", &file);
            put("CODE_LINE", &line);
        }
        put("MESSAGE", &fields.sentence);
        entry + &fields.fields
    }
}

impl<S, Queue> Layer<S> for JournalLayer<Queue>
where
    S: Subscriber,
    Queue: Write + Clone + 'static,
{
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        // The queue takes it, or the line is lost: there is no other place to say so.
        let _ = self.queue.clone().write_all(self.entry(event).as_bytes());
    }
}

#[derive(Default)]
struct JournalFields {
    sentence: LogSentence,
    target: Option<String>,
    /// `F_NAME=value` lines.
    fields: String,
}

impl JournalFields {
    fn add(&mut self, name: &str, value: &str) {
        match name {
            "message" => {}
            "log.target" => self.target = Some(printable(value)),
            _ if name.starts_with("log.") => {}
            _ => {
                let name: String = name
                    .chars()
                    .map(|c| {
                        if c.is_ascii_alphanumeric() {
                            c.to_ascii_uppercase()
                        } else {
                            '_'
                        }
                    })
                    .collect();
                let _ = writeln!(self.fields, "F_{name}={}", printable(value));
            }
        }
    }
}

impl Visit for JournalFields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.sentence.record_str(field, value);
        self.add(field.name(), value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.sentence.record_debug(field, value);
        self.add(field.name(), &format!("{value:?}"));
    }
}

/// As `tracing-journald` maps them: `info` is a notice, so that `debug` has a level of its own.
fn priority(metadata: &Metadata<'_>) -> u8 {
    match *metadata.level() {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 5,
        Level::DEBUG => 6,
        Level::TRACE => 7,
    }
}

/// Path of the socket on which systemd-journald listens.
pub(super) const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

    /// A queue of no length.
    #[derive(Clone)]
    struct Direct(Arc<std::sync::Mutex<JournalSocket>>);

    impl Write for Direct {
        fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(entry)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_entry_has_the_sentence_as_its_message_and_the_fields_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        assert!(JournalSocket::new(&path).is_err());
        let journal = UnixDatagram::bind(&path).unwrap();
        let socket = JournalSocket::new(&path).unwrap();
        let queue = Direct(Arc::new(std::sync::Mutex::new(socket)));
        let layer = JournalLayer::new(queue, "jira-tunnel-agent");
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(
                forward = "jira",
                cause = "refused\nF_FORGED=1",
                remedy = "start it",
                by_uid = 7,
                "Jira probe failed"
            );
        });
        let mut buffer = [0; 4096];
        assert_eq!(journal.recv(&mut buffer).unwrap(), 0);
        let length = journal.recv(&mut buffer).unwrap();
        let entry = std::str::from_utf8(&buffer[..length]).unwrap();
        let lines: Vec<&str> = entry.lines().collect();
        for wanted in [
            "PRIORITY=4",
            "SYSLOG_IDENTIFIER=jira-tunnel-agent",
            "MESSAGE=forward jira: Jira probe failed: refused F_FORGED=1 (by uid 7); remedy: start it",
            "F_FORWARD=jira",
            "F_CAUSE=refused F_FORGED=1",
            "F_REMEDY=start it",
            "F_BY_UID=7",
        ] {
            assert!(lines.contains(&wanted), "{wanted} is not in {entry}");
        }
        assert!(
            lines.iter().any(|line| line.starts_with("CODE_FILE=")),
            "{entry}"
        );
    }
}

//! Lines for the systemd journal, by its native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL).
//!
//! `MESSAGE` is the whole sentence, since plain `journalctl` shows nothing else; each field of the event and its spans is
//! `F_NAME` beside it. The layer of `tracing-journald` writes the bare message, and waits where the journal is slow; here the
//! caller's queue and thread do.

use super::{lines::LogFields, sentence::LogSentence};
use std::{
    fmt::{Display, Write as _},
    io::{self, Write},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
};
use tracing::{Level, Metadata};

/// The journal's socket: each write is one datagram, and so one entry. Each is sent to the path, so that a restarted
/// journal is found again.
pub(super) struct JournalSocket {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSocket {
    /// Fails if no journal listens at `path`.
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

/// One event as an entry of the journal.
pub(super) fn entry(metadata: &Metadata<'_>, fields: &LogFields) -> String {
    let mut entry = String::with_capacity(512);
    let mut put = |name: &str, value: &dyn Display| {
        // Writing to a string cannot fail; no value has a line break in it.
        let _ = writeln!(entry, "{name}={value}");
    };
    put("PRIORITY", &priority(metadata));
    put("SYSLOG_IDENTIFIER", &SYSLOG_IDENTIFIER);
    put("TARGET", &fields.target(metadata));
    if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
        put("CODE_FILE", &file);
        put("CODE_LINE", &line);
    }
    put("MESSAGE", &LogSentence::of(fields));
    for (name, value) in fields.texts().filter(|(name, _)| *name != "message") {
        put(&field_name(name), &value);
    }
    entry
}

/// `F_` and the name in the letters that the journal takes.
fn field_name(name: &str) -> String {
    let letters = name.chars().map(|c| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_uppercase(),
        false => '_',
    });
    "F_".chars().chain(letters).collect()
}

/// As `tracing-journald` maps them: `info` is `notice`, so that `debug` and `trace` differ.
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
/// The name by which `journalctl -t` finds the lines.
const SYSLOG_IDENTIFIER: &str = "jira-tunnel-agent";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::telemetry::lines::{LineFormat, LineLayer};
    use std::sync::Arc;
    use tracing_subscriber::layer::SubscriberExt;

    /// A queue of no length.
    #[derive(Clone)]
    struct Direct(Arc<parking_lot::Mutex<JournalSocket>>);

    impl Write for Direct {
        fn write(&mut self, entry: &[u8]) -> io::Result<usize> {
            self.0.lock().write(entry)
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
        let queue = Direct(Arc::new(parking_lot::Mutex::new(socket)));
        let layer = LineLayer::new(queue, LineFormat::Journal);
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

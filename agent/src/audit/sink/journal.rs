//! The journal's native socket, one datagram a line (`systemd.journal-fields(7)`).

use super::{BatchProgress, LineSink};
use rustix::io::Errno;
use std::{
    io,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

/// Addressed with each line, so that it finds a journal that was restarted. systemd keeps the socket and its contents
/// while journald restarts.
pub(super) struct JournalSink {
    socket: UnixDatagram,
    path: PathBuf,
}

impl JournalSink {
    /// # Errors
    /// There is no journal.
    pub(super) fn new(path: &Path) -> io::Result<Self> {
        UnixDatagram::unbound()?.connect(path)?;
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            socket,
            path: path.to_owned(),
        })
    }
}

impl LineSink for JournalSink {
    fn write(&mut self, batch: &[u8], from: usize) -> BatchProgress {
        let mut progress = BatchProgress {
            taken: from,
            lost: 0,
            error: None,
        };
        let mut datagram = Vec::with_capacity(1024);
        for line in batch[from..].split_inclusive(|&byte| byte == b'\n') {
            datagram.clear();
            datagram.extend_from_slice(
                b"PRIORITY=6\nSYSLOG_IDENTIFIER=jira-tunnel-agent-audit\nMESSAGE=",
            );
            datagram.extend_from_slice(line);
            match self.socket.send_to(&datagram, &self.path) {
                Ok(_) => {}
                // Sending it again would not help. Lines are far shorter than any socket's buffer.
                Err(error) if error.raw_os_error() == Some(Errno::MSGSIZE.raw_os_error()) => {
                    progress.lost += 1;
                }
                Err(error) => {
                    progress.error = Some(explained(error));
                    return progress;
                }
            }
            progress.taken += line.len();
        }
        progress
    }

    fn probe(&mut self) -> io::Result<()> {
        UnixDatagram::unbound()?.connect(&self.path)
    }

    fn name(&self) -> String {
        String::from("the journal")
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "std adds kinds of errors; these are the ones with a text of their own"
)]
fn explained(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => io::Error::new(
            io::ErrorKind::TimedOut,
            format!("journald has taken nothing for {PATIENCE:?}"),
        ),
        _ => error,
    }
}

/// journald takes lines within milliseconds, and seconds where it moves its files.
const PATIENCE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn the_journal_gets_one_datagram_a_line_and_goes_on_where_it_was_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = JournalSink::new(&path).unwrap();
        let batch = b"{\"a\":1}\n{\"a\":2}\n";
        assert_eq!(sink.write(batch, 0).taken, batch.len());
        let mut buffer = [0; 256];
        for line in ["{\"a\":1}", "{\"a\":2}"] {
            let length = journal.recv(&mut buffer).unwrap();
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            assert!(text.contains("\nSYSLOG_IDENTIFIER=jira-tunnel-agent-audit\n"));
            assert!(text.ends_with(&format!("\nMESSAGE={line}\n")), "{text}");
        }
        drop(journal);
        std::fs::remove_file(&path).unwrap();
        let progress = sink.write(b"{}\n", 0);
        assert_eq!(progress.taken, 0);
        assert!(progress.error.is_some());
        assert!(sink.probe().is_err());
        let _restarted = UnixDatagram::bind(&path).unwrap();
        assert_eq!(sink.write(b"{}\n", 0).taken, 3);
    }

    /// A journald that is stopped fills the socket's buffer: the kernel takes no more, and that is an error.
    #[test]
    fn a_journal_that_takes_nothing_is_an_error_and_no_loss() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = JournalSink::new(&path).unwrap();
        sink.socket
            .set_write_timeout(Some(Duration::from_millis(10)))
            .unwrap();
        let batch = "{\"seq\":1}\n".repeat(100_000).into_bytes();
        let progress = sink.write(&batch, 0);
        assert_eq!(progress.error.unwrap().kind(), io::ErrorKind::TimedOut);
        assert!(progress.taken < batch.len());
        // What was taken is there, to the line.
        journal.set_nonblocking(true).unwrap();
        let mut taken = 0;
        while journal.recv(&mut [0; 256]).is_ok() {
            taken += 1;
        }
        assert_eq!(progress.taken, taken * 10);
    }
}

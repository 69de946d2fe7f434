//! Where lines go: a file that survives rotation, the journal, or stderr.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt},
        net::UnixDatagram,
    },
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Takes whole lines. Called from the writer's thread alone; it may block.
pub(super) trait LineSink: Send {
    /// Writes `lines`, each ending in a newline.
    fn write(&mut self, lines: &[u8]) -> io::Result<()>;
    /// Named in messages.
    fn name(&self) -> String;
}

/// None where records go nowhere.
pub(super) fn open(sink: &super::Sink) -> Option<Box<dyn LineSink>> {
    match sink {
        super::Sink::File(path) => Some(Box::new(RotatedFile::new(path.clone()))),
        super::Sink::Journal => Some(journal_or_stderr(Path::new(JOURNAL_SOCKET))),
        super::Sink::Off => None,
    }
}

/// A file opened for appending, opened anew when logrotate has moved or removed it.
struct RotatedFile {
    path: PathBuf,
    open: Option<Open>,
    looked: Instant,
    /// The last write broke off within a line.
    torn: bool,
}

struct Open {
    file: File,
    identity: (u64, u64),
}

impl RotatedFile {
    fn new(path: PathBuf) -> Self {
        Self {
            path,
            open: None,
            looked: Instant::now(),
            torn: false,
        }
    }

    fn file(&mut self) -> io::Result<&mut File> {
        if self.looked.elapsed() >= LOOK_EVERY {
            self.looked = Instant::now();
            let there = std::fs::metadata(&self.path)
                .map(|m| (m.dev(), m.ino()))
                .ok();
            if self.open.as_ref().map(|open| open.identity) != there {
                self.open = None;
            }
        }
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(FILE_MODE)
                    .open(&self.path)?;
                let metadata = file.metadata()?;
                Open {
                    file,
                    identity: (metadata.dev(), metadata.ino()),
                }
            }
        };
        Ok(&mut self.open.insert(open).file)
    }
}

impl LineSink for RotatedFile {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let torn = self.torn;
        let file = self.file()?;
        let result = match torn {
            true => file.write_all(b"\n").and_then(|()| file.write_all(lines)),
            false => file.write_all(lines),
        };
        self.torn = result.is_err();
        if result.is_err() {
            self.open = None;
        }
        result
    }

    fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// The journal's native socket, one datagram a line (`systemd.journal-fields(7)`). Addressed anew each
/// time, so that a journal that was restarted is found again.
struct Journal {
    socket: UnixDatagram,
    path: PathBuf,
}

fn journal_or_stderr(path: &Path) -> Box<dyn LineSink> {
    let there = UnixDatagram::unbound().and_then(|s| s.connect(path));
    match there.and_then(|()| UnixDatagram::unbound()) {
        Ok(socket) => Box::new(Journal {
            socket,
            path: path.to_owned(),
        }),
        Err(_) => Box::new(Stderr),
    }
}

impl LineSink for Journal {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let mut datagram = Vec::with_capacity(1024);
        for line in lines.split(|&byte| byte == b'\n').filter(|l| !l.is_empty()) {
            datagram.clear();
            datagram.extend_from_slice(
                b"PRIORITY=6\nSYSLOG_IDENTIFIER=jira-tunnel-agent-audit\nMESSAGE=",
            );
            datagram.extend_from_slice(line);
            datagram.push(b'\n');
            self.socket.send_to(&datagram, &self.path)?;
        }
        Ok(())
    }

    fn name(&self) -> String {
        String::from("the journal")
    }
}

struct Stderr;

impl LineSink for Stderr {
    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        io::stderr().lock().write_all(lines)
    }

    fn name(&self) -> String {
        String::from("stderr")
    }
}

/// Readable by the group, as logs are on Debian (`adm`), and by nobody else.
const FILE_MODE: u32 = 0o640;
/// One `stat` a second at most finds a rotated file soon enough.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_rotated_file_is_left_and_a_new_one_begun() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut sink = RotatedFile::new(path.clone());
        sink.write(b"one\n").unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o037, 0, "nobody but owner and group: {mode:o}");
        let rotated = folder.path().join("audit.log.1");
        std::fs::rename(&path, &rotated).unwrap();
        sink.write(b"two\n").unwrap();
        sink.looked -= LOOK_EVERY;
        sink.write(b"three\n").unwrap();
        assert_eq!(std::fs::read(&rotated).unwrap(), b"one\ntwo\n");
        assert_eq!(std::fs::read(&path).unwrap(), b"three\n");
    }

    #[test]
    fn the_journal_gets_one_datagram_a_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let mut sink = journal_or_stderr(&path);
        sink.write(b"{\"a\":1}\n{\"a\":2}\n").unwrap();
        let mut buffer = [0; 256];
        for line in ["{\"a\":1}", "{\"a\":2}"] {
            let length = journal.recv(&mut buffer).unwrap();
            let text = std::str::from_utf8(&buffer[..length]).unwrap();
            assert!(text.contains("\nSYSLOG_IDENTIFIER=jira-tunnel-agent-audit\n"));
            assert!(text.ends_with(&format!("\nMESSAGE={line}\n")), "{text}");
        }
        drop(journal);
        std::fs::remove_file(&path).unwrap();
        assert!(sink.write(b"{}\n").is_err());
        let _restarted = UnixDatagram::bind(&path).unwrap();
        sink.write(b"{}\n").unwrap();
        assert_eq!(
            journal_or_stderr(&folder.path().join("none")).name(),
            "stderr"
        );
    }
}

//! What a server sends before the key exchange: lines that may precede its identification string, and that string (RFC
//! 4253 §4.2).
//!
//! russh accepts twenty lines of at most 255 bytes. OpenSSH's client accepts 1,024 lines of 8 KiB in any encoding, so this
//! does too: only the identification string and what follows reach russh. The first bytes are kept, so that an error can
//! name what answered instead of SSH.

use super::error::printable;
use crate::{
    printable::printable_bytes,
    tunnel::{HopEvent, HopObserver},
};
use parking_lot::Mutex;
use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// The first bytes of one connection, and its identification string. Clones share them.
#[derive(Clone, Default)]
pub(super) struct BannerCapture(Arc<Mutex<BannerBytes>>);

#[derive(Default)]
struct BannerBytes {
    /// The first [`KEPT`] bytes at most.
    first: Vec<u8>,
    /// The identification string, once it is complete, without its line end.
    identification: Option<Vec<u8>>,
}

impl BannerCapture {
    /// A reader that captures the first bytes, passes SSH on, and reports the banner to `observer`.
    pub(super) fn wrap<R>(&self, inner: R, observer: HopObserver) -> BannerReader<R> {
        BannerReader {
            inner,
            capture: self.clone(),
            state: BannerState::Before {
                line: Vec::new(),
                lines: 0,
            },
            observer,
        }
    }

    /// Whether nothing was received.
    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().first.is_empty()
    }

    /// Whether an identification string was received, or begins in the first bytes.
    pub(super) fn is_ssh(&self) -> bool {
        let beginning = self.0.lock();
        let mut lines = beginning.first.split(|b| *b == b'\n');
        beginning.identification.is_some() || lines.any(|line| line.starts_with(MARK))
    }

    /// Why russh cannot use the identification string, if it cannot.
    pub(super) fn unusable(&self) -> Option<String> {
        let beginning = self.0.lock();
        let line = beginning.identification.as_ref()?;
        // With the line end that RFC 4253 counts.
        match line.len() + 2 {
            length if length > LONGEST_IDENTIFICATION => Some(format!(
                "has {length} bytes, and at most {LONGEST_IDENTIFICATION} are allowed (RFC 4253, section 4.2)"
            )),
            _ if str::from_utf8(line).is_err() => {
                Some("is not UTF-8, and the SSH library does not read it".to_owned())
            }
            _ => None,
        }
    }

    /// The first line, printable.
    pub(super) fn first_line(&self) -> String {
        let beginning = self.0.lock();
        let line = beginning.first.split(|b| *b == b'\n').next();
        printable(&String::from_utf8_lossy(line.unwrap_or_default()))
    }

    /// The first [`KEPT`] bytes at most.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.lock().first.clone()
    }

    fn is_whole(&self) -> bool {
        self.0.lock().identification.is_some()
    }
}

/// A reader that captures the first bytes and skips the lines before the identification string.
pub(super) struct BannerReader<R> {
    inner: R,
    capture: BannerCapture,
    state: BannerState,
    observer: HopObserver,
}

enum BannerState {
    /// No identification string yet: the current line, and the number of lines before it.
    Before { line: Vec<u8>, lines: usize },
    /// The identification string is passed on, with the bytes after it.
    Passing { bytes: Vec<u8>, from: usize },
    /// Everything is passed on.
    Through,
}

impl<R: AsyncRead + Unpin> AsyncRead for BannerReader<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                BannerState::Through => return Pin::new(&mut this.inner).poll_read(cx, buf),
                BannerState::Passing { bytes, from } => {
                    let rest = bytes.get(*from..).unwrap_or_default();
                    let now = rest.get(..buf.remaining()).unwrap_or(rest);
                    buf.put_slice(now);
                    *from += now.len();
                    if *from >= bytes.len() {
                        this.state = BannerState::Through;
                    }
                    return Poll::Ready(Ok(()));
                }
                BannerState::Before { .. } => {
                    let mut chunk = [0; 512];
                    let mut chunk = ReadBuf::new(&mut chunk);
                    ready!(Pin::new(&mut this.inner).poll_read(cx, &mut chunk))?;
                    if chunk.filled().is_empty() {
                        return Poll::Ready(Ok(()));
                    }
                    this.take(chunk.filled())?;
                }
            }
        }
    }
}

impl<R> BannerReader<R> {
    fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let BannerState::Before { line, lines } = &mut self.state else {
            return Ok(());
        };
        let mut beginning = self.capture.0.lock();
        let room = KEPT.saturating_sub(beginning.first.len());
        beginning.first.extend(bytes.iter().take(room));
        for (at, byte) in bytes.iter().enumerate() {
            line.push(*byte);
            if line.len() > LONGEST_LINE {
                return Err(no_ssh("a line without an end"));
            }
            if *byte != b'\n' {
                continue;
            }
            if line.starts_with(MARK) {
                let whole = line.trim_ascii_end().to_vec();
                let mut bytes_on = std::mem::take(line);
                bytes_on.extend_from_slice(bytes.get(at + 1..).unwrap_or_default());
                let text = printable_bytes(&whole, MAX_BANNER);
                beginning.identification = Some(whole);
                drop(beginning);
                let software = text.splitn(3, '-').nth(2);
                (self.observer)(HopEvent::Banner(
                    software.map_or_else(|| text.clone(), str::to_owned),
                ));
                self.state = BannerState::Passing {
                    bytes: bytes_on,
                    from: 0,
                };
                return Ok(());
            }
            if *lines == 0 && line.starts_with(b"HTTP/") {
                return Err(no_ssh("an answer of HTTP"));
            }
            *lines += 1;
            if *lines > MOST_LINES {
                return Err(no_ssh("too many lines"));
            }
            line.clear();
        }
        Ok(())
    }
}

fn no_ssh(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("{what} instead of an SSH identification string"),
    )
}

/// Reads until the identification string is complete. Fails when there is none.
pub(super) async fn await_banner<R: AsyncRead + Unpin>(
    reader: &mut BannerReader<R>,
    capture: &BannerCapture,
) -> io::Result<()> {
    let mut buffer = [0; KEPT];
    while !capture.is_whole() {
        if reader.read(&mut buffer).await? == 0 {
            let closed = "the far side closed the connection";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, closed));
        }
    }
    Ok(())
}

const MARK: &[u8] = b"SSH-";
/// Bytes of the beginning that are kept for an error.
const KEPT: usize = 512;
/// Lines before the identification string, and bytes of a line: as OpenSSH's client accepts.
const MOST_LINES: usize = 1024;
const LONGEST_LINE: usize = 8192;
/// Bytes of an identification string, line end included (RFC 4253 §4.2).
const LONGEST_IDENTIFICATION: usize = 255;
/// Characters of a banner that are shown.
const MAX_BANNER: usize = 200;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::tunnel::ignore;

    async fn after(bytes: &[u8]) -> BannerCapture {
        let capture = BannerCapture::default();
        let mut all = Vec::new();
        let mut reader = capture.wrap(bytes, ignore());
        let _ = reader.read_to_end(&mut all).await;
        capture
    }

    #[tokio::test]
    async fn the_banner_is_told_once_it_is_whole_and_only_once() {
        use parking_lot::Mutex;
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&told);
        let observer: HopObserver = Arc::new(move |passed| heard.lock().push(passed));
        let (mut far, near) = tokio::io::duplex(64);
        let capture = BannerCapture::default();
        let mut reader = capture.wrap(near, observer);
        let feed = async {
            use tokio::io::AsyncWriteExt;
            for part in ["welcome\r\nSSH-2.0-Open", "SSH_9.2 x-1\r\n", "\0more"] {
                far.write_all(part.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            drop(far);
        };
        let mut all = Vec::new();
        let (_, read) = tokio::join!(feed, reader.read_to_end(&mut all));
        read.unwrap();
        let banner = HopEvent::Banner("OpenSSH_9.2 x-1".to_owned());
        assert_eq!(*told.lock(), [banner]);
    }

    #[tokio::test]
    async fn an_http_server_is_told_from_ssh() {
        let http = after(b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n").await;
        assert!(!http.is_ssh());
        assert_eq!(http.first_line(), "HTTP/1.1 400 Bad Request");
        assert!(after(b"welcome\r\nSSH-2.0-OpenSSH_9.2\r\n").await.is_ssh());
        assert!(after(b"").await.is_empty());
    }

    #[tokio::test]
    async fn only_the_beginning_is_kept_and_control_bytes_are_not_shown() {
        let capture = after(&[b'\x1b'; 100_000]).await;
        assert_eq!(capture.0.lock().first.len(), KEPT);
        assert!(!capture.first_line().contains('\x1b'));
    }

    /// What ssh takes before the identification string, the agent takes: here 19 and 21 lines, long ones, any bytes.
    #[tokio::test]
    async fn lines_before_the_identification_string_are_passed_over() {
        for before in [
            b"welcome to this host, be good\r\n".repeat(21),
            [b"x".repeat(300), b"\n".to_vec()].concat().repeat(3),
            b"f\xfcr Befugte\x00\x1b[31m\r\n".to_vec(),
            b"y\n".repeat(MOST_LINES),
        ] {
            let ssh = b"SSH-2.0-OpenSSH_9.2\r\n\0\x01binary\n".to_vec();
            let all = [before, ssh.clone()].concat();
            let capture = BannerCapture::default();
            let mut passed = Vec::new();
            let mut reader = capture.wrap(all.as_slice(), ignore());
            reader.read_to_end(&mut passed).await.unwrap();
            assert_eq!(passed, ssh);
            assert!(capture.is_ssh());
            let mut reader = BannerCapture::default().wrap(all.as_slice(), ignore());
            let capture = reader.capture.clone();
            await_banner(&mut reader, &capture).await.unwrap();
        }
    }

    #[tokio::test]
    async fn what_never_becomes_ssh_has_an_end() {
        for endless in [b"y\n".repeat(MOST_LINES + 2), vec![b'z'; LONGEST_LINE + 2]] {
            let mut reader = BannerCapture::default().wrap(endless.as_slice(), ignore());
            assert!(reader.read_to_end(&mut Vec::new()).await.is_err());
        }
    }

    #[tokio::test]
    async fn an_identification_string_that_russh_cannot_use_is_named() {
        let long = [
            b"SSH-2.0-OpenSSH_9.2 ".to_vec(),
            vec![b'x'; 300],
            b"\r\n".to_vec(),
        ]
        .concat();
        let problem = after(&long).await.unusable().unwrap();
        assert!(problem.contains("has 322 bytes"), "{problem}");
        let latin = after(b"SSH-2.0-Gateway f\xfcr uns\r\n").await;
        assert!(latin.unusable().unwrap().contains("not UTF-8"));
        assert_eq!(after(b"SSH-2.0-OpenSSH_9.2\r\n").await.unusable(), None);
    }
}

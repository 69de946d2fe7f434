//! Remembers the first bytes a far side sends, so that an error can say what answered instead of SSH.

use super::error::printable;
use crate::tunnel::{Passed, Tell};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

/// The first bytes of one connection.
#[derive(Clone, Default)]
pub(super) struct Greeting(Arc<Mutex<Vec<u8>>>);

impl Greeting {
    /// Passes everything through, keeps the beginning, and tells of the banner when it has come.
    pub(super) fn listen<R>(&self, inner: R, tell: Tell) -> Listening<R> {
        Listening {
            inner,
            greeting: Some(self.clone()),
            tell: Some(tell),
        }
    }

    /// Nothing has come at all.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// An SSH banner is among the first lines (RFC 4253 §4.2).
    pub(super) fn is_ssh(&self) -> bool {
        let bytes = self.bytes();
        bytes.split(|b| *b == b'\n').any(|l| l.starts_with(b"SSH-"))
    }

    /// The banner, once it is whole: `OpenSSH_9.2p1 Debian-2` of `SSH-2.0-OpenSSH_9.2p1 Debian-2`.
    fn banner(&self) -> Option<String> {
        let bytes = self.bytes();
        let whole = bytes.iter().rposition(|b| *b == b'\n')?;
        let mut lines = bytes.get(..whole)?.split(|b| *b == b'\n');
        let line = lines.find(|l| l.starts_with(b"SSH-"))?;
        let text = printable(&String::from_utf8_lossy(line));
        let software = text.splitn(3, '-').nth(2);
        Some(software.map_or_else(|| text.clone(), str::to_owned))
    }

    /// The first line, printable.
    pub(super) fn first_line(&self) -> String {
        let bytes = self.bytes();
        let line = bytes.split(|b| *b == b'\n').next().unwrap_or_default();
        printable(&String::from_utf8_lossy(line))
    }

    /// At most the first [`KEPT`].
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A reader whose first bytes are kept.
pub(super) struct Listening<R> {
    inner: R,
    /// `None` once enough has come: from then on this costs one comparison per read.
    greeting: Option<Greeting>,
    /// `None` once it has been told.
    tell: Option<Tell>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Listening<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Some(greeting) = &self.greeting {
            let new = buf.filled().get(before..).unwrap_or_default();
            let mut kept = greeting.0.lock().unwrap_or_else(PoisonError::into_inner);
            let room = KEPT.saturating_sub(kept.len());
            kept.extend(new.iter().take(room));
            let full = kept.len() >= KEPT;
            drop(kept);
            let banner = self.tell.as_ref().and_then(|_| greeting.banner());
            if full {
                self.greeting = None;
            }
            if let Some(banner) = banner
                && let Some(tell) = self.tell.take()
            {
                tell(Passed::Banner(banner));
            }
        }
        result
    }
}

/// Reads until the banner is whole, or too much has come that is none.
pub(super) async fn await_banner<R: AsyncRead + Unpin>(
    reader: &mut Listening<R>,
    greeting: &Greeting,
) -> io::Result<()> {
    let mut buffer = [0; KEPT];
    let mut read = 0;
    while greeting.banner().is_none() && read < KEPT {
        match reader.read(&mut buffer).await? {
            0 => {
                let closed = "the far side closed the connection";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, closed));
            }
            more => read += more,
        }
    }
    Ok(())
}

/// A banner has at most 255 bytes (RFC 4253 §4.2); a few lines may come before it.
const KEPT: usize = 512;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::tunnel::tell_nobody;

    async fn after(bytes: &[u8]) -> Greeting {
        let greeting = Greeting::default();
        let mut all = Vec::new();
        let mut reader = greeting.listen(bytes, tell_nobody());
        reader.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, bytes, "everything passes through");
        greeting
    }

    #[tokio::test]
    async fn the_banner_is_told_once_it_is_whole_and_only_once() {
        use std::sync::Mutex;
        let told = Arc::new(Mutex::new(Vec::new()));
        let hear = Arc::clone(&told);
        let tell: Tell = Arc::new(move |passed| hear.lock().unwrap().push(passed));
        let (mut far, near) = tokio::io::duplex(64);
        let greeting = Greeting::default();
        let mut reader = greeting.listen(near, tell);
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
        let banner = Passed::Banner("OpenSSH_9.2 x-1".to_owned());
        assert_eq!(*told.lock().unwrap(), [banner]);
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
        let greeting = after(&[b'\x1b'; 100_000]).await;
        assert_eq!(greeting.bytes().len(), KEPT);
        assert!(!greeting.first_line().contains('\x1b'));
    }
}

//! What the two processes of a hand-over say to each other. Fields and messages may be added; unknown ones are ignored, since
//! the two are of different versions.

use super::proof::ProcessProof;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeSet, marker::PhantomData, os::unix::ffi::OsStrExt, path::Path, sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Mutex,
    time::timeout,
};

/// From the old process to the new one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub(super) enum ToSuccessor {
    /// The first message.
    Begin {
        /// The slot numbers that the old process holds.
        held_slots: BTreeSet<u16>,
        /// Its folders, as [`folder_text`]. A process with others shares neither pauses nor tokens with it.
        state_dir: String,
        runtime_dir: String,
    },
    /// Request the forwards.
    Listen,
    /// Take over.
    Commit,
    /// systemd knows the new process as the main one.
    Main,
    /// The gateways have cancelled the forwards of the old process.
    Released,
    /// The old process has applied a changed configuration, which the new one may have read before the change.
    Reload,
    /// One of a later version.
    #[serde(other)]
    Unknown,
}

/// From the new process to the old one.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(tag = "message", rename_all = "kebab-case")]
pub(super) enum ToPredecessor {
    /// It was started.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// It has a valid configuration and begins to connect.
    Hello {
        /// Its version.
        version: String,
        /// The gateways of its configuration, as in the status.
        gateways: Vec<String>,
    },
    /// What it has proven, after each change.
    Proof(ProcessProof),
    /// It cannot take over, and ends.
    Failed {
        /// Why, for a person.
        cause: String,
        /// A restart is needed.
        #[serde(default)]
        needs_restart: bool,
    },
    /// It serves.
    Committed,
    /// It answers on the runtime socket.
    Answering,
    /// The pauses on the disk have changed.
    Pauses,
    /// Asked to stop, it has finished its requests.
    Finished,
    /// One of a later version.
    #[serde(other)]
    Unknown,
}

/// Sends to the other process. Clones share the connection.
#[derive(Clone)]
pub(super) struct LinkSender(Arc<Mutex<OwnedWriteHalf>>);

/// Receives from the other process.
pub(super) struct LinkReceiver<M> {
    reader: BufReader<OwnedReadHalf>,
    line: Vec<u8>,
    messages: PhantomData<fn() -> M>,
}

/// Both ends of a connection to the other process.
pub(super) fn split<M: DeserializeOwned>(stream: UnixStream) -> (LinkSender, LinkReceiver<M>) {
    let (reader, writer) = stream.into_split();
    let receiver = LinkReceiver {
        reader: BufReader::new(reader),
        line: Vec::new(),
        messages: PhantomData,
    };
    (LinkSender(Arc::new(Mutex::new(writer))), receiver)
}

/// The folder as text that no other folder has. A path need not be UTF-8, and JSON is.
pub(super) fn folder_text(folder: &Path) -> String {
    folder.as_os_str().as_bytes().escape_ascii().to_string()
}

/// A message as it is sent.
pub(super) fn line(message: &impl Serialize) -> Vec<u8> {
    // Plain data: it cannot fail to serialize.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}

impl LinkSender {
    /// Sends a message. One that cannot be sent within a second is dropped: the receiver's end of the link shows whether the
    /// other process lives.
    pub(super) async fn send(&self, message: &impl Serialize) {
        let line = line(message);
        let mut writer = self.0.lock().await;
        let sent = timeout(SEND_LIMIT, writer.write_all(&line)).await;
        if !matches!(sent, Ok(Ok(()))) {
            tracing::debug!("the other process of the hand-over takes no messages");
        }
    }

    /// Shows the other process the end of this one.
    pub(super) async fn close(&self) {
        // An error means that the other process has ended.
        let _ = self.0.lock().await.shutdown().await;
    }
}

impl<M: DeserializeOwned> LinkReceiver<M> {
    /// The next message; `None` once the other process has ended, or sends what is no message. May be dropped and called
    /// again.
    pub(super) async fn receive(&mut self) -> Option<M> {
        let room = MAX_LINE.saturating_sub(self.line.len()) as u64;
        let mut limited = (&mut self.reader).take(room);
        let read = limited.read_until(b'\n', &mut self.line).await;
        let is_whole = self.line.last() == Some(&b'\n');
        if !matches!(read, Ok(1..)) || !is_whole {
            return None;
        }
        let message = serde_json::from_slice(&self.line);
        self.line.clear();
        message
            .inspect_err(|error| tracing::warn!(%error, "unreadable message in a hand-over"))
            .ok()
    }

    /// Waits for the end of the other process, at most `limit`. Returns whether it has ended.
    pub(super) async fn ended(&mut self, limit: Duration) -> bool {
        let ended = async { while self.receive().await.is_some() {} };
        timeout(limit, ended).await.is_ok()
    }
}

/// The buffer of a socket pair takes many messages at once.
const SEND_LIMIT: Duration = Duration::from_secs(1);
/// 100 forwards with 16 gateways are below 200 KiB.
const MAX_LINE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_whose_name_is_not_utf_8_is_sent_too() {
        let folder = |name: &'static [u8]| Path::new(std::ffi::OsStr::from_bytes(name));
        let begin = |state_dir| ToSuccessor::Begin {
            held_slots: BTreeSet::new(),
            state_dir: folder_text(state_dir),
            runtime_dir: folder_text(Path::new("/run/jira-tunnel-agent")),
        };
        let sent = begin(folder(b"/srv/\xff"));
        let received: ToSuccessor = serde_json::from_slice(&line(&sent)).unwrap();
        assert_eq!(received, sent);
        for other in [&b"/srv/\xfe"[..], b"/srv/\\xff", b"/srv/\xef\xbf\xbd"] {
            assert_ne!(begin(folder(other)), sent);
        }
    }

    #[tokio::test]
    async fn messages_of_a_later_version_are_ignored_and_the_end_is_seen() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (_sender, mut receiver) = split::<ToPredecessor>(ours);
        let text = concat!(
            r#"{"message":"hello","version":"9.0.0","gateways":["gw:22"],"mood":"good"}"#,
            "\n",
            r#"{"message":"dance"}"#,
            "\n",
            r#"{"message":"comm"#,
        );
        theirs.write_all(text.as_bytes()).await.unwrap();
        let hello = receiver.receive().await;
        assert!(matches!(hello, Some(ToPredecessor::Hello { version, .. }) if version == "9.0.0"));
        assert_eq!(receiver.receive().await, Some(ToPredecessor::Unknown));
        // Half a message waits for the rest, also where the wait was given up.
        let waited = timeout(Duration::from_millis(10), receiver.receive()).await;
        assert!(waited.is_err());
        theirs.write_all(b"itted\"}\n").await.unwrap();
        assert_eq!(receiver.receive().await, Some(ToPredecessor::Committed));
        drop(theirs);
        assert_eq!(receiver.receive().await, None);
    }
}

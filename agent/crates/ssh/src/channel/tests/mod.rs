//! The promises of the whole room, kept against a peer made of queues, in paused time where no disk is
//! involved. What needs a real russh on the other side is in the gate suite.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod closing;
mod reading;
mod writing;

use super::{
    ChannelLimits, ChannelStream, ProcessBudget, SessionBudget,
    halves::{ChannelReceiver, ChannelSender},
};
use crate::transport::{self, SshTransport, TransportHandle};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use russh::ChannelMsg;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{DuplexStream, ReadHalf, duplex, split},
    sync::{Semaphore, mpsc},
};

/// One session's budget, over a transport whose far end nobody reads.
struct Session {
    budget: Arc<SessionBudget>,
    transport: SshTransport<ReadHalf<DuplexStream>>,
    far: DuplexStream,
}

impl Session {
    /// The only session of its process.
    fn new(limits: ChannelLimits) -> Self {
        Self::within(Arc::default(), limits)
    }

    fn within(process: Arc<ProcessBudget>, limits: ChannelLimits) -> Self {
        let (near, far) = duplex(1024);
        let (read_half, write_half) = split(near);
        let (transport, handle) =
            SshTransport::new(read_half, write_half, transport::TransportLimits::default());
        Self {
            budget: SessionBudget::within(process, handle, limits),
            transport,
            far,
        }
    }

    fn handle(&self) -> &TransportHandle {
        self.budget.transport()
    }

    fn open(&self) -> (ChannelStream, Peer) {
        // As many messages as russh queues for one channel.
        let (send, messages) = mpsc::channel(100);
        let sent = Arc::new(Sent::default());
        let stream = ChannelStream::of_halves(
            Arc::clone(&self.budget),
            Queue(messages),
            Arc::clone(&sent) as Arc<dyn ChannelSender>,
        );
        let peer = Peer {
            messages: Some(send),
            sent,
        };
        (stream, peer)
    }
}

/// The far side of one channel.
struct Peer {
    /// `None` after the session has died.
    messages: Option<mpsc::Sender<ChannelMsg>>,
    sent: Arc<Sent>,
}

impl Peer {
    async fn say(&self, message: ChannelMsg) {
        self.messages.as_ref().unwrap().send(message).await.unwrap();
    }

    async fn send(&self, data: &[u8]) {
        let data = Bytes::copy_from_slice(data);
        self.say(ChannelMsg::Data { data }).await;
    }

    /// As russh waits for a channel's queue; the deadline is only for liveness.
    async fn send_all(&self, data: &[u8]) {
        for piece in data.chunks(PACKET) {
            tokio::time::timeout(LIVENESS, self.send(piece))
                .await
                .expect("the channel held up the session");
        }
    }

    fn die(&mut self) {
        self.messages = None;
        self.sent.log.lock().push(Said::Died);
        self.sent.window.close();
    }

    fn said(&self) -> Vec<Said> {
        self.sent.log.lock().clone()
    }

    /// Lets `n` more chunks through.
    fn open_window(&self, n: usize) {
        self.sent.window.add_permits(n);
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Data(Vec<u8>),
    Eof,
    Close,
    Died,
}

struct Sent {
    log: Mutex<Vec<Said>>,
    window: Semaphore,
}

impl Default for Sent {
    fn default() -> Self {
        Self {
            log: Mutex::default(),
            window: Semaphore::new(0),
        }
    }
}

impl ChannelSender for Sent {
    fn data(self: Arc<Self>, bytes: Bytes) -> BoxFuture<'static, Result<(), russh::Error>> {
        Box::pin(async move {
            match self.window.acquire().await {
                Ok(permit) => permit.forget(),
                Err(_) => return Err(russh::Error::SendError),
            }
            self.log.lock().push(Said::Data(bytes.to_vec()));
            Ok(())
        })
    }

    fn eof(self: Arc<Self>) -> BoxFuture<'static, Result<(), russh::Error>> {
        Box::pin(async move {
            self.log.lock().push(Said::Eof);
            Ok(())
        })
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, Result<(), russh::Error>> {
        Box::pin(async move {
            self.log.lock().push(Said::Close);
            Ok(())
        })
    }
}

struct Queue(mpsc::Receiver<ChannelMsg>);

impl ChannelReceiver for Queue {
    fn next(&mut self) -> impl Future<Output = Option<ChannelMsg>> + Send {
        self.0.recv()
    }
}

/// Bytes that betray a hole, a repetition or a wrong order.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(length)
    .collect()
}

/// Waits for what other tasks do at once or soon.
async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    tokio::time::timeout(LIVENESS, async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("never happened: {what}"));
}

const PACKET: usize = 32 << 10;
const SECOND: Duration = Duration::from_secs(1);
const LIVENESS: Duration = Duration::from_secs(60);

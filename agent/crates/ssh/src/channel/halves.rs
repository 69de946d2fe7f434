//! The two halves of a russh channel, as traits that tests can implement.
//!
//! russh's own `ChannelStream` cannot be used: it does not distinguish EOF, CLOSE and the end of the session, and its
//! writer keeps the first buffer of a cancelled write and sends it in place of the next.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use russh::{ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::sync::Arc;

/// The receiving half: messages from the peer.
pub(super) trait ChannelReceiver: Send + 'static {
    /// The next message; `None` when the session has ended. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<ChannelMsg>> + Send;
}

/// The sending half: messages to the peer.
pub(super) trait ChannelSender: Send + Sync + 'static {
    /// Sends within the channel's window, and waits for it where there is none.
    fn data(self: Arc<Self>, bytes: Bytes) -> BoxFuture<'static, Result<(), russh::Error>>;
    /// Sends EOF (`SSH_MSG_CHANNEL_EOF`) to the peer.
    fn eof(self: Arc<Self>) -> BoxFuture<'static, Result<(), russh::Error>>;
    /// Sends CLOSE (`SSH_MSG_CHANNEL_CLOSE`) to the peer.
    fn close(self: Arc<Self>) -> BoxFuture<'static, Result<(), russh::Error>>;
}

impl ChannelReceiver for ChannelReadHalf {
    fn next(&mut self) -> impl Future<Output = Option<ChannelMsg>> + Send {
        self.wait()
    }
}

impl<S> ChannelSender for ChannelWriteHalf<S>
where
    S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
{
    fn data(self: Arc<Self>, bytes: Bytes) -> BoxFuture<'static, Result<(), russh::Error>> {
        Box::pin(async move { self.data_bytes(bytes).await })
    }

    fn eof(self: Arc<Self>) -> BoxFuture<'static, Result<(), russh::Error>> {
        Box::pin(async move { Self::eof(&self).await })
    }

    fn close(self: Arc<Self>) -> BoxFuture<'static, Result<(), russh::Error>> {
        Box::pin(async move { Self::close(&self).await })
    }
}

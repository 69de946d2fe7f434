//! The two sides of a russh channel, as far as they are used here.
//!
//! russh's own `ChannelStream` cannot be used: it shows EOF, close and session death alike, and its
//! writer keeps the first buffer of a cancelled write and sends it in place of the next.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use russh::{ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use std::sync::Arc;

/// What comes from the peer.
pub(super) trait Inlet: Send + 'static {
    /// The next message; `None` when the session has ended. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<ChannelMsg>> + Send;
}

/// What goes to the peer.
pub(super) trait Outlet: Send + Sync + 'static {
    /// Sends within the channel's window; waits for it where there is none.
    fn data(self: Arc<Self>, bytes: Bytes) -> BoxFuture<'static, Result<(), russh::Error>>;
    /// Sends EOF.
    fn eof(self: Arc<Self>) -> BoxFuture<'static, Result<(), russh::Error>>;
    /// Sends CLOSE.
    fn close(self: Arc<Self>) -> BoxFuture<'static, Result<(), russh::Error>>;
}

impl Inlet for ChannelReadHalf {
    fn next(&mut self) -> impl Future<Output = Option<ChannelMsg>> + Send {
        self.wait()
    }
}

impl<S> Outlet for ChannelWriteHalf<S>
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

//! The byte stream that the application reads and writes.

use super::{
    CloseReason, SessionBudget,
    halves::{ChannelReceiver, ChannelSender},
    inbox::ReadOutcome,
    outgoing::{ChannelWriter, SessionClosed},
    pump::{PumpShared, pump},
};
use russh::{Channel, ChannelId, ChannelMsg};
use std::{
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tracing::Instrument;

/// One SSH channel as a byte stream (`AsyncRead + AsyncWrite + Unpin + Send`).
///
/// A stream that is not read never blocks the session. A write is accepted in chunks of at most 32 KiB, each when the
/// transport's backlog allows it, and is cancel-safe. At most one accepted chunk waits for the channel's window; `flush`
/// waits for it. `shutdown` sends EOF; reads still work. Dropping the stream sends what was accepted and EOF, waits for
/// the peer's CLOSE, and closes first if that does not come.
///
/// The table at [`CloseReason`] lists the errors.
pub struct ChannelStream {
    shared: Arc<PumpShared>,
    /// `None` only while dropping.
    outgoing: Option<ChannelWriter>,
}

/// Looks at a channel whose stream someone else owns.
pub struct ChannelProbe(Arc<PumpShared>);

impl ChannelProbe {
    /// Whether the channel is open in both directions and nothing waits to be read.
    pub fn is_quiet(&self) -> bool {
        self.0.inbox().is_quiet()
    }
}

impl ChannelStream {
    /// Takes over a channel of a client's or a server's session. Needs a tokio runtime.
    pub fn new<S>(budget: Arc<SessionBudget>, channel: Channel<S>) -> Self
    where
        S: From<(ChannelId, ChannelMsg)> + Send + Sync + 'static,
    {
        let (receiver, sender) = channel.split();
        Self::of_halves(budget, receiver, Arc::new(sender))
    }

    /// Why the channel ended; `None` while it has not.
    pub fn end(&self) -> Option<CloseReason> {
        self.shared.inbox().end()
    }

    /// Why we reset the channel, if we did.
    pub fn reset_reason(&self) -> Option<CloseReason> {
        self.end().filter(|end| end.is_reset())
    }

    /// A view of this channel for as long as anyone needs it.
    pub fn probe(&self) -> ChannelProbe {
        ChannelProbe(Arc::clone(&self.shared))
    }

    /// Completes once the peer sends no more: by EOF, by CLOSE, by the end of the session, or because we reset the
    /// channel. It does not wait until what came before has been read. Only the last of several watches is woken.
    pub fn disconnected(&self) -> impl Future<Output = ()> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        poll_fn(move |cx| shared.poll_disconnected(cx))
    }

    /// Completes once the channel is closed or its session has ended, with whether the peer had sent EOF before. It does
    /// not wait until what came before has been read. Only the last of several watches is woken.
    pub fn closed(&self) -> impl Future<Output = bool> + Send + use<> {
        let shared = Arc::clone(&self.shared);
        poll_fn(move |cx| shared.poll_closed(cx))
    }

    pub(super) fn of_halves(
        budget: Arc<SessionBudget>,
        receiver: impl ChannelReceiver,
        sender: Arc<dyn ChannelSender>,
    ) -> Self {
        let outgoing = ChannelWriter::new(Arc::clone(&sender), Arc::clone(budget.transport()));
        let guard = budget.open();
        let shared = PumpShared::new(budget);
        let pump = pump(Arc::clone(&shared), receiver, sender, guard);
        tokio::spawn(pump.in_current_span());
        Self {
            shared,
            outgoing: Some(outgoing),
        }
    }

    /// The sending side, unless the channel has ended. The writer is woken when it ends.
    fn writable(&mut self, cx: &Context<'_>) -> io::Result<&mut ChannelWriter> {
        self.shared.writer.register(cx.waker());
        if let Some(end) = self.end() {
            return Err(end.write_error());
        }
        self.outgoing
            .as_mut()
            .ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// russh accepted nothing: the channel has ended, even if the pump does not know yet.
    fn gone(&self, SessionClosed: SessionClosed) -> io::Error {
        self.end()
            .unwrap_or(CloseReason::SessionEnded)
            .write_error()
    }
}

impl AsyncRead for ChannelStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inbox = self.shared.inbox();
        let outcome = inbox.read(buf, cx.waker());
        if inbox.wants_pump() {
            self.shared.stream_changed.notify_one();
        }
        match outcome {
            ReadOutcome::Read => Poll::Ready(Ok(())),
            ReadOutcome::Wait => Poll::Pending,
            ReadOutcome::Over(over) => Poll::Ready(over.map_err(CloseReason::read_error)),
        }
    }
}

impl AsyncWrite for ChannelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outgoing = self.writable(cx)?;
        if outgoing.is_shut() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = ready!(outgoing.poll_write(cx, buf));
        self.shared.set_unanswered(false);
        Poll::Ready(written.map_err(|gone| self.gone(gone)))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(self.writable(cx)?.poll_flush(cx));
        Poll::Ready(flushed.map_err(|gone| self.gone(gone)))
    }

    /// Sends EOF. No error if the peer has closed already: there is nothing left to shut down.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outgoing = match self.writable(cx) {
            Ok(outgoing) => outgoing,
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Poll::Ready(Ok(())),
            Err(error) => return Poll::Ready(Err(error)),
        };
        let shut = ready!(outgoing.poll_eof(cx));
        Poll::Ready(shut.map_err(|gone| self.gone(gone)))
    }
}

impl Drop for ChannelStream {
    fn drop(&mut self) {
        *self.shared.orphaned_writer.lock() = self.outgoing.take();
        self.shared.set_unanswered(false);
        self.shared.inbox().abandon();
        self.shared.stream_changed.notify_one();
    }
}

//! One chunk that is given to russh, through the gate.

use super::halves::ChannelSender;
use crate::transport::{Gate, TransportHandle};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The sending side of one channel. At most one chunk is between the application and russh: it was
/// accepted from the application, and waits for the channel's window.
pub(super) struct ChannelWriter {
    sender: Arc<dyn ChannelSender>,
    gate: Gate,
    sending: Option<SendFuture>,
    eof: EofState,
}

type SendFuture = BoxFuture<'static, Result<(), russh::Error>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum EofState {
    No,
    OnItsWay,
    Sent,
}

/// russh no longer takes anything for this channel: the session has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SessionClosed;

impl ChannelWriter {
    pub(super) fn new(sender: Arc<dyn ChannelSender>, handle: Arc<TransportHandle>) -> Self {
        Self {
            sender,
            gate: Gate::new(handle),
            sending: None,
            eof: EofState::No,
        }
    }

    /// Whether EOF was requested.
    pub(super) fn is_shut(&self) -> bool {
        self.eof != EofState::No
    }

    /// Accepts up to 32 KiB, and returns the number of bytes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize, SessionClosed>> {
        ready!(self.poll_flush(cx))?;
        let admitted = ready!(self.gate.poll_admit(cx, buf.len().min(CHUNK)));
        let chunk = buf.get(..admitted).unwrap_or(buf);
        let bytes = Bytes::copy_from_slice(chunk);
        self.sending = Some(Arc::clone(&self.sender).data(bytes));
        // Started at once: russh has most chunks before this returns.
        match self.poll_flush(cx) {
            Poll::Ready(Err(gone)) => Poll::Ready(Err(gone)),
            Poll::Ready(_) | Poll::Pending => Poll::Ready(Ok(chunk.len())),
        }
    }

    /// Ready when russh has what was accepted.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionClosed>> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Ok(()));
        };
        let sent = ready!(sending.as_mut().poll(cx));
        self.sending = None;
        match sent {
            Ok(()) => {
                self.gate.mark_sent();
                Poll::Ready(Ok(()))
            }
            Err(_) => {
                self.gate.give_back();
                Poll::Ready(Err(SessionClosed))
            }
        }
    }

    /// Sends what was accepted, then EOF; once.
    pub(super) fn poll_eof(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SessionClosed>> {
        ready!(self.poll_flush(cx))?;
        if self.eof == EofState::No {
            self.eof = EofState::OnItsWay;
            self.sending = Some(Arc::clone(&self.sender).eof());
        }
        if self.eof == EofState::OnItsWay {
            ready!(self.poll_flush(cx))?;
            self.eof = EofState::Sent;
        }
        Poll::Ready(Ok(()))
    }
}

/// Bytes per pass of the gate: one SSH packet of the usual maximum size.
const CHUNK: usize = 32 << 10;

//! One chunk on its way into russh, through the gate.

use super::halves::Outlet;
use crate::tunnel::transport::{Gate, Meter};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::{
    sync::Arc,
    task::{Context, Poll, ready},
};

/// The sending side of one channel. At most one chunk is between the application and russh: it was
/// accepted from the application, and waits for the channel's window.
pub(super) struct Outgoing {
    outlet: Arc<dyn Outlet>,
    gate: Gate,
    sending: Option<Sending>,
    eof: Eof,
}

type Sending = BoxFuture<'static, Result<(), russh::Error>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Eof {
    No,
    OnItsWay,
    Sent,
}

/// russh no longer takes anything for this channel: the session has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gone;

impl Outgoing {
    pub(super) fn new(outlet: Arc<dyn Outlet>, meter: Arc<Meter>) -> Self {
        Self {
            outlet,
            gate: Gate::new(meter),
            sending: None,
            eof: Eof::No,
        }
    }

    /// Was EOF asked for?
    pub(super) fn is_shut(&self) -> bool {
        self.eof != Eof::No
    }

    /// Accepts up to 32 KiB, and says how many bytes.
    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<Result<usize, Gone>> {
        ready!(self.poll_flush(cx))?;
        let admitted = ready!(self.gate.poll_admit(cx, buf.len().min(CHUNK)));
        let chunk = buf.get(..admitted).unwrap_or(buf);
        let bytes = Bytes::copy_from_slice(chunk);
        self.sending = Some(Arc::clone(&self.outlet).data(bytes));
        // Started at once: most chunks are with russh before this returns.
        match self.poll_flush(cx) {
            Poll::Ready(Err(gone)) => Poll::Ready(Err(gone)),
            _ => Poll::Ready(Ok(chunk.len())),
        }
    }

    /// Ready when what was accepted is with russh.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        let Some(sending) = &mut self.sending else {
            return Poll::Ready(Ok(()));
        };
        let sent = ready!(sending.as_mut().poll(cx));
        self.sending = None;
        match sent {
            Ok(()) => {
                self.gate.passed();
                Poll::Ready(Ok(()))
            }
            Err(_) => {
                self.gate.give_back();
                Poll::Ready(Err(Gone))
            }
        }
    }

    /// Sends what was accepted, then EOF; once.
    pub(super) fn poll_eof(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        ready!(self.poll_flush(cx))?;
        if self.eof == Eof::No {
            self.eof = Eof::OnItsWay;
            self.sending = Some(Arc::clone(&self.outlet).eof());
        }
        if self.eof == Eof::OnItsWay {
            ready!(self.poll_flush(cx))?;
            self.eof = Eof::Sent;
        }
        Poll::Ready(Ok(()))
    }
}

/// One gate's worth: one SSH packet of the usual largest size.
const CHUNK: usize = 32 << 10;

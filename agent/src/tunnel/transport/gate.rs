//! One channel's place before the gate.

use super::{TransportHandle, queue::GateAnswer};
use std::{
    sync::Arc,
    task::{Context, Poll},
};

/// Asked once per chunk by whoever writes above russh. Dropping it gives back what it holds.
pub struct Gate {
    transport: Arc<TransportHandle>,
    ticket: Option<u64>,
    asked: usize,
    /// Bytes let through, and the account they are on.
    admitted: Option<(usize, u64)>,
}

impl Gate {
    /// A place before the gate of this transport.
    pub fn new(handle: Arc<TransportHandle>) -> Self {
        Self {
            transport: handle,
            ticket: None,
            asked: 0,
            admitted: None,
        }
    }

    /// Ready when `bytes` more may be given to russh, with the number that was let through (what
    /// was asked first, if the caller had asked before and changed its mind). Asked again before
    /// [`mark_sent`](Self::mark_sent) or [`give_back`](Self::give_back) it is ready at once. Always ready
    /// on a dead session: russh has the error.
    pub fn poll_admit(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<usize> {
        if let Some((bytes, _)) = self.admitted {
            return Poll::Ready(bytes);
        }
        if self.ticket.is_none() {
            self.asked = bytes;
        }
        match self.transport.ask(self.ticket, self.asked, cx.waker()) {
            GateAnswer::Pass { generation } => {
                self.ticket = None;
                self.admitted = Some((self.asked, generation));
                Poll::Ready(self.asked)
            }
            GateAnswer::Wait { ticket } => {
                self.ticket = Some(ticket);
                Poll::Pending
            }
        }
    }

    /// The bytes are with russh now and will show in the backlog.
    pub fn mark_sent(&mut self) {
        self.admitted = None;
    }

    /// The bytes will not come.
    pub fn give_back(&mut self) {
        if let Some((bytes, generation)) = self.admitted.take() {
            self.transport.give_back(bytes, generation);
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.give_back();
        if let Some(ticket) = self.ticket.take() {
            self.transport.leave(ticket, self.asked);
        }
    }
}

//! The gate: lets a channel's writer add bytes when the backlog allows it.

use super::{
    TransportHandle,
    queue::{GateAnswer, Ticket},
};
use std::{
    sync::Arc,
    task::{Context, Poll},
};

/// One channel's access to the gate, asked before each chunk is given to russh. Dropping it returns admitted bytes.
pub struct Gate {
    transport: Arc<TransportHandle>,
    ticket: Option<Ticket>,
    asked: usize,
    /// Virtual time of the queue at which the channel's last chunk ends.
    finish: u64,
    /// Bytes admitted, and the generation of the queue that counts them.
    admitted: Option<(usize, u64)>,
}

impl Gate {
    /// Access to the gate of this transport, with nothing admitted yet.
    pub fn new(handle: Arc<TransportHandle>) -> Self {
        Self {
            transport: handle,
            ticket: None,
            asked: 0,
            finish: 0,
            admitted: None,
        }
    }

    /// Ready when `bytes` more may be given to russh, with the number of bytes admitted: that of the first call, if a
    /// later one asks for another number. Ready at once until [`mark_sent`](Self::mark_sent) or
    /// [`give_back`](Self::give_back) is called, and always on a dead session, where russh reports the error.
    pub fn poll_admit(&mut self, cx: &mut Context<'_>, bytes: usize) -> Poll<usize> {
        if let Some((bytes, _)) = self.admitted {
            return Poll::Ready(bytes);
        }
        if self.ticket.is_none() {
            self.asked = bytes;
        }
        let (ticket, asked) = (self.ticket, self.asked);
        match self
            .transport
            .ask(ticket, asked, &mut self.finish, cx.waker())
        {
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

    /// The admitted bytes were given to russh; the backlog counts them from now on.
    pub fn mark_sent(&mut self) {
        self.admitted = None;
    }

    /// The admitted bytes will not be sent.
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

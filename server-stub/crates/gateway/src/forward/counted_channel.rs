//! Counts the bytes of a channel for its session and its forward.

use super::{AgentForward, OpenCandidate};
use crate::session::AgentSession;
use agent_ssh::channel::ChannelStream;
use std::{
    io,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// An open channel of a forward, whose bytes are counted.
pub(crate) struct CountedChannel {
    stream: ChannelStream,
    session: Arc<AgentSession>,
    forward: Arc<AgentForward>,
}

impl CountedChannel {
    pub(super) fn new(stream: ChannelStream, by: OpenCandidate) -> Self {
        let OpenCandidate { forward, serving } = by;
        for traffic in [&forward.traffic, &serving.session.traffic] {
            traffic.channels.fetch_add(1, Relaxed);
            traffic.opened.fetch_add(1, Relaxed);
        }
        Self {
            stream,
            session: serving.session,
            forward,
        }
    }

    /// The session that opened it.
    pub(crate) fn session(&self) -> &Arc<AgentSession> {
        &self.session
    }

    /// The forward it belongs to.
    pub(crate) fn forward(&self) -> &Arc<AgentForward> {
        &self.forward
    }
}

impl AsyncRead for CountedChannel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        let read = (buf.filled().len() - before) as u64;
        for traffic in [&self.forward.traffic, &self.session.traffic] {
            traffic.from_agent.fetch_add(read, Relaxed);
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for CountedChannel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        for traffic in [&self.forward.traffic, &self.session.traffic] {
            traffic.to_agent.fetch_add(written as u64, Relaxed);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl Drop for CountedChannel {
    fn drop(&mut self) {
        for traffic in [&self.forward.traffic, &self.session.traffic] {
            traffic.channels.fetch_sub(1, Relaxed);
        }
    }
}

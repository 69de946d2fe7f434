//! The task that carries the buffer to the socket.

use super::TransportHandle;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Runs until the transport is dead or shut down.
pub(super) async fn write_out<W: AsyncWrite + Unpin>(meter: Arc<TransportHandle>, writer: W) {
    tokio::select! {
        ended = carry(&meter, writer) => if let Err(error) = ended {
            meter.kill(error.kind(), format!("writing to the gateway's socket failed: {error}"));
        },
        () = meter.died() => {}
    }
}

async fn carry<W: AsyncWrite + Unpin>(meter: &TransportHandle, mut writer: W) -> io::Result<()> {
    let mut chunk = Vec::new();
    loop {
        let closing = {
            let mut queue = meter.queue();
            queue.swap(&mut chunk);
            queue.is_closing()
        };
        if chunk.is_empty() {
            if closing {
                return writer.shutdown().await;
            }
            if wait_for_work(meter, chunk.capacity()).await == Waited::Long {
                // The queue's own buffer comes next, after one more rest: the two change places.
                chunk = Vec::new();
            }
            continue;
        }
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            let n = writer.write(rest).await?;
            if n == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            meter.note_taken(n);
            rest = rest.get(n..).unwrap_or_default();
        }
        // TLS below keeps the end of a record back until it is flushed.
        writer.flush().await?;
        chunk.clear();
        if chunk.capacity() > KEPT {
            chunk = Vec::new();
        }
    }
}

#[derive(PartialEq)]
enum Waited {
    Briefly,
    /// Long enough for buffers to be given back.
    Long,
}

async fn wait_for_work(meter: &TransportHandle, kept: usize) -> Waited {
    let (shut, kept) = {
        let queue = meter.queue();
        (queue.is_shut(), kept + queue.capacity())
    };
    if shut {
        if timeout(QUIET, meter.work.notified()).await.is_err() {
            meter.forget_admitted();
        }
    } else if kept <= LITTLE {
        meter.work.notified().await;
    } else if timeout(REST, meter.work.notified()).await.is_err() {
        return Waited::Long;
    }
    Waited::Briefly
}

/// A buffer that a burst has grown past this is given back.
const KEPT: usize = 1 << 20;
/// For so long nothing has come down from russh although writers were let through: it will not.
const QUIET: Duration = Duration::from_millis(10);
/// After so long without work buffers go back, even small ones: a session may rest for hours.
const REST: Duration = Duration::from_secs(5);
/// What may be kept through a rest.
const LITTLE: usize = 16 << 10;

//! The task that carries the buffer to the socket.

use super::TransportHandle;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Runs until the transport is dead or shut down.
pub(super) async fn write_out<W: AsyncWrite + Unpin>(handle: Arc<TransportHandle>, writer: W) {
    tokio::select! {
        ended = copy_to_socket(&handle, writer) => if let Err(error) = ended {
            handle.kill(error.kind(), format!("writing to the gateway's socket failed: {error}"));
        },
        () = handle.died() => {}
    }
}

async fn copy_to_socket<W: AsyncWrite + Unpin>(
    handle: &TransportHandle,
    mut writer: W,
) -> io::Result<()> {
    let mut chunk = Vec::new();
    loop {
        let closing = {
            let mut queue = handle.queue();
            queue.swap(&mut chunk);
            queue.is_closing()
        };
        if chunk.is_empty() {
            if closing {
                return writer.shutdown().await;
            }
            if wait_for_work(handle, chunk.capacity()).await == Waited::Long {
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
            handle.note_taken(n);
            rest = rest.get(n..).unwrap_or_default();
        }
        // TLS below keeps the end of a record back until it is flushed.
        writer.flush().await?;
        chunk.clear();
        if chunk.capacity() > MAX_KEPT_BUFFER {
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

async fn wait_for_work(handle: &TransportHandle, kept: usize) -> Waited {
    let (shut, kept) = {
        let queue = handle.queue();
        (queue.is_shut(), kept + queue.capacity())
    };
    if shut {
        if timeout(QUIET, handle.work.notified()).await.is_err() {
            handle.forget_admitted();
        }
    } else if kept <= MAX_IDLE_BUFFER {
        handle.work.notified().await;
    } else if timeout(REST, handle.work.notified()).await.is_err() {
        return Waited::Long;
    }
    Waited::Briefly
}

/// A buffer that a burst has grown past this is given back.
const MAX_KEPT_BUFFER: usize = 1 << 20;
/// For so long nothing has come down from russh although writers were let through: it will not.
const QUIET: Duration = Duration::from_millis(10);
/// After so long without work buffers go back, even small ones: a session may rest for hours.
const REST: Duration = Duration::from_secs(5);
/// What may be kept through a rest.
const MAX_IDLE_BUFFER: usize = 16 << 10;

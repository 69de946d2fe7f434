//! The task that writes the buffer to the socket.

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
            handle.fail("writing to", &error);
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
                // The queue's buffer is freed after one more idle period: the two are swapped.
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
        // TLS below sends the end of a record only when it is flushed.
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
    /// Long enough to free the buffers.
    Long,
}

async fn wait_for_work(handle: &TransportHandle, kept: usize) -> Waited {
    let (shut, kept) = {
        let queue = handle.queue();
        (queue.is_shut(), kept + queue.capacity())
    };
    if shut {
        if timeout(IDLE_POLL, handle.work.notified()).await.is_err() {
            handle.forget_admitted();
        }
    } else if kept <= MAX_IDLE_BUFFER {
        handle.work.notified().await;
    } else if timeout(REST, handle.work.notified()).await.is_err() {
        return Waited::Long;
    }
    Waited::Briefly
}

/// A buffer that a burst has grown past this is freed.
const MAX_KEPT_BUFFER: usize = 1 << 20;
/// If russh has not written the admitted bytes after this time, it will not.
const IDLE_POLL: Duration = Duration::from_millis(10);
/// Without work for this long, even small buffers are freed: a session may be idle for hours.
const REST: Duration = Duration::from_secs(5);
/// Bytes of buffers that are kept in an idle period.
const MAX_IDLE_BUFFER: usize = 16 << 10;

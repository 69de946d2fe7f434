//! The task that carries the buffer to the socket.

use super::Meter;
use std::{io, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    time::timeout,
};

/// Runs until the transport is dead or shut down.
pub(super) async fn drain<W: AsyncWrite + Unpin>(meter: Arc<Meter>, writer: W) {
    tokio::select! {
        ended = carry(&meter, writer) => if let Err(error) = ended {
            meter.kill(error.kind(), format!("writing to the gateway's socket failed: {error}"));
        },
        () = meter.died() => {}
    }
}

async fn carry<W: AsyncWrite + Unpin>(meter: &Meter, mut writer: W) -> io::Result<()> {
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
            wait_for_work(meter).await;
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

async fn wait_for_work(meter: &Meter) {
    let shut = meter.queue().is_shut();
    if !shut {
        meter.work.notified().await;
    } else if timeout(QUIET, meter.work.notified()).await.is_err() {
        meter.forget_admitted();
    }
}

/// A buffer that a burst has grown past this is given back.
const KEPT: usize = 1 << 20;
/// For so long nothing has come down from russh although writers were let through: it will not.
const QUIET: Duration = Duration::from_millis(10);

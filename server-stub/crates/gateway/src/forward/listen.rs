//! The accept loop of one forward, and the relay of its raw connections.

use super::{AgentForward, ForwardListener, Originator, VendorStream, open, order_candidates};
use crate::GatewayState;
use std::{sync::Arc, time::Duration};
use tokio::io::copy_bidirectional_with_sizes;

/// Accepts until the forward is released, and pauses while file descriptors are exhausted.
pub(crate) async fn listen(
    shared: Arc<GatewayState>,
    forward: Arc<AgentForward>,
    listener: ForwardListener,
) {
    loop {
        let accepted = tokio::select! {
            () = forward.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, originator)) => {
                let relayed = relay(
                    Arc::clone(&shared),
                    Arc::clone(&forward),
                    stream,
                    originator,
                );
                shared.tasks.spawn(relayed);
            }
            Err(error) => {
                tracing::warn!(address = %forward.address, %error, "cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn relay(
    shared: Arc<GatewayState>,
    forward: Arc<AgentForward>,
    mut stream: Box<dyn VendorStream>,
    originator: Originator,
) {
    let deadline = shared.settings.limits.open_deadline;
    let mut candidates = forward.candidates();
    order_candidates(&mut candidates);
    // Counted before the channel exists, so that the next connection chooses another session.
    let expected = candidates
        .first()
        .map(|first| first.serving.session.count_busy());
    match open(candidates, &originator, deadline).await {
        Ok(mut channel) => {
            let _work = channel.session().count_busy();
            drop(expected);
            let relayed =
                copy_bidirectional_with_sizes(&mut stream, &mut channel, COPY_BUFFER, COPY_BUFFER);
            tokio::select! {
                () = shared.stop.cancelled() => {}
                _ = relayed => {}
            }
        }
        Err(error) => {
            tracing::debug!(agent = %forward.agent, address = %forward.address, %error, "connection dropped");
        }
    }
}

/// Pause after a failed accept, so that exhausted descriptors do not make the loop spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Bytes per direction and connection; two SSH packets.
const COPY_BUFFER: usize = 64 << 10;

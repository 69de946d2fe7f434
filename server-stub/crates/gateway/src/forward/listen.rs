//! The accept loop of one forward, and the relay of its raw connections.

use super::{AgentForward, ForwardListener, Originator, VendorStream, open, order_candidates};
use crate::{GatewayState, reconnect::ReconnectWait};
use agent_base::descriptors::{DescriptorBudget, DescriptorPermit};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::copy_bidirectional_with_sizes,
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// Accepts until the forward is closed, and leaves connections in the kernel's queue while only the reserve of file
/// descriptors is left. After its agent has left, it continues for a moment: connections wait for the agent instead of being
/// refused.
pub(crate) fn listen(
    shared: Arc<GatewayState>,
    forward: Arc<AgentForward>,
    listener: ForwardListener,
) -> impl Future<Output = ()> + Send {
    // Now: another listener may take its place before the task runs.
    let (stop, served) = (forward.listener_stop(), forward.served());
    accept_until(stop, served, shared, forward, listener)
}

async fn accept_until(
    stop: CancellationToken,
    mut served: watch::Receiver<usize>,
    shared: Arc<GatewayState>,
    forward: Arc<AgentForward>,
    listener: ForwardListener,
) {
    let descriptors = DescriptorBudget::of_process();
    let _own = descriptors.claim(1);
    let mut close_at = None;
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            () = stop.cancelled() => return,
            Ok(()) = served.changed() => {
                let wait = shared.settings.limits.reconnect_wait;
                let is_unserved = *served.borrow_and_update() == 0;
                close_at = is_unserved.then(|| Instant::now() + wait);
                continue;
            }
            () = sleep_until(close_at.unwrap_or_else(Instant::now)), if close_at.is_some() => {
                if shared.registry.close_unserved(&forward) {
                    return;
                }
                close_at = None;
                continue;
            }
            accepted = descriptors.accept(|cx| listener.poll_accept(cx)) => accepted,
        };
        match accepted {
            Ok(((stream, originator), permit)) => {
                let (shared, forward) = (Arc::clone(&shared), Arc::clone(&forward));
                let relayed = relay(Arc::clone(&shared), forward, stream, originator, permit);
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
    _permit: DescriptorPermit,
) {
    let deadline = shared.settings.limits.open_deadline;
    let mut reconnect = ReconnectWait::new(&shared, forward.agent.clone());
    let opened = loop {
        let mut candidates = forward.candidates();
        order_candidates(&mut candidates);
        // Counted before the channel exists, so that the next connection chooses another session.
        let expected = candidates
            .first()
            .map(|first| first.serving.session.count_busy());
        let opened = open(candidates, &originator, deadline).await;
        match opened {
            Ok(channel) => break Ok((channel.session().count_busy(), channel)),
            Err(error) => {
                drop(expected);
                if !error.may_pass() || !reconnect.again().await {
                    break Err(error);
                }
            }
        }
    };
    drop(reconnect);
    match opened {
        Ok((_work, mut channel)) => {
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

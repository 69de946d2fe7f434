//! The stall timer outside russh. A keep-alive inside russh needs the very loop that may hang.

use super::TransportHandle;
use std::time::Duration;
use tokio::time::timeout;

impl TransportHandle {
    /// Runs beside the session until it is dead, and ends it when bytes have waited for
    /// `stall_timeout` without the kernel taking one, or, where `peer_must_speak`, when nothing has
    /// come for so long. Set that only where keep-alives or probes are answered more often than
    /// `stall_timeout`: an idle tunnel is silent otherwise.
    pub async fn watch(&self, stall_timeout: Duration, peer_must_speak: bool) {
        loop {
            let silent = if peer_must_speak {
                self.rx_age()
            } else {
                Duration::ZERO
            };
            let stuck = self.tx_age();
            if stuck >= stall_timeout {
                self.abort(format!(
                    "stalled: {} bytes have waited for {} s without the far side taking one",
                    self.backlog(),
                    stuck.as_secs()
                ));
            } else if silent >= stall_timeout {
                self.abort(format!(
                    "stalled: nothing has come from the far side for {} s",
                    silent.as_secs()
                ));
            }
            // A backlog that begins now cannot be due before a whole timeout has passed.
            let next = stall_timeout - silent.max(stuck).min(stall_timeout);
            if timeout(next.max(FINEST), self.died()).await.is_ok() {
                return;
            }
        }
    }
}

/// Stamps are no finer than the runtime's clock.
const FINEST: Duration = Duration::from_millis(1);

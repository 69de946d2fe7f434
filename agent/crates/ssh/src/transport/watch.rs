//! The stall timer outside russh. A keep-alive inside russh needs the loop that may hang.

use super::TransportHandle;
use std::time::Duration;
use tokio::time::timeout;

impl TransportHandle {
    /// Runs until the session has ended, and ends it when bytes have waited for `stall_timeout` without the kernel taking
    /// one, or, with `peer_must_speak`, when nothing was received for that long. Set that only where keep-alives or probes
    /// are answered more often than every `stall_timeout`: otherwise an idle tunnel is silent.
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
            // A backlog that starts now is due after a whole timeout at the earliest.
            let next = stall_timeout - silent.max(stuck).min(stall_timeout);
            if timeout(next.max(FINEST), self.died()).await.is_ok() {
                return;
            }
        }
    }
}

/// Resolution of the runtime's clock.
const FINEST: Duration = Duration::from_millis(1);

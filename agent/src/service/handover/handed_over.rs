//! The old process after the new one has taken over: it follows it until it ends itself.

use super::{
    messages::{LinkReceiver, LinkSender, ToPredecessor, ToSuccessor},
    process::SuccessorProcess,
};
use crate::pause::PauseRegistry;
use std::time::Duration;
use tokio::{sync::watch, task::spawn_blocking};
use tokio_util::sync::CancellationToken;

/// The new process serves.
pub(in crate::service) struct HandedOver {
    pub(super) is_bound: bool,
    pub(super) sender: LinkSender,
    pub(super) receiver: LinkReceiver<ToPredecessor>,
    pub(super) pauses: PauseRegistry,
    /// Counts the configurations that this process has applied; marked as seen when the new one was started.
    pub(super) reloads: watch::Receiver<u64>,
    pub(super) process: Option<SuccessorProcess>,
    /// Cancelled when the new process, asked to stop, has finished its requests or has ended.
    pub(super) finished: CancellationToken,
}

/// Asks the new process to stop.
pub(in crate::service) struct SuccessorStop {
    process: Option<SuccessorProcess>,
    finished: CancellationToken,
}

impl HandedOver {
    /// How long this process serves on, so that balancers find the places of the new one before those of this one end.
    pub(in crate::service) fn settle_time(&self) -> Duration {
        match self.is_bound {
            true => SETTLE_TIME,
            false => Duration::ZERO,
        }
    }

    /// To be taken before [`follow`](Self::follow).
    pub(in crate::service) fn successor_stop(&mut self) -> SuccessorStop {
        SuccessorStop {
            process: self.process.take(),
            finished: self.finished.clone(),
        }
    }

    /// Tells the new process what it has to know of this one: that it drains and has `released` its forwards, and that it has
    /// applied a changed configuration. Reads the pauses again whenever the new process changes them. Ends with that
    /// process.
    pub(in crate::service) async fn follow(mut self, released: impl Future<Output = ()>) {
        let (sender, mut reloads) = (self.sender.clone(), self.reloads.clone());
        let released = async {
            released.await;
            sender.send(&ToSuccessor::Released).await;
            std::future::pending().await
        };
        let reloaded = async {
            while reloads.changed().await.is_ok() {
                sender.send(&ToSuccessor::Reload).await;
            }
            std::future::pending().await
        };
        let finished = self.finished.clone();
        tokio::select! {
            () = released => {}
            () = reloaded => {}
            () = self.receive() => {}
        }
        finished.cancel();
    }

    async fn receive(&mut self) {
        while let Some(message) = self.receiver.receive().await {
            match message {
                ToPredecessor::Finished => self.finished.cancel(),
                ToPredecessor::Pauses => {
                    let pauses = self.pauses.clone();
                    let read = spawn_blocking(move || pauses.read_again());
                    if let Ok(Err(error)) = read.await {
                        tracing::error!(%error, "a pause of the new process cannot be read; requests that this process still accepts are not paused");
                    }
                }
                ToPredecessor::Started { .. }
                | ToPredecessor::Hello { .. }
                | ToPredecessor::Proof(_)
                | ToPredecessor::Failed { .. }
                | ToPredecessor::Committed
                | ToPredecessor::Answering
                | ToPredecessor::Unknown => {}
            }
        }
    }
}

impl SuccessorStop {
    /// Sends the signal that this process has received in place of the new one.
    pub(in crate::service) fn send(&self) {
        tracing::info!("asking the new process to stop too");
        if let Some(process) = &self.process {
            process.terminate();
        }
    }

    /// Waits until the new process has finished its requests, or has ended.
    pub(in crate::service) async fn finished(&self) {
        self.finished.cancelled().await;
    }
}

/// HAProxy of gateway-openssh looks at each place once a second.
const SETTLE_TIME: Duration = Duration::from_millis(1500);

//! The signals that stop the agent.

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// SIGTERM, SIGINT, and on a terminal SIGHUP.
pub(super) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Only where it does not mean a reload.
    pub(super) hangup: Option<Signal>,
}

impl StopSignals {
    /// From now on they no longer end the process by themselves.
    pub(super) fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("installing the SIGTERM handler")?,
            interrupt: signal(SignalKind::interrupt()).context("installing the SIGINT handler")?,
            hangup: None,
        })
    }

    pub(super) async fn received(&mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => "SIGHUP",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

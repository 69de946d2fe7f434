//! The log level by signal: SIGUSR1 raises it by one step, SIGUSR2 restores the configured level.

use super::LogLevelHandle;
use tokio::signal::unix::{SignalKind, signal};

/// Handles both signals while it is polled; returns only if the handlers cannot be installed.
pub async fn signals(handle: LogLevelHandle) -> std::io::Result<()> {
    let mut more = signal(SignalKind::user_defined1())?;
    let mut back = signal(SignalKind::user_defined2())?;
    loop {
        let heard = tokio::select! {
            heard = more.recv() => heard.map(|()| handle.raise()),
            heard = back.recv() => heard.map(|()| handle.restore()),
        };
        if heard.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::telemetry::level::reloadable;
    use std::{pin::pin, process::Command, time::Duration};

    fn send(signal: &str) {
        let own = std::process::id().to_string();
        let sent = Command::new("kill").args([signal, &own]).status().unwrap();
        assert!(sent.success());
    }

    #[tokio::test]
    async fn sigusr1_raises_the_level_and_sigusr2_restores_it() {
        let (_filter, _limit, handle) = reloadable("info").unwrap();
        let mut listening = pin!(signals(handle.clone()));
        // The first poll takes the signals over; unheard they would end this process.
        assert!(futures_util::poll!(listening.as_mut()).is_pending());
        for (signal, level) in [("-USR1", "debug"), ("-USR1", "trace"), ("-USR2", "info")] {
            send(signal);
            let arrived = async {
                while handle.level() != level {
                    tokio::select! {
                        ended = &mut listening => panic!("{ended:?}"),
                        () = tokio::time::sleep(Duration::from_millis(1)) => {}
                    }
                }
            };
            let arrived = tokio::time::timeout(Duration::from_secs(20), arrived).await;
            assert!(arrived.is_ok(), "{signal} did not lead to {level}");
        }
    }
}

//! The log level by signal: SIGUSR1 gives one step more, SIGUSR2 goes back to the configuration.

use super::Handle;
use tokio::signal::unix::{SignalKind, signal};

/// Listens for both signals for as long as it is polled; never returns unless that cannot be done.
pub async fn signals(handle: Handle) -> std::io::Result<()> {
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

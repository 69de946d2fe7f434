//! Waiting: for what must come soon, no longer than a loaded machine takes, and with a reason where it does not come.

use anyhow::{Result, ensure};
use std::{
    future::Future,
    net::ToSocketAddrs,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// Generous: a loaded machine is no reason to fail.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Awaits `work`.
///
/// # Panics
/// If it takes longer than [`PATIENCE`].
pub async fn soon<T>(work: impl Future<Output = T>) -> T {
    let done = timeout(PATIENCE, work).await;
    done.unwrap_or_else(|_| panic!("not done within {PATIENCE:?}"))
}

/// Calls `attempt` until it returns something; the error names `what`.
pub async fn until<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt().await {
            return Ok(found);
        }
        ensure!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        sleep(PAUSE).await;
    }
}

/// Waits until `holds` is true; the error names `what`.
pub async fn until_true(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    until(what, async || holds().then_some(())).await
}

/// Waits until a TCP connection to `addr` succeeds; gives up early where `alive` is false.
pub async fn until_listening(
    addr: impl ToSocketAddrs,
    mut alive: impl FnMut() -> bool,
) -> Result<()> {
    let listening = async || match std::net::TcpStream::connect(&addr) {
        Ok(_) => Some(true),
        Err(_) => (!alive()).then_some(false),
    };
    ensure!(until("a listener", listening).await?, "it has ended");
    Ok(())
}

const PAUSE: Duration = Duration::from_millis(10);

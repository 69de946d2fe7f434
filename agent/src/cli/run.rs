//! `agent run`.

use crate::{
    config::{Config, ConfigSources},
    service, telemetry,
};
use std::{process::ExitCode, time::Duration};
use tokio::runtime::Runtime;

/// Run the agent in the foreground
#[derive(clap::Args)]
pub(super) struct Args {}

/// Runs the service until SIGTERM or SIGINT.
pub(super) fn run(_: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let config = Config::load(sources)?;
    let (log, _flush) = telemetry::set_up(&config.log)?;
    service::make_spool_dir(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ran = runtime.block_on(async {
        tokio::spawn(telemetry::signals(log.clone()));
        service::run(config, sources.clone(), log).await
    });
    shut_down(runtime);
    ran?;
    Ok(ExitCode::SUCCESS)
}

/// A disk read that hangs must not delay the exit until systemd kills the process.
fn shut_down(runtime: Runtime) {
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
}

/// The service has drained everything that matters before.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn a_disk_that_hangs_does_not_hold_up_the_end() {
        let runtime = Runtime::new().unwrap();
        let (release, hangs) = mpsc::channel::<()>();
        let (begun, begins) = mpsc::channel();
        runtime.spawn_blocking(move || {
            begun.send(()).unwrap();
            let _ = hangs.recv();
        });
        begins.recv().unwrap();
        shut_down(runtime);
        // Nothing else would have ended it.
        drop(release);
    }
}

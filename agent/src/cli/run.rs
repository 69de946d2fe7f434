//! `agent run`.

use crate::{
    config::{Config, ConfigSources},
    service::{self, PredecessorLink},
    telemetry,
};
use std::{process::ExitCode, time::Duration};
use tokio::runtime::Runtime;

/// Run the agent in the foreground
#[derive(clap::Args)]
pub(super) struct Args {
    /// Take over from the running agent, which is connected to standard input
    #[arg(long, hide = true)]
    successor: bool,
    /// This process is the child of no agent
    #[arg(long, hide = true, requires = "successor")]
    detached: bool,
}

/// Runs the service until SIGTERM or SIGINT.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    if !args.successor {
        return serve(Config::load(sources)?, sources, None);
    }
    if !args.detached {
        service::detach()?;
        return Ok(ExitCode::SUCCESS);
    }
    let predecessor = PredecessorLink::from_stdin()?;
    match Config::load(sources) {
        Ok(config) => serve(config, sources, Some(predecessor)),
        Err(problems) => {
            let text: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let text = text.join("; ");
            predecessor.fail(&format!("the configuration is invalid: {text}"));
            Err(problems.into())
        }
    }
}

fn serve(
    config: Config,
    sources: &ConfigSources,
    predecessor: Option<PredecessorLink>,
) -> anyhow::Result<ExitCode> {
    let (log, _flush) = telemetry::set_up(&config.log)?;
    service::make_spool_dir(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let ran = runtime.block_on(async {
        tokio::spawn(telemetry::signals(log.clone()));
        service::run(config, sources.clone(), log, predecessor).await
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

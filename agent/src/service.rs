//! Joins the rooms into the running agent.

use crate::{config::Config, telemetry};

/// Runs until it is told to stop. `log` changes the log level of this process.
pub async fn run(config: Config, log: telemetry::Handle) -> anyhow::Result<()> {
    let _ = (config, log);
    Ok(())
}

//! `agent run`.

use crate::{
    config::{Config, Sources},
    service, telemetry,
};
use anyhow::Context;
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt, process::ExitCode};

/// Run the agent in the foreground
#[derive(clap::Args)]
pub struct Args {}

/// Runs until it is told to stop.
pub fn run(_: Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = Config::load(sources)?;
    let (log, _flush) = telemetry::set_up(&config.log)?;
    make_spool_dir(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        tokio::spawn(telemetry::signals(log.clone()));
        service::run(config, log).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// What is spooled is the vendor's traffic: nobody else's to read.
fn make_spool_dir(config: &Config) -> anyhow::Result<()> {
    let folder = &config.tunnel.channel.spool_dir;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("{} cannot be created; check state_dir", folder.display()))
}

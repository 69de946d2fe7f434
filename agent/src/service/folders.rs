//! The folders that the agent makes for itself.

use crate::config::Config;
use anyhow::Context;
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt};

/// What is spooled is the vendor's traffic: nobody else's to read. Blocks on the disk.
pub fn make_spool_dir(config: &Config) -> anyhow::Result<()> {
    let folder = &config.tunnel.channel.spool_dir;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("{} cannot be created; check state_dir", folder.display()))
}

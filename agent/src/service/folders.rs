//! The folders that the agent creates for itself.

use crate::config::Config;
use anyhow::Context;
use std::{fs::DirBuilder, os::unix::fs::DirBuilderExt};

/// Creates the spool folder with mode 0700: it holds the vendor's traffic. Blocks on the disk.
pub fn make_spool_dir(config: &Config) -> anyhow::Result<()> {
    let folder = &config.tunnel.channel.spool_dir;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("{} cannot be created; check state_dir", folder.display()))
}

//! Scripts in `clients/python`, run with the interpreter that has their libraries.

use anyhow::{Context, ensure};
use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{io::AsyncWriteExt, process::Command};

/// The script, ready for arguments; no proxy of the environment gets between it and us.
pub fn script(name: &str) -> Command {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python =
        env::var_os("E2E_PYTHON").map_or_else(|| here.join("../.venv/bin/python"), PathBuf::from);
    let mut command = Command::new(python);
    command.arg(here.join("clients/python").join(name));
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    command.kill_on_drop(true);
    command
}

/// Runs it to its end with `input`; an error holds what it said.
pub async fn run(mut command: Command, input: &[u8]) -> anyhow::Result<String> {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .with_context(|| format!("{command:?}; `make setup` installs it"))?;
    let mut stdin = child.stdin.take().context("no standard input")?;
    stdin.write_all(input).await?;
    drop(stdin);
    let done = child.wait_with_output().await?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success(),
        "{command:?} ended with {}:\n{said}{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(said)
}

//! Client libraries of Jira, scripted in Python and Node in `clients/`.

use anyhow::{Context, Result, ensure};
use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{io::AsyncWriteExt, process::Command};

/// A script of `clients/python`, with the interpreter that has the libraries.
pub fn python(name: &str) -> Command {
    let python = from_env("E2E_PYTHON", "../.venv/bin/python");
    script(python, in_tests("clients/python").join(name))
}

/// A script of `clients/node`, in the folder that has the libraries.
pub fn node(name: &str) -> Command {
    let folder = from_env("E2E_NODE_DIR", "clients/node");
    script(PathBuf::from("node"), folder.join(name))
}

/// Runs the script to its end with `input`; returns its standard output. An error holds all that it printed.
pub async fn run(mut command: Command, input: &[u8]) -> Result<String> {
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
    let printed = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success(),
        "{command:?} ended with {}:\n{printed}{}",
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(printed)
}

/// Without the environment's proxies, which would intercept calls to 127.0.0.1.
fn script(interpreter: PathBuf, script: PathBuf) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(script).kill_on_drop(true);
    for proxy in ["http_proxy", "https_proxy", "all_proxy"] {
        command.env_remove(proxy).env_remove(proxy.to_uppercase());
    }
    command
}

fn from_env(variable: &str, default: &str) -> PathBuf {
    env::var_os(variable).map_or_else(|| in_tests(default), PathBuf::from)
}

fn in_tests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

//! The command line. Each subcommand is one file with its arguments and `run`.

mod cloud;
mod demo;
mod gateway;
mod jira;
mod links;
mod receiver;
mod token;

use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Parses the arguments, runs the subcommand on a new runtime and prints an error on stderr.
pub fn main() -> ExitCode {
    let cli = CommandLine::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| cli.command.log_level().into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && color_wanted())
        .init();
    match run(cli) {
        Ok(code) => code,
        Err(error) => {
            crate::output::print_error(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// The definition of the whole command line, against which tests compare the documents.
pub fn definition() -> clap::Command {
    <CommandLine as clap::CommandFactory>::command()
}

fn run(cli: CommandLine) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match cli.command {
            StubCommand::Jira(args) => jira::run(*args).await.map(|()| ExitCode::SUCCESS),
            StubCommand::Cloud(args) => cloud::run(args).await.map(|()| ExitCode::SUCCESS),
            StubCommand::Gateway(args) => gateway::run(args).await.map(|()| ExitCode::SUCCESS),
            StubCommand::Receiver(args) => receiver::run(args).await.map(|()| ExitCode::SUCCESS),
            StubCommand::Demo(args) => demo::run(args).await,
            StubCommand::Token(args) => token::run(args).map(|()| ExitCode::SUCCESS),
        }
    })
}

/// The vendor's side for tests and demos.
#[derive(Parser)]
#[command(name = "server-stub", version)]
struct CommandLine {
    #[command(subcommand)]
    command: StubCommand,
}

#[derive(Subcommand)]
enum StubCommand {
    Jira(Box<jira::Args>),
    Cloud(cloud::Args),
    Gateway(gateway::Args),
    Receiver(receiver::Args),
    Demo(demo::Args),
    Token(token::Args),
}

impl StubCommand {
    /// The log level without `RUST_LOG`. The demo prints its steps itself.
    fn log_level(&self) -> &'static str {
        match self {
            Self::Jira(_) | Self::Cloud(_) | Self::Gateway(_) | Self::Receiver(_) => "info",
            Self::Demo(_) | Self::Token(_) => "error",
        }
    }
}

/// Whether the environment allows colors (<https://no-color.org>).
fn color_wanted() -> bool {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("NO_COLOR").is_none() && set("TERM").is_none_or(|term| term != "dumb")
}

/// Returns at SIGINT or SIGTERM.
async fn interrupted() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.context("cannot wait for signals"),
        _ = terminate.recv() => Ok(()),
    }
}

/// The settings in a TOML file.
fn read_settings<T: serde::de::DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is invalid", path.display()))
}

/// `ONE:TWO:THREE`; the third may contain colons.
fn triple(text: &str) -> Option<(&str, &str, &str)> {
    let (one, rest) = text.split_once(':')?;
    let (two, three) = rest.split_once(':')?;
    Some((one, two, three))
}

/// Splits `ONE:OTHER` at the first colon.
fn pair(text: &str) -> Result<(String, String), String> {
    text.split_once(':')
        .map(|(one, other)| (one.to_owned(), other.to_owned()))
        .ok_or_else(|| "expected two words separated by a colon".into())
}

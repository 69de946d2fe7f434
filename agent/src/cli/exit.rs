//! Exit codes, and how an error becomes one (sysexits.h for what has a name there).

use super::output::{Closed, complain};
use crate::{
    config::{self, Problems, Sources},
    control::{Client, ClientError},
};
use std::process::ExitCode;

/// EX_USAGE: the command was typed wrong.
pub const USAGE: u8 = 64;
/// `agent status`: nothing to ask.
pub const NOT_RUNNING: u8 = 3;
/// EX_NOPERM: this user may not read what is needed.
pub const NO_PERMISSION: u8 = 77;
/// EX_CONFIG: the configuration cannot be used.
pub const CONFIG: u8 = 78;

/// What was typed cannot be done with this configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUsage(pub String);

/// For a configuration that cannot be used: what is wrong with it, or with the user who wants to.
pub fn of_problems(problems: &Problems) -> u8 {
    match problems.are_denials() {
        true => NO_PERMISSION,
        false => CONFIG,
    }
}

/// Says on standard error why the running agent could not be asked. Where nothing is configured yet, starting it is no
/// remedy.
pub fn not_asked(error: &ClientError, sources: &Sources) {
    match error {
        ClientError::NotRunning { .. } if !config::is_configured(sources) => {
            complain(config::NOT_CONFIGURED);
        }
        error => complain(error),
    }
}

/// What became of a command for the forward of this name: where the running agent refused it because it has none, the
/// command was typed wrong.
pub async fn of_forward(client: &Client, name: Option<&str>, error: ClientError) -> anyhow::Error {
    if let (ClientError::Refused(_), Some(name)) = (&error, name)
        && let Ok(running) = client.status().await
        && !running.forwards.iter().any(|forward| forward.name == name)
    {
        return BadUsage(error.to_string()).into();
    }
    error.into()
}

/// Tells an error on standard error and gives the exit code for it.
pub fn report(error: &anyhow::Error, sources: &Sources) -> ExitCode {
    if error.is::<Closed>() {
        return ExitCode::SUCCESS;
    }
    if let Some(problems) = error.downcast_ref::<Problems>() {
        for problem in problems.iter() {
            complain(problem);
        }
        return of_problems(problems).into();
    }
    if let Some(error) = error.downcast_ref::<ClientError>() {
        not_asked(error, sources);
        return match error {
            ClientError::NotRunning { .. } | ClientError::Denied { .. } => NOT_RUNNING.into(),
            _ => ExitCode::FAILURE,
        };
    }
    complain(format!("{error:#}"));
    match error.is::<BadUsage>() {
        true => USAGE.into(),
        false => ExitCode::FAILURE,
    }
}

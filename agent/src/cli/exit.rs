//! Exit codes, and how an error becomes one (sysexits.h for what has a name there).

use super::output::{OutputClosed, print_error};
use crate::{
    config::{self, ConfigProblems, ConfigSources},
    control::{AgentClient, AgentClientError},
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
pub struct UsageError(pub String);

/// For a configuration that cannot be used: what is wrong with it, or with the user who wants to.
pub fn of_problems(problems: &ConfigProblems) -> u8 {
    match problems.are_only_denials() {
        true => NO_PERMISSION,
        false => CONFIG,
    }
}

/// Says on standard error why the running agent could not be asked. Where nothing is configured yet, starting it is no
/// remedy.
pub fn report_client_error(error: &AgentClientError, sources: &ConfigSources) {
    match error {
        AgentClientError::NotRunning { .. } if !config::is_configured(sources) => {
            print_error(config::NOT_CONFIGURED);
        }
        error => print_error(error),
    }
}

/// What became of a command for the forward of this name: where the running agent refused it because it has none, the
/// command was typed wrong.
pub async fn of_forward(
    client: &AgentClient,
    name: Option<&str>,
    error: AgentClientError,
) -> anyhow::Error {
    if let (AgentClientError::Refused(_), Some(name)) = (&error, name)
        && let Ok(running) = client.status().await
        && !running.forwards.iter().any(|forward| forward.name == name)
    {
        return UsageError(error.to_string()).into();
    }
    error.into()
}

/// Tells an error on standard error and gives the exit code for it.
pub fn report(error: &anyhow::Error, sources: &ConfigSources) -> ExitCode {
    if error.is::<OutputClosed>() {
        return ExitCode::SUCCESS;
    }
    if let Some(problems) = error.downcast_ref::<ConfigProblems>() {
        for problem in problems.iter() {
            print_error(problem);
        }
        return of_problems(problems).into();
    }
    if let Some(error) = error.downcast_ref::<AgentClientError>() {
        report_client_error(error, sources);
        return match error {
            AgentClientError::NotRunning { .. } | AgentClientError::Denied { .. } => {
                NOT_RUNNING.into()
            }
            _ => ExitCode::FAILURE,
        };
    }
    print_error(format!("{error:#}"));
    match error.is::<UsageError>() {
        true => USAGE.into(),
        false => ExitCode::FAILURE,
    }
}

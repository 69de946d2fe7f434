//! Exit codes, and how an error becomes one (sysexits.h for what has a name there).

use super::output::{OutputClosed, print_error};
use crate::{
    config::{self, ConfigProblems, ConfigSources},
    control::{AgentClient, AgentClientError},
};
use std::process::ExitCode;

/// EX_USAGE: the command line is invalid.
pub(super) const USAGE: u8 = 64;
/// No agent is running, or this user may not query it.
pub(super) const NOT_RUNNING: u8 = 3;
/// The running agent, or the program on the disk, knows no hand-over: a restart is needed.
pub(super) const NEEDS_RESTART: u8 = 4;
/// EX_NOPERM: this user may not read a required file.
pub(super) const NO_PERMISSION: u8 = 77;
/// EX_CONFIG: the configuration is invalid.
pub(super) const CONFIG: u8 = 78;

/// The command line does not fit this configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub String);

/// The exit code for an invalid configuration: [`NO_PERMISSION`] if this user may not read it, else [`CONFIG`].
pub(super) fn of_problems(problems: &ConfigProblems) -> u8 {
    match problems.are_only_denials() {
        true => NO_PERMISSION,
        false => CONFIG,
    }
}

/// Prints to standard error why the running agent could not be queried. If nothing is configured yet, starting it would
/// not help, and the text says so.
pub(super) fn report_client_error(error: &AgentClientError, sources: &ConfigSources) {
    match error {
        AgentClientError::NotRunning { .. } if !config::is_configured(sources) => {
            print_error(config::NOT_CONFIGURED);
        }
        error @ (AgentClientError::NotRunning { .. }
        | AgentClientError::Denied { .. }
        | AgentClientError::NoAnswer { .. }
        | AgentClientError::Refused(_)
        | AgentClientError::Unsupported(_)) => print_error(error),
    }
}

/// The error of a command for one forward or outlet: a usage error if the running agent has none of this name.
pub(super) async fn of_forward(
    client: &AgentClient,
    name: Option<&str>,
    error: AgentClientError,
) -> anyhow::Error {
    if let (AgentClientError::Refused(_), Some(name)) = (&error, name)
        && let Ok(running) = client.status().await
        && !running.forwards.iter().any(|forward| forward.name == name)
        && !running.outlets.iter().any(|outlet| outlet.name == name)
    {
        return UsageError(error.to_string()).into();
    }
    error.into()
}

/// Prints an error to standard error and returns its exit code.
pub(super) fn report(error: &anyhow::Error, sources: &ConfigSources) -> ExitCode {
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
            AgentClientError::NoAnswer { .. }
            | AgentClientError::Refused(_)
            | AgentClientError::Unsupported(_) => ExitCode::FAILURE,
        };
    }
    print_error(format!("{error:#}"));
    match error.is::<UsageError>() {
        true => USAGE.into(),
        false => ExitCode::FAILURE,
    }
}

//! Exit codes, and how an error becomes one (sysexits.h for what has a name there).

use super::output::Closed;
use crate::config::Problems;
use std::process::ExitCode;

/// EX_USAGE: the command was typed wrong.
pub const USAGE: u8 = 64;
/// `agent status`: nothing to ask.
pub const NOT_RUNNING: u8 = 3;
/// EX_CONFIG: the configuration cannot be used.
pub const CONFIG: u8 = 78;

/// What was typed cannot be done with this configuration.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUsage(pub String);

/// Tells an error on standard error and gives the exit code for it.
pub fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<Closed>() {
        return ExitCode::SUCCESS;
    }
    if let Some(problems) = error.downcast_ref::<Problems>() {
        for problem in problems.iter() {
            eprintln!("agent: {problem}");
        }
        return CONFIG.into();
    }
    eprintln!("agent: {error:#}");
    match error.is::<BadUsage>() {
        true => USAGE.into(),
        false => ExitCode::FAILURE,
    }
}

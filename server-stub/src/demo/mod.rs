//! The imitation Jira and the gateway joined with the real agent, and one request of each kind.
//!
//! | file | what |
//! |---|---|
//! | `environment` | starts and stops the three parts in a temporary folder |
//! | `agent` | the agent's process: its files, start and status |
//! | `script` | the requests of a vendor, step by step |
//! | `step` | one request and its result |
//! | `report` | the lines on the terminal |

mod agent;
mod environment;
mod report;
mod script;
mod step;

use crate::output::outln;
use environment::DemoEnvironment;
use std::{future::Future, path::PathBuf};

/// The arguments of [`run`].
pub struct DemoOptions {
    /// Path of the agent's binary.
    pub agent: PathBuf,
    /// Number of SSH sessions of the agent, 1..=16.
    pub connections: usize,
    /// End after one round, instead of waiting for `interrupted`.
    pub once: bool,
}

/// Starts the three parts, runs the script and prints each step. Without `once` it then waits until
/// `interrupted` returns. `true` if every step succeeded.
///
/// # Errors
/// When a part does not start, with the end of the agent's log.
pub async fn run(
    options: DemoOptions,
    interrupted: impl Future<Output = ()>,
) -> anyhow::Result<bool> {
    let mut interrupted = std::pin::pin!(interrupted);
    let started = tokio::select! {
        started = DemoEnvironment::start(&options) => started?,
        () = &mut interrupted => return Ok(false),
    };
    let mut environment = started;
    let succeeded = tokio::select! {
        succeeded = run_round(&mut environment, options.once) => succeeded,
        () = &mut interrupted => Ok(false),
    };
    if matches!(succeeded, Ok(true)) && !options.once {
        report::print_addresses(&environment);
        tokio::select! {
            () = &mut interrupted => {}
            () = environment.agent.wait_for_exit() => outln!("The agent ended; its log is {}", environment.agent.log_file().display()),
        }
    }
    environment.stop().await;
    succeeded
}

async fn run_round(environment: &mut DemoEnvironment, once: bool) -> anyhow::Result<bool> {
    report::print_header(environment);
    let steps = script::run_script(environment, report::print_step).await;
    let (status, proven) = environment.agent.status_text().await?;
    report::print_status(&status);
    let failed = steps.iter().filter(|step| !step.as_expected()).count();
    report::print_verdict(steps.len(), failed, proven);
    let succeeded = failed == 0 && proven;
    if !succeeded {
        report::print_agent_log(&environment.agent.log_tail());
    }
    // Without `once` a failed demo keeps running, to be examined.
    Ok(succeeded || !once)
}

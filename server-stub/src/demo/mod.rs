//! The imitation Jira and the gateway joined with the real agent: one of everything, once.
//!
//! | file | what |
//! |---|---|
//! | `environment` | starts and stops the three parts, in a folder of their own |
//! | `agent` | the agent's process: its files, its start, its status |
//! | `script` | what a vendor would do, step by step |
//! | `step` | one request, and what came of it |
//! | `report` | the story on the terminal |

mod agent;
mod environment;
mod report;
mod script;
mod step;

use crate::output::outln;
use environment::DemoEnvironment;
use std::{future::Future, path::PathBuf};

/// What the demo is told.
pub struct DemoOptions {
    /// Path of the agent's binary.
    pub agent: PathBuf,
    /// SSH sessions that the agent holds, 1..=16.
    pub connections: usize,
    /// End after one round, instead of waiting for `interrupted`.
    pub once: bool,
}

/// Starts everything, sends one of everything through, tells about it. `true` where everything succeeded.
/// Without `once` it then stays until `interrupted` returns.
///
/// # Errors
/// Where a part does not start, with the end of the agent's log.
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
            () = environment.agent.wait_for_exit() => outln!("The agent has ended; its log: {}", environment.agent.log_file().display()),
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
    // Left running, a failed demo is for looking at.
    Ok(succeeded || !once)
}

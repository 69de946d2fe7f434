//! The imitation Jira and the gateway joined with the real agent: one of everything, once.
//!
//! | file | what |
//! |---|---|
//! | `stage` | starts and stops the three parts, in a folder of their own |
//! | `agent` | the agent's process: its files, its start, its status |
//! | `script` | what a vendor would do, step by step |
//! | `step` | one request, and what came of it |
//! | `account` | the story on the terminal |

mod account;
mod agent;
mod script;
mod stage;
mod step;

use crate::output::say;
use stage::Stage;
use std::{future::Future, path::PathBuf};

/// What the demo is told.
pub struct Options {
    /// The agent's binary.
    pub agent: PathBuf,
    /// SSH sessions that the agent holds, 1..=16.
    pub connections: usize,
    /// End after one round, instead of waiting for `interrupted`.
    pub once: bool,
}

/// Starts everything, sends one of everything through, tells about it. `true` where all went well.
/// Without `once` it then stays until `interrupted` returns.
///
/// # Errors
/// Where a part does not start, with the end of the agent's log.
pub async fn run(options: Options, interrupted: impl Future<Output = ()>) -> anyhow::Result<bool> {
    let mut interrupted = std::pin::pin!(interrupted);
    let started = tokio::select! {
        started = Stage::start(&options) => started?,
        () = &mut interrupted => return Ok(false),
    };
    let mut stage = started;
    let played = tokio::select! {
        played = play(&mut stage, options.once) => played,
        () = &mut interrupted => Ok(false),
    };
    if matches!(played, Ok(true)) && !options.once {
        account::addresses(&stage);
        tokio::select! {
            () = &mut interrupted => {}
            () = stage.agent.ended() => say!("The agent has ended; its log: {}", stage.agent.log_file().display()),
        }
    }
    stage.stop().await;
    played
}

async fn play(stage: &mut Stage, once: bool) -> anyhow::Result<bool> {
    account::opening(stage);
    let steps = script::play(stage, account::step).await;
    let (status, proven) = stage.agent.status_text().await?;
    account::status(&status);
    let failed = steps.iter().filter(|step| !step.as_expected()).count();
    account::verdict(steps.len(), failed, proven);
    let well = failed == 0 && proven;
    if !well {
        account::agent_log(&stage.agent.log_tail());
    }
    // Left running, a failed demo is for looking at.
    Ok(well || !once)
}

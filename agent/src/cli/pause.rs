//! `agent pause` and `agent resume`.

use super::{exit, output::print};
use crate::{
    config::{ConfigSources, runtime_dir},
    control::{AgentClient, AgentClientError},
    pause::{PauseRequest, check_reason},
};
use std::process::ExitCode;

/// Stop the vendor's requests; the tunnel and the status stay
///
/// Until `agent resume` the vendor gets 503 with Retry-After, also after a restart. Requests under way finish.
#[derive(clap::Args)]
pub struct PauseArgs {
    /// Name of one forward [default: all]
    forward: Option<String>,
    /// Why, for log and status; the vendor is not told. At most 200 characters
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

/// Let the vendor's requests pass again after `agent pause`
#[derive(clap::Args)]
pub struct ResumeArgs {
    /// Name of one forward [default: all, each of them]
    forward: Option<String>,
}

/// Asks the running agent.
pub fn pause(args: PauseArgs, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let order = PauseRequest {
        forward: args.forward,
        reason: args.reason,
    };
    ask(sources, &order, async |client| client.pause(&order).await)?;
    print(&format!(
        "paused {}: the vendor gets 503 until agent resume; requests that have begun finish\n",
        which(&order)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Asks the running agent.
pub fn resume(args: ResumeArgs, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let order = PauseRequest {
        forward: args.forward,
        reason: None,
    };
    let was_paused = ask(sources, &order, async |client| {
        let before = client.status().await?;
        client.resume(&order).await?;
        let named = |name: &str| order.forward.as_deref().is_none_or(|one| one == name);
        let mut forwards = before.forwards.iter().filter(|f| named(&f.name));
        Ok(forwards.any(|forward| forward.paused.is_some()))
    })?;
    print(&match was_paused {
        true => format!("resumed {}: requests pass again\n", which(&order)),
        false => String::from("nothing was paused: requests pass\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn which(order: &PauseRequest) -> &str {
    order.forward.as_deref().unwrap_or("all forwards")
}

fn ask<T>(
    sources: &ConfigSources,
    order: &PauseRequest,
    asked: impl AsyncFnOnce(&AgentClient) -> Result<T, AgentClientError>,
) -> anyhow::Result<T> {
    let client = AgentClient::new(&runtime_dir(sources));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = runtime.block_on(asked(&client));
    asked.map_err(|error| {
        runtime.block_on(exit::of_forward(&client, order.forward.as_deref(), error))
    })
}

fn reason(text: &str) -> Result<String, String> {
    check_reason(text).map(|()| text.to_owned())
}

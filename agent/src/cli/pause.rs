//! `agent pause` and `agent resume`.

use super::{exit, output::print};
use crate::{
    config::{ConfigSources, runtime_dir},
    control::{AgentClient, AgentClientError},
    pause::{PauseRequest, check_reason},
};
use std::process::ExitCode;

/// Refuse the vendor's requests while the tunnel stays up
///
/// Until `agent resume`, the vendor gets 503 with Retry-After, even after a restart. Requests in progress finish.
#[derive(clap::Args)]
pub(super) struct PauseArgs {
    /// Pause only this forward [default: all]
    forward: Option<String>,
    /// Reason for log and status, at most 200 characters; not sent to the vendor
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

/// Accept the vendor's requests again after `agent pause`
#[derive(clap::Args)]
pub(super) struct ResumeArgs {
    /// Resume only this forward [default: all]
    forward: Option<String>,
}

/// Runs `agent pause`; prints what the vendor gets from now on.
pub(super) fn pause(args: PauseArgs, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let request = PauseRequest {
        forward: args.forward,
        reason: args.reason,
    };
    ask(sources, &request, async |client| {
        client.pause(&request).await
    })?;
    print(&format!(
        "paused {}: the vendor gets 503 until agent resume; requests in progress finish\n",
        which(&request)
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Runs `agent resume`; prints whether anything was paused.
pub(super) fn resume(args: ResumeArgs, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let request = PauseRequest {
        forward: args.forward,
        reason: None,
    };
    let was_paused = ask(sources, &request, async |client| {
        let before = client.status().await?;
        client.resume(&request).await?;
        let named = |name: &str| request.forward.as_deref().is_none_or(|one| one == name);
        let forwards = before.forwards.iter().map(|f| (&f.name, &f.paused));
        let outlets = before.outlets.iter().map(|o| (&o.name, &o.paused));
        let mut all = forwards.chain(outlets);
        Ok(all.any(|(name, paused)| named(name) && paused.is_some()))
    })?;
    print(&match was_paused {
        true => format!("resumed {}: requests pass again\n", which(&request)),
        false => String::from("nothing was paused: requests pass\n"),
    })?;
    Ok(ExitCode::SUCCESS)
}

fn which(request: &PauseRequest) -> &str {
    request.forward.as_deref().unwrap_or("all forwards")
}

fn ask<T>(
    sources: &ConfigSources,
    request: &PauseRequest,
    asked: impl AsyncFnOnce(&AgentClient) -> Result<T, AgentClientError>,
) -> anyhow::Result<T> {
    let client = AgentClient::new(&runtime_dir(sources));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let asked = runtime.block_on(asked(&client));
    asked.map_err(|error| {
        runtime.block_on(exit::of_forward(&client, request.forward.as_deref(), error))
    })
}

fn reason(text: &str) -> Result<String, String> {
    check_reason(text).map(|()| text.to_owned())
}

//! `agent policy`.

use super::{exit::UsageError, output::print};
use crate::{
    config::{Config, ConfigSources, ForwardConfig},
    http::DryRun,
    policy::{CompiledPolicy, PolicyDecision},
    upstream::UpstreamTarget,
};
use clap::Subcommand;
use http::Method;
use std::{ffi::OsString, os::unix::ffi::OsStrExt, process::ExitCode};

/// Show what the vendor may do
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: PolicyCommand,
}

#[derive(Subcommand)]
enum PolicyCommand {
    /// Show whether a request would be allowed, which rule decides, and why
    ///
    /// Applies every check of the running agent, except those of headers and body. Sends nothing. Exit codes: 0 allowed, 1
    /// refused.
    Explain(ExplainArgs),
}

#[derive(clap::Args)]
struct ExplainArgs {
    /// HTTP method: GET, POST
    method: Method,
    /// Path and query as the vendor calls it: /jira/rest/api/2/issue. Jira's context path may be omitted
    target: OsString,
    /// Forward whose policy to apply; required if there are several
    #[arg(long, value_name = "NAME")]
    forward: Option<String>,
}

/// Explains the policy's decision on one request.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let PolicyCommand::Explain(asked) = args.command;
    let (config, _) = Config::load_to_show(sources)?;
    let forward = choose(&config.forwards, asked.forward.as_deref())?;
    let policy = CompiledPolicy::new(&forward.policy)?;
    let dry_run = DryRun {
        policy: &policy,
        auth: &forward.auth,
        profile: &forward.upstream.profile,
        max_head: forward.http.max_head,
    };
    let explanation = dry_run.explain(&asked.method, asked.target.as_bytes());
    print(&format!("{explanation}\n"))?;
    Ok(match explanation.decision {
        PolicyDecision::Allow { .. } => ExitCode::SUCCESS,
        PolicyDecision::Refuse(_) => ExitCode::FAILURE,
    })
}

fn choose<'a>(
    forwards: &'a [ForwardConfig],
    name: Option<&str>,
) -> Result<&'a ForwardConfig, UsageError> {
    let with_policy =
        |forward: &&ForwardConfig| matches!(forward.upstream.target, UpstreamTarget::Http(_));
    let names = || {
        let names: Vec<_> = forwards.iter().map(|forward| &*forward.name).collect();
        names.join(", ")
    };
    match name {
        Some(name) => match forwards.iter().find(|forward| &*forward.name == name) {
            Some(forward) if with_policy(&forward) => Ok(forward),
            Some(_) => Err(UsageError(format!(
                "forward {name:?} leads to tcp:// and has no policy"
            ))),
            None => Err(UsageError(format!(
                "no forward is named {name:?}; there are: {}",
                names()
            ))),
        },
        None => {
            let mut candidates = forwards.iter().filter(with_policy);
            match (candidates.next(), candidates.next()) {
                (Some(only), None) => Ok(only),
                (None, _) => Err(UsageError(
                    "no forward has a policy: all lead to tcp://".to_owned(),
                )),
                _ => Err(UsageError(format!(
                    "there are several forwards; choose one with --forward: {}",
                    names()
                ))),
            }
        }
    }
}

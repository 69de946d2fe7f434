//! `agent check`; `with_token` checks a vendor's token before there is a configuration.

mod with_token;

use super::{
    exit::{self, UsageError},
    output::{print, print_as_is, print_error},
};
use crate::{
    check::{self, CheckReport, CheckStep, HostRequirements, RunningUpstream},
    config::{Config, ConfigProblems, ConfigSources, ForwardConfig, runtime_dir},
    control::{AgentClient, AgentClientError},
    pause::PauseRegistry,
    status::{ColorMode, ForwardReport},
};
use std::{process::ExitCode, sync::Arc};

/// Test every hop in order and report what fails, why, and what to do
///
/// If the agent is running, it tests with its own permissions and configuration, and never retries a credential that
/// Jira rejected. Otherwise the command logs in to each gateway once, requests the forwards, and releases them again.
///
/// Exit codes: 0 no problem, 1 warnings, 2 something does not work, 3 this user may not query the running agent, 77 no
/// agent is running and this user may not read its secrets, 78 the configuration is invalid.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Check only this forward or outlet
    forward: Option<String>,
    /// Print JSON; docs/check.schema.json describes it
    #[arg(long)]
    json: bool,
    /// Print the outbound rules to request from the network team
    ///
    /// Works before enrollment with --token-file: the command then also tests each gateway of the vendor's token up to its
    /// host key (DNS, TCP, proxy, TLS, SSH banner). It does not log in and does not use up the token. Without
    /// --token-file it connects to nothing.
    #[arg(long)]
    firewall: bool,
    #[command(flatten)]
    token: with_token::TokenArgs,
    /// Print the JSON schema of --json
    #[arg(long, hide = true)]
    schema: bool,
}

impl Args {
    /// Arguments that check every forward and print a table.
    pub(super) fn all() -> Self {
        Self {
            forward: None,
            json: false,
            firewall: false,
            token: with_token::TokenArgs::default(),
            schema: false,
        }
    }
}

/// Runs `agent check`; the exit code is the verdict.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    check_all(&args, sources).map(Into::into)
}

/// Runs the check for another command, such as `agent enroll`, and returns the exit code.
pub(super) fn check_all(args: &Args, sources: &ConfigSources) -> anyhow::Result<u8> {
    if args.schema {
        print(&check::schema())?;
        return Ok(0);
    }
    let name = args.forward.as_deref();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    if let Some(file) = &args.token.token_file {
        let report = runtime.block_on(with_token::check(file, &args.token))?;
        runtime.shutdown_background();
        show(&report, args.json)?;
        if !args.json && !report.network_failed() {
            print(&format!("\n{}", check::render_firewall(&report.firewall)))?;
        }
        return Ok(report.exit_code());
    }
    if args.firewall {
        let (config, _) = Config::load_to_show(sources)?;
        choose(&names(&config), name)?;
        let rules = runtime.block_on(check::firewall(&config, name));
        let json = || serde_json::to_string_pretty(&rules).map(|text| text + "\n");
        print(&match args.json {
            true => json()?,
            false => check::render_firewall(&rules),
        })?;
        return Ok(0);
    }
    let client = AgentClient::new(&runtime_dir(sources));
    let report = match runtime.block_on(in_agent(&client, name)) {
        Ok((steps, running)) => runtime.block_on(add_file_changes(steps, &running, name, sources)),
        Err(error) => match error.downcast_ref() {
            Some(AgentClientError::NotRunning { .. }) => match load(sources) {
                Ok(config) => {
                    let names = names(&config);
                    let chosen = choose(&names, name)?;
                    runtime.block_on(without_agent(&config, &chosen, name))
                }
                Err(StandaloneCheckError::Secrets) => {
                    print_error(AGENT_USER_ONLY);
                    return Ok(exit::NO_PERMISSION);
                }
                Err(StandaloneCheckError::Problems(problems)) => {
                    let code = exit::of_problems(&problems);
                    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                    let report = CheckReport::new(check::configuration(&problems), Vec::new());
                    show(&report, args.json)?;
                    return Ok(code);
                }
            },
            _ => return Err(error),
        },
    };
    // Does not wait for a disk read that hangs.
    runtime.shutdown_background();
    show(&report, args.json)?;
    Ok(report.exit_code())
}

/// All steps, run inside the agent: with its own permissions, whatever the files say by now.
async fn in_agent(
    client: &AgentClient,
    name: Option<&str>,
) -> anyhow::Result<(Vec<CheckStep>, Vec<ForwardReport>)> {
    let status = client.status().await?;
    let running = status.forwards;
    let outlets = status.outlets.iter().map(|outlet| &outlet.name);
    let is_outlet = outlets.clone().any(|outlet| name == Some(outlet));
    let forwards = running.iter().map(|forward| &forward.name);
    let names: Vec<_> = forwards.chain(outlets).cloned().collect();
    let chosen = choose(&names, name)?;
    let mut steps = match is_outlet {
        true => Vec::new(),
        false => client.check_tunnel(name).await?,
    };
    for forward in chosen {
        steps.extend(client.check(forward).await?);
    }
    Ok((steps, running))
}

/// The agent's steps, preceded by what the next reload would read.
async fn add_file_changes(
    mut taken: Vec<CheckStep>,
    running: &[ForwardReport],
    name: Option<&str>,
    sources: &ConfigSources,
) -> CheckReport {
    let (mut steps, rules) = match Config::load_to_show(sources) {
        Ok((config, _)) => {
            for forward in &config.forwards {
                let is_chosen = name.is_none_or(|name| *forward.name == *name);
                let now = running.iter().find(|r| *r.name == *forward.name);
                let now = now.map(|report| RunningUpstream {
                    url: &report.upstream,
                    auth_mode: &report.auth_mode,
                });
                if is_chosen {
                    taken.extend(check::paths(forward, now.as_ref()));
                }
            }
            let rules = check::firewall(&config, name).await;
            (check::configuration(&[]), rules)
        }
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            (check::refused_change(&problems), Vec::new())
        }
    };
    steps.extend(taken);
    CheckReport::new(steps, rules)
}

async fn without_agent(config: &Config, chosen: &[&str], name: Option<&str>) -> CheckReport {
    let is_chosen = |forward: &&ForwardConfig| chosen.contains(&&*forward.name);
    let forwards: Vec<_> = config.forwards.iter().filter(is_chosen).collect();
    let mut steps = check::configuration(&[]);
    if !forwards.is_empty() {
        steps.extend(run_standalone(config, &forwards).await);
    }
    let paths = forwards
        .iter()
        .flat_map(|forward| check::paths(forward, None));
    steps.extend(paths);
    let outlets = config.outlets.iter().map(|outlet| &outlet.settings.name);
    for outlet in outlets.filter(|outlet| chosen.contains(&&***outlet)) {
        steps.extend(check::outlet_standalone(outlet));
    }
    CheckReport::new(steps, check::firewall(config, name).await)
}

/// Why a check without a running agent cannot be made.
enum StandaloneCheckError {
    Problems(ConfigProblems),
    /// The configuration is valid, but this user may not read the secrets, as intended.
    Secrets,
}

fn load(sources: &ConfigSources) -> Result<Config, StandaloneCheckError> {
    let problems = match Config::load(sources) {
        Ok(config) => return Ok(config),
        Err(problems) => problems,
    };
    match Config::load_to_show(sources) {
        Ok(_) => Err(StandaloneCheckError::Secrets),
        Err(_) => Err(StandaloneCheckError::Problems(problems)),
    }
}

/// No agent is running, so that these credentials are not in use elsewhere.
async fn run_standalone(config: &Config, chosen: &[&ForwardConfig]) -> Vec<CheckStep> {
    let new = |forward: &&ForwardConfig| forward.new_auth(Arc::default());
    let logins: Vec<_> = chosen.iter().map(new).collect();
    let pairs: Vec<_> = chosen.iter().copied().zip(&logins).collect();
    let state_dir = config.state_dir.clone();
    let pauses = tokio::task::spawn_blocking(move || PauseRegistry::load(&state_dir));
    let pauses = pauses.await.unwrap_or_default();
    let mut steps = check::check_standalone(
        &HostRequirements::of(config),
        &config.tunnel,
        &pairs,
        &pauses,
    )
    .await;
    for (forward, login) in pairs {
        steps.extend(check::forward(forward, login).await);
        login.wait_idle().await;
    }
    steps
}

fn names(config: &Config) -> Vec<String> {
    let forwards = config.forwards.iter().map(|f| &f.name);
    let outlets = config.outlets.iter().map(|outlet| &outlet.settings.name);
    forwards.chain(outlets).map(ToString::to_string).collect()
}

fn choose<'a>(forwards: &'a [String], name: Option<&str>) -> Result<Vec<&'a str>, UsageError> {
    let chosen: Vec<_> = forwards
        .iter()
        .map(String::as_str)
        .filter(|forward| name.is_none_or(|name| *forward == name))
        .collect();
    if chosen.is_empty() {
        return Err(UsageError(format!(
            "no forward or outlet is named {:?}; there are: {}",
            name.unwrap_or_default(),
            forwards.join(", ")
        )));
    }
    Ok(chosen)
}

fn show(report: &CheckReport, json: bool) -> anyhow::Result<()> {
    print_as_is(&match json {
        true => serde_json::to_string_pretty(report)? + "\n",
        false => check::render(report, ColorMode::on_stdout()),
    })
}

const AGENT_USER_ONLY: &str = "no agent is running, and this user may not read its secrets (as intended); run as root: sudo agent check";

//! `agent check`; `invited` is what it does with a vendor's token, before there is a configuration.

mod invited;

use super::{
    exit::{self, BadUsage},
    output::{complain, print, print_as_is},
};
use crate::{
    check::{self, Host, Report, Step},
    config::{Config, Forward, Problems, Sources, runtime_dir},
    control::{Client, ClientError},
    pause::Pauses,
    status::Colour,
};
use std::{process::ExitCode, sync::Arc};

/// Check every hop in order and say what is wrong, why, and what to do
///
/// Where the agent runs, it takes the steps itself: with its own rights, its running configuration, and without trying a
/// credential that was refused. Where it does not, the command logs in to each gateway once, asks for the forwards and
/// gives them back. Ends with exit code 0 if all is well, 1 if something will go wrong or could be better, 2 if something
/// does not work, 3 if the running agent may not be asked by this user, 77 if none runs and this user may not read its
/// secrets, 78 if the configuration cannot be used.
#[derive(clap::Args)]
pub struct Args {
    /// Only this forward
    forward: Option<String>,
    /// Print the JSON document that docs/check.schema.json describes
    #[arg(long)]
    json: bool,
    /// Print what the network team must let out; with --token-file, before there is a configuration
    ///
    /// With a configuration no step is taken. With --token-file the gateways of the vendor's token are reached as far as
    /// their host keys: name, TCP, proxy, TLS, SSH greeting. Nothing logs in, and nothing of the token is used up.
    #[arg(long)]
    firewall: bool,
    #[command(flatten)]
    token: invited::TokenArgs,
    /// Print the JSON schema of --json and end
    #[arg(long, hide = true)]
    schema: bool,
}

impl Args {
    /// Every forward, as a table.
    pub fn all() -> Self {
        Self {
            forward: None,
            json: false,
            firewall: false,
            token: invited::TokenArgs::default(),
            schema: false,
        }
    }
}

/// Checks.
pub fn run(args: Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    checked(&args, sources).map(Into::into)
}

/// Checks, and gives the exit code.
pub fn checked(args: &Args, sources: &Sources) -> anyhow::Result<u8> {
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
        let report = runtime.block_on(invited::check(file, &args.token))?;
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
    let client = Client::new(&runtime_dir(sources));
    let report = match runtime.block_on(in_agent(&client, name)) {
        Ok(steps) => runtime.block_on(beside_files(steps, name, sources)),
        Err(error) => match error.downcast_ref() {
            Some(ClientError::NotRunning { .. }) => match load(sources) {
                Ok(config) => {
                    let names = names(&config);
                    let chosen = choose(&names, name)?;
                    runtime.block_on(without_agent(&config, &chosen, name))
                }
                Err(Unusable::Secrets) => {
                    complain(ONLY_THE_AGENT_MAY);
                    return Ok(exit::NO_PERMISSION);
                }
                Err(Unusable::Problems(problems)) => {
                    let code = exit::of_problems(&problems);
                    let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
                    let report = Report::new(check::configuration(&problems), Vec::new());
                    show(&report, args.json)?;
                    return Ok(code);
                }
            },
            _ => return Err(error),
        },
    };
    // A read of a disk that hangs is not waited for.
    runtime.shutdown_background();
    show(&report, args.json)?;
    Ok(report.exit_code())
}

/// All steps, taken by the agent that runs: by its own rights, whatever lies on the disk meanwhile.
async fn in_agent(client: &Client, name: Option<&str>) -> anyhow::Result<Vec<Step>> {
    let running = client.status().await?;
    let names: Vec<_> = running
        .forwards
        .iter()
        .map(|f| f.name.to_string())
        .collect();
    let chosen = choose(&names, name)?;
    let mut steps = client.check_tunnel(name).await?;
    for forward in chosen {
        steps.extend(client.check(forward).await?);
    }
    Ok(steps)
}

/// What the agent has found, beside what it would read at the next reload.
async fn beside_files(taken: Vec<Step>, name: Option<&str>, sources: &Sources) -> Report {
    let (mut steps, rules) = match Config::load_to_show(sources) {
        Ok((config, _)) => (
            check::configuration(&[]),
            check::firewall(&config, name).await,
        ),
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            (check::refused_change(&problems), Vec::new())
        }
    };
    steps.extend(taken);
    Report::new(steps, rules)
}

async fn without_agent(config: &Config, chosen: &[&str], name: Option<&str>) -> Report {
    let is_chosen = |forward: &&Forward| chosen.contains(&&*forward.name);
    let chosen: Vec<_> = config.forwards.iter().filter(is_chosen).collect();
    let mut steps = check::configuration(&[]);
    steps.extend(alone(config, &chosen).await);
    Report::new(steps, check::firewall(config, name).await)
}

/// Why a check without a running agent cannot be made.
enum Unusable {
    Problems(Problems),
    /// Nothing is wrong but that this user may not read the secrets, which is as it should be.
    Secrets,
}

fn load(sources: &Sources) -> Result<Config, Unusable> {
    let problems = match Config::load(sources) {
        Ok(config) => return Ok(config),
        Err(problems) => problems,
    };
    match Config::load_to_show(sources) {
        Ok(_) => Err(Unusable::Secrets),
        Err(_) => Err(Unusable::Problems(problems)),
    }
}

/// Nobody else uses the credentials now.
async fn alone(config: &Config, chosen: &[&Forward]) -> Vec<Step> {
    let new = |forward: &&Forward| forward.new_login(Arc::default());
    let logins: Vec<_> = chosen.iter().map(new).collect();
    let pairs: Vec<_> = chosen.iter().copied().zip(&logins).collect();
    let state_dir = config.state_dir.clone();
    let pauses = tokio::task::spawn_blocking(move || Pauses::load(&state_dir));
    let pauses = pauses.await.unwrap_or_default();
    let mut steps = check::alone(&Host::of(config), &config.tunnel, &pairs, &pauses).await;
    for (forward, login) in pairs {
        steps.extend(check::forward(forward, login).await);
        login.settle().await;
    }
    steps
}

fn names(config: &Config) -> Vec<String> {
    config.forwards.iter().map(|f| f.name.to_string()).collect()
}

fn choose<'a>(forwards: &'a [String], name: Option<&str>) -> Result<Vec<&'a str>, BadUsage> {
    let chosen: Vec<_> = forwards
        .iter()
        .map(String::as_str)
        .filter(|forward| name.is_none_or(|name| *forward == name))
        .collect();
    if chosen.is_empty() {
        return Err(BadUsage(format!(
            "no forward is named {:?}; there are: {}",
            name.unwrap_or_default(),
            forwards.join(", ")
        )));
    }
    Ok(chosen)
}

fn show(report: &Report, json: bool) -> anyhow::Result<()> {
    print_as_is(&match json {
        true => serde_json::to_string_pretty(report)? + "\n",
        false => check::render(report, Colour::on_stdout()),
    })
}

const ONLY_THE_AGENT_MAY: &str = "no agent is running here, and this user may not read its secrets, which is as it should be; run the check as root: sudo agent check";

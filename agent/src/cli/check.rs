//! `agent check`.

use super::{
    exit::{self, BadUsage},
    output::print,
};
use crate::{
    check::{self, Host, Report, Step},
    config::{Config, Forward, Sources, runtime_dir},
    control::{Client, ClientError},
    pause::Pauses,
};
use std::{path::Path, process::ExitCode, sync::Arc};

/// Check every hop in order and say what is wrong, why, and what to do
///
/// Where the agent runs, it takes the steps itself: with its own rights, its running configuration, and without trying a
/// credential that was refused. Where it does not, the command logs in to each gateway once, asks for the forwards and
/// gives them back. Ends with exit code 0 if all is well, 1 if something will go wrong or could be better, 2 if something
/// does not work, 3 if the running agent may not be asked by this user, 78 if the configuration cannot be used.
#[derive(clap::Args)]
pub struct Args {
    /// Only this forward
    forward: Option<String>,
    /// Print the JSON document that docs/check.schema.json describes
    #[arg(long)]
    json: bool,
    /// Take no step; print what the network team must let out
    #[arg(long)]
    firewall: bool,
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
            schema: false,
        }
    }
}

/// Checks.
pub fn run(args: Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    if args.schema {
        print(&check::schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            let report = Report::new(check::configuration(&problems), Vec::new());
            show(&report, args.json)?;
            return Ok(exit::CONFIG.into());
        }
    };
    let name = args.forward.as_deref();
    let chosen = choose(&config.forwards, name)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    if args.firewall {
        let rules = runtime.block_on(check::firewall(&config, name));
        let json = || serde_json::to_string_pretty(&rules).map(|text| text + "\n");
        print(&match args.json {
            true => json()?,
            false => check::render_firewall(&rules),
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    let taken = runtime.block_on(take(&config, &chosen, name, &runtime_dir(sources)));
    // A read of a disk that hangs is not waited for.
    runtime.shutdown_background();
    let report = match taken {
        Ok(report) => report,
        Err(error @ ClientError::Denied { .. }) => {
            eprintln!("agent: {error}");
            return Ok(exit::NOT_RUNNING.into());
        }
        Err(error) => return Err(error.into()),
    };
    show(&report, args.json)?;
    Ok(report.exit_code().into())
}

/// Takes all steps, inside the agent where one runs.
async fn take(
    config: &Config,
    chosen: &[&Forward],
    name: Option<&str>,
    runtime_dir: &Path,
) -> Result<Report, ClientError> {
    let mut steps = check::configuration(&[]);
    let client = Client::new(runtime_dir);
    match client.check_tunnel(name).await {
        Ok(taken) => {
            steps.extend(taken);
            for forward in chosen {
                steps.extend(client.check(&forward.name).await?);
            }
        }
        Err(ClientError::NotRunning { .. }) => steps.extend(alone(config, chosen).await),
        Err(error) => return Err(error),
    }
    Ok(Report::new(steps, check::firewall(config, name).await))
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

fn choose<'a>(forwards: &'a [Forward], name: Option<&str>) -> Result<Vec<&'a Forward>, BadUsage> {
    let chosen: Vec<_> = forwards
        .iter()
        .filter(|forward| name.is_none_or(|name| *forward.name == *name))
        .collect();
    if chosen.is_empty() {
        let names: Vec<_> = forwards.iter().map(|forward| &*forward.name).collect();
        return Err(BadUsage(format!(
            "no forward is named {:?}; there are: {}",
            name.unwrap_or_default(),
            names.join(", ")
        )));
    }
    Ok(chosen)
}

fn show(report: &Report, json: bool) -> anyhow::Result<()> {
    print(&match json {
        true => serde_json::to_string_pretty(report)? + "\n",
        false => check::render(report),
    })
}

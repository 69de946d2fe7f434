//! `agent check`.

use super::{
    exit::{self, BadUsage},
    output::print,
};
use crate::{
    auth::Login,
    check::{self, Report, Step},
    config::{Config, Forward, Sources, runtime_dir},
    control::{Client, ClientError},
    status::Layer,
};
use std::{process::ExitCode, sync::Arc};

/// Check every hop in order and say what is wrong, why, and what to do
///
/// Where the agent runs, it takes the steps itself: with its own rights, its running configuration, and through the
/// circuit that keeps a refused credential from being tried twice. Ends with exit code 0 if all is well, 1 if
/// something will go wrong or could be better, 2 if something does not work, 78 if the configuration cannot be used.
#[derive(clap::Args)]
pub struct Args {
    /// Only this forward
    forward: Option<String>,
    /// Print a JSON document
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Every forward, as a table.
    pub fn all() -> Self {
        Self {
            forward: None,
            json: false,
        }
    }
}

/// Checks.
pub fn run(args: Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = match Config::load(sources) {
        Ok(config) => config,
        Err(problems) => {
            let problems: Vec<_> = problems.iter().map(ToString::to_string).collect();
            show(check::configuration(&problems), &args)?;
            return Ok(exit::CONFIG.into());
        }
    };
    let chosen = choose(&config.forwards, args.forward.as_deref())?;
    let mut steps = check::configuration(&[]);
    let client = Client::new(&runtime_dir(sources));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()?;
    let taken = runtime.block_on(async {
        let mut taken = Vec::new();
        for forward in chosen {
            match client.check(&forward.name).await {
                Ok(steps) => taken.extend(steps),
                Err(ClientError::NotRunning { .. }) => taken.extend(alone(forward).await),
                Err(error) => return Err(error),
            }
        }
        Ok(taken)
    });
    match taken {
        Ok(taken) => steps.extend(taken),
        Err(error @ ClientError::Denied { .. }) => {
            eprintln!("agent: {error}");
            return Ok(exit::NOT_RUNNING.into());
        }
        Err(error) => return Err(error.into()),
    }
    show(steps, &args)
}

/// Nobody else uses the credential now.
async fn alone(forward: &Forward) -> Vec<Step> {
    let login = Login::new(forward.auth.clone(), Arc::new(Layer::default()));
    let steps = check::forward(forward, &login).await;
    login.settle().await;
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

fn show(steps: Vec<Step>, args: &Args) -> anyhow::Result<ExitCode> {
    let report = Report::new(steps);
    print(&match args.json {
        true => serde_json::to_string_pretty(&report)? + "\n",
        false => check::render(&report),
    })?;
    Ok(report.exit_code().into())
}

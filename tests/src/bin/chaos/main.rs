//! `make chaos` and `make soak`: faults, restarts, cuts, distance and overload on real parts, with default settings, each
//! figure beside its goal. docs/dev/reliability.md has the results and says how to repeat them.
//!
//! Needs root, because every host is a network namespace, and `tools/setup`.
#![forbid(unsafe_code)]

mod balancer;
mod before;
mod jira;
mod report;
mod scenarios;
mod soak;
mod vendor;
mod world;

use anyhow::{Context, Result, bail};
use clap::Parser;
use report::{ChaosDocument, ChaosReport, print_line, seconds};
use scenarios::{ChaosContext, RunLength, Scenario};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use world::PlaceKind;

/// Breaks every part of the path, and prints what that costs beside what was promised.
///
/// E2E_BIN_DIR names a folder with other binaries (agent, server-stub) than those beside this one.
#[derive(Parser)]
#[command(name = "chaos")]
struct Args {
    /// Scenarios to run; all of the run's length without one
    scenarios: Vec<Scenario>,
    /// At most two minutes: what continuous integration runs. Times may be five times their goal there
    #[arg(long)]
    short: bool,
    /// Everything at full length: 100 restarts, the bad link for ten minutes
    #[arg(long)]
    long: bool,
    /// Only these kinds of gateway
    #[arg(long, value_delimiter = ',')]
    places: Vec<PlaceKind>,
    /// Times may be this many times their goal without failing
    #[arg(long)]
    patience: Option<f64>,
    /// What this machine cannot do does not fail the run
    #[arg(long)]
    allow_missing: bool,
    /// Where the result is written as JSON
    #[arg(long, default_value = "target/chaos.json")]
    json: PathBuf,
    /// Run nothing; print these results of earlier runs as tables for docs/dev/reliability.md
    #[arg(long, value_name = "JSON")]
    markdown: Vec<PathBuf>,
    /// Minutes of `soak`
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Seed of the order of faults in `soak` and `writes`; printed
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(70)
        }
    }
}

fn run(args: Args) -> Result<ExitCode> {
    if !args.markdown.is_empty() {
        for file in &args.markdown {
            print_line(&ChaosDocument::read(file)?.markdown());
        }
        return Ok(ExitCode::SUCCESS);
    }
    require_lab()?;
    let length = match (args.short, args.long) {
        (true, true) => bail!("--short and --long"),
        (true, false) => RunLength::Short,
        (false, true) => RunLength::Long,
        (false, false) => RunLength::Usual,
    };
    let patience = args.patience.unwrap_or(match length {
        RunLength::Short => 5.0,
        RunLength::Usual | RunLength::Long => 1.0,
    });
    let context = ChaosContext {
        report: ChaosReport::new(patience),
        places: match args.places.is_empty() {
            true => PlaceKind::ALL.to_vec(),
            false => args.places,
        },
        length,
        minutes: args.minutes,
        seed: args
            .seed
            .unwrap_or_else(|| u64::from(rand::random::<u32>())),
    };
    let scenarios = match args.scenarios.is_empty() {
        true => Scenario::of_length(length),
        false => args.scenarios,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let interrupted = runtime.block_on(async {
        tokio::select! {
            () = scenarios::run(&context, &scenarios) => false,
            _ = tokio::signal::ctrl_c() => true,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(5));
    let document = ChaosDocument::of(&context.report);
    document.write(&args.json)?;
    let (failed, missing) = document.missed();
    print_line(&format!(
        "{} figures, {failed} goals missed, {missing} not measured, in {}; {}",
        document.rows.len(),
        seconds(document.took()),
        args.json.display()
    ));
    let is_complete = missing == 0 || args.allow_missing;
    Ok(match failed == 0 && is_complete && !interrupted {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn require_lab() -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("needs root: every host is a network namespace");
    }
    if !e2e::lab::is_available() {
        bail!("needs /dev/net/tun: mkdir -p /dev/net && mknod /dev/net/tun c 10 200");
    }
    for program in ["ip", "nft", "ssh"] {
        let found = std::process::Command::new(program).arg("-V").output();
        found.with_context(|| format!("needs {program}: tools/setup brings it"))?;
    }
    e2e::lab::remove_stale()
}

//! `agent status`.

use super::{
    exit,
    output::{print, print_as_is, print_error},
    terminal::terminal_width,
};
use crate::{
    config::{ConfigSources, runtime_dir},
    control::{AgentClient, AgentClientError},
    status::{ColorMode, OverallState, StatusReport, render_rates, render_within, schema},
};
use std::{
    io::IsTerminal,
    process::ExitCode,
    time::{Duration, Instant},
};

/// Show which layers are proven to work right now: network, tunnel, Jira, login
///
/// Exit codes: 0 every layer is proven, 1 degraded, 2 no request can pass, 3 the agent is not running.
#[derive(clap::Args)]
pub(super) struct Args {
    /// Print JSON; docs/status.schema.json describes it
    #[arg(long)]
    json: bool,
    /// Refresh every two seconds and show traffic rates, until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the JSON schema of --json
    #[arg(long, hide = true)]
    schema: bool,
}

impl Args {
    /// Arguments that print the table once.
    pub(super) fn once() -> Self {
        Self {
            json: false,
            watch: false,
            schema: false,
        }
    }
}

/// Queries the running agent, once or again and again.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    if args.schema {
        print(&schema())?;
        return Ok(ExitCode::SUCCESS);
    }
    let client = AgentClient::new(&runtime_dir(sources));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut before: Option<(Instant, StatusReport)> = None;
        loop {
            let (asked, answer) = (Instant::now(), client.status().await);
            if !args.watch {
                return show(answer, &args, sources);
            }
            print_as_is(if std::io::stdout().is_terminal() {
                CLEAR
            } else {
                ""
            })?;
            let report = answer.as_ref().ok().map(StatusReport::printable);
            show(answer, &args, sources)?;
            if let (Some((then, earlier)), Some(now), false) = (&before, &report, args.json)
                && let Some(rates) = render_rates(earlier, now, asked.duration_since(*then))
            {
                print_as_is(&rates)?;
            }
            before = report.map(|report| (asked, report));
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
    })
}

fn show(
    answer: Result<StatusReport, AgentClientError>,
    args: &Args,
    sources: &ConfigSources,
) -> anyhow::Result<ExitCode> {
    match answer {
        Ok(report) => {
            print_as_is(&text(&report.printable(), args.json)?)?;
            Ok(report.overall.exit_code().into())
        }
        Err(error @ (AgentClientError::NotRunning { .. } | AgentClientError::Denied { .. })) => {
            exit::report_client_error(&error, sources);
            Ok(exit::NOT_RUNNING.into())
        }
        // An agent that runs without answering serves nothing.
        Err(error) => {
            print_error(error);
            Ok(OverallState::Down.exit_code().into())
        }
    }
}

fn text(report: &StatusReport, json: bool) -> anyhow::Result<String> {
    if json {
        return Ok(serde_json::to_string_pretty(report)? + "\n");
    }
    Ok(render_within(
        report,
        ColorMode::on_stdout(),
        terminal_width(),
    ))
}

const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Cursor home, clear the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

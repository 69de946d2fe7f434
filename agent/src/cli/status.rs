//! `agent status`.

use super::{
    exit,
    output::{print, print_as_is, print_error},
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

/// Show what is proven right now: network, tunnel, Jira and login
///
/// Ends with exit code 0 if every layer is proven, 1 if the service is degraded, 2 if no request can pass,
/// 3 if the agent is not running.
#[derive(clap::Args)]
pub struct Args {
    /// Print the JSON document that docs/status.schema.json describes
    #[arg(long)]
    json: bool,
    /// Print again every two seconds, with what has come through meanwhile, until interrupted
    #[arg(long)]
    watch: bool,
    /// Print the JSON schema of --json and end
    #[arg(long, hide = true)]
    schema: bool,
}

impl Args {
    /// Arguments that print the table once.
    pub fn once() -> Self {
        Self {
            json: false,
            watch: false,
            schema: false,
        }
    }
}

/// Asks the running agent.
pub fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
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
            if let (Some((then, former)), Some(now), false) = (&before, &report, args.json)
                && let Some(rates) = render_rates(former, now, asked.duration_since(*then))
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
        // Something runs and does not answer: that is no service.
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

/// Columns of the terminal on standard output.
fn terminal_width() -> Option<usize> {
    let out = std::io::stdout();
    let size = out
        .is_terminal()
        .then(|| rustix::termios::tcgetwinsize(&out));
    let columns = size?.ok()?.ws_col;
    (columns >= NARROWEST).then_some(usize::from(columns))
}

/// Columns. Below it nothing could be read either way.
const NARROWEST: u16 = 40;
const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// Cursor home, clear the screen.
const CLEAR: &str = "\x1b[H\x1b[2J";

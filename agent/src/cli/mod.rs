//! The command line. Each subcommand is one file with its arguments and `run`; help,
//! man pages and completions all come from these types. Only `cli` and `service` use `anyhow`.

mod check;
mod completions;
mod config;
mod enroll;
mod events;
mod exit;
mod log_level;
mod login;
mod login_retry;
mod man;
mod metrics;
mod output;
mod pause;
mod policy;
mod reload;
mod run;
mod status;
mod support_bundle;
mod terminal;
mod upgrade;
mod verify_self;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
use std::{ffi::OsString, path::PathBuf, process::ExitCode};

/// Parses this process's arguments, runs the subcommand and returns its exit code.
pub fn main() -> ExitCode {
    crate::secret::disable_core_dumps();
    main_with(std::env::args_os())
}

/// The definition of the whole command line, for tests that compare the documents with it.
pub fn definition() -> clap::Command {
    CommandLine::command()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "clap adds kinds of errors; the others are errors of usage"
)]
fn main_with(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match CommandLine::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed standard output is not a failure.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => exit::USAGE.into(),
            };
        }
    };
    let sources = crate::config::ConfigSources::from_process(cli.config);
    let done = match cli.command {
        AgentCommand::Run(args) => run::run(args, &sources),
        AgentCommand::Status(args) => status::run(args, &sources),
        AgentCommand::LogLevel(args) => log_level::run(args, &sources),
        AgentCommand::Login(args) => login::login(args, &sources),
        AgentCommand::Logout(args) => login::logout(args, &sources),
        AgentCommand::Pause(args) => pause::pause(args, &sources),
        AgentCommand::Resume(args) => pause::resume(args, &sources),
        AgentCommand::Events(args) => events::run(args, &sources),
        AgentCommand::Reload(args) => reload::run(args, &sources),
        AgentCommand::Upgrade(args) => upgrade::run(args, &sources),
        AgentCommand::LoginRetry(args) => login_retry::run(args, &sources),
        AgentCommand::Enroll(args) => enroll::run(*args, &sources),
        AgentCommand::Check(args) => check::run(args, &sources),
        AgentCommand::Metrics(args) => metrics::run(args, &sources),
        AgentCommand::Policy(args) => policy::run(args, &sources),
        AgentCommand::Config(args) => config::run(args, &sources),
        AgentCommand::SupportBundle(args) => support_bundle::run(args, &sources),
        AgentCommand::VerifySelf(args) => verify_self::run(args),
        AgentCommand::Completions(args) => completions::run(args, &mut CommandLine::command()),
        AgentCommand::Man(args) => man::run(args, CommandLine::command()),
    };
    done.unwrap_or_else(|error| exit::report(&error, &sources))
}

/// Lets a vendor's services reach an internal Jira through an outbound SSH tunnel
#[derive(Parser)]
#[command(name = "agent", version, max_term_width = 100)]
struct CommandLine {
    /// Configuration file [default: $JIRA_TUNNEL_AGENT_CONFIG, else /etc/jira-tunnel-agent/agent.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: AgentCommand,
}

#[derive(Subcommand)]
enum AgentCommand {
    Run(run::Args),
    Enroll(Box<enroll::Args>),
    Status(status::Args),
    Check(check::Args),
    Metrics(metrics::Args),
    Policy(policy::Args),
    Config(config::Args),
    Login(login::LoginArgs),
    Logout(login::LogoutArgs),
    Pause(pause::PauseArgs),
    Resume(pause::ResumeArgs),
    Events(events::Args),
    Reload(reload::Args),
    Upgrade(upgrade::Args),
    LogLevel(log_level::Args),
    LoginRetry(login_retry::Args),
    SupportBundle(support_bundle::Args),
    VerifySelf(verify_self::Args),
    Completions(completions::Args),
    Man(man::Args),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_of_the_command_line_is_sound() {
        CommandLine::command().debug_assert();
    }
}

//! Tests answers while they can still be corrected: before the key is registered, which uses the token's one-time
//! secret.

use super::{answers, flags::Args, prompt::TerminalPrompt, runtime};
use crate::{
    auth,
    check::{self, CheckReport, CheckStep, StepVerdict},
    cli::output::{print, print_error},
    config::{Config, ConfigSources, ProposedDropIn},
    enroll::{
        EnrollmentAnswers, EnrollmentFileError, EnrollmentToken, ProxyAnswers, StagedEnrollment,
    },
    status::ColorMode,
    tunnel::egress,
};
use std::{sync::Arc, time::Duration};
use tokio::{net::TcpStream, time::timeout};

/// Collects the answers as a proposed configuration. At a terminal, tests it with Jira and asks again on failure.
/// Nothing is written while questions are open, so an interruption leaves nothing.
pub(super) fn collect_and_verify<'dir>(
    args: &Args,
    terminal: &TerminalPrompt,
    token: &EnrollmentToken,
    sources: &ConfigSources,
    stage: impl Fn() -> Result<StagedEnrollment<'dir>, EnrollmentFileError>,
) -> anyhow::Result<(StagedEnrollment<'dir>, ProposedDropIn, Config)> {
    let mut proxy = None;
    loop {
        let mut answers = answers::collect(args, terminal)?;
        if let Some(proxy) = proxy.take() {
            answers.proxy = Some(proxy);
        }
        let staged = stage()?;
        let (mut proposed, mut config) = write_proposal(token, sources, &staged, &answers)?;
        if !terminal.is_interactive() {
            return Ok((staged, proposed, config));
        }
        let runtime = runtime()?;
        if answers.proxy.is_none() && runtime.block_on(needs_proxy(&config)) {
            answers.proxy = ask_proxy(terminal)?;
            (proposed, config) = write_proposal(token, sources, &staged, &answers)?;
        }
        print("testing these answers with Jira\n")?;
        let failed = runtime.block_on(failed_steps(&config, &token.forward.name));
        if failed.is_empty() {
            return Ok((staged, proposed, config));
        }
        print(&check::render(
            &CheckReport::new(failed, Vec::new()),
            ColorMode::on_stdout(),
        ))?;
        let can_answer = args.upstream.is_none() || args.auth.is_none();
        if !can_answer || !terminal.choice("What to do", &AFTER_FAILED_CHECK)? {
            return Ok((staged, proposed, config));
        }
        proxy = answers.proxy;
    }
}

fn write_proposal(
    token: &EnrollmentToken,
    sources: &ConfigSources,
    staged: &StagedEnrollment<'_>,
    answers: &EnrollmentAnswers,
) -> anyhow::Result<(ProposedDropIn, Config)> {
    let proposed = staged.write(token, answers)?;
    let config = Config::load(&sources.with_proposed(proposed.clone())).inspect_err(|_| {
        print_error("these answers make no valid configuration; nothing was changed:");
    })?;
    Ok((proposed, config))
}

/// The failed steps toward Jira. A password is not tried: three wrong ones lock the account, and the agent will try
/// it. For OAuth there is no token yet.
async fn failed_steps(config: &Config, forward: &str) -> Vec<CheckStep> {
    let Some(forward) = config.forwards.iter().find(|f| *f.name == *forward) else {
        return Vec::new();
    };
    let mut forward = forward.clone();
    match forward.auth {
        auth::Settings::Pat { .. }
        | auth::Settings::Header { .. }
        | auth::Settings::ApiToken { .. } => {}
        auth::Settings::PassThrough
        | auth::Settings::Basic { .. }
        | auth::Settings::OAuth2(_)
        | auth::Settings::OAuth1(_) => forward.auth = auth::Settings::PassThrough,
    }
    let auth = forward.new_auth(Arc::default());
    let mut steps = check::forward(&forward, &auth).await;
    auth.wait_idle().await;
    steps.retain(|step| step.verdict == StepVerdict::Fail);
    steps
}

/// Whether no proxy is configured and no gateway is reachable.
async fn needs_proxy(config: &Config) -> bool {
    for gateway in &config.tunnel.gateways {
        if config.tunnel.egress.proxy(gateway).is_some() {
            return false;
        }
        let connected = TcpStream::connect((gateway.host.as_str(), gateway.port));
        if matches!(timeout(CONNECT_TIMEOUT, connected).await, Ok(Ok(_))) {
            return false;
        }
    }
    true
}

fn ask_proxy(terminal: &TerminalPrompt) -> anyhow::Result<Option<ProxyAnswers>> {
    print("no gateway is reachable directly\n")?;
    let question = "Proxy to the gateway, like http://proxy.corp.example:3128";
    let url = terminal.line(question, Some(NONE), |answer| match answer {
        NONE => Ok(None),
        url => match egress::ProxyServer::parse(url) {
            Ok(_) => Ok(Some(url.to_owned())),
            Err(error) => Err(error.to_string()),
        },
    })?;
    let Some(url) = url else {
        return Ok(None);
    };
    let user = terminal.line("User name at the proxy", Some(NONE), |answer| {
        Ok(Some(answer.to_owned()).filter(|answer| answer != NONE))
    })?;
    let login = match user {
        Some(user) => Some((user, terminal.hidden("Its password (not shown)")?)),
        None => None,
    };
    Ok(Some(ProxyAnswers { url, login }))
}

const NONE: &str = "none";
/// For one gateway, because a firewall may drop packets.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const AFTER_FAILED_CHECK: [(bool, &str); 2] = [
    (true, "answer again"),
    (
        false,
        "continue anyway, and correct it later with the same command",
    ),
];

//! `agent enroll`: `flags` has the command line, `prompt` asks at the terminal, `answers` combines both, `attempt`
//! tests them before anything takes effect, `service` starts the unit, `messages` has the longer texts. The work
//! itself is in [`crate::enroll`].

mod answers;
mod attempt;
mod flags;
mod messages;
mod prompt;
mod service;

use super::{check, output::print, status};
use crate::{
    config::{Config, ConfigSources, key_origin},
    enroll::{
        self, ActiveEnrollment, EnrollmentDir, EnrollmentToken, RegistrationError, StagedEnrollment,
    },
};
use anyhow::{Context, bail};
pub(super) use flags::Args;
use prompt::TerminalPrompt;
use service::AnsweringAgent;
use std::{
    io::{self, Read},
    path::Path,
    process::ExitCode,
    time::SystemTime,
};
use zeroize::Zeroizing;

/// Enrolls this host, or corrects the answers of its enrollment.
pub(super) fn run(args: Args, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let terminal = TerminalPrompt::new(args.non_interactive);
    let text = token_text(&args, &terminal)?;
    let token = EnrollmentToken::parse(&text)?;
    let digest = EnrollmentToken::digest(&text);
    drop(text);
    let is_current_token = |current: Option<&ActiveEnrollment>| {
        current.and_then(|current| current.token.as_deref()) == Some(digest.as_str())
    };
    // Before anything changes.
    if !is_current_token(EnrollmentDir::read_active(sources)?.as_ref()) {
        token.check_expiry(SystemTime::now())?;
    }
    let dir = EnrollmentDir::open(sources)?;
    let current = dir.current()?;
    if is_current_token(current.as_ref()) {
        correct(&args, &terminal, &token, sources, &dir)?;
    } else {
        refuse_overwrite(&args, sources, &dir, current.as_ref())?;
        print(&messages::invitation(&token))?;
        let comment = format!("jira-tunnel-agent {}", token.user);
        let stage = || dir.stage(&digest, &comment);
        let (mut staged, proposed, config) =
            attempt::collect_and_verify(&args, &terminal, &token, sources, stage)?;
        let replaces = current.is_some() || key_origin(sources, "tunnel", "gateways").is_some();
        if !runtime()?.block_on(ensure_registered(&config, &token, &mut staged, replaces))? {
            return Ok(ExitCode::FAILURE);
        }
        staged.commit(&proposed)?;
        print(&format!("configured in {}\n", dir.drop_in().display()))?;
    }
    finish(&args, &token, sources, &dir, current.as_ref())
}

/// The token was used already, so only the answers can be corrected. The key is kept, and the gateway is not
/// contacted.
fn correct(
    args: &Args,
    terminal: &TerminalPrompt,
    token: &EnrollmentToken,
    sources: &ConfigSources,
    dir: &EnrollmentDir,
) -> anyhow::Result<()> {
    print("this host is already enrolled with this token\n")?;
    let answer_again = match (args.answers_something(), terminal.is_interactive()) {
        (true, _) => true,
        (false, true) => terminal.choice("What to do", &ALREADY_ENROLLED)?,
        (false, false) => false,
    };
    if !answer_again {
        return print("nothing was changed\n");
    }
    let stage = || dir.restage();
    let (staged, proposed, _) = attempt::collect_and_verify(args, terminal, token, sources, stage)?;
    let differences = staged.differences(&proposed)?;
    if differences.is_empty() {
        return print("the answers are the same: nothing was changed\n");
    }
    staged.commit(&proposed)?;
    print(&format!(
        "corrected the answers ({}) in {}; the key is unchanged\n",
        differences.join(", "),
        dir.drop_in().display()
    ))
}

/// Never an argument: every user of the host can read those of a process.
fn token_text(args: &Args, terminal: &TerminalPrompt) -> anyhow::Result<Zeroizing<String>> {
    match &args.token_file {
        Some(file) => token_in(file),
        None => terminal.token(),
    }
}

/// The text of this file, `-` for standard input.
pub(super) fn token_in(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let read = |source: &mut dyn Read| {
        // Allocated at once: growing would leave copies in memory.
        let mut text = Zeroizing::new(String::with_capacity(MAX_READ as usize));
        source
            .take(MAX_READ)
            .read_to_string(&mut text)
            .map(|_| text)
    };
    let text = match file == Path::new("-") {
        true => read(&mut io::stdin().lock()),
        false => std::fs::File::open(file).and_then(|mut file| read(&mut file)),
    };
    text.with_context(|| format!("--token-file {}", file.display()))
}

/// Refuses to replace an existing configuration without `--replace`.
fn refuse_overwrite(
    args: &Args,
    sources: &ConfigSources,
    dir: &EnrollmentDir,
    current: Option<&ActiveEnrollment>,
) -> anyhow::Result<()> {
    if args.replace {
        return Ok(());
    }
    if let Some(current) = current {
        let key = current.public.as_deref().and_then(messages::fingerprint);
        bail!(
            "this host is already enrolled ({}{}); nothing was changed. To enroll it with this token: agent enroll --replace, which keeps the old key until the new one works",
            dir.drop_in().display(),
            key.map(|key| format!(", key {key}")).unwrap_or_default()
        );
    }
    if let Some(origin) = key_origin(sources, "tunnel", "gateways") {
        bail!(
            "a tunnel is already configured by hand ({origin}); nothing was changed. To override it with the token's values: agent enroll --replace"
        );
    }
    Ok(())
}

/// Ensures that the gateway accepts the key. `false` if the vendor must add it first.
async fn ensure_registered(
    config: &Config,
    token: &EnrollmentToken,
    staged: &mut StagedEnrollment<'_>,
    replaces: bool,
) -> anyhow::Result<bool> {
    let key = messages::fingerprint(&staged.key.public).unwrap_or_default();
    print(&match staged.key.reused {
        true => format!("using the key of the last attempt: {key}\n"),
        false => format!("created a key: {key}\n"),
    })?;
    // The last attempt may have registered it without receiving the answer.
    if staged.key.reused {
        match enroll::prove(&config.tunnel).await {
            Ok(_) => {
                print("the gateway already knows this key\n")?;
                return Ok(true);
            }
            // A gateway that is unreachable now is not tried again for the registration.
            Err(error) if token.secret.is_some() && !error.refuses_key() => {
                return Err(messages::not_registered(error));
            }
            Err(_) => {}
        }
    }
    if token.secret.is_some() {
        print("registering it at the gateway\n")?;
        let registered = enroll::register(&config.tunnel, token, &staged.key.public).await;
        if let Err(error) = registered {
            if error.key_may_be_known() {
                staged.keep_key();
            }
            return Err(messages::not_registered(error));
        }
        staged.keep_key();
        let gateway = enroll::prove(&config.tunnel)
            .await
            .map_err(messages::not_proven)?;
        print(&format!(
            "registered it, and logged in with it at {gateway}\n"
        ))?;
        return Ok(true);
    }
    if !replaces {
        return Ok(true);
    }
    match enroll::prove(&config.tunnel).await {
        Ok(gateway) => {
            print(&format!("logged in with it at {gateway}\n"))?;
            Ok(true)
        }
        Err(error @ RegistrationError::LoginRefused { .. }) => {
            staged.keep_key();
            print(&messages::key_not_known_yet(
                token,
                &staged.key.public,
                &error,
            ))?;
            Ok(false)
        }
        Err(error) => {
            staged.keep_key();
            Err(error.into())
        }
    }
}

/// Starts the service, runs the check, shows the status, and removes replaced files last.
fn finish(
    args: &Args,
    token: &EnrollmentToken,
    sources: &ConfigSources,
    dir: &EnrollmentDir,
    before: Option<&ActiveEnrollment>,
) -> anyhow::Result<ExitCode> {
    let config = Config::load(sources)?;
    // Stale files may be from a run that committed its drop-in but did not restart the service.
    let changed = before != dir.current()?.as_ref();
    let start = service::start(args.no_start, changed || dir.has_stale()?, sources);
    print(&start.text)?;
    // If the vendor does not have the key yet, there is nothing to wait for.
    if start.agent == AnsweringAgent::Current && token.secret.is_some() {
        service::wait_for_proof(sources);
    }
    // An agent with the previous configuration would report on that one.
    let mut checked = 0;
    if !args.no_check && start.agent != AnsweringAgent::Outdated {
        print("\n")?;
        checked = check::check_all(&check::Args::all(), sources)?;
    }
    if start.agent == AnsweringAgent::Current {
        print("\n")?;
        status::run(status::Args::once(), sources)?;
    }
    // Such an agent still reads the previous files.
    if start.agent != AnsweringAgent::Outdated {
        dir.remove_stale()?;
    }
    let now = dir.current()?;
    let public = now.as_ref().and_then(|now| now.public.as_deref());
    let before = before.filter(|before| before.public.as_deref() != public);
    let public = public.zip(dir.public_file());
    let state = messages::NextSteps {
        start: &start,
        public,
        before,
        failed: checked >= 2,
    };
    print(&messages::next_steps(token, &config, &state))?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

const ALREADY_ENROLLED: [(bool, &str); 2] = [
    (false, "run only the check: the answers are right"),
    (true, "answer again; the key is kept"),
];
/// Bytes: enough for a token that a mail program wrapped and quoted, and to detect a text that is too long.
const MAX_READ: u64 = 2 * enroll::TOKEN_MAX_LEN as u64;

//! `agent enroll`: `flags` is what was typed, `ask` the person at the terminal, `gather` makes answers of both, `attempt`
//! tries them before anything counts, `service` starts the unit, `tell` has the longer texts. What is done is in [`crate::enroll`].

mod ask;
mod attempt;
mod flags;
mod gather;
mod service;
mod tell;

use super::{check, output::print, status};
use crate::{
    config::{Config, Sources, written},
    enroll::{self, Enrolment, RegisterError, Site, Staged, Token},
};
use anyhow::{Context, bail};
use ask::Console;
pub use flags::Args;
use service::Agent;
use std::{
    io::{self, Read},
    path::Path,
    process::ExitCode,
    time::SystemTime,
};
use zeroize::Zeroizing;

/// Enrols this host.
pub fn run(args: Args, sources: &Sources) -> anyhow::Result<ExitCode> {
    let console = Console::new(args.non_interactive);
    let text = token_text(&args, &console)?;
    let token = Token::parse(&text)?;
    let digest = Token::digest(&text);
    drop(text);
    let known = |current: Option<&Enrolment>| {
        current.and_then(|current| current.token.as_deref()) == Some(digest.as_str())
    };
    // Before anything is touched.
    if !known(Site::look(sources)?.as_ref()) {
        token.in_time(SystemTime::now())?;
    }
    let site = Site::open(sources)?;
    let current = site.current()?;
    if known(current.as_ref()) {
        correct(&args, &console, &token, sources, &site)?;
    } else {
        refuse_second(&args, sources, &site, current.as_ref())?;
        print(&tell::invitation(&token))?;
        let comment = format!("jira-tunnel-agent {}", token.user);
        let stage = || site.stage(&digest, &comment);
        let (mut staged, draft, config) =
            attempt::answered(&args, &console, &token, sources, stage)?;
        let replaces = current.is_some() || written(sources, "tunnel", "gateways").is_some();
        if !runtime()?.block_on(settle(&config, &token, &mut staged, replaces))? {
            return Ok(ExitCode::FAILURE);
        }
        staged.commit(&draft)?;
        print(&format!("configured in {}\n", site.drop_in().display()))?;
    }
    finish(&args, &token, sources, &site, current.as_ref())
}

/// The token has done its work: what is left of it is to correct what was answered. The key stays, and the gateway is
/// not asked again.
fn correct(
    args: &Args,
    console: &Console,
    token: &Token,
    sources: &Sources,
    site: &Site,
) -> anyhow::Result<()> {
    print("this host is enrolled with this token already\n")?;
    let anew = match (args.answers_something(), console.asks()) {
        (true, _) => true,
        (false, true) => console.choice("What to do", &AGAIN)?,
        (false, false) => false,
    };
    if !anew {
        return print("nothing is changed\n");
    }
    let stage = || site.restage();
    let (staged, draft, _) = attempt::answered(args, console, token, sources, stage)?;
    let differences = staged.differences(&draft)?;
    if differences.is_empty() {
        return print("and by these answers: nothing is changed\n");
    }
    staged.commit(&draft)?;
    print(&format!(
        "the answers are corrected ({}) in {}; the key stays as it is\n",
        differences.join(", "),
        site.drop_in().display()
    ))
}

/// Never an argument: those of a process can be read by everybody on the host.
fn token_text(args: &Args, console: &Console) -> anyhow::Result<Zeroizing<String>> {
    match &args.token_file {
        Some(file) => token_in(file),
        None => console.token(),
    }
}

/// What is in a file of this name, - for standard input.
pub(super) fn token_in(file: &Path) -> anyhow::Result<Zeroizing<String>> {
    let read = |source: &mut dyn Read| {
        // Room for everything at once: growing would leave copies behind.
        let mut text = Zeroizing::new(String::with_capacity(MOST_READ as usize));
        source
            .take(MOST_READ)
            .read_to_string(&mut text)
            .map(|_| text)
    };
    let text = match file == Path::new("-") {
        true => read(&mut io::stdin().lock()),
        false => std::fs::File::open(file).and_then(|mut file| read(&mut file)),
    };
    text.with_context(|| format!("--token-file {}", file.display()))
}

/// What is there is not overwritten by the way.
fn refuse_second(
    args: &Args,
    sources: &Sources,
    site: &Site,
    current: Option<&Enrolment>,
) -> anyhow::Result<()> {
    if args.replace {
        return Ok(());
    }
    if let Some(current) = current {
        let key = current.public.as_deref().and_then(tell::fingerprint);
        bail!(
            "this host is enrolled already ({}{}); nothing is changed. To enrol it anew with this token: agent enroll --replace, which keeps the old key until the new one works",
            site.drop_in().display(),
            key.map(|key| format!(", key {key}")).unwrap_or_default()
        );
    }
    if let Some(origin) = written(sources, "tunnel", "gateways") {
        bail!(
            "a tunnel is configured already, by hand ({origin}); nothing is changed. To let the token's values win over it: agent enroll --replace"
        );
    }
    Ok(())
}

/// Sees to it that the gateway knows the key. `false`: that is for the vendor to do first.
async fn settle(
    config: &Config,
    token: &Token,
    staged: &mut Staged<'_>,
    replaces: bool,
) -> anyhow::Result<bool> {
    let key = tell::fingerprint(&staged.key.public).unwrap_or_default();
    print(&match staged.key.reused {
        true => format!("the key made by the last try is used: {key}\n"),
        false => format!("made a key: {key}\n"),
    })?;
    // The last try may have come further than it knew.
    if staged.key.reused {
        match enroll::prove(&config.tunnel).await {
            Ok(_) => {
                print("the gateway knows this key already\n")?;
                return Ok(true);
            }
            // What cannot be reached now is not asked again for the registration.
            Err(error) if token.secret.is_some() && !error.refuses_key() => {
                return Err(tell::not_registered(error));
            }
            Err(_) => {}
        }
    }
    if token.secret.is_some() {
        print("registering it at the gateway\n")?;
        let registered = enroll::register(&config.tunnel, token, &staged.key.public).await;
        if let Err(error) = registered {
            if error.leaves_hope() {
                staged.keep();
            }
            return Err(tell::not_registered(error));
        }
        staged.keep();
        let gateway = enroll::prove(&config.tunnel)
            .await
            .map_err(tell::not_proven)?;
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
        Err(error @ RegisterError::LoginRefused { .. }) => {
            staged.keep();
            print(&tell::first_the_vendor(token, &staged.key.public, &error))?;
            Ok(false)
        }
        Err(error) => {
            staged.keep();
            Err(error.into())
        }
    }
}

/// Starts, checks, shows; what came before is removed last.
fn finish(
    args: &Args,
    token: &Token,
    sources: &Sources,
    site: &Site,
    before: Option<&Enrolment>,
) -> anyhow::Result<ExitCode> {
    let config = Config::load(sources)?;
    // What is untidy was left by a run that put its drop-in in place, perhaps, and did not come to the restart.
    let changed = before != site.current()?.as_ref();
    let start = service::start(args.no_start, changed || site.is_untidy()?, sources);
    print(&start.text)?;
    // Where the vendor has yet to be given the key there is nothing to wait for.
    if start.agent == Agent::Current && token.secret.is_some() {
        service::wait_for_proof(sources);
    }
    // An agent with the configuration of before would be asked about that one.
    let mut checked = 0;
    if !args.no_check && start.agent != Agent::Former {
        print("\n")?;
        checked = check::checked(&check::Args::all(), sources)?;
    }
    if start.agent == Agent::Current {
        print("\n")?;
        status::run(status::Args::once(), sources)?;
    }
    // It still reads the files of before.
    if start.agent != Agent::Former {
        site.tidy()?;
    }
    let now = site.current()?;
    let public = now.as_ref().and_then(|now| now.public.as_deref());
    let before = before.filter(|before| before.public.as_deref() != public);
    let public = public.zip(site.public_file());
    let left = tell::Left {
        start: &start,
        public,
        before,
        failed: checked >= 2,
    };
    print(&tell::last_words(token, &config, &left))?;
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
}

const AGAIN: [(bool, &str); 2] = [
    (false, "nothing but the check: what was answered is right"),
    (true, "answer again; the key stays as it is"),
];
/// Bytes: enough for a token that a mail program has wrapped and quoted, and to tell what is too long to be one.
const MOST_READ: u64 = 2 * enroll::MAX_LEN as u64;

//! `agent login` and `agent logout`: one file for each kind of login, `redirect` for what a browser
//! brings back, `choose` for which forward is meant.

mod choose;
mod myself;
mod oauth2;
mod redirect;

use super::exit::BadUsage;
use crate::{
    auth,
    config::{Config, Forward, Sources},
};
use std::process::ExitCode;

/// Log in to Jira for a forward whose login needs a person once
///
/// Prints an address to open in a browser, takes what the browser is sent back with, and stores the tokens for
/// the agent, which picks them up without a restart. Run it as root or as the agent's user.
#[derive(clap::Args)]
pub struct Login {
    /// Which forward is meant, where there are several
    forward: Option<String>,
    /// Renew the stored tokens now and prove them, instead of logging in anew
    #[arg(long)]
    renew: bool,
}

/// Revoke and delete the tokens that `agent login` has stored
///
/// Deletes them even where Jira cannot be told; then it ends with exit code 1 and says what to revoke in Jira.
#[derive(clap::Args)]
pub struct Logout {
    /// Which forward is meant, where there are several
    forward: Option<String>,
}

/// Logs in.
pub fn login(args: Login, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = Config::load(sources)?;
    let forward = choose::forward(&config.forwards, args.forward.as_deref())?;
    runtime()?.block_on(async {
        match &forward.auth {
            auth::Settings::OAuth2(settings) if args.renew => {
                oauth2::renew(forward, settings).await
            }
            auth::Settings::OAuth2(settings) => oauth2::login(forward, settings).await,
            other => Err(needs_none(forward, other)),
        }
    })
}

/// Logs out.
pub fn logout(args: Logout, sources: &Sources) -> anyhow::Result<ExitCode> {
    let config = Config::load(sources)?;
    let forward = choose::forward(&config.forwards, args.forward.as_deref())?;
    runtime()?.block_on(async {
        match &forward.auth {
            auth::Settings::OAuth2(settings) => oauth2::logout(settings).await,
            other => Err(needs_none(forward, other)),
        }
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        // One step on the disk after the other is all there is to do; so the test can stop at each.
        .max_blocking_threads(1)
        .enable_all()
        .build()
}

fn needs_none(forward: &Forward, auth: &auth::Settings) -> anyhow::Error {
    BadUsage(format!(
        "forward {:?} has mode {:?}, which needs no login by a person: {}",
        &*forward.name,
        auth.mode(),
        match auth {
            auth::Settings::PassThrough => "the vendor logs in",
            _ => "its credential is in a file; see: agent status",
        }
    ))
    .into()
}

//! `agent login` and `agent logout`: one file for each kind of login, `redirect` for what a browser
//! brings back, `select_forward` for which forward is meant.

mod myself;
mod new_key;
mod oauth1;
mod oauth2;
mod redirect;
mod select_forward;

use super::exit::UsageError;
use crate::{
    auth,
    config::{Config, ConfigSources, ForwardConfig},
    control::AgentClient,
};
use std::{path::PathBuf, process::ExitCode};

/// Log in to Jira for a forward with OAuth
///
/// Prints an address to open in a browser, takes the browser's answer, and stores the tokens. A running agent picks
/// them up without a restart. Run it as root or as the agent's user.
#[derive(clap::Args)]
pub(super) struct LoginArgs {
    /// Forward to log in for; required if several use OAuth
    forward: Option<String>,
    /// Refresh the stored tokens now and prove them, instead of logging in again
    #[arg(long)]
    renew: bool,
    /// Mode oauth1: where Jira sends the browser afterwards: `oob` (Jira shows a code), `none` (as OAuth 1.0), or
    /// an address like http://127.0.0.1:8400/, where the command listens [default: oob]
    #[arg(long, value_name = "URL")]
    callback: Option<String>,
    /// Mode oauth1: create an RSA key in this file, which must not exist yet, print what to paste into Jira's
    /// application link, and exit
    #[arg(long, value_name = "FILE", conflicts_with_all = ["renew", "forward"])]
    new_key: Option<PathBuf>,
    /// With --new-key: length of the key
    #[arg(long, value_name = "BITS", default_value = "2048", value_parser = ["2048", "3072"], requires = "new_key")]
    bits: String,
}

/// Revoke and delete the tokens that `agent login` has stored
///
/// Deletes them even if Jira cannot be reached; then it exits with code 1 and prints what to revoke in Jira.
#[derive(clap::Args)]
pub(super) struct LogoutArgs {
    /// Forward to log out; required if several use OAuth
    forward: Option<String>,
}

/// Runs `agent login` for one forward.
pub(super) fn login(args: LoginArgs, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    if let Some(path) = &args.new_key {
        // A configuration that names the key cannot be right before there is one.
        return new_key::make(path, args.bits.parse()?, sources);
    }
    let config = Config::load(sources)?;
    let forward = select_forward::forward(&config.forwards, args.forward.as_deref())?;
    if args.callback.is_some() && !matches!(forward.auth, auth::Settings::OAuth1(_)) {
        let text = "--callback is for mode = \"oauth1\"; in mode = \"oauth2\" set redirect_uri in [forward.auth], as the application link has it";
        return Err(UsageError(text.to_owned()).into());
    }
    runtime()?.block_on(async {
        let done = match &forward.auth {
            auth::Settings::OAuth1(settings) if args.renew => oauth1::refresh(settings).await,
            auth::Settings::OAuth1(settings) => {
                oauth1::login(settings, args.callback.as_deref().unwrap_or("oob")).await
            }
            auth::Settings::OAuth2(settings) if args.renew => {
                oauth2::refresh(forward, settings).await
            }
            auth::Settings::OAuth2(settings) => oauth2::login(forward, settings).await,
            other @ (auth::Settings::PassThrough
            | auth::Settings::Basic { .. }
            | auth::Settings::ApiToken { .. }
            | auth::Settings::Header { .. }
            | auth::Settings::Pat { .. }) => Err(no_login_needed(forward, other)),
        };
        notify_agent(&config, forward).await;
        done
    })
}

/// Runs `agent logout` for one forward.
pub(super) fn logout(args: LogoutArgs, sources: &ConfigSources) -> anyhow::Result<ExitCode> {
    let config = Config::load(sources)?;
    let forward = select_forward::forward(&config.forwards, args.forward.as_deref())?;
    runtime()?.block_on(async {
        let done = match &forward.auth {
            auth::Settings::OAuth1(settings) => oauth1::logout(settings).await,
            auth::Settings::OAuth2(settings) => oauth2::logout(settings).await,
            other @ (auth::Settings::PassThrough
            | auth::Settings::Basic { .. }
            | auth::Settings::ApiToken { .. }
            | auth::Settings::Header { .. }
            | auth::Settings::Pat { .. }) => Err(no_login_needed(forward, other)),
        };
        notify_agent(&config, forward).await;
        done
    })
}

/// A running agent finds the stored tokens at the next request or probe; notified, its status shows them at once. If none
/// runs, or this user may not connect to it, nothing is lost.
async fn notify_agent(config: &Config, forward: &ForwardConfig) {
    let client = AgentClient::new(&config.runtime_dir);
    let _ = client.retry_login(Some(&forward.name)).await;
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        // Steps on the disk run one after the other, so that a test can stop at each.
        .max_blocking_threads(1)
        .enable_all()
        .build()
}

fn no_login_needed(forward: &ForwardConfig, auth: &auth::Settings) -> anyhow::Error {
    UsageError(format!(
        "forward {:?} has mode {:?}, which needs no login by a person: {}",
        &*forward.name,
        auth.mode(),
        match auth {
            auth::Settings::PassThrough => "the vendor logs in",
            auth::Settings::Basic { .. }
            | auth::Settings::ApiToken { .. }
            | auth::Settings::Header { .. }
            | auth::Settings::Pat { .. }
            | auth::Settings::OAuth2(_)
            | auth::Settings::OAuth1(_) => "its credential is in a file; see: agent status",
        }
    ))
    .into()
}

//! `server-stub cloud`: its arguments, and running it until a signal.

use crate::output::outln;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::links::ApplicationLinkArgs;
use crate::cloud::{CloudStub, DeadTokenAnswer, OAuthApp, Settings};

/// Run the imitation Jira Cloud until interrupted.
///
/// Without a settings file it has the sites acme and other, the account acme-bot@acme.example
/// (acme-password), and its API tokens acme-bot-api-token (for the sites' own URLs) and
/// acme-bot-scoped-token (for the API gateway).
#[derive(clap::Args)]
pub struct Args {
    /// TOML with accounts, API tokens, apps and sites; the flags below win over it
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Where the token service listens [default: the settings file's, else 127.0.0.1:2991]
    #[arg(long, value_name = "ADDR:PORT")]
    listen_auth: Option<SocketAddr>,
    /// Where the API gateway listens [default: the settings file's, else 127.0.0.1:2992]
    #[arg(long, value_name = "ADDR:PORT")]
    listen_api: Option<SocketAddr>,
    /// Keep ca.pem and attachments here, instead of in a directory that goes with the process
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// An OAuth 2.0 (3LO) app with the common permissions; may be given several times
    #[arg(long, value_name = "ID:SECRET:CALLBACK", value_parser = app)]
    app: Vec<OAuthApp>,
    #[command(flatten)]
    links: ApplicationLinkArgs,
    /// Life of an access token
    #[arg(long, value_name = "SECONDS")]
    access_lifetime: Option<u32>,
    /// How long a refresh token that was used still works
    #[arg(long, value_name = "SECONDS")]
    refresh_leeway: Option<u32>,
    /// How a dead refresh token is told: invalid_grant or unauthorized_client
    #[arg(long, value_name = "ERROR", value_parser = dead_token)]
    dead_token: Option<DeadTokenAnswer>,
}

/// Runs until interrupted or terminated.
///
/// # Errors
/// When the settings cannot be read or Cloud cannot start.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let cloud = CloudStub::start(settings(args)?).await?;
    outln!("token service {}", cloud.auth_url);
    outln!("API gateway   {}", cloud.api_url);
    for site in &cloud.sites {
        outln!(
            "site          {} at {} ({})",
            site.url,
            site.addr,
            site.cloud_id
        );
    }
    outln!("ca file       {}", cloud.ca_path.display());
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    cloud.stop().await;
    Ok(())
}

fn settings(args: Args) -> anyhow::Result<Settings> {
    let mut settings: Settings = match &args.settings {
        None => Settings {
            auth_listen: AUTH,
            api_listen: API,
            ..Settings::default()
        },
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            toml::from_str(&text).with_context(|| format!("{} is not right", path.display()))?
        }
    };
    settings.auth_listen = args.listen_auth.unwrap_or(settings.auth_listen);
    settings.api_listen = args.listen_api.unwrap_or(settings.api_listen);
    settings.directory = args.data.or(settings.directory);
    settings.apps.extend(args.app);
    args.links.add_to(&mut settings.oauth1)?;
    settings.access_lifetime = args.access_lifetime.unwrap_or(settings.access_lifetime);
    settings.refresh_leeway = args.refresh_leeway.unwrap_or(settings.refresh_leeway);
    settings.dead_token = args.dead_token.unwrap_or(settings.dead_token);
    Ok(settings)
}

fn app(text: &str) -> Result<OAuthApp, String> {
    let mut parts = text.splitn(3, ':');
    match (parts.next(), parts.next(), parts.next()) {
        (Some(id), Some(secret), Some(callback)) => Ok(OAuthApp::new(id, secret, callback)),
        _ => Err("write ID:SECRET:CALLBACK".into()),
    }
}

fn dead_token(text: &str) -> Result<DeadTokenAnswer, String> {
    match text {
        "invalid_grant" => Ok(DeadTokenAnswer::InvalidGrant),
        "unauthorized_client" => Ok(DeadTokenAnswer::UnauthorizedClient),
        _ => Err("invalid_grant or unauthorized_client".into()),
    }
}

/// Beside the imitation Jira's.
const AUTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2991);
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2992);

//! `server-stub cloud`: its arguments, and running it until a signal.

use crate::output::outln;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::links::ApplicationLinkArgs;
use super::{interrupted, read_settings, triple};
use crate::cloud::{CloudStub, DeadTokenAnswer, OAuthApp, Settings};

/// Run the imitation Jira Cloud until interrupted
///
/// Without a settings file it has the sites acme and other, the account acme-bot@acme.example
/// (acme-password), and its API tokens acme-bot-api-token (for the sites' own URLs) and
/// acme-bot-scoped-token (for the API gateway).
#[derive(clap::Args)]
pub(super) struct Args {
    /// TOML file with accounts, API tokens, apps and sites; flags override it
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Address of the token service [default: from the settings file, else 127.0.0.1:2991]
    #[arg(long, value_name = "ADDR:PORT")]
    listen_auth: Option<SocketAddr>,
    /// Address of the API gateway [default: from the settings file, else 127.0.0.1:2992]
    #[arg(long, value_name = "ADDR:PORT")]
    listen_api: Option<SocketAddr>,
    /// Keep ca.pem and attachments here instead of in a temporary directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// OAuth 2.0 (3LO) app with the common permissions; may be repeated
    #[arg(long, value_name = "ID:SECRET:CALLBACK", value_parser = app)]
    app: Vec<OAuthApp>,
    #[command(flatten)]
    links: ApplicationLinkArgs,
    /// Lifetime of an access token
    #[arg(long, value_name = "SECONDS")]
    access_lifetime: Option<u32>,
    /// How long a used refresh token still works
    #[arg(long, value_name = "SECONDS")]
    refresh_leeway: Option<u32>,
    /// Error for an invalid refresh token: invalid_grant or unauthorized_client
    #[arg(long, value_name = "ERROR", value_parser = dead_token)]
    dead_token: Option<DeadTokenAnswer>,
}

/// Runs until interrupted or terminated.
///
/// # Errors
/// When the settings cannot be read or Cloud cannot start.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
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
    interrupted().await?;
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
        Some(path) => read_settings(path)?,
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
    let (id, secret, callback) = triple(text).ok_or("expected ID:SECRET:CALLBACK")?;
    Ok(OAuthApp::new(id, secret, callback))
}

fn dead_token(text: &str) -> Result<DeadTokenAnswer, String> {
    match text {
        "invalid_grant" => Ok(DeadTokenAnswer::InvalidGrant),
        "unauthorized_client" => Ok(DeadTokenAnswer::UnauthorizedClient),
        _ => Err("expected invalid_grant or unauthorized_client".into()),
    }
}

/// The ports after the imitation Jira's.
const AUTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2991);
const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2992);

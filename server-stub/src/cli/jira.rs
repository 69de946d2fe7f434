//! `server-stub jira`: its arguments, and running it until a signal.

use crate::output::outln;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::Context;

use super::links::ApplicationLinkArgs;
use super::{interrupted, pair, read_settings, triple};
use crate::jira::{HttpsRule, HttpsSettings, JiraStub, OAuth2Client, Settings, TomcatConnector};

/// Run the imitation Jira until interrupted
///
/// Without a settings file it has the users admin (admin-password), acme-bot (acme-password, token
/// acme-bot-token) and reader (reader-password, token reader-token), and the projects DEMO, OPS and
/// HR.
#[derive(clap::Args)]
pub(super) struct Args {
    /// TOML file with users, tokens, projects and faults; flags override it
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free port [default: from the settings file, else 127.0.0.1:2990]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Serve https with a certificate of a CA kept in the data directory
    #[arg(long)]
    https: bool,
    /// Additional name in the certificate; may be repeated
    #[arg(long, value_name = "NAME", requires = "https")]
    name: Vec<String>,
    /// Require a client certificate of the same CA
    #[arg(long, requires = "https")]
    client_certificate: bool,
    /// Jira's context path, such as /jira
    #[arg(long, value_name = "PATH")]
    context_path: Option<String>,
    /// Base URL configured in Jira
    #[arg(long, value_name = "URL")]
    base_url: Option<String>,
    /// Version to imitate, such as 8.20.30, 9.12.15, 10.3.2 or 11.1.0
    #[arg(long = "jira-version", value_name = "VERSION")]
    version: Option<String>,
    /// Keep attachments and ca.pem here instead of in a temporary directory
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Disable Basic authentication
    #[arg(long)]
    basic_disabled: bool,
    /// Size limit of an attachment in bytes
    #[arg(long, value_name = "BYTES")]
    upload_limit: Option<u64>,
    /// Client of the OAuth 2.0 provider with the scope WRITE; may be repeated
    #[arg(long, value_name = "ID:SECRET:REDIRECT", value_parser = oauth2_client)]
    oauth2_client: Vec<OAuth2Client>,
    /// User for client_credentials of an OAuth 2.0 client; may be repeated
    #[arg(long, value_name = "ID:USER", value_parser = pair)]
    oauth2_service_account: Vec<(String, String)>,
    /// Where OAuth 2.0 accepts http: loopback or anywhere [default: nowhere, as in Jira]
    #[arg(long, value_name = "WHERE", value_parser = https_rule)]
    oauth2_http: Option<HttpsRule>,
    #[command(flatten)]
    links: ApplicationLinkArgs,
    /// Proxy URL configured in Tomcat's connector; OAuth 1.0a signatures cover it
    #[arg(long, value_name = "SCHEME://NAME[:PORT]")]
    connector: Option<url::Url>,
    /// Serve /__stub/… to control this Jira over HTTP
    #[arg(long)]
    control: bool,
}

/// Runs until interrupted or terminated.
///
/// # Errors
/// When the settings cannot be read or Jira cannot start.
pub(super) async fn run(args: Args) -> anyhow::Result<()> {
    let jira = JiraStub::start(settings(args)?).await?;
    outln!("url      {}", jira.url);
    outln!("base url {}", jira.base_url);
    if let Some(path) = &jira.ca_path {
        outln!("ca file  {}", path.display());
    }
    interrupted().await?;
    jira.stop().await;
    Ok(())
}

fn settings(args: Args) -> anyhow::Result<Settings> {
    let mut settings: Settings = match &args.settings {
        None => Settings {
            listen: DEFAULT_LISTEN,
            ..Settings::default()
        },
        Some(path) => read_settings(path)?,
    };
    settings.listen = args.listen.unwrap_or(settings.listen);
    if args.https {
        settings.https = Some(HttpsSettings {
            names: args.name,
            client_certificate: args.client_certificate,
        });
    }
    if let Some(path) = args.context_path {
        settings.context_path = path;
    }
    if let Some(version) = args.version {
        settings.version = version;
    }
    if let Some(limit) = args.upload_limit {
        settings.upload_limit = limit;
    }
    if args.basic_disabled {
        settings.basic = Some(false);
    }
    settings.oauth2.clients.extend(args.oauth2_client);
    for (id, user) in args.oauth2_service_account {
        let client = settings.oauth2.clients.iter_mut().find(|c| c.id == id);
        client
            .with_context(|| format!("there is no OAuth 2.0 client {id}; add --oauth2-client"))?
            .service_account = Some(user);
    }
    settings.oauth2.https = args.oauth2_http.unwrap_or(settings.oauth2.https);
    args.links.add_to(&mut settings.oauth1)?;
    if let Some(url) = args.connector {
        settings.connector = TomcatConnector {
            scheme: Some(url.scheme().to_owned()),
            proxy_name: url.host_str().map(str::to_owned),
            proxy_port: url.port_or_known_default(),
        };
    }
    settings.base_url = args.base_url.or(settings.base_url);
    settings.directory = args.data.or(settings.directory);
    settings.control |= args.control;
    Ok(settings)
}

fn oauth2_client(text: &str) -> Result<OAuth2Client, String> {
    let (id, secret, redirect) = triple(text).ok_or("expected ID:SECRET:REDIRECT")?;
    Ok(OAuth2Client::new(id, secret, redirect))
}

fn https_rule(text: &str) -> Result<HttpsRule, String> {
    match text {
        "loopback" => Ok(HttpsRule::Loopback),
        "anywhere" => Ok(HttpsRule::Off),
        _ => Err("expected loopback or anywhere".into()),
    }
}

/// The port of Atlassian's own development Jira.
const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 2990);

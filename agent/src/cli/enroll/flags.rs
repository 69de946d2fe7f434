//! The flags of `agent enroll`.

use crate::policy;
use clap::builder::{PossibleValue, PossibleValuesParser};
use std::path::PathBuf;

/// Connect this host to a vendor with the token from the vendor
///
/// Creates the agent's key, registers it at the vendor's gateway with the token's one-time secret (or shows what to
/// send to the vendor), writes the configuration, starts the service, and checks every hop. Asks for what only you
/// know, or takes it from the flags. Run it as root. Ends with exit code 0 once this host is enrolled, even if the
/// check fails.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// File with the vendor's token, - for standard input [default: ask for it]
    ///
    /// There is no flag for the token itself: every user of a host can read the arguments of its processes.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Never ask; take everything from the flags
    #[arg(long)]
    pub non_interactive: bool,
    /// Enroll a host that is already enrolled or configured; the old key stays until the new one works
    #[arg(long)]
    pub replace: bool,
    /// Do not start the service
    #[arg(long)]
    pub no_start: bool,
    /// Do not run the check
    #[arg(long)]
    pub no_check: bool,

    /// Jira's URL, with its context path
    #[arg(long, value_name = "URL", help_heading = "Jira")]
    pub upstream: Option<String>,
    /// PEM file with the CA of Jira's certificate, if the system does not trust it
    #[arg(long, value_name = "FILE", help_heading = "Jira")]
    pub ca_file: Option<PathBuf>,
    /// How requests authenticate to Jira
    #[arg(long, value_name = "MODE", help_heading = "Jira")]
    pub auth: Option<AuthModeFlag>,
    /// With basic: Jira user name
    #[arg(long, value_name = "NAME", help_heading = "Jira")]
    pub jira_user: Option<String>,
    /// With basic: file with the password
    #[arg(long, value_name = "FILE", help_heading = "Jira")]
    pub jira_password_file: Option<PathBuf>,
    /// With pat and api-token: file with the token
    #[arg(long, value_name = "FILE", help_heading = "Jira")]
    pub jira_token_file: Option<PathBuf>,
    /// With api-token: email address of the Atlassian account
    #[arg(long, value_name = "ADDRESS", help_heading = "Jira")]
    pub email: Option<String>,
    /// With oauth2: client id
    #[arg(long, value_name = "ID", help_heading = "Jira")]
    pub client_id: Option<String>,
    /// With oauth2: file with the client secret
    #[arg(long, value_name = "FILE", help_heading = "Jira")]
    pub client_secret_file: Option<PathBuf>,
    /// With oauth1: consumer key
    #[arg(long, value_name = "KEY", help_heading = "Jira")]
    pub consumer_key: Option<String>,
    /// With oauth1: file with the private key, as created by agent login --new-key
    #[arg(long, value_name = "FILE", help_heading = "Jira")]
    pub private_key_file: Option<PathBuf>,

    /// Policy preset for the vendor: ticketing, read-only, …; may be repeated
    #[arg(long, value_name = "NAME", help_heading = "Policy", value_parser = presets())]
    pub preset: Vec<String>,
    /// Additional rule, like "POST /rest/api/2/issue/bulk"; may be repeated
    #[arg(long, value_name = "RULE", help_heading = "Policy")]
    pub allow: Vec<String>,

    /// Proxy to the gateway: http://host:port or socks5://host:port
    #[arg(long, value_name = "URL", help_heading = "Gateway")]
    pub proxy: Option<String>,
    /// User name at the proxy
    #[arg(long, value_name = "NAME", help_heading = "Gateway", requires_all = ["proxy", "proxy_password_file"])]
    pub proxy_user: Option<String>,
    /// File with the password at the proxy
    #[arg(
        long,
        value_name = "FILE",
        help_heading = "Gateway",
        requires = "proxy_user"
    )]
    pub proxy_password_file: Option<PathBuf>,
    /// PEM file with the CA of tls:// gateways, if the system does not trust it
    #[arg(long, value_name = "FILE", help_heading = "Gateway")]
    pub gateway_ca_file: Option<PathBuf>,
}

impl Args {
    /// Whether any flag gives an answer.
    pub(crate) fn answers_something(&self) -> bool {
        let texts = [
            &self.upstream,
            &self.jira_user,
            &self.email,
            &self.client_id,
            &self.consumer_key,
            &self.proxy,
            &self.proxy_user,
        ];
        let files = [
            &self.ca_file,
            &self.jira_password_file,
            &self.jira_token_file,
            &self.client_secret_file,
            &self.private_key_file,
            &self.proxy_password_file,
            &self.gateway_ca_file,
        ];
        texts.iter().any(|text| text.is_some())
            || files.iter().any(|file| file.is_some())
            || self.auth.is_some()
            || !self.preset.is_empty()
            || !self.allow.is_empty()
    }
}

/// As possible values, so that shells complete them.
fn presets() -> PossibleValuesParser {
    let each = policy::presets().iter();
    PossibleValuesParser::new(
        each.map(|preset| PossibleValue::new(preset.name).help(preset.summary)),
    )
}

/// Values of the flag `--auth`, which sets `[forward.auth] mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum AuthModeFlag {
    /// The agent authenticates with a personal access token
    Pat,
    /// The agent authenticates with a user name and a password
    Basic,
    /// The vendor authenticates with its own credential
    PassThrough,
    /// OAuth 2.0 application link; run agent login afterwards
    #[value(name = "oauth2")]
    OAuth2,
    /// OAuth 1.0a application link; run agent login afterwards
    #[value(name = "oauth1")]
    OAuth1,
    /// The agent authenticates to Jira Cloud with an API token
    ApiToken,
}

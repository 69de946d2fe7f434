//! `agent check --firewall --token-file FILE`: the change request for the firewall goes out before `agent enroll`.

use crate::{
    check::{self, CheckReport, TokenGateways},
    cli::{enroll::token_in, exit::UsageError},
    enroll::EnrollmentToken,
    secret::SecretFile,
    tunnel::{
        egress::{Egress, PasswordSource, ProxyCredential, ProxyServer},
        session::HostKeys,
    },
    upstream::{gateway_config, pem},
};
use anyhow::Context;
use std::path::{Path, PathBuf};

/// The flags that replace a configuration.
#[derive(clap::Args, Default)]
pub(super) struct TokenArgs {
    /// With --firewall: the vendor's token (- for standard input); tests its gateways without using its secret
    #[arg(
        long,
        value_name = "FILE",
        requires = "firewall",
        conflicts_with = "forward"
    )]
    pub token_file: Option<PathBuf>,
    /// With --token-file: proxy to the gateways, http://host:port or socks5://host:port
    #[arg(long, value_name = "URL", requires = "token_file")]
    proxy: Option<String>,
    /// With --proxy: user name for the proxy
    #[arg(long, value_name = "NAME", requires_all = ["proxy", "proxy_password_file"])]
    proxy_user: Option<String>,
    /// With --proxy: file that holds the proxy password
    #[arg(long, value_name = "FILE", requires = "proxy_user")]
    proxy_password_file: Option<PathBuf>,
    /// With --token-file: PEM file with the CA of tls:// gateways, if the system does not trust it
    #[arg(long, value_name = "FILE", requires = "token_file")]
    gateway_ca_file: Option<PathBuf>,
}

/// Reads the token and tests the way to its gateways, without logging in.
pub(super) async fn check(file: &Path, args: &TokenArgs) -> anyhow::Result<CheckReport> {
    let token = EnrollmentToken::parse(&token_in(file)?)?;
    let egress = Egress::new(proxy(args)?, &[], tls(&token, args)?);
    let firewall = check::firewall_to(&token.gateways, &egress).await;
    let known_hosts = token.known_hosts.join("\n");
    let known_hosts = match token.known_hosts.is_empty() {
        true => None,
        false => Some((Path::new("the token"), known_hosts.as_str())),
    };
    let host_keys = HostKeys::new(token.host_keys.clone(), known_hosts)?;
    let gateways = TokenGateways {
        gateways: token.gateways.clone(),
        user: token.user.clone(),
        host_keys,
        egress,
    };
    let steps = check::with_token(gateways, token.expires).await;
    Ok(CheckReport::new(steps, firewall))
}

fn proxy(args: &TokenArgs) -> anyhow::Result<Option<ProxyServer>> {
    let Some(url) = &args.proxy else {
        return Ok(None);
    };
    let proxy = ProxyServer::parse(url).map_err(|error| UsageError(format!("--proxy: {error}")))?;
    let credential = match (&args.proxy_user, &args.proxy_password_file) {
        (Some(username), Some(file)) => Some(ProxyCredential {
            username: username.clone(),
            password: PasswordSource::File(SecretFile::new(file)),
        }),
        _ => None,
    };
    Ok(Some(ProxyServer {
        credential,
        ..proxy
    }))
}

fn tls(token: &EnrollmentToken, args: &TokenArgs) -> anyhow::Result<Option<rustls::ClientConfig>> {
    if !token.gateways.iter().any(|gateway| gateway.tls) {
        return Ok(None);
    }
    let ca_certificates = match &args.gateway_ca_file {
        Some(file) => {
            let named = || file.display().to_string();
            let text = std::fs::read(file).with_context(named)?;
            Some(pem::certificates(&text).with_context(named)?)
        }
        None => None,
    };
    Ok(Some(gateway_config(ca_certificates)?))
}

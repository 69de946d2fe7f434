//! Validates how the gateways are reached: proxy, exceptions from it, TLS.

use crate::{
    config::{files::FileResolver, merged::MergedSection, problem::ConfigProblems, raw},
    tunnel::{
        GatewayAddress,
        egress::{Egress, PasswordSource, ProxyCredential, ProxyScheme, ProxyServer},
    },
    upstream::{self, TlsConfigError},
};
use rustls::ClientConfig;

/// The egress settings. `None` after a problem, which is reported.
pub(super) fn egress(
    raw: &raw::RawTunnel,
    gateways: &[GatewayAddress],
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<Egress> {
    let before = problems.len();
    let mut exceptions = no_proxy(raw, section, problems);
    let proxy = match raw.proxy.as_deref() {
        None => {
            for (key, written) in [
                ("proxy_username", raw.proxy_username.is_some()),
                ("proxy_password_file", raw.proxy_password_file.is_some()),
                ("no_proxy", !raw.no_proxy.is_empty()),
            ] {
                if written {
                    let text = "only used with a proxy; set proxy, or remove this key";
                    section.error(key, text, problems);
                }
            }
            None
        }
        Some(ENVIRONMENT) => {
            let listed = files.variable(&["NO_PROXY", "no_proxy"]);
            exceptions.extend(listed.map(str::to_owned));
            proxy_from_environment(section, files, problems)
        }
        Some(url) => section.value_or_error("proxy", ProxyServer::parse(url), problems),
    };
    let credential = credential(raw, proxy.as_ref(), section, files, problems);
    let proxy = proxy.map(|proxy| ProxyServer {
        credential: credential.or_else(|| proxy.credential.clone()),
        ..proxy
    });
    let tls = gateway_tls(raw, gateways, section, files, problems);
    (problems.len() == before).then(|| Egress::new(proxy, &exceptions, tls))
}

fn proxy_from_environment(
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<ProxyServer> {
    let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let Some(url) = files.variable(&names) else {
        let text = "neither HTTPS_PROXY nor ALL_PROXY is set in the agent's environment; set one in the unit \
                    (Environment=), or write the proxy's URL here";
        section.error("proxy", text, problems);
        return None;
    };
    let proxy = ProxyServer::parse_variable(url);
    let named = proxy.map_err(|error| format!("the proxy in the environment: {error}"));
    section.value_or_error("proxy", named, problems)
}

fn credential(
    raw: &raw::RawTunnel,
    proxy: Option<&ProxyServer>,
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<ProxyCredential> {
    raw.proxy.as_ref()?;
    let (username, file) = match (&raw.proxy_username, &raw.proxy_password_file) {
        (Some(username), Some(file)) => (username, file),
        (Some(_), None) => {
            let text = "required with proxy_username; name the file with the password";
            section.error_at("proxy_password_file", "proxy_username", text, problems);
            return None;
        }
        (None, Some(_)) => {
            let text = "required with proxy_password_file; set the user name at the proxy";
            section.error_at("proxy_username", "proxy_password_file", text, problems);
            return None;
        }
        (None, None) => return None,
    };
    let http = proxy.is_some_and(|proxy| proxy.scheme == ProxyScheme::Http);
    let is_bad = |c: char| c.is_control() || (http && c == ':');
    if !(1..=MAX_SOCKS_FIELD).contains(&username.len()) || username.chars().any(is_bad) {
        let text = "not a user name for a proxy: use 1 to 255 bytes without control characters, for an http proxy without a colon";
        section.error("proxy_username", text, problems);
    }
    let secret = files.secret_file(section, "proxy_password_file", file, problems)?;
    if proxy.is_some_and(|proxy| proxy.scheme == ProxyScheme::Socks5)
        && secret
            .read()
            .is_ok_and(|s| s.expose().len() > MAX_SOCKS_FIELD)
    {
        let text = "the password has more than 255 bytes, the limit of SOCKS5; use a shorter one";
        section.error("proxy_password_file", text, problems);
    }
    Some(ProxyCredential {
        username: username.clone(),
        password: PasswordSource::File(secret),
    })
}

fn no_proxy(
    raw: &raw::RawTunnel,
    section: &MergedSection<'_>,
    problems: &mut ConfigProblems,
) -> Vec<String> {
    let is_bad = |c: char| c.is_whitespace() || c.is_control() || "/:@".contains(c);
    for (index, entry) in raw.no_proxy.iter().enumerate() {
        let network = entry.parse::<std::net::IpAddr>().is_ok() || is_network(entry);
        let has_wildcard = entry != "*" && entry.contains('*');
        if !network
            && (entry.is_empty() || entry.contains(',') || has_wildcard || entry.contains(is_bad))
        {
            let text = "not a host, domain, address or network; write it without scheme and port, like \"vendor.example\" (includes subdomains) or \"10.0.0.0/8\"";
            section.element_error("no_proxy", index, text.to_owned(), problems);
        }
    }
    raw.no_proxy.clone()
}

fn is_network(entry: &str) -> bool {
    let Some((address, bits)) = entry.split_once('/') else {
        return false;
    };
    let most = match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn gateway_tls(
    raw: &raw::RawTunnel,
    gateways: &[GatewayAddress],
    section: &MergedSection<'_>,
    files: &FileResolver,
    problems: &mut ConfigProblems,
) -> Option<ClientConfig> {
    let ca_file = match &raw.gateway_ca_file {
        Some(name) => Some(files.read_certificates(section, "gateway_ca_file", name, problems)?),
        None => None,
    };
    if !gateways.iter().any(|gateway| gateway.tls) {
        if ca_file.is_some() {
            let text = "only used with gateways that begin with tls://; remove this key, or write tls:// before gateways with SSH inside TLS";
            section.error("gateway_ca_file", text, problems);
        }
        return None;
    }
    let config = upstream::gateway_config(ca_file);
    let config = config.map_err(|error| match error {
        TlsConfigError::NoSystemRoots(why) => format!(
            "tls:// needs trusted certificates, and the system has none ({why}); install the package ca-certificates, or set gateway_ca_file"
        ),
        TlsConfigError::BadRoot(number, why) => {
            format!("certificate {number} is not a usable CA certificate: {why}; replace it")
        }
        other @ (TlsConfigError::NoRoots | TlsConfigError::ClientCertificate(_) | TlsConfigError::ServerName(_) | TlsConfigError::Provider(_)) => other.to_string(),
    });
    let key = match raw.gateway_ca_file {
        Some(_) => "gateway_ca_file",
        None => "gateways",
    };
    section.value_or_error(key, config, problems)
}

const ENVIRONMENT: &str = "environment";
/// RFC 1929 §2.
const MAX_SOCKS_FIELD: usize = 255;

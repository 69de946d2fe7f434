//! The outbound rules that the agent needs, in words that a network team can enter into a firewall or a proxy. Sends
//! nothing except DNS queries.

use crate::{
    config::Config,
    tunnel::{
        GatewayAddress,
        egress::{Egress, ProxyServer},
    },
    upstream::{self, CloudRoute, UpstreamTarget},
};
use std::{
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};
use tokio::{net::lookup_host, time::timeout};

/// One rule to request from the network team.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[schemars(rename = "Rule")]
pub struct FirewallRule {
    /// `gateway`, `proxy` (to reach it), `on-the-proxy` (what it must allow), or `jira`.
    pub purpose: String,
    /// Who connects: this host, or the proxy.
    pub source: FirewallEndpoint,
    /// Host that the rule allows traffic to.
    pub destination: FirewallEndpoint,
    /// TCP port at the destination.
    pub port: u16,
    /// Transport protocol, always `tcp`.
    pub protocol: String,
    /// `outbound`: nothing ever connects to the agent.
    pub direction: String,
    /// The proxy that must allow it, if there is one.
    pub through: Option<String>,
    /// The rule in one line.
    pub line: String,
}

/// Source or destination of a rule.
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[schemars(rename = "Place")]
pub struct FirewallEndpoint {
    /// Host name, or address if no name is configured.
    pub host: String,
    /// What the name resolves to on this host now; empty if it does not resolve.
    pub addresses: Vec<String>,
}

/// All rules of this configuration: those of the tunnel, and those of one forward or of all.
pub async fn firewall(config: &Config, forward: Option<&str>) -> Vec<FirewallRule> {
    let mut rules = firewall_to(&config.tunnel.gateways, &config.tunnel.egress).await;
    let wanted = |name: &str| forward.is_none_or(|forward| forward == name);
    for forward in config.forwards.iter().filter(|f| wanted(&f.name)) {
        for (host, port) in jira_endpoints(&forward.upstream) {
            rules.push(direct_rule("jira", &host, port, "").await);
        }
    }
    deduplicated(rules)
}

/// The rules of the tunnel only.
pub async fn firewall_to(gateways: &[GatewayAddress], egress: &Egress) -> Vec<FirewallRule> {
    let mut rules = Vec::new();
    for gateway in gateways {
        match egress.proxy(gateway) {
            None => {
                rules.push(direct_rule("gateway", &gateway.host, gateway.port, GATEWAY_TERMS).await)
            }
            Some(proxy) => {
                rules.push(direct_rule("proxy", &proxy.host, proxy.port, "").await);
                rules.push(proxy_rule(proxy, gateway).await);
            }
        }
    }
    deduplicated(rules)
}

fn deduplicated(mut rules: Vec<FirewallRule>) -> Vec<FirewallRule> {
    let mut seen = Vec::new();
    rules.retain(|rule| {
        let new = !seen.contains(&rule.line);
        seen.push(rule.line.clone());
        new
    });
    rules
}

async fn direct_rule(purpose: &str, host: &str, port: u16, more: &str) -> FirewallRule {
    let found = resolve(host, port).await;
    let source = this_host(&found);
    let destination = endpoint(host, &found);
    let line = format!("allow outbound TCP from {source} to {destination} port {port}{more}");
    rule(purpose, source, destination, port, None, line)
}

async fn proxy_rule(proxy: &ProxyServer, gateway: &GatewayAddress) -> FirewallRule {
    let found = resolve(&gateway.host, gateway.port).await;
    let source = endpoint(&proxy.host, &resolve(&proxy.host, proxy.port).await);
    let destination = endpoint(&gateway.host, &found);
    let from = this_host(&resolve(&proxy.host, proxy.port).await);
    let line = format!(
        "on the proxy {proxy}: allow CONNECT from {from} to {}, without content inspection or time limit; and allow outbound TCP from the proxy to {destination} port {}",
        gateway.address(),
        gateway.port
    );
    let through = Some(proxy.to_string());
    let purpose = "on-the-proxy";
    rule(purpose, source, destination, gateway.port, through, line)
}

fn rule(
    purpose: &str,
    source: FirewallEndpoint,
    destination: FirewallEndpoint,
    port: u16,
    through: Option<String>,
    line: String,
) -> FirewallRule {
    FirewallRule {
        purpose: purpose.to_owned(),
        source,
        destination,
        port,
        protocol: "tcp".to_owned(),
        direction: "outbound".to_owned(),
        through,
        line,
    }
}

/// Where requests to Jira go, including Atlassian's API gateway if they use it.
fn jira_endpoints(settings: &upstream::Settings) -> Vec<(String, u16)> {
    let own = match (settings.address, &settings.target) {
        (Some(address), _) => (address.ip().to_string(), address.port()),
        (None, UpstreamTarget::Http(target)) => (target.host.clone(), target.port),
        (None, UpstreamTarget::Tcp { host, port }) => (host.clone(), *port),
    };
    match &settings.cloud {
        Some(CloudRoute::Gateway { api, .. }) => vec![own, (api.host.clone(), api.port)],
        _ => vec![own],
    }
}

async fn resolve(host: &str, port: u16) -> Vec<SocketAddr> {
    match timeout(RESOLVE_TIMEOUT, lookup_host((host, port))).await {
        Ok(Ok(found)) => found.take(MAX_ADDRESSES).collect(),
        _ => Vec::new(),
    }
}

fn endpoint(host: &str, found: &[SocketAddr]) -> FirewallEndpoint {
    let mut addresses: Vec<_> = found.iter().map(|a| a.ip().to_string()).collect();
    addresses.dedup();
    FirewallEndpoint {
        host: host.to_owned(),
        addresses,
    }
}

/// This host, with its source addresses for these destinations.
fn this_host(to: &[SocketAddr]) -> FirewallEndpoint {
    let mut addresses: Vec<_> = to.iter().filter_map(|to| source(*to)).collect();
    addresses.sort();
    addresses.dedup();
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    FirewallEndpoint {
        host: name,
        addresses: addresses.iter().map(IpAddr::to_string).collect(),
    }
}

/// The source address that the kernel chooses; connecting a UDP socket sends nothing.
fn source(to: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => [0; 4].into(),
        SocketAddr::V6(_) => [0; 16].into(),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

impl std::fmt::Display for FirewallEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.addresses.as_slice() {
            [] => write!(f, "{} (does not resolve here)", self.host),
            [one] if *one == self.host => f.write_str(one),
            all => write!(f, "{} ({})", self.host, all.join(", ")),
        }
    }
}

/// What a connection that stays open for hours needs.
const GATEWAY_TERMS: &str =
    ", stateful, no SSH or TLS inspection, no idle timeout below 60 s; SSH, open for up to 36 h";
/// A resolver that does not answer must not delay the list.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
const MAX_ADDRESSES: usize = 8;

//! Routes a request by its `Host` header to the status page or to an agent's forward.

use super::problem::GatewayProblem;
use crate::AgentName;
use http::{Method, Request, header};
use std::net::IpAddr;

/// The target of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum RouteTarget {
    /// The gateway itself: its bare domain, `localhost` or a loopback address.
    Page,
    /// `NAME.<domain>`, or `LABEL--NAME.<domain>` for one forward of several.
    Agent {
        agent: AgentName,
        label: Option<String>,
    },
}

/// Reads the host of a request. Only the gateway's own names reach its page, so that a web page under
/// another name that resolves to this address cannot read it (DNS rebinding).
pub(super) fn target<B>(domain: &str, request: &Request<B>) -> Result<RouteTarget, GatewayProblem> {
    if request.method() == Method::CONNECT || request.headers().contains_key(header::UPGRADE) {
        return Err(GatewayProblem::Upgrade);
    }
    let host = match request.uri().host() {
        Some(host) => host,
        None => request
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok())
            .map(without_port)
            .unwrap_or_default(),
    };
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    if is_own(domain, &host) {
        return Ok(RouteTarget::Page);
    }
    let name = host
        .strip_suffix(&domain.to_ascii_lowercase())
        .and_then(|name| name.strip_suffix('.'))
        .ok_or(GatewayProblem::UnknownHost)?;
    let (label, name) = match name.split_once("--") {
        Some((label, name)) => (Some(label.to_owned()), name),
        None => (None, name),
    };
    let agent = name.parse().map_err(|_| GatewayProblem::UnknownAgent)?;
    Ok(RouteTarget::Agent { agent, label })
}

fn is_own(domain: &str, host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == domain.to_ascii_lowercase()
        || host == "localhost"
        || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn without_port(host: &str) -> &str {
    match host.rfind(']') {
        Some(end) => host.get(..=end).unwrap_or(host),
        None => host.split(':').next().unwrap_or(host),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    fn to(host: &str) -> Result<RouteTarget, GatewayProblem> {
        let request = Request::get("/x").header("host", host).body(()).unwrap();
        target("gateway.localhost", &request)
    }

    fn agent(name: &str, label: Option<&str>) -> RouteTarget {
        RouteTarget::Agent {
            agent: name.parse().unwrap(),
            label: label.map(str::to_owned),
        }
    }

    #[test]
    fn the_first_label_of_the_host_names_the_agent() {
        assert_eq!(to("acme.gateway.localhost").unwrap(), agent("acme", None));
        assert_eq!(
            to("ACME.Gateway.localhost:8088").unwrap(),
            agent("acme", None)
        );
        assert_eq!(to("acme.gateway.localhost.").unwrap(), agent("acme", None));
        assert_eq!(
            to("jira--acme.gateway.localhost").unwrap(),
            agent("acme", Some("jira"))
        );
        assert_eq!(
            to("8080--acme-eu.gateway.localhost").unwrap(),
            agent("acme-eu", Some("8080"))
        );
    }

    #[test]
    fn only_the_gateways_own_names_reach_its_page() {
        for own in [
            "gateway.localhost",
            "gateway.localhost:8088",
            "localhost:8088",
            "127.0.0.1:8088",
            "[::1]:8088",
        ] {
            assert_eq!(to(own).unwrap(), RouteTarget::Page, "{own}");
        }
        for other in [
            "evil.example",
            "gateway.localhost.evil.example",
            "10.0.0.1",
            "",
        ] {
            assert_eq!(
                to(other).unwrap_err(),
                GatewayProblem::UnknownHost,
                "{other}"
            );
        }
        for no_name in [
            "a.b.gateway.localhost",
            "-.gateway.localhost",
            "..gateway.localhost",
        ] {
            assert_eq!(
                to(no_name).unwrap_err(),
                GatewayProblem::UnknownAgent,
                "{no_name}"
            );
        }
    }

    #[test]
    fn upgrades_are_refused() {
        let request = Request::get("/")
            .header("host", "acme.gateway.localhost")
            .header("upgrade", "websocket")
            .body(())
            .unwrap();
        assert_eq!(
            target("gateway.localhost", &request).unwrap_err(),
            GatewayProblem::Upgrade
        );
    }
}

//! Puts the status together from what the rooms have proven.

use super::sites::{Site, Sites, Way};
use crate::{
    audit::Audit,
    config::Config,
    health,
    status::{
        AgentReport, AuditReport, ConnectionView, ForwardReport, ForwardState, ForwardView,
        LayerReport, LayerState, Layers, Overall, REPORT_VERSION, Report,
    },
    supervisor::SupervisorHandle,
};
use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// Reads what the rooms have written; never waits for them.
pub(super) struct Observer {
    started: Instant,
    sites: Arc<Sites>,
    supervisor: SupervisorHandle,
    audit: Audit,
    stale_after: Duration,
}

impl Observer {
    pub(super) fn new(
        config: &Config,
        sites: Arc<Sites>,
        supervisor: SupervisorHandle,
        audit: Audit,
    ) -> Self {
        let slowest_proof = config.tunnel.probe_interval.max(health::INTERVAL);
        Self {
            started: Instant::now(),
            sites,
            supervisor,
            audit,
            stale_after: slowest_proof * MISSED_PROOFS,
        }
    }

    /// What is proven right now.
    pub(super) fn report(&self, draining: bool) -> Report {
        let connections = self.supervisor.connections();
        let forwards: Vec<_> = self
            .sites
            .iter()
            .map(|site| self.forward(site, &connections))
            .collect();
        let layers = Layers::of(&connections, &forwards);
        Report {
            version: REPORT_VERSION,
            time: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            overall: Overall::of(&connections, &forwards),
            agent: AgentReport {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_seconds: self.started.elapsed().as_secs(),
                draining,
            },
            layers,
            connections,
            forwards,
            audit: AuditReport {
                written: self.audit.written(),
                dropped: self.audit.dropped(),
            },
        }
    }

    fn forward(&self, site: &Site, connections: &[ConnectionView]) -> ForwardReport {
        let now = Instant::now();
        let layer = |layer: &crate::status::Layer| {
            LayerReport::new(&layer.snapshot(), now, self.stale_after)
        };
        let views: Vec<_> = connections
            .iter()
            .filter_map(|c| Some((c, view_of(c, site)?)))
            .collect();
        let bound = views
            .iter()
            .filter_map(|(_, view)| view.bound.clone())
            .collect();
        let (auth_mode, login) = match &site.way {
            Way::Http(forward) => {
                let seen = layer(&site.login);
                let login = if forward.login().injects() {
                    seen
                } else {
                    vendors_own(&seen)
                };
                (forward.login().mode(), login)
            }
            Way::Bytes { .. } => (
                "none",
                LayerReport::not_applicable("bytes are forwarded as they are"),
            ),
        };
        ForwardReport {
            name: site.config.name.to_string(),
            bind: site.config.bind.to_string(),
            bound,
            upstream: site.config.upstream.target.to_string(),
            auth_mode: auth_mode.to_owned(),
            tunnel: tunnel(&views),
            jira: layer(&site.jira),
            login,
            in_flight: site.way.in_flight(),
            requests: site.way.total(),
        }
    }
}

/// The best connection that holds the forward; where none does, why not.
fn tunnel(views: &[(&ConnectionView, &ForwardView)]) -> LayerReport {
    let holders: Vec<_> = views
        .iter()
        .filter(|(_, view)| view.state == ForwardState::Bound)
        .map(|(c, _)| &c.tunnel)
        .collect();
    if !holders.is_empty() {
        return LayerReport::best(holders);
    }
    let refused = views.iter().find(|(_, view)| view.cause.is_some());
    match refused {
        Some((connection, view)) => LayerReport {
            state: LayerState::Failed,
            cause: view.cause.clone(),
            remedy: view.remedy.clone(),
            ..connection.tunnel.clone()
        },
        // A session that is proven without holding anything yet carries no request.
        None => {
            let best = LayerReport::best(views.iter().map(|(c, _)| &c.tunnel));
            match best.state {
                LayerState::Proven => LayerReport {
                    state: LayerState::Unknown,
                    ..best
                },
                _ => best,
            }
        }
    }
}

/// In `pass-through` the identity is the vendor's: shown, and neither proven nor failed.
fn vendors_own(seen: &LayerReport) -> LayerReport {
    let user = seen
        .detail
        .as_deref()
        .map(|detail| format!("; last seen: {detail}"))
        .unwrap_or_default();
    LayerReport::not_applicable(&format!("the vendor's own login passes through{user}"))
}

fn view_of<'a>(connection: &'a ConnectionView, site: &Site) -> Option<&'a ForwardView> {
    connection
        .forwards
        .iter()
        .find(|view| *view.name == *site.config.name)
}

/// A proof that missed this many intervals proves nothing any more.
const MISSED_PROOFS: u32 = 3;

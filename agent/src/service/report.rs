//! Assembles the status from what the rooms have proven.

use super::{
    active_forward::{ActiveForward, ForwardRoute},
    configuration::ActiveConfiguration,
    disk_watch::DiskWatch,
    expiry_monitor::ExpiryMonitor,
    forward_table::ForwardTable,
    handover::UpgradeCondition,
    outlet_report,
    outlet_table::OutletTable,
    queue_watch::QueueWatch,
};
use crate::{
    audit::AuditHandle,
    auth::Concern,
    descriptors::DescriptorBudget,
    expiry::CredentialExpiry,
    health,
    status::{
        AgentReport, AuditReport, ConnectionView, CredentialReport, DescriptorReport,
        ForwardReport, ForwardState, ForwardView, LayerReport, LayerState, LayerSummary,
        OverallState, PlaceState, ProtectionReport, REPORT_VERSION, StatusLayer, StatusReport,
    },
    supervisor::SupervisorHandle,
    upstream::{self, ControlClient},
};
use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

/// Reads the state of the rooms, without waiting for them.
pub(super) struct StatusCollector {
    started: Instant,
    forwards: Arc<ForwardTable>,
    outlets: Option<(Arc<OutletTable>, Arc<QueueWatch>)>,
    supervisor: SupervisorHandle,
    audit: AuditHandle,
    expiry: Arc<ExpiryMonitor>,
    configuration: Arc<ActiveConfiguration>,
    spool: Arc<DiskWatch>,
    state_folder: Arc<DiskWatch>,
    upgrade: Arc<UpgradeCondition>,
}

impl StatusCollector {
    pub(super) fn new(
        configuration: Arc<ActiveConfiguration>,
        forwards: Arc<ForwardTable>,
        supervisor: SupervisorHandle,
        audit: AuditHandle,
        expiry: Arc<ExpiryMonitor>,
        spool: Arc<DiskWatch>,
        state_folder: Arc<DiskWatch>,
    ) -> Self {
        Self {
            started: Instant::now(),
            forwards,
            outlets: None,
            supervisor,
            audit,
            expiry,
            configuration,
            spool,
            state_folder,
            upgrade: Arc::default(),
        }
    }

    /// The same, which shows this hand-over.
    pub(super) fn with_upgrade(self, upgrade: Arc<UpgradeCondition>) -> Self {
        Self { upgrade, ..self }
    }

    /// The same, which shows these outlets.
    pub(super) fn with_outlets(self, outlets: Arc<OutletTable>, queues: Arc<QueueWatch>) -> Self {
        Self {
            outlets: Some((outlets, queues)),
            ..self
        }
    }

    /// What is proven right now.
    pub(super) fn report(&self, draining: bool) -> StatusReport {
        let now = SystemTime::now();
        let connections = self.supervisor.connections();
        let certificate = self.expiry.tunnel_expiry();
        let forwards: Vec<_> = self
            .forwards
            .all()
            .iter()
            .map(|active| self.forward(active, &connections, certificate.as_ref(), now))
            .collect();
        let session_lives = connections
            .iter()
            .any(|connection| connection.tunnel.state == LayerState::Proven);
        let outlets = self
            .outlets
            .as_ref()
            .map(|(table, queues)| outlet_report::outlets(table, queues, session_lives));
        let outlets = outlets.unwrap_or_default();
        let credentials = self.expiry.credentials();
        let layers = LayerSummary::of(&connections, &forwards);
        let audit = AuditReport::of(&self.audit.condition());
        let spool = self.spool.spool(&self.supervisor.spool_resets());
        let state_folder = self.state_folder.state_folder();
        let descriptors = DescriptorReport::of(&DescriptorBudget::of_process().snapshot());
        StatusReport {
            version: REPORT_VERSION,
            time: humantime::format_rfc3339_millis(now).to_string(),
            overall: OverallState::of(&connections, &forwards)
                .with_audit(&audit)
                .with_spool(&spool)
                .with_state_folder(&state_folder)
                .with_descriptors(&descriptors)
                .with_outlets(&outlets),
            agent: AgentReport {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_seconds: self.started.elapsed().as_secs(),
                draining,
            },
            layers,
            connections,
            forwards,
            outlets,
            credentials: credentials
                .iter()
                .map(|credential| CredentialReport::new(credential, now))
                .collect(),
            audit,
            spool,
            state_folder,
            descriptors,
            configuration: self.configuration.report(),
            upgrade: self.upgrade.report(),
        }
    }

    fn forward(
        &self,
        active: &ActiveForward,
        connections: &[ConnectionView],
        certificate: Option<&CredentialExpiry>,
        now: SystemTime,
    ) -> ForwardReport {
        let instant = Instant::now();
        let layer = |layer: &StatusLayer| probed(layer, &active.config.upstream, instant);
        let views: Vec<_> = connections
            .iter()
            .filter_map(|c| Some((c, view_of(c, active)?)))
            .collect();
        let bound = views
            .iter()
            .filter_map(|(_, view)| view.bound.clone())
            .collect();
        let (auth_mode, login, circuit_open) = match &active.route {
            ForwardRoute::Http { forward, .. } => {
                let (login, seen) = (forward.login(), layer(&active.login));
                let report = match login.injects() {
                    true => agent_login_layer(login.mode(), seen),
                    false => vendor_login_layer(&seen),
                };
                let concern = login.concern();
                let report = report.with_concern(concern.as_ref().map(|Concern { why, since }| {
                    let since = since.elapsed().as_secs_f64();
                    (&*why.cause, &*why.remedy, (since * 10.0).round() / 10.0)
                }));
                (login.mode(), report, login.refused().is_some())
            }
            ForwardRoute::Bytes(_) => (
                "none",
                LayerReport::not_applicable("bytes are forwarded as they are"),
                false,
            ),
        };
        ForwardReport {
            name: active.config.name.to_string(),
            bind: active.config.bind.to_string(),
            bound,
            upstream: active.config.upstream.target.to_string(),
            service: active.config.upstream.profile.name().to_owned(),
            profile_file: active
                .config
                .upstream
                .profile
                .file
                .as_ref()
                .map(|file| file.display().to_string()),
            auth_mode: auth_mode.to_owned(),
            tunnel: tunnel(&views).with_expiries(certificate, now),
            jira: layer(&active.jira).or_untried(UNTRIED, UNTRIED_REMEDY),
            login: login
                .or_untried(UNTRIED, UNTRIED_REMEDY)
                .with_expiries(&active.expiries(), now),
            circuit_open,
            protection: match &active.route {
                ForwardRoute::Http { forward, .. } => forward.upstream().protection().into(),
                ForwardRoute::Bytes(_) => ProtectionReport::default(),
            },
            paused: self.forwards.paused(&active.config.name),
            in_flight: active.counter().in_flight(),
            requests: active.counter().total(),
        }
    }
}

/// A layer that traffic and probes write. A proof that is older than the longest time between two probes is stale.
fn probed(layer: &StatusLayer, upstream: &upstream::Settings, now: Instant) -> LayerReport {
    let stale_after = health::OLDEST_PROOF + ControlClient::longest(upstream);
    LayerReport::new(&layer.snapshot(), now, stale_after)
}

/// The best connection whose place requests reach; if there is none, why not.
fn tunnel(views: &[(&ConnectionView, &ForwardView)]) -> LayerReport {
    let holders = |shared: bool| {
        let bound = views.iter().filter(move |(_, view)| {
            view.state == ForwardState::Bound
                && !view.is_broken()
                && (view.proof == Some(PlaceState::Shared)) == shared
        });
        bound.copied().collect::<Vec<_>>()
    };
    let own = holders(false);
    let holders = if own.is_empty() { holders(true) } else { own };
    if !holders.is_empty() {
        let best = LayerReport::best(holders.iter().map(|(c, _)| &c.tunnel));
        return with_proof(best, holders.iter().map(|(_, view)| *view));
    }
    let refused = views.iter().find(|(_, view)| view.cause.is_some());
    match refused {
        Some((connection, view)) => LayerReport {
            state: LayerState::Failed,
            cause: view.cause.clone(),
            remedy: view.remedy.clone(),
            ..connection.tunnel.clone()
        },
        // A proven session that holds no forward yet carries no requests.
        None => {
            let best = LayerReport::best(views.iter().map(|(c, _)| &c.tunnel));
            match best.state {
                LayerState::Proven => LayerReport {
                    state: LayerState::Unknown,
                    ..best
                },
                LayerState::Degraded
                | LayerState::Failed
                | LayerState::Unknown
                | LayerState::NotApplicable => best,
            }
        }
    }
}

/// The detail of a proven tunnel says so if no request can show that the gateway listens. The first call comes 1 s after the
/// grant.
fn with_proof<'a>(
    layer: LayerReport,
    mut holders: impl Iterator<Item = &'a ForwardView>,
) -> LayerReport {
    let is_proven_or_pending =
        holders.any(|view| view.proof != Some(PlaceState::Granted) || view.unproven.is_none());
    if is_proven_or_pending || layer.state != LayerState::Proven {
        return layer;
    }
    let detail = match &layer.detail {
        Some(detail) => format!("{detail}; {GRANTED}"),
        None => GRANTED.to_owned(),
    };
    LayerReport {
        detail: Some(detail),
        ..layer
    }
}

/// The login of a forward whose credential the agent injects: its mode and user.
fn agent_login_layer(mode: &str, seen: LayerReport) -> LayerReport {
    let detail = match &seen.detail {
        Some(user) => format!("{mode}, {user}"),
        None => mode.to_owned(),
    };
    LayerReport {
        detail: Some(detail),
        ..seen
    }
}

/// The login of a pass-through forward is the vendor's: shown, but neither proven nor failed.
fn vendor_login_layer(seen: &LayerReport) -> LayerReport {
    let user = seen
        .detail
        .as_deref()
        .map(|detail| format!("; last seen: {detail}"))
        .unwrap_or_default();
    LayerReport::not_applicable(&format!("the vendor's own credential passes through{user}"))
}

fn view_of<'a>(connection: &'a ConnectionView, active: &ActiveForward) -> Option<&'a ForwardView> {
    connection
        .forwards
        .iter()
        .find(|view| *view.name == *active.config.name)
}

const GRANTED: &str = "the place is granted, not proven by a request";
const UNTRIED: &str = "not tried yet: no probe has been answered so far";
const UNTRIED_REMEDY: &str = "wait up to 30 s for the first probe; if this persists, check the log";

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;

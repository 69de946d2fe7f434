//! Assembles the status from what the rooms have proven.

use super::{
    active_forward::{ActiveForward, ForwardRoute},
    configuration::ActiveConfiguration,
    disk_watch::DiskWatch,
    expiry_monitor::ExpiryMonitor,
    forward_table::ForwardTable,
    handover::UpgradeCondition,
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
                .with_descriptors(&descriptors),
            agent: AgentReport {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                pid: std::process::id(),
                uptime_seconds: self.started.elapsed().as_secs(),
                draining,
            },
            layers,
            connections,
            forwards,
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::status::ConnectionPhase;
    use std::time::Duration;

    fn layer(state: LayerState, detail: &str) -> LayerReport {
        LayerReport {
            state,
            detail: Some(detail.to_owned()),
            ..LayerReport::not_applicable("")
        }
    }

    fn connection(index: usize, tunnel: LayerState) -> ConnectionView {
        ConnectionView {
            index,
            gateway: "gw1.vendor.example:443".into(),
            via: None,
            address: None,
            user: "acme".into(),
            phase: ConnectionPhase::Serving,
            since_seconds: 60.0,
            attempt: 0,
            next_retry_seconds: None,
            network: layer(LayerState::Proven, ""),
            tunnel: layer(tunnel, &format!("connection {index}")),
            failed_hop: None,
            suspect_seconds: None,
            rtt_ms: None,
            generation: 1,
            host_key: None,
            key_exchange: None,
            cipher: None,
            strict_key_exchange: None,
            channels: 0,
            bytes_received: 0,
            bytes_sent: 0,
            backlog: 0,
            closed_first: 0,
            channel_resets: 0,
            forwards: Vec::new(),
        }
    }

    fn view(state: ForwardState, cause: Option<&str>) -> ForwardView {
        ForwardView {
            name: "jira".into(),
            bind: "127.0.0.1:8080".into(),
            state,
            proof: None,
            unproven: None,
            bound: None,
            cause: cause.map(str::to_owned),
            remedy: cause.map(|_| "ask the vendor".to_owned()),
        }
    }

    #[test]
    fn a_forward_is_as_good_as_the_best_connection_that_holds_it() {
        let connections = [
            connection(0, LayerState::Failed),
            connection(1, LayerState::Proven),
            connection(2, LayerState::Proven),
        ];
        let bound = view(ForwardState::Bound, None);
        let standby = view(ForwardState::Standby, None);
        let views = [
            (&connections[0], &bound),
            (&connections[1], &bound),
            (&connections[2], &standby),
        ];
        let report = tunnel(&views);
        assert_eq!(report.state, LayerState::Proven);
        assert_eq!(report.detail.as_deref(), Some("connection 1"));
        // A standby connection carries no requests.
        assert_eq!(tunnel(&views[..1]).state, LayerState::Failed);
        assert_eq!(tunnel(&views[2..]).state, LayerState::Unknown);
    }

    #[test]
    fn a_refused_forward_fails_on_a_proven_session_and_says_why() {
        let connections = [
            connection(0, LayerState::Proven),
            connection(1, LayerState::Proven),
        ];
        let refused = view(ForwardState::Refused, Some("the port is taken"));
        let pending = view(ForwardState::Pending, None);
        let report = tunnel(&[(&connections[1], &pending), (&connections[0], &refused)]);
        assert_eq!(report.state, LayerState::Failed);
        assert_eq!(report.cause.as_deref(), Some("the port is taken"));
        assert_eq!(report.remedy.as_deref(), Some("ask the vendor"));
    }

    #[test]
    fn a_place_that_is_taken_or_lost_is_no_tunnel_and_a_granted_one_says_so() {
        let connections = [
            connection(0, LayerState::Proven),
            connection(1, LayerState::Proven),
        ];
        let with = |proof| ForwardView {
            proof: Some(proof),
            ..view(ForwardState::Bound, None)
        };
        let broken = |proof| ForwardView {
            cause: Some("another agent answers".into()),
            ..with(proof)
        };
        for state in [PlaceState::Taken, PlaceState::Lost] {
            let report = tunnel(&[(&connections[0], &broken(state))]);
            assert_eq!(report.state, LayerState::Failed);
            assert_eq!(report.cause.as_deref(), Some("another agent answers"));
            let (lost, proven) = (broken(state), with(PlaceState::Proven));
            let report = tunnel(&[(&connections[0], &lost), (&connections[1], &proven)]);
            assert_eq!(report.detail.as_deref(), Some("connection 1"));
        }
        let mut granted = with(PlaceState::Granted);
        let pending = tunnel(&[(&connections[0], &granted)]);
        assert_eq!(pending.detail.as_deref(), Some("connection 0"));
        granted.unproven = Some("the gateway does not let the agent connect".into());
        let known = tunnel(&[(&connections[0], &granted)]);
        assert_eq!(known.state, LayerState::Proven);
        assert_eq!(known.detail.unwrap(), format!("connection 0; {GRANTED}"));
        let (shared, proven) = (with(PlaceState::Shared), with(PlaceState::Proven));
        let report = tunnel(&[(&connections[0], &shared), (&connections[1], &proven)]);
        assert_eq!(report.detail.as_deref(), Some("connection 1"));
        assert_eq!(
            tunnel(&[(&connections[0], &shared)]).state,
            LayerState::Proven
        );
    }

    /// The prober hangs: nothing fails, and the proof ages all the same.
    #[test]
    fn a_proof_of_jira_or_login_counts_45_seconds_and_the_time_of_one_probe() {
        let layer = StatusLayer::default();
        layer.proven(Some("acme-bot"));
        let proven_at = layer.snapshot().proven_at.unwrap();
        let upstream = upstream::Settings::new("https://jira.test".parse().unwrap());
        let counts = Duration::from_secs(45) + ControlClient::longest(&upstream);
        let at = |age| probed(&layer, &upstream, proven_at + age);
        assert_eq!(at(counts).state, LayerState::Proven);
        let later = at(counts + Duration::from_secs(1));
        assert_ne!(later.state, LayerState::Proven);
        assert!(later.cause.is_some() && later.remedy.is_some());
    }

    #[test]
    fn nothing_is_claimed_without_a_connection_or_before_it_is_bound() {
        assert_eq!(tunnel(&[]).state, LayerState::Unknown);
        let pending = view(ForwardState::Pending, None);
        let failed = connection(0, LayerState::Failed);
        assert_eq!(tunnel(&[(&failed, &pending)]).state, LayerState::Failed);
    }
}

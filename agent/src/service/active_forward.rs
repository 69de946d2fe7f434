//! One `[[forward]]` in operation.

use crate::{
    audit::AuditHandle,
    check, config,
    expiry::CredentialExpiry,
    health::HealthProber,
    http::{self, ChannelOrigin, CurrentForward, RequestCounter, ShutdownTokens},
    pause::PauseRegistry,
    policy::CompiledPolicy,
    status::{ProofState, StatusLayer},
    tunnel::InboundChannel,
    upstream::{FailedStep, Upstream, UpstreamTarget, tcp},
};
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::Instrument;

/// One `[[forward]]` in operation. A changed configuration makes a new one, which takes over what has not changed.
pub(super) struct ActiveForward {
    pub(super) config: config::ForwardConfig,
    pub(super) jira: Arc<StatusLayer>,
    pub(super) login: Arc<StatusLayer>,
    pub(super) route: ForwardRoute,
    /// Of the certificate that was loaded; a changed file needs a reload.
    client_certificate: Option<CredentialExpiry>,
    /// Ends the probes with the last forward that shares them.
    probes: Arc<DropGuard>,
    /// Ends its channels: the agent stops, or the forward was removed.
    drain: CancellationToken,
    /// Ends its requests.
    abort: CancellationToken,
}

/// Where a channel goes.
#[derive(Clone)]
pub(super) enum ForwardRoute {
    /// Through the HTTP server to Jira.
    Http {
        /// What the open channels refer to; a reload replaces its content.
        current: CurrentForward,
        /// The handler that is in `current`, or will be once activated.
        forward: Arc<http::HttpForward>,
    },
    /// As bytes to a TCP port.
    Bytes(Arc<RequestCounter>),
}

/// What all forwards share.
#[derive(Clone)]
pub(super) struct ServiceContext {
    pub(super) audit: AuditHandle,
    pub(super) pauses: PauseRegistry,
    /// Ends the channels of all forwards.
    pub(super) drain: CancellationToken,
    /// Ends the requests that are still in progress after the drain.
    pub(super) abort: CancellationToken,
    /// Ends the probes of all forwards.
    pub(super) stop: CancellationToken,
}

/// Probes to be started once their forward serves.
pub(super) struct PendingProbes(HealthProber, CancellationToken);

impl PendingProbes {
    pub(super) fn start(self) {
        tokio::spawn(self.0.run(self.1));
    }
}

impl ActiveForward {
    /// A forward for this configuration that takes over from `former`, and its probes unless those of `former` serve it
    /// too. Compiles policies and reads trust roots: blocks on the disk.
    pub(super) fn new(
        config: &config::ForwardConfig,
        former: Option<&Self>,
        context: &ServiceContext,
    ) -> anyhow::Result<(Self, Option<PendingProbes>)> {
        let former = former.filter(|active| active.is_compatible(config));
        let same_upstream = former
            .filter(|active| active.config.upstream_fingerprint == config.upstream_fingerprint);
        let same_login = same_upstream
            .filter(|active| active.config.auth_fingerprint == config.auth_fingerprint);

        let new_layer =
            || Arc::new(StatusLayer::of_forward(&config.name).about(&config.upstream.profile));
        let jira = same_upstream.map_or_else(new_layer, |active| Arc::clone(&active.jira));
        let login_layer = same_login.map_or_else(new_layer, |active| Arc::clone(&active.login));
        let login = match same_login.map(|active| &active.route) {
            Some(ForwardRoute::Http { forward, .. }) => forward.login().clone(),
            _ => config.new_auth(Arc::clone(&login_layer)),
        };
        let upstream = match (
            &config.upstream.target,
            same_upstream.map(|active| &active.route),
        ) {
            (UpstreamTarget::Tcp { .. }, _) => None,
            (UpstreamTarget::Http(_), Some(ForwardRoute::Http { forward, .. })) => {
                Some(Arc::clone(forward.upstream()))
            }
            (UpstreamTarget::Http(_), _) => Some(Arc::new(Upstream::new(config.upstream.clone())?)),
        };
        let (probes, to_start) = match same_login {
            Some(active) => (Arc::clone(&active.probes), None),
            None => {
                let health = HealthProber::new(
                    Arc::clone(&config.name),
                    config.upstream.clone(),
                    login.clone(),
                    Arc::clone(&jira),
                    Arc::clone(&login_layer),
                )?
                .watching(upstream.clone());
                let end = context.stop.child_token();
                let guard = Arc::new(end.clone().drop_guard());
                (guard, Some(PendingProbes(health, end)))
            }
        };
        let route = match upstream {
            None => match former.map(|active| &active.route) {
                Some(ForwardRoute::Bytes(counter)) => ForwardRoute::Bytes(Arc::clone(counter)),
                _ => ForwardRoute::Bytes(Arc::default()),
            },
            Some(upstream) => {
                let forward = http::HttpForward::new(
                    Arc::clone(&config.name),
                    CompiledPolicy::new(&config.policy)?,
                    login.with_vendor_headers(config.headers.clone()),
                    upstream,
                    context.audit.clone(),
                    config.http.clone(),
                    Arc::clone(&jira),
                )
                .pausable(context.pauses.clone());
                match former.map(|active| &active.route) {
                    Some(ForwardRoute::Http {
                        current,
                        forward: of,
                    }) => ForwardRoute::Http {
                        current: current.clone(),
                        forward: Arc::new(forward.with_counters_of(of)),
                    },
                    _ => {
                        let forward = Arc::new(forward);
                        ForwardRoute::Http {
                            current: Arc::clone(&forward).into(),
                            forward,
                        }
                    }
                }
            }
        };
        let client_certificate = &config.upstream.tls.client_certificate;
        let drain = match former {
            Some(active) => active.drain.clone(),
            None => context.drain.child_token(),
        };
        let active = Self {
            client_certificate: client_certificate.as_ref().map(|c| c.expiry()),
            config: config.clone(),
            jira,
            login: login_layer,
            route,
            probes,
            drain,
            abort: context.abort.clone(),
        };
        Ok((active, to_start))
    }

    /// Whether its open channels can use this configuration: bytes and HTTP cannot change into each other.
    pub(super) fn is_compatible(&self, config: &config::ForwardConfig) -> bool {
        let bytes = matches!(config.upstream.target, UpstreamTarget::Tcp { .. });
        bytes == matches!(self.route, ForwardRoute::Bytes(_))
    }

    /// From now on, it answers the requests of its open channels too.
    pub(super) fn activate(&self) {
        if let ForwardRoute::Http { current, forward } = &self.route {
            current.replace(Arc::clone(forward));
        }
    }

    /// Takes no more requests; those in progress finish.
    pub(super) fn close(&self) {
        self.drain.cancel();
    }

    /// Counts the requests or byte channels of it and its predecessors.
    pub(super) fn counter(&self) -> &Arc<RequestCounter> {
        match &self.route {
            ForwardRoute::Http { forward, .. } => forward.counter(),
            ForwardRoute::Bytes(counter) => counter,
        }
    }

    /// When the credentials of this forward expire.
    pub(super) fn expiries(&self) -> Vec<CredentialExpiry> {
        let login = match &self.route {
            ForwardRoute::Http { forward, .. } => forward.login().expiries(),
            ForwardRoute::Bytes(_) => Vec::new(),
        };
        login
            .into_iter()
            .chain(self.client_certificate.clone())
            .collect()
    }

    /// Checks every hop to Jira, with the credential that requests get.
    pub(super) async fn check(&self) -> Vec<check::CheckStep> {
        match &self.route {
            ForwardRoute::Http { forward, .. } => {
                check::forward(&self.config, forward.login()).await
            }
            ForwardRoute::Bytes(_) => {
                let layer = Arc::new(StatusLayer::of_forward(&self.config.name));
                let login = self.config.new_auth(layer);
                check::forward(&self.config, &login).await
            }
        }
    }

    /// Serves one channel to its end, without holding on to this forward, which may be replaced meanwhile.
    pub(super) fn serve(&self, inbound: InboundChannel) {
        match &self.route {
            ForwardRoute::Http { current, .. } => {
                let shutdown = ShutdownTokens {
                    drain: self.drain.clone(),
                    replaced: inbound.replaced,
                    abort: self.abort.clone(),
                };
                let origin = ChannelOrigin {
                    originator: inbound.originator.into(),
                    connection: inbound.connection,
                    place: Some(inbound.place),
                };
                let serve = http::serve(inbound.stream, current.clone(), origin, shutdown);
                tokio::spawn(serve.in_current_span());
            }
            ForwardRoute::Bytes(counter) => {
                counter.count();
                let in_flight = counter.enter();
                let (config, jira) = (self.config.clone(), Arc::clone(&self.jira));
                let pump = async move {
                    pump(inbound, &config, &jira).await;
                    drop(in_flight);
                };
                tokio::spawn(pump.in_current_span());
            }
        }
    }
}

async fn pump(inbound: InboundChannel, config: &config::ForwardConfig, jira: &StatusLayer) {
    let closed = inbound.stream.closed();
    let (pumped, outcome) = tcp::pump(inbound.stream, closed, &config.upstream).await;
    match outcome {
        Ok(()) => {
            jira.proven(Some("bytes went through"));
        }
        // Its own section of the status has it.
        Err(tcp::PumpError::Connect(error)) if error.kind == FailedStep::Descriptors => {}
        Err(tcp::PumpError::Connect(error)) => {
            let remedy =
                "check that the service behind tcp:// is running and reachable from this host";
            if jira.failed(ProofState::Failed, &error.to_string(), remedy) {
                tracing::warn!(
                    forward = &*config.name,
                    cause = %error,
                    remedy,
                    "cannot connect to the upstream; the channel is closed"
                );
            }
        }
        Err(error) => tracing::debug!(
            forward = &*config.name,
            %error,
            sent = pumped.sent,
            received = pumped.received,
            "byte channel broke off"
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use crate::config::{Config, ConfigSources};
    use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    /// The only forward of this configuration, with a line more.
    fn forward(folder: &Path, more: &str) -> config::ForwardConfig {
        let text = format!("{CONFIG}{more}\n");
        fs::write(folder.join("agent.toml"), text).unwrap();
        let sources = ConfigSources::new(Some(folder.join("agent.toml")), Default::default());
        Config::load(&sources).unwrap().forwards.remove(0)
    }

    #[tokio::test]
    async fn probes_go_on_as_long_as_a_site_has_them_and_end_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let file = folder.path().join("id_ed25519");
        fs::write(&file, key.to_openssh(LineEnding::LF).unwrap()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let context = ServiceContext {
            audit: AuditHandle::off(),
            pauses: PauseRegistry::load(folder.path()),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let config = forward(folder.path(), "");
        let (first, probes) = ActiveForward::new(&config, None, &context).unwrap();
        let PendingProbes(_, end) = probes.unwrap();
        let config = forward(folder.path(), "[forward.http]\nidle_timeout = \"20s\"");
        let (second, login) = ActiveForward::new(&config, Some(&first), &context).unwrap();
        assert!(login.is_none(), "one Jira is asked once");
        drop(first);
        assert!(!end.is_cancelled());

        // Another way to Jira.
        let config = forward(folder.path(), "max_connections = 8");
        let (third, probes) = ActiveForward::new(&config, Some(&second), &context).unwrap();
        let PendingProbes(_, other) = probes.unwrap();
        drop(second);
        assert!(end.is_cancelled());
        drop(third);
        assert!(other.is_cancelled());
        assert!(!context.stop.is_cancelled());
    }

    const CONFIG: &str = r#"
[tunnel]
gateways = ["gw1.vendor.example:443"]
user = "acme"
identity_file = "id_ed25519"
host_keys = ["SHA256:uNiVztksCsDhcc0u9e8BrcJxUKFyDVR0OXPBmkR1xX0"]
[[forward]]
name = "jira"
bind = "127.0.0.1:8080"
upstream = "http://jira.corp.example/jira"
"#;
}

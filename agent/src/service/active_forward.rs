//! One `[[forward]]` in operation.

use crate::{
    audit::AuditHandle,
    check, config,
    expiry::CredentialExpiry,
    health::HealthProber,
    http::{self, CurrentForward, RequestCounter, ShutdownTokens},
    pause::PauseRegistry,
    policy::CompiledPolicy,
    status::{ProofState, StatusLayer},
    tunnel::InboundChannel,
    upstream::{Upstream, UpstreamTarget, tcp},
};
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One `[[forward]]` in operation. A changed configuration makes a new one, which takes over of the former what has not
/// changed.
pub(super) struct ActiveForward {
    pub(super) config: config::ForwardConfig,
    pub(super) jira: Arc<StatusLayer>,
    pub(super) login: Arc<StatusLayer>,
    pub(super) route: ForwardRoute,
    /// Of the certificate that was loaded; another one needs a reload.
    client_certificate: Option<CredentialExpiry>,
    /// Ends the probes with the last site that has them.
    probes: Arc<DropGuard>,
    /// Ends its channels: the agent stops, or the forward is no more.
    drain: CancellationToken,
    /// Ends its requests.
    abort: CancellationToken,
}

/// Where a channel goes.
#[derive(Clone)]
pub(super) enum ForwardRoute {
    /// Through the HTTP server to Jira.
    Http {
        /// What the channels hold.
        current: CurrentForward,
        /// Who has it, or is to have it.
        forward: Arc<http::HttpForward>,
    },
    /// As bytes to a TCP port.
    Bytes(Arc<RequestCounter>),
}

/// What all sites have in common.
#[derive(Clone)]
pub(super) struct ServiceContext {
    pub(super) audit: AuditHandle,
    pub(super) pauses: PauseRegistry,
    /// Ends the channels of all sites.
    pub(super) drain: CancellationToken,
    /// Ends what is still under way then.
    pub(super) abort: CancellationToken,
    /// Ends the probes of all sites.
    pub(super) stop: CancellationToken,
}

/// Probes to be started once their site serves.
pub(super) struct PendingProbes(HealthProber, CancellationToken);

impl PendingProbes {
    pub(super) fn start(self) {
        tokio::spawn(self.0.run(self.1));
    }
}

impl ActiveForward {
    /// A site for this configuration that goes on where `former` stands, and the probes that ask its Jira while no
    /// traffic proves it, where those of the former do not. Compiles policies and reads trust roots: blocks on the disk.
    pub(super) fn new(
        config: &config::ForwardConfig,
        former: Option<&Self>,
        common: &ServiceContext,
    ) -> anyhow::Result<(Self, Option<PendingProbes>)> {
        let former = former.filter(|site| site.is_compatible(config));
        let same_way =
            former.filter(|site| site.config.upstream_fingerprint == config.upstream_fingerprint);
        let same_login =
            same_way.filter(|site| site.config.auth_fingerprint == config.auth_fingerprint);

        let new_layer = || Arc::new(StatusLayer::of_forward(&config.name));
        let jira = same_way.map_or_else(new_layer, |site| Arc::clone(&site.jira));
        let login_layer = same_login.map_or_else(new_layer, |site| Arc::clone(&site.login));
        let login = match same_login.map(|site| &site.route) {
            Some(ForwardRoute::Http { forward, .. }) => forward.login().clone(),
            _ => config.new_auth(Arc::clone(&login_layer)),
        };
        let (probes, to_start) = match same_login {
            Some(site) => (Arc::clone(&site.probes), None),
            None => {
                let health = HealthProber::new(
                    Arc::clone(&config.name),
                    config.upstream.clone(),
                    login.clone(),
                    Arc::clone(&jira),
                    Arc::clone(&login_layer),
                )?;
                let end = common.stop.child_token();
                let guard = Arc::new(end.clone().drop_guard());
                (guard, Some(PendingProbes(health, end)))
            }
        };
        let way = match &config.upstream.target {
            UpstreamTarget::Tcp { .. } => match former.map(|site| &site.route) {
                Some(ForwardRoute::Bytes(tally)) => ForwardRoute::Bytes(Arc::clone(tally)),
                _ => ForwardRoute::Bytes(Arc::default()),
            },
            UpstreamTarget::Http(_) => {
                let upstream = match same_way.map(|site| &site.route) {
                    Some(ForwardRoute::Http { forward, .. }) => Arc::clone(forward.upstream()),
                    _ => Arc::new(Upstream::new(config.upstream.clone())?),
                };
                let forward = http::HttpForward::new(
                    Arc::clone(&config.name),
                    CompiledPolicy::new(&config.policy)?,
                    login.with_vendor_headers(config.headers.clone()),
                    upstream,
                    common.audit.clone(),
                    config.http.clone(),
                    Arc::clone(&jira),
                )
                .pausable(common.pauses.clone());
                match former.map(|site| &site.route) {
                    Some(ForwardRoute::Http {
                        current: seat,
                        forward: of,
                    }) => ForwardRoute::Http {
                        current: seat.clone(),
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
            Some(site) => site.drain.clone(),
            None => common.drain.child_token(),
        };
        let site = Self {
            client_certificate: client_certificate.as_ref().map(|c| c.expiry()),
            config: config.clone(),
            jira,
            login: login_layer,
            route: way,
            probes,
            drain,
            abort: common.abort.clone(),
        };
        Ok((site, to_start))
    }

    /// Whether its channels can go on by this configuration: bytes and HTTP do not change into each other.
    pub(super) fn is_compatible(&self, config: &config::ForwardConfig) -> bool {
        let bytes = matches!(config.upstream.target, UpstreamTarget::Tcp { .. });
        bytes == matches!(self.route, ForwardRoute::Bytes(_))
    }

    /// From now on requests are answered by it.
    pub(super) fn activate(&self) {
        if let ForwardRoute::Http {
            current: seat,
            forward,
        } = &self.route
        {
            seat.replace(Arc::clone(forward));
        }
    }

    /// Takes no more requests; those under way finish.
    pub(super) fn close(&self) {
        self.drain.cancel();
    }

    /// Requests or byte channels of it and its predecessors.
    pub(super) fn counter(&self) -> &Arc<RequestCounter> {
        match &self.route {
            ForwardRoute::Http { forward, .. } => forward.counter(),
            ForwardRoute::Bytes(tally) => tally,
        }
    }

    /// When what this forward logs in with ends.
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

    /// Every hop to Jira, by the login that requests get.
    pub(super) async fn check(&self) -> Vec<check::CheckStep> {
        match &self.route {
            ForwardRoute::Http { forward, .. } => {
                check::forward(&self.config, forward.login()).await
            }
            ForwardRoute::Bytes(_) => {
                let layer = Arc::new(StatusLayer::of_forward(&self.config.name));
                let none = self.config.new_auth(layer);
                check::forward(&self.config, &none).await
            }
        }
    }

    /// Serves one channel to its end. It does not hold the site, which may be replaced meanwhile.
    pub(super) fn serve(&self, inbound: InboundChannel) {
        match &self.route {
            ForwardRoute::Http { current: seat, .. } => {
                let ends = ShutdownTokens {
                    drain: self.drain.clone(),
                    replaced: inbound.replaced,
                    abort: self.abort.clone(),
                };
                let (seat, connection) = (seat.clone(), inbound.connection);
                tokio::spawn(http::serve(
                    inbound.stream,
                    seat,
                    inbound.originator,
                    connection,
                    ends,
                ));
            }
            ForwardRoute::Bytes(tally) => {
                tally.count();
                let under_way = tally.enter();
                let (config, jira) = (self.config.clone(), Arc::clone(&self.jira));
                tokio::spawn(async move {
                    pump(inbound, &config, &jira).await;
                    drop(under_way);
                });
            }
        }
    }
}

async fn pump(inbound: InboundChannel, config: &config::ForwardConfig, jira: &StatusLayer) {
    let (pumped, outcome) = tcp::pump(inbound.stream, &config.upstream).await;
    match outcome {
        Ok(()) => {
            jira.proven(Some("bytes went through"));
        }
        Err(tcp::PumpError::Connect(error)) => {
            let remedy =
                "Check that the service behind tcp:// runs and that this host may reach it.";
            if jira.failed(ProofState::Failed, &error.to_string(), remedy) {
                tracing::warn!(
                    forward = &*config.name,
                    cause = %error,
                    remedy,
                    "a channel could not be connected to the upstream"
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
        let common = ServiceContext {
            audit: AuditHandle::off(),
            pauses: PauseRegistry::load(folder.path()),
            drain: CancellationToken::new(),
            abort: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let config = forward(folder.path(), "");
        let (first, probes) = ActiveForward::new(&config, None, &common).unwrap();
        let PendingProbes(_, end) = probes.unwrap();
        let config = forward(folder.path(), "[forward.http]\nidle_timeout = \"20s\"");
        let (second, none) = ActiveForward::new(&config, Some(&first), &common).unwrap();
        assert!(none.is_none(), "one Jira is asked once");
        drop(first);
        assert!(!end.is_cancelled());

        // Another way to Jira.
        let config = forward(folder.path(), "max_connections = 8");
        let (third, probes) = ActiveForward::new(&config, Some(&second), &common).unwrap();
        let PendingProbes(_, other) = probes.unwrap();
        drop(second);
        assert!(end.is_cancelled());
        drop(third);
        assert!(other.is_cancelled());
        assert!(!common.stop.is_cancelled());
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

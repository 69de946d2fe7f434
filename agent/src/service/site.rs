//! One `[[forward]]` in operation.

use crate::{
    audit::Audit,
    check, config,
    expiry::Expiry,
    health::Health,
    http::{self, Ends, Seat, Tally},
    pause::Pauses,
    policy::Policy,
    status::{Layer, State},
    tunnel::Inbound,
    upstream::{Target, Upstream, tcp},
};
use std::sync::Arc;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One `[[forward]]` in operation. A changed configuration makes a new one, which takes over of the former what has not
/// changed.
pub(super) struct Site {
    pub(super) config: config::Forward,
    pub(super) jira: Arc<Layer>,
    pub(super) login: Arc<Layer>,
    pub(super) way: Way,
    /// Of the certificate that was loaded; another one needs a reload.
    client_certificate: Option<Expiry>,
    /// Ends the probes with the last site that has them.
    probes: Arc<DropGuard>,
    /// Ends its channels: the agent stops, or the forward is no more.
    drain: CancellationToken,
    /// Ends its requests.
    cut: CancellationToken,
}

/// Where a channel goes.
#[derive(Clone)]
pub(super) enum Way {
    /// Through the HTTP server to Jira.
    Http {
        /// What the channels hold.
        seat: Seat,
        /// Who has it, or is to have it.
        forward: Arc<http::Forward>,
    },
    /// As bytes to a TCP port.
    Bytes(Arc<Tally>),
}

/// What all sites have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub(super) audit: Audit,
    pub(super) pauses: Pauses,
    /// Ends the channels of all sites.
    pub(super) drain: CancellationToken,
    /// Ends what is still under way then.
    pub(super) cut: CancellationToken,
    /// Ends the probes of all sites.
    pub(super) stop: CancellationToken,
}

/// Probes to be started once their site serves.
pub(super) struct Probes(Health, CancellationToken);

impl Probes {
    pub(super) fn start(self) {
        tokio::spawn(self.0.run(self.1));
    }
}

impl Site {
    /// A site for this configuration that goes on where `former` stands, and the probes that ask its Jira while no
    /// traffic proves it, where those of the former do not. Compiles policies and reads trust roots: blocks on the disk.
    pub(super) fn new(
        config: &config::Forward,
        former: Option<&Self>,
        common: &Common,
    ) -> anyhow::Result<(Self, Option<Probes>)> {
        let former = former.filter(|site| site.is_like(config));
        let same_way = former.filter(|site| site.config.way == config.way);
        let same_login = same_way.filter(|site| site.config.login == config.login);

        let new_layer = || Arc::new(Layer::of_forward(&config.name));
        let jira = same_way.map_or_else(new_layer, |site| Arc::clone(&site.jira));
        let login_layer = same_login.map_or_else(new_layer, |site| Arc::clone(&site.login));
        let login = match same_login.map(|site| &site.way) {
            Some(Way::Http { forward, .. }) => forward.login().clone(),
            _ => config.new_login(Arc::clone(&login_layer)),
        };
        let (probes, to_start) = match same_login {
            Some(site) => (Arc::clone(&site.probes), None),
            None => {
                let health = Health::new(
                    Arc::clone(&config.name),
                    config.upstream.clone(),
                    login.clone(),
                    Arc::clone(&jira),
                    Arc::clone(&login_layer),
                )?;
                let end = common.stop.child_token();
                let guard = Arc::new(end.clone().drop_guard());
                (guard, Some(Probes(health, end)))
            }
        };
        let way = match &config.upstream.target {
            Target::Tcp { .. } => match former.map(|site| &site.way) {
                Some(Way::Bytes(tally)) => Way::Bytes(Arc::clone(tally)),
                _ => Way::Bytes(Arc::default()),
            },
            Target::Http(_) => {
                let upstream = match same_way.map(|site| &site.way) {
                    Some(Way::Http { forward, .. }) => Arc::clone(forward.upstream()),
                    _ => Arc::new(Upstream::new(config.upstream.clone())?),
                };
                let forward = http::Forward::new(
                    Arc::clone(&config.name),
                    Policy::new(&config.policy)?,
                    login.with_vendor_headers(config.headers.clone()),
                    upstream,
                    common.audit.clone(),
                    config.http.clone(),
                    Arc::clone(&jira),
                )
                .pausable(common.pauses.clone());
                match former.map(|site| &site.way) {
                    Some(Way::Http { seat, forward: of }) => Way::Http {
                        seat: seat.clone(),
                        forward: Arc::new(forward.succeeding(of)),
                    },
                    _ => {
                        let forward = Arc::new(forward);
                        Way::Http {
                            seat: Arc::clone(&forward).into(),
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
            way,
            probes,
            drain,
            cut: common.cut.clone(),
        };
        Ok((site, to_start))
    }

    /// Whether its channels can go on by this configuration: bytes and HTTP do not change into each other.
    pub(super) fn is_like(&self, config: &config::Forward) -> bool {
        let bytes = matches!(config.upstream.target, Target::Tcp { .. });
        bytes == matches!(self.way, Way::Bytes(_))
    }

    /// From now on requests are answered by it.
    pub(super) fn take_seat(&self) {
        if let Way::Http { seat, forward } = &self.way {
            seat.give(Arc::clone(forward));
        }
    }

    /// Takes no more requests; those under way finish.
    pub(super) fn close(&self) {
        self.drain.cancel();
    }

    /// Requests or byte channels of it and its predecessors.
    pub(super) fn tally(&self) -> &Arc<Tally> {
        match &self.way {
            Way::Http { forward, .. } => forward.tally(),
            Way::Bytes(tally) => tally,
        }
    }

    /// When what this forward logs in with ends.
    pub(super) fn expiries(&self) -> Vec<Expiry> {
        let login = match &self.way {
            Way::Http { forward, .. } => forward.login().expiries(),
            Way::Bytes(_) => Vec::new(),
        };
        login
            .into_iter()
            .chain(self.client_certificate.clone())
            .collect()
    }

    /// Every hop to Jira, by the login that requests get.
    pub(super) async fn check(&self) -> Vec<check::Step> {
        match &self.way {
            Way::Http { forward, .. } => check::forward(&self.config, forward.login()).await,
            Way::Bytes(_) => {
                let layer = Arc::new(Layer::of_forward(&self.config.name));
                let none = self.config.new_login(layer);
                check::forward(&self.config, &none).await
            }
        }
    }

    /// Serves one channel to its end. It does not hold the site, which may be replaced meanwhile.
    pub(super) fn serve(&self, inbound: Inbound) {
        match &self.way {
            Way::Http { seat, .. } => {
                let ends = Ends {
                    drain: self.drain.clone(),
                    leaving: inbound.leaving,
                    cut: self.cut.clone(),
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
            Way::Bytes(tally) => {
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

async fn pump(inbound: Inbound, config: &config::Forward, jira: &Layer) {
    let (pumped, outcome) = tcp::pump(inbound.stream, &config.upstream).await;
    match outcome {
        Ok(()) => {
            jira.proven(Some("bytes went through"));
        }
        Err(tcp::PumpError::Connect(error)) => {
            let remedy =
                "Check that the service behind tcp:// runs and that this host may reach it.";
            if jira.failed(State::Failed, &error.to_string(), remedy) {
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
    use crate::config::{Config, Sources};
    use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    /// The only forward of this configuration, with a line more.
    fn forward(folder: &Path, more: &str) -> config::Forward {
        let text = format!("{CONFIG}{more}\n");
        fs::write(folder.join("agent.toml"), text).unwrap();
        let sources = Sources::new(Some(folder.join("agent.toml")), Default::default());
        Config::load(&sources).unwrap().forwards.remove(0)
    }

    #[tokio::test]
    async fn probes_go_on_as_long_as_a_site_has_them_and_end_with_the_last() {
        let folder = tempfile::tempdir().unwrap();
        let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).unwrap();
        let file = folder.path().join("id_ed25519");
        fs::write(&file, key.to_openssh(LineEnding::LF).unwrap()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let common = Common {
            audit: Audit::off(),
            pauses: Pauses::load(folder.path()),
            drain: CancellationToken::new(),
            cut: CancellationToken::new(),
            stop: CancellationToken::new(),
        };
        let config = forward(folder.path(), "");
        let (first, probes) = Site::new(&config, None, &common).unwrap();
        let Probes(_, end) = probes.unwrap();
        let config = forward(folder.path(), "[forward.http]\nidle_timeout = \"20s\"");
        let (second, none) = Site::new(&config, Some(&first), &common).unwrap();
        assert!(none.is_none(), "one Jira is asked once");
        drop(first);
        assert!(!end.is_cancelled());

        // Another way to Jira.
        let config = forward(folder.path(), "max_connections = 8");
        let (third, probes) = Site::new(&config, Some(&second), &common).unwrap();
        let Probes(_, other) = probes.unwrap();
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

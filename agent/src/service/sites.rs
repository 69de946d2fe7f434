//! The forwards of this agent, and the way of an inbound channel into its own.

use crate::{
    audit::Audit,
    auth::Login,
    check::{self, Lane},
    config,
    expiry::Expiry,
    health::Health,
    http,
    metrics::Traffic,
    pause::{Pause, Pauses},
    policy::Policy,
    status::{Layer, State},
    supervisor::SupervisorHandle,
    tunnel::{Accept, Inbound},
    upstream::{Target, Upstream, tcp},
};
use anyhow::Context;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio_util::sync::CancellationToken;

/// All forwards, by name.
pub(super) struct Sites {
    by_name: HashMap<Arc<str>, Arc<Site>>,
    /// As configured.
    order: Vec<Arc<Site>>,
    pauses: Pauses,
    drain: CancellationToken,
}

/// One `[[forward]]` in operation.
pub(super) struct Site {
    pub(super) config: config::Forward,
    pub(super) jira: Arc<Layer>,
    pub(super) login: Arc<Layer>,
    pub(super) way: Way,
    /// Of the certificate that was loaded; another one needs a restart.
    client_certificate: Option<Expiry>,
}

/// Where a channel goes.
pub(super) enum Way {
    /// Through the HTTP server to Jira.
    Http(Arc<http::Forward>),
    /// As bytes to a TCP port.
    Bytes { open: AtomicU64, total: AtomicU64 },
}

impl Sites {
    /// Compiles policies, reads trust roots, and gives the probes that ask each Jira while no traffic proves it.
    /// Blocks on the disk.
    pub(super) fn new(
        forwards: &[config::Forward],
        audit: &Audit,
        pauses: &Pauses,
        drain: CancellationToken,
    ) -> anyhow::Result<(Self, Vec<Health>)> {
        let mut order = Vec::new();
        let mut probes = Vec::new();
        for forward in forwards {
            let (site, probe) = Site::new(forward, audit.clone(), pauses.clone())
                .with_context(|| format!("forward {:?}", forward.name))?;
            order.push(Arc::new(site));
            probes.push(probe);
        }
        let by_name = order
            .iter()
            .map(|site| (Arc::clone(&site.config.name), Arc::clone(site)))
            .collect();
        Ok((
            Self {
                by_name,
                order,
                pauses: pauses.clone(),
                drain,
            },
            probes,
        ))
    }

    /// As configured.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Site> {
        self.order.iter().map(Arc::as_ref)
    }

    /// The forward of that name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<Site>> {
        self.by_name.get(name).cloned()
    }

    /// Whether the administrator has stopped this forward.
    pub(super) fn paused(&self, name: &str) -> Option<Pause> {
        self.pauses.of(name)
    }

    /// Requests and byte channels under way.
    pub(super) fn in_flight(&self) -> u64 {
        self.iter().map(|site| site.way.in_flight()).sum()
    }

    /// Waits until no login is in the middle of what would be lost with the process.
    pub(super) async fn settle_logins(&self) {
        for site in self.iter() {
            if let Way::Http(forward) = &site.way {
                forward.login().settle().await;
            }
        }
    }

    /// What the requests of each HTTP forward are counted in.
    pub(super) fn traffic(&self) -> impl Iterator<Item = Arc<Traffic>> {
        self.iter().filter_map(|site| match &site.way {
            Way::Http(forward) => Some(forward.traffic().clone()),
            Way::Bytes { .. } => None,
        })
    }

    /// The forward of this name, or all where it is empty, as a check of the tunnel sees them. `Err`: there is none.
    pub(super) fn lanes(
        &self,
        forward: &str,
        supervisor: &SupervisorHandle,
    ) -> Result<Vec<Lane>, String> {
        let wanted = |site: &&Site| forward.is_empty() || *site.config.name == *forward;
        let lanes = self.iter().filter(wanted).map(|site| Lane {
            name: Arc::clone(&site.config.name),
            http: match &site.way {
                Way::Http(forward) => Some(Arc::clone(forward)),
                Way::Bytes { .. } => None,
            },
            context_path: site.config.policy.context_path.clone(),
            holders: supervisor.holders(&site.config.name),
        });
        let lanes: Vec<_> = lanes.collect();
        match lanes.is_empty() {
            true => Err(unknown(forward)),
            false => Ok(lanes),
        }
    }

    /// Lets the login of one forward, or each, try its credential again. `Err`: there is no such forward.
    pub(super) fn retry_login(&self, name: Option<&str>) -> Result<(), String> {
        let mut found = name.is_none();
        for site in self.iter() {
            if name.is_some_and(|name| name != &*site.config.name) {
                continue;
            }
            found = true;
            if let Way::Http(forward) = &site.way {
                forward.login().reset();
            }
        }
        match (found, name) {
            (false, Some(name)) => Err(unknown(name)),
            _ => Ok(()),
        }
    }
}

impl Accept for Sites {
    fn accept(&self, inbound: Inbound) {
        let Some(site) = self.by_name.get(&inbound.forward) else {
            // The session asks only for forwards that are configured.
            tracing::warn!(
                forward = &*inbound.forward,
                "channel for an unknown forward closed"
            );
            return;
        };
        if matches!(site.way, Way::Bytes { .. }) && self.paused(&inbound.forward).is_some() {
            // There is no protocol in which to say so; closing it is all.
            tracing::debug!(forward = &*inbound.forward, "paused: byte channel closed");
            return;
        }
        let (site, drain) = (Arc::clone(site), self.drain.clone());
        tokio::spawn(async move { site.serve(inbound, drain).await });
    }
}

impl Site {
    fn new(
        config: &config::Forward,
        audit: Audit,
        pauses: Pauses,
    ) -> anyhow::Result<(Self, Health)> {
        let (jira, login_layer) = (Arc::new(Layer::default()), Arc::new(Layer::default()));
        let login = Login::new(config.auth.clone(), Arc::clone(&login_layer));
        let probe = Health::new(
            Arc::clone(&config.name),
            config.upstream.clone(),
            login.clone(),
            Arc::clone(&jira),
            Arc::clone(&login_layer),
        )?;
        let way = match &config.upstream.target {
            Target::Tcp { .. } => Way::Bytes {
                open: AtomicU64::new(0),
                total: AtomicU64::new(0),
            },
            Target::Http(_) => Way::Http(Arc::new(
                http::Forward::new(
                    Arc::clone(&config.name),
                    Policy::new(&config.policy)?,
                    login,
                    Upstream::new(config.upstream.clone())?,
                    audit,
                    config.http.clone(),
                    Arc::clone(&jira),
                )
                .pausable(pauses),
            )),
        };
        let client_certificate = &config.upstream.tls.client_certificate;
        Ok((
            Self {
                client_certificate: client_certificate.as_ref().map(|c| c.expiry()),
                config: config.clone(),
                jira,
                login: login_layer,
                way,
            },
            probe,
        ))
    }

    /// When what this forward logs in with ends.
    pub(super) fn expiries(&self) -> Vec<Expiry> {
        let login = match &self.way {
            Way::Http(forward) => forward.login().expiries(),
            Way::Bytes { .. } => Vec::new(),
        };
        login
            .into_iter()
            .chain(self.client_certificate.clone())
            .collect()
    }

    /// Every hop to Jira, by the login that requests get.
    pub(super) async fn check(&self) -> Vec<check::Step> {
        match &self.way {
            Way::Http(forward) => check::forward(&self.config, forward.login()).await,
            Way::Bytes { .. } => {
                let none = Login::new(self.config.auth.clone(), Arc::default());
                check::forward(&self.config, &none).await
            }
        }
    }

    async fn serve(&self, inbound: Inbound, drain: CancellationToken) {
        match &self.way {
            Way::Http(forward) => {
                let forward = Arc::clone(forward);
                http::serve(
                    inbound.stream,
                    forward,
                    inbound.originator,
                    inbound.connection,
                    drain,
                )
                .await;
            }
            Way::Bytes { open, total } => {
                open.fetch_add(1, Ordering::Relaxed);
                total.fetch_add(1, Ordering::Relaxed);
                self.pump(inbound).await;
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    async fn pump(&self, inbound: Inbound) {
        let (pumped, outcome) = tcp::pump(inbound.stream, &self.config.upstream).await;
        match outcome {
            Ok(()) => {
                self.jira.proven(Some("bytes went through"));
            }
            Err(tcp::PumpError::Connect(error)) => {
                let remedy =
                    "Check that the service behind tcp:// runs and that this host may reach it.";
                if self.jira.failed(State::Failed, &error.to_string(), remedy) {
                    tracing::warn!(forward = &*self.config.name, %error, "upstream not reached");
                }
            }
            Err(error) => tracing::debug!(
                forward = &*self.config.name,
                %error,
                sent = pumped.sent,
                received = pumped.received,
                "byte channel broke off"
            ),
        }
    }
}

/// Told to whoever asks for a forward that there is not.
pub(super) fn unknown(forward: &str) -> String {
    format!(
        "the running agent has no forward {forward:?}; restart it after a change of the configuration"
    )
}

impl Way {
    pub(super) fn in_flight(&self) -> u64 {
        match self {
            Self::Http(forward) => forward.in_flight() as u64,
            Self::Bytes { open, .. } => open.load(Ordering::Relaxed),
        }
    }

    pub(super) fn total(&self) -> u64 {
        match self {
            Self::Http(forward) => forward.total(),
            Self::Bytes { total, .. } => total.load(Ordering::Relaxed),
        }
    }
}

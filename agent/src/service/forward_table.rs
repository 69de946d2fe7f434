//! The forwards of this agent, and the way of an inbound channel into its own.

use super::active_forward::{ActiveForward, ForwardRoute, PendingProbes, ServiceContext};
use crate::{
    check::ForwardUnderTest,
    config,
    http::{self, RequestCounter},
    metrics::TrafficCounters,
    pause::PauseRecord,
    policy,
    supervisor::SupervisorHandle,
    tunnel::{ChannelAcceptor, InboundChannel},
};
use anyhow::Context;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

/// All forwards, as they are configured now.
pub(super) struct ForwardTable {
    common: ServiceContext,
    table: RwLock<ForwardLists>,
}

#[derive(Default)]
struct ForwardLists {
    /// As configured.
    order: Vec<Arc<ActiveForward>>,
    /// Replaced, and with requests under way. As many as there are such requests at most.
    former: Vec<Arc<http::HttpForward>>,
    /// Configured no more; they serve until their gateway has let go.
    releasing: Vec<Arc<ActiveForward>>,
    /// Of those that are closed and have something under way.
    removed: Vec<Arc<RequestCounter>>,
}

/// Forwards that are ready to take over.
pub(super) struct PreparedForwards {
    order: Vec<Arc<ActiveForward>>,
    probes: Vec<PendingProbes>,
    /// What differs from now, in words.
    pub(super) changes: Vec<String>,
}

impl ForwardTable {
    /// An empty table, before any configuration is applied.
    pub(super) fn new(common: ServiceContext) -> Self {
        Self {
            common,
            table: RwLock::default(),
        }
    }

    /// Makes what this configuration asks for and there is not. Nothing holds before [`take_over`](Self::activate).
    /// Blocks on the disk.
    pub(super) fn prepare(
        &self,
        forwards: &[config::ForwardConfig],
    ) -> anyhow::Result<PreparedForwards> {
        let now = self.all();
        let mut next = PreparedForwards {
            order: Vec::new(),
            probes: Vec::new(),
            changes: Vec::new(),
        };
        for config in forwards {
            let former = now.iter().find(|site| site.config.name == config.name);
            let changed = former.map(|former| differences(&former.config, config));
            let site = match (former, &changed) {
                (Some(former), Some(changed)) if changed.is_empty() => Arc::clone(former),
                _ => {
                    let made = ActiveForward::new(config, former.map(Arc::as_ref), &self.common);
                    let (site, probes) =
                        made.with_context(|| format!("forward {:?}", config.name))?;
                    next.probes.extend(probes);
                    let what = changed.map_or("added".to_owned(), |c| c.join(", "));
                    next.changes
                        .push(format!("forward {}: {what}", config.name));
                    Arc::new(site)
                }
            };
            next.order.push(site);
        }
        let gone =
            |site: &&Arc<ActiveForward>| !forwards.iter().any(|f| f.name == site.config.name);
        let gone = now.iter().filter(gone);
        next.changes
            .extend(gone.map(|site| format!("forward {}: removed", site.config.name)));
        Ok(next)
    }

    /// From now on these hold. What is under way finishes as it began. Gives those that are configured no more, which go
    /// on until they are [closed](Self::close_removed).
    pub(super) fn activate(&self, next: PreparedForwards) -> Vec<Arc<ActiveForward>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut table.order, next.order);
        for site in &table.order {
            site.activate();
        }
        let ForwardLists {
            order,
            former,
            releasing: parting,
            removed,
        } = &mut *table;
        for site in before {
            let heir = order.iter().find(|s| s.config.name == site.config.name);
            match heir {
                None => parting.push(Arc::clone(&site)),
                Some(heir) if heir.is_compatible(&site.config) => {}
                Some(_) => {
                    site.close();
                    removed.push(Arc::clone(site.counter()));
                }
            }
            let stays = heir.is_some_and(|heir| Arc::ptr_eq(heir, &site));
            if let ForwardRoute::Http { forward, .. } = &site.route
                && !stays
            {
                former.push(Arc::clone(forward));
            }
        }
        let parting = parting.clone();
        drop(table);
        self.forget();
        next.probes.into_iter().for_each(PendingProbes::start);
        parting
    }

    /// Closes what is configured no more: its requests finish, and no others are taken.
    pub(super) fn close_removed(&self) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let ForwardLists {
            releasing: parting,
            removed,
            ..
        } = &mut *table;
        for site in parting.drain(..) {
            site.close();
            removed.push(Arc::clone(site.counter()));
        }
        drop(table);
        self.forget();
    }

    fn forget(&self) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        // Only a request under way holds it besides.
        table
            .former
            .retain(|forward| Arc::strong_count(forward) > 1);
        table.removed.retain(|tally| tally.in_flight() > 0);
    }

    /// All configured forwards, in the order of the configuration.
    pub(super) fn all(&self) -> Vec<Arc<ActiveForward>> {
        self.read().order.clone()
    }

    /// The forward of that name.
    pub(super) fn named(&self, name: &str) -> Option<Arc<ActiveForward>> {
        let table = self.read();
        let site = table.order.iter().find(|site| *site.config.name == *name);
        site.cloned()
    }

    /// The forward of that name, also one that the gateway is still to let go of.
    fn serving(&self, name: &str) -> Option<Arc<ActiveForward>> {
        let table = self.read();
        let mut sites = table.order.iter().chain(&table.releasing);
        sites.find(|site| *site.config.name == *name).cloned()
    }

    /// Whether the administrator has stopped this forward.
    pub(super) fn paused(&self, name: &str) -> Option<PauseRecord> {
        self.common.pauses.of(name)
    }

    /// Requests and byte channels under way. What a reload has replaced and nothing uses any more goes, with its secrets:
    /// status asks this all the time.
    pub(super) fn in_flight(&self) -> u64 {
        self.forget();
        let table = self.read();
        let now = table.order.iter().map(|site| site.counter().in_flight());
        let parting = table
            .releasing
            .iter()
            .map(|site| site.counter().in_flight());
        let removed = table.removed.iter().map(|tally| tally.in_flight());
        now.chain(parting).chain(removed).sum()
    }

    /// Waits until no login is in the middle of what would be lost with the process.
    pub(super) async fn wait_for_logins(&self) {
        let former = self.read().former.clone();
        for forward in self.forwards().chain(former) {
            forward.login().wait_idle().await;
        }
    }

    /// What the requests of each HTTP forward are counted in.
    pub(super) fn traffic(&self) -> Vec<Arc<TrafficCounters>> {
        let traffic = |forward: Arc<http::HttpForward>| Arc::clone(forward.traffic());
        self.forwards().map(traffic).collect()
    }

    /// The forward of this name, or all where it is empty, as a check of the tunnel sees them. `Err`: there is none.
    pub(super) fn forwards_under_test(
        &self,
        forward: &str,
        supervisor: &SupervisorHandle,
    ) -> Result<Vec<ForwardUnderTest>, String> {
        let wanted = |site: &&ActiveForward| forward.is_empty() || *site.config.name == *forward;
        let sites = self.all();
        let sites = sites.iter().map(Arc::as_ref);
        let lanes = sites.filter(wanted).map(|site| ForwardUnderTest {
            name: Arc::clone(&site.config.name),
            http: match &site.route {
                ForwardRoute::Http { forward, .. } => Some(Arc::clone(forward)),
                ForwardRoute::Bytes(_) => None,
            },
            context_path: site.config.policy.context_path.clone(),
            sessions: supervisor.holders(&site.config.name),
        });
        let lanes: Vec<_> = lanes.collect();
        match lanes.is_empty() {
            true => Err(unknown(forward)),
            false => Ok(lanes),
        }
    }

    /// Lets the login of one forward, or each, try its credential again. `Err`: there is no such forward.
    pub(super) fn retry_login(&self, name: Option<&str>) -> Result<(), String> {
        if let Some(name) = name
            && self.named(name).is_none()
        {
            return Err(unknown(name));
        }
        for forward in self.forwards() {
            if name.is_none_or(|name| name == &**forward.name()) {
                forward.login().reset();
            }
        }
        Ok(())
    }

    /// Has each login looked at soon: its secret may be another one.
    pub(super) fn recheck_logins(&self) {
        for forward in self.forwards() {
            forward.login().request_probe();
        }
    }

    fn forwards(&self) -> impl Iterator<Item = Arc<http::HttpForward>> {
        let http = |site: Arc<ActiveForward>| match &site.route {
            ForwardRoute::Http { forward, .. } => Some(Arc::clone(forward)),
            ForwardRoute::Bytes(_) => None,
        };
        self.all().into_iter().filter_map(http)
    }

    fn read(&self) -> RwLockReadGuard<'_, ForwardLists> {
        // A panic while this lock is held leaves whole values behind.
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ChannelAcceptor for ForwardTable {
    fn accept(&self, inbound: InboundChannel) {
        let Some(site) = self.serving(&inbound.forward) else {
            // It was taken out of the configuration, and the gateway was slow to hear of it.
            tracing::debug!(
                forward = &*inbound.forward,
                "channel for a forward that is configured no more closed"
            );
            return;
        };
        if matches!(site.route, ForwardRoute::Bytes(_)) && self.paused(&inbound.forward).is_some() {
            // There is no protocol in which to say so; closing it is all.
            tracing::debug!(forward = &*inbound.forward, "paused: byte channel closed");
            return;
        }
        site.serve(inbound);
    }
}

/// Told to whoever asks for a forward that there is not.
pub(super) fn unknown(forward: &str) -> String {
    format!(
        "the running agent has no forward {forward:?}; after a change of the configuration: agent reload"
    )
}

/// The parts of a forward that are not the same, by the names of their keys and sections.
fn differences(was: &config::ForwardConfig, is: &config::ForwardConfig) -> Vec<String> {
    // The context path is a part of `upstream`: who changes that alone has not changed the policy.
    let policy = policy::Settings {
        context_path: is.policy.context_path.clone(),
        ..was.policy.clone()
    };
    let parts = [
        ("auth", was.auth_fingerprint != is.auth_fingerprint),
        ("policy", policy != is.policy),
        ("headers", was.headers != is.headers),
        ("http", was.http != is.http),
    ];
    let changed = parts.into_iter().filter(|(_, changed)| *changed);
    let bind = (was.bind != is.bind).then(|| "bind".to_owned());
    bind.into_iter()
        .chain(
            was.upstream_fingerprint
                .differences(&is.upstream_fingerprint),
        )
        .chain(changed.map(|(part, _)| part.to_owned()))
        .collect()
}

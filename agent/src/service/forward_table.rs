//! The forwards of this agent, and the routing of each inbound channel to its forward.

use super::active_forward::{ActiveForward, ForwardRoute, PendingProbes, ServiceContext};
use crate::{
    check::ForwardUnderTest,
    config,
    http::{self, RequestCounter},
    metrics::TrafficCounters,
    pause::{PauseRecord, PauseRegistry},
    policy,
    supervisor::SupervisorHandle,
    tunnel::{ChannelAcceptor, InboundChannel},
};
use anyhow::Context;
use parking_lot::RwLock;
use std::sync::Arc;

/// All forwards: those in the configuration, and those that a reload removed and that still serve.
pub(super) struct ForwardTable {
    context: ServiceContext,
    table: RwLock<ForwardLists>,
}

#[derive(Default)]
struct ForwardLists {
    /// In configuration order.
    order: Vec<Arc<ActiveForward>>,
    /// Handlers that were replaced while requests were in progress; at most one per such request.
    former: Vec<Arc<http::HttpForward>>,
    /// No longer configured; they serve until the gateway has cancelled them.
    releasing: Vec<Arc<ActiveForward>>,
    /// Counters of closed forwards with requests in progress.
    removed: Vec<Arc<RequestCounter>>,
}

/// Forwards that are ready to take over.
pub(super) struct PreparedForwards {
    order: Vec<Arc<ActiveForward>>,
    probes: Vec<PendingProbes>,
    /// What differs from the forwards in use, one text each.
    pub(super) changes: Vec<String>,
}

impl ForwardTable {
    /// An empty table, before any configuration is applied.
    pub(super) fn new(context: ServiceContext) -> Self {
        Self {
            context,
            table: RwLock::default(),
        }
    }

    /// Builds the forwards that are new or changed. Nothing takes effect before [`activate`](Self::activate). Blocks on
    /// the disk.
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
            let former = now.iter().find(|active| active.config.name == config.name);
            let changed = former.map(|former| differences(&former.config, config));
            let active = match (former, &changed) {
                (Some(former), Some(changed)) if changed.is_empty() => Arc::clone(former),
                _ => {
                    let made = ActiveForward::new(config, former.map(Arc::as_ref), &self.context);
                    let (active, probes) =
                        made.with_context(|| format!("forward {:?}", config.name))?;
                    next.probes.extend(probes);
                    let what = changed.map_or("added".to_owned(), |c| c.join(", "));
                    next.changes
                        .push(format!("forward {}: {what}", config.name));
                    Arc::new(active)
                }
            };
            next.order.push(active);
        }
        let removed =
            |active: &&Arc<ActiveForward>| !forwards.iter().any(|f| f.name == active.config.name);
        let removed = now.iter().filter(removed);
        next.changes
            .extend(removed.map(|active| format!("forward {}: removed", active.config.name)));
        Ok(next)
    }

    /// Puts these forwards into use. Requests in progress finish with the previous ones. Returns the removed forwards,
    /// which serve until they are [closed](Self::close_removed).
    pub(super) fn activate(&self, next: PreparedForwards) -> Vec<Arc<ActiveForward>> {
        let mut table = self.table.write();
        let before = std::mem::replace(&mut table.order, next.order);
        for active in &table.order {
            active.activate();
        }
        let ForwardLists {
            order,
            former,
            releasing,
            removed,
        } = &mut *table;
        for active in before {
            let successor = order.iter().find(|s| s.config.name == active.config.name);
            match successor {
                None => releasing.push(Arc::clone(&active)),
                Some(successor) if successor.is_compatible(&active.config) => {}
                Some(_) => {
                    active.close();
                    removed.push(Arc::clone(active.counter()));
                }
            }
            let unchanged = successor.is_some_and(|successor| Arc::ptr_eq(successor, &active));
            if let ForwardRoute::Http { forward, .. } = &active.route
                && !unchanged
            {
                former.push(Arc::clone(forward));
            }
        }
        let releasing = releasing.clone();
        drop(table);
        self.drop_idle();
        next.probes.into_iter().for_each(PendingProbes::start);
        releasing
    }

    /// Closes the removed forwards: their requests finish, and they accept no others.
    pub(super) fn close_removed(&self) {
        let mut table = self.table.write();
        let ForwardLists {
            releasing, removed, ..
        } = &mut *table;
        for active in releasing.drain(..) {
            active.close();
            removed.push(Arc::clone(active.counter()));
        }
        drop(table);
        self.drop_idle();
    }

    fn drop_idle(&self) {
        let mut table = self.table.write();
        // Otherwise a request in progress holds it.
        table
            .former
            .retain(|forward| Arc::strong_count(forward) > 1);
        table.removed.retain(|counter| counter.in_flight() > 0);
    }

    /// All configured forwards, in the order of the configuration.
    pub(super) fn all(&self) -> Vec<Arc<ActiveForward>> {
        self.table.read().order.clone()
    }

    /// The forward of that name. `Err`: there is none, and which there are.
    pub(super) fn require(&self, name: &str) -> Result<Arc<ActiveForward>, String> {
        self.named(name).ok_or_else(|| {
            let table = self.table.read();
            let names: Vec<_> = table.order.iter().map(|a| &*a.config.name).collect();
            format!(
                "the running agent has no forward {name:?}; it has {}; after a change of the configuration: agent reload",
                names.join(", ")
            )
        })
    }

    fn named(&self, name: &str) -> Option<Arc<ActiveForward>> {
        let table = self.table.read();
        let active = table
            .order
            .iter()
            .find(|active| *active.config.name == *name);
        active.cloned()
    }

    /// Whether this forward passes bytes as they are; also if there is no such forward.
    pub(super) fn is_bytes(&self, name: &str) -> bool {
        self.serving(name)
            .is_none_or(|active| matches!(active.route, ForwardRoute::Bytes(_)))
    }

    /// The forward of that name, including one that the gateway has yet to cancel.
    fn serving(&self, name: &str) -> Option<Arc<ActiveForward>> {
        let table = self.table.read();
        let mut all = table.order.iter().chain(&table.releasing);
        all.find(|active| *active.config.name == *name).cloned()
    }

    /// The pause of this forward, if there is one.
    pub(super) fn paused(&self, name: &str) -> Option<PauseRecord> {
        self.context.pauses.of(name)
    }

    /// Requests and byte channels in progress. Also drops what a reload replaced and nothing uses any more, with its
    /// secrets, since status calls this regularly.
    pub(super) fn in_flight(&self) -> u64 {
        self.drop_idle();
        let table = self.table.read();
        let now = table
            .order
            .iter()
            .map(|active| active.counter().in_flight());
        let releasing = table
            .releasing
            .iter()
            .map(|active| active.counter().in_flight());
        let removed = table.removed.iter().map(|counter| counter.in_flight());
        now.chain(releasing).chain(removed).sum()
    }

    /// Waits until no login is doing what the end of the process would lose, such as a token refresh.
    pub(super) async fn wait_for_logins(&self) {
        let former = self.table.read().former.clone();
        for forward in self.forwards().chain(former) {
            forward.login().wait_idle().await;
        }
    }

    /// The traffic counters of each HTTP forward.
    pub(super) fn traffic(&self) -> Vec<Arc<TrafficCounters>> {
        let traffic = |forward: Arc<http::HttpForward>| Arc::clone(forward.traffic());
        self.forwards().map(traffic).collect()
    }

    /// The forward of this name, or all if it is empty, as a check of the tunnel needs them. `Err`: there is none.
    pub(super) fn forwards_under_test(
        &self,
        forward: &str,
        supervisor: &SupervisorHandle,
    ) -> Result<Vec<ForwardUnderTest>, String> {
        let chosen = match forward {
            "" => self.all(),
            name => vec![self.require(name)?],
        };
        let under_test = chosen.iter().map(|active| ForwardUnderTest {
            name: Arc::clone(&active.config.name),
            http: match &active.route {
                ForwardRoute::Http { forward, .. } => Some(Arc::clone(forward)),
                ForwardRoute::Bytes(_) => None,
            },
            context_path: active.config.policy.context_path.clone(),
            sessions: supervisor.holders(&active.config.name),
        });
        Ok(under_test.collect())
    }

    /// Has the credential of one forward, or of each, tried again. `Err`: there is no such forward.
    pub(super) fn retry_login(&self, name: Option<&str>) -> Result<(), String> {
        name.map(|name| self.require(name)).transpose()?;
        for forward in self.forwards() {
            if name.is_none_or(|name| name == &**forward.name()) {
                forward.login().reset();
            }
        }
        Ok(())
    }

    /// Requests a probe of each login: its secret may have changed.
    pub(super) fn recheck_logins(&self) {
        for forward in self.forwards() {
            forward.login().request_probe();
        }
    }

    fn forwards(&self) -> impl Iterator<Item = Arc<http::HttpForward>> {
        let http = |active: Arc<ActiveForward>| match &active.route {
            ForwardRoute::Http { forward, .. } => Some(Arc::clone(forward)),
            ForwardRoute::Bytes(_) => None,
        };
        self.all().into_iter().filter_map(http)
    }
}

impl ChannelAcceptor for ForwardTable {
    fn accept(&self, inbound: InboundChannel) {
        let Some(active) = self.serving(&inbound.forward) else {
            // It was removed, and the gateway opened the channel before it processed the cancellation.
            tracing::debug!(
                forward = &*inbound.forward,
                "closed a channel of a forward that was removed"
            );
            return;
        };
        if !matches!(active.route, ForwardRoute::Bytes(_)) {
            return active.serve(inbound);
        }
        let pauses = self.context.pauses.clone();
        if pauses.is_known() {
            return serve_bytes(&active, inbound, &pauses);
        }
        // A process that takes over serves nothing before the one before it has handed over.
        let abort = self.context.abort.clone();
        let waiting = async move {
            pauses.known().await;
            serve_bytes(&active, inbound, &pauses);
        };
        tokio::spawn(async move { abort.run_until_cancelled(waiting).await });
    }
}

fn serve_bytes(active: &ActiveForward, inbound: InboundChannel, pauses: &PauseRegistry) {
    if pauses.of(&inbound.forward).is_some() {
        // Raw bytes have no way to carry a reason.
        tracing::debug!(
            forward = &*inbound.forward,
            "closed a byte channel: the forward is paused"
        );
        return;
    }
    active.serve(inbound);
}

/// The parts of a forward that differ, by the names of their keys and sections.
fn differences(was: &config::ForwardConfig, is: &config::ForwardConfig) -> Vec<String> {
    // The context path belongs to `upstream`: changing it alone does not change the policy.
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

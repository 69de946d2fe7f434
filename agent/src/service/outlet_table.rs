//! The outlets of this agent, and what a reload changes of them.

use super::{
    active_forward::ServiceContext,
    outlet_store::{OutletStore, report_removed_queues},
    session_dialer::{SessionDialer, SupervisedSessions},
};
use crate::{
    auth::{self, UpstreamAuth},
    check,
    config::OutletConfig,
    http::{CurrentForward, HttpForward, ShutdownTokens},
    metrics::TrafficCounters,
    outlet::{ListenerCondition, OutletListener, OutletSockets, SourceGate},
    pause::PauseRecord,
    policy::CompiledPolicy,
    status::StatusLayer,
    supervisor::SupervisorHandle,
    upstream::{Upstream, UpstreamTarget},
};
use agent_events::EventQueue;
use anyhow::Context;
use futures_util::future::join_all;
use parking_lot::RwLock;
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// All outlets in the configuration.
pub(super) struct OutletTable {
    context: ServiceContext,
    supervisor: SupervisorHandle,
    /// Cancelled once the agent stops: no further connection is accepted.
    stopping: CancellationToken,
    state_dir: PathBuf,
    active: RwLock<Vec<Arc<ActiveOutlet>>>,
}

/// One outlet in operation.
pub(super) struct ActiveOutlet {
    pub(super) config: OutletConfig,
    /// Whether the vendor's host answers, as far as requests have shown.
    pub(super) far: Arc<StatusLayer>,
    pub(super) forward: Arc<HttpForward>,
    /// With mode `store`.
    pub(super) store: Option<OutletStore>,
    /// What the open connections refer to; a reload replaces its content.
    current: CurrentForward,
    sockets: Arc<OutletSockets>,
    /// Ends its connections.
    drain: CancellationToken,
    /// Ends the listener.
    stop: CancellationToken,
    /// Leaves its socket to the next outlet at the same address.
    keep_socket: CancellationToken,
}

/// Outlets that are ready to take over.
pub(super) struct PreparedOutlets {
    order: Vec<Arc<ActiveOutlet>>,
    /// What differs from the outlets in use, one text each.
    pub(super) changes: Vec<String>,
}

impl ActiveOutlet {
    /// Whether Jira can connect.
    pub(super) fn condition(&self) -> ListenerCondition {
        self.sockets.condition()
    }

    /// Checks every hop to the vendor's host, and the queue if it has one.
    pub(super) async fn check(
        &self,
        queue: Option<check::QueueUnderTest>,
    ) -> Vec<check::CheckStep> {
        let upstream = self.forward.upstream();
        check::outlet(&self.config.settings, self.condition(), upstream, queue).await
    }

    /// The queue of an outlet of mode `store`, while it is open.
    pub(super) fn queue(&self) -> Option<EventQueue> {
        self.store.as_ref()?.events.queue()
    }

    fn start(&self, abort: CancellationToken) {
        if let Some(store) = &self.store {
            store.start(&self.forward, self.stop.clone());
        }
        let shutdown = ShutdownTokens {
            drain: self.drain.clone(),
            replaced: CancellationToken::new(),
            abort,
        };
        self.current.replace(Arc::clone(&self.forward));
        let current = self.current.clone();
        let sockets = Arc::clone(&self.sockets);
        let listener = OutletListener::new(&self.config.settings, sockets, current, shutdown);
        let span = tracing::error_span!("outlet", outlet = &*self.config.settings.name);
        let running = listener.run(self.stop.clone(), self.keep_socket.clone());
        tokio::spawn(running.instrument(span));
    }

    fn shares_queue(&self, store: &OutletStore) -> bool {
        let own = self.store.as_ref();
        own.is_some_and(|own| Arc::ptr_eq(&own.events, &store.events))
    }

    fn end(&self, keep_socket: bool) {
        if keep_socket {
            self.keep_socket.cancel();
        }
        self.stop.cancel();
        self.drain.cancel();
        self.forward.upstream().close_idle();
    }
}

impl OutletTable {
    /// Without outlets, before any configuration is applied.
    pub(super) fn new(
        context: ServiceContext,
        supervisor: SupervisorHandle,
        stopping: CancellationToken,
        state_dir: PathBuf,
    ) -> Self {
        Self {
            context,
            supervisor,
            stopping,
            state_dir,
            active: RwLock::default(),
        }
    }

    /// Builds the outlets that are new or changed. Nothing takes effect before [`activate`](Self::activate). Blocks on the
    /// disk.
    pub(super) fn prepare(&self, outlets: &[OutletConfig]) -> anyhow::Result<PreparedOutlets> {
        let now = self.all();
        let mut next = PreparedOutlets {
            order: Vec::new(),
            changes: Vec::new(),
        };
        for config in outlets {
            let name = &config.settings.name;
            let former = now
                .iter()
                .find(|active| active.config.settings.name == *name);
            let same = former.filter(|former| former.config.fingerprint == config.fingerprint);
            if let Some(same) = same {
                next.order.push(Arc::clone(same));
                continue;
            }
            let made = self.make(config, former.map(Arc::as_ref));
            let made = made.with_context(|| format!("outlet {name:?}"))?;
            next.order.push(Arc::new(made));
            let what = former.map_or("added", |_| "changed");
            next.changes.push(format!("outlet {name}: {what}"));
        }
        let removed = now.iter().map(|active| &active.config.settings.name);
        let removed = removed.filter(|name| !outlets.iter().any(|o| o.settings.name == **name));
        next.changes
            .extend(removed.map(|name| format!("outlet {name}: removed")));
        Ok(next)
    }

    fn make(
        &self,
        config: &OutletConfig,
        former: Option<&ActiveOutlet>,
    ) -> anyhow::Result<ActiveOutlet> {
        let settings = &config.settings;
        let far = Arc::new(StatusLayer::of_forward(&settings.name));
        let UpstreamTarget::Http(target) = &settings.upstream.target else {
            anyhow::bail!("its target carries no HTTP");
        };
        let dialer = SessionDialer {
            supervisor: self.supervisor.clone(),
            host: target.host.clone(),
            port: target.port,
        };
        let upstream = Upstream::new_through(settings.upstream.clone(), Arc::new(dialer))?;
        let forward = HttpForward::new(
            Arc::clone(&settings.name),
            CompiledPolicy::new(&settings.policy)?,
            UpstreamAuth::new(auth::Settings::PassThrough, Arc::default()),
            upstream,
            self.context.audit.clone(),
            settings.http.clone(),
            Arc::clone(&far),
        )
        .pausable(self.context.pauses.clone())
        .outward(Arc::new(SourceGate::new(settings)));
        let former_store = former.and_then(|former| former.store.as_ref());
        let sessions = Arc::new(SupervisedSessions(self.supervisor.clone()));
        let audit = &self.context.audit;
        let store = OutletStore::new(settings, former_store, sessions, audit, &self.state_dir)?;
        let forward = match &store {
            Some(store) => forward.storing(store.sink()),
            None => forward,
        };
        let forward = match former {
            Some(former) => forward.with_counters_of(&former.forward),
            None => forward,
        };
        let forward = Arc::new(forward);
        let current = match former {
            Some(former) => former.current.clone(),
            None => CurrentForward::from(Arc::clone(&forward)),
        };
        let same_address = former.filter(|former| former.sockets.address() == settings.listen);
        let sockets = match same_address {
            Some(former) => Arc::clone(&former.sockets),
            None => OutletSockets::new(settings.listen),
        };
        Ok(ActiveOutlet {
            config: config.clone(),
            far,
            forward,
            store,
            current,
            sockets,
            drain: self.stopping.child_token(),
            stop: self.stopping.child_token(),
            keep_socket: CancellationToken::new(),
        })
    }

    /// Puts these outlets into use. Requests in progress finish with the previous ones.
    pub(super) fn activate(&self, next: PreparedOutlets) {
        let mut active = self.active.write();
        let before = std::mem::replace(&mut *active, next.order);
        for former in &before {
            if active.iter().any(|outlet| Arc::ptr_eq(outlet, former)) {
                continue;
            }
            let keeps = active
                .iter()
                .any(|outlet| Arc::ptr_eq(&outlet.sockets, &former.sockets));
            former.end(keeps);
            if let Some(store) = &former.store
                && !active.iter().any(|outlet| outlet.shares_queue(store))
            {
                let events = Arc::clone(&store.events);
                tokio::spawn(async move { events.close().await });
            }
        }
        for outlet in &*active {
            if !before.iter().any(|former| Arc::ptr_eq(outlet, former)) {
                outlet.start(self.context.abort.clone());
            }
        }
    }

    /// Waits, for a moment, until what clients have sent on connections that end now is answered. A process that ends earlier
    /// cuts a request that it has not read yet.
    pub(super) async fn clients_ended(&self) {
        let all = self.all();
        let ended = async {
            for outlet in &all {
                outlet.sockets.clients_ended().await;
            }
        };
        let _ = tokio::time::timeout(LAST_CLIENTS, ended).await;
    }

    /// Closes the queues, so that the next process can open them. Attempts that run have a moment to end. To be called once
    /// the agent is stopping.
    pub(super) async fn close_queues(&self) {
        let all = self.all();
        for outlet in &all {
            let events = outlet.queue().map_or(0, |queue| queue.figures().events);
            if events > 0 {
                let outlet = &*outlet.config.settings.name;
                tracing::info!(
                    outlet,
                    events,
                    "events wait in the queue for the next process"
                );
            }
        }
        let stores = all.iter().filter_map(|outlet| outlet.store.as_ref());
        join_all(stores.map(|store| store.events.close())).await;
    }

    /// Warns of events in the queues of outlets that are no longer configured, or no longer of mode `store`.
    pub(super) async fn report_removed_queues(&self) {
        let all = self.all();
        let named: Vec<_> = all
            .iter()
            .filter(|outlet| outlet.store.is_some())
            .map(|outlet| Arc::clone(&outlet.config.settings.name))
            .collect();
        report_removed_queues(self.state_dir.clone(), named).await;
    }

    /// Closes connections to the vendor that no request uses: each is a channel that keeps a session open.
    pub(super) fn close_idle(&self) {
        for outlet in self.all() {
            outlet.forward.upstream().close_idle();
        }
    }

    /// All outlets, in the order of the configuration.
    pub(super) fn all(&self) -> Vec<Arc<ActiveOutlet>> {
        self.active.read().clone()
    }

    /// The outlet of that name, if there is one.
    pub(super) fn named(&self, name: &str) -> Option<Arc<ActiveOutlet>> {
        let all = self.active.read();
        let mut all = all.iter();
        all.find(|active| *active.config.settings.name == *name)
            .cloned()
    }

    /// The pause of this outlet, if there is one.
    pub(super) fn paused(&self, name: &str) -> Option<PauseRecord> {
        self.context.pauses.of(name)
    }

    /// Requests in progress.
    pub(super) fn in_flight(&self) -> u64 {
        self.all()
            .iter()
            .map(|active| active.forward.in_flight())
            .sum()
    }

    /// The traffic counters of each.
    pub(super) fn traffic(&self) -> Vec<Arc<TrafficCounters>> {
        let all = self.all();
        let traffic = all.iter().map(|active| active.forward.traffic());
        traffic.cloned().collect()
    }
}

/// Longer than a connection lingers once its listener stops; a long request continues in the drain.
const LAST_CLIENTS: Duration = Duration::from_secs(1);

//! The queue of an outlet of mode `store`, with what fills it and what delivers from it.

use crate::{
    audit::AuditHandle,
    http::{EventAudit, EventSink, HttpForward},
    outlet::{
        self, EventAcceptor, EventDeliverer, EventLosses, EventStore, SessionWatch, StoreSettings,
    },
};
use agent_events::{EventQueue, QueueLimits, SigningSecrets};
use anyhow::Context;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::task::spawn_blocking;
use tokio_util::sync::CancellationToken;

/// Mode `store` of one outlet.
pub(super) struct OutletStore {
    /// The queue, which outlets of one name share over a reload.
    pub(super) events: Arc<EventStore>,
    /// Records events that are not delivered.
    pub(super) losses: Arc<EventLosses>,
    settings: StoreSettings,
    secrets: Arc<SigningSecrets>,
    sessions: Arc<dyn SessionWatch>,
    /// Lanes that are delivered at once.
    most: usize,
}

impl OutletStore {
    /// `None`: the outlet has mode `pass`. With `former`, takes its queue over.
    pub(super) fn new(
        settings: &outlet::Settings,
        former: Option<&Self>,
        sessions: Arc<dyn SessionWatch>,
        audit: &AuditHandle,
        state_dir: &Path,
    ) -> anyhow::Result<Option<Self>> {
        let Some(store) = &settings.store else {
            return Ok(None);
        };
        let secrets = store.secrets.clone().context("secret_file was not read")?;
        let name = &settings.name;
        let (events, losses) = match former {
            Some(former) => (Arc::clone(&former.events), Arc::clone(&former.losses)),
            None => {
                let audit = EventAudit::new(Arc::clone(name), audit.clone());
                let losses = EventLosses::new(Arc::clone(name), audit);
                (
                    EventStore::new(state_dir, Arc::clone(name)),
                    Arc::new(losses),
                )
            }
        };
        Ok(Some(Self {
            events,
            losses,
            settings: store.clone(),
            secrets,
            sessions,
            most: settings.upstream.max_connections,
        }))
    }

    /// What Jira's requests go into.
    pub(super) fn sink(&self) -> Arc<dyn EventSink> {
        let (events, losses) = (Arc::clone(&self.events), Arc::clone(&self.losses));
        Arc::new(EventAcceptor::new(&self.settings, events, losses))
    }

    /// Opens the queue, unless it is open, and delivers through `forward` until `stop`.
    pub(super) fn start(&self, forward: &Arc<HttpForward>, stop: CancellationToken) {
        let deliverer = EventDeliverer::new(
            &self.settings,
            Arc::clone(&self.secrets),
            Arc::clone(&self.events),
            Arc::clone(forward),
            Arc::clone(&self.sessions),
            Arc::clone(&self.losses),
            self.most,
        );
        self.events.spawn(deliverer.run(stop));
    }
}

/// Warns of queues without one of these outlets that hold anything.
pub(super) async fn report_removed_queues(state_dir: PathBuf, configured: Vec<Arc<str>>) {
    let found = spawn_blocking(move || {
        outlet::removed_queues(&state_dir, |name| configured.iter().any(|c| **c == *name))
    });
    let Ok(Ok(found)) = found.await else {
        // The watch of the state folder reports a disk that fails.
        return;
    };
    for (outlet, path) in found {
        let file = path.display().to_string();
        let queue = match EventQueue::open(path, &outlet, QueueLimits::default()).await {
            Ok(queue) => queue,
            Err(error) => {
                tracing::warn!(outlet, %error, "the queue of a removed outlet cannot be read");
                continue;
            }
        };
        let figures = queue.figures();
        queue.close().await;
        let (events, dead_letters) = (figures.events, figures.dead_events);
        if events + dead_letters > 0 {
            tracing::warn!(
                outlet,
                events,
                dead_letters,
                file,
                remedy = "to deliver them, configure the outlet again; otherwise delete the file",
                "events of a removed outlet wait in its queue"
            );
        }
    }
}

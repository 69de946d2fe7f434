//! Serves the forwards for the length of a check, with the real policy, login and way to Jira, and answers nothing but
//! the check's own requests: a vendor's request that comes meanwhile is told that nothing was sent.

use crate::{
    audit::Audit,
    auth::Login,
    config, http,
    pause::Pauses,
    policy::Policy,
    tunnel::{Accept, Inbound},
    upstream::{Target, Upstream},
};
use std::{collections::HashMap, sync::Arc};
use tokio_util::sync::CancellationToken;

/// The forwards that could be built; one that could not has a failing step of its own.
pub(super) struct StandIn {
    forwards: HashMap<Arc<str>, Arc<http::Forward>>,
    drain: CancellationToken,
}

impl StandIn {
    /// What the administrator has paused stays so.
    pub(super) async fn new(forwards: &[(&config::Forward, &Login)], pauses: &Pauses) -> Arc<Self> {
        let pauses = pauses.clone();
        let wanted: Vec<_> = forwards
            .iter()
            .map(|(forward, login)| ((*forward).clone(), (*login).clone()))
            .collect();
        // Reads the system's certificate store.
        let built = tokio::task::spawn_blocking(move || {
            let each = wanted.into_iter();
            each.filter_map(|(forward, login)| build(forward, login, &pauses))
                .collect()
        });
        Arc::new(Self {
            forwards: built.await.unwrap_or_default(),
            drain: CancellationToken::new(),
        })
    }

    pub(super) fn named(&self, name: &str) -> Option<Arc<http::Forward>> {
        self.forwards.get(name).cloned()
    }

    /// Takes no further request.
    pub(super) fn leave(&self) {
        self.drain.cancel();
    }
}

impl Accept for StandIn {
    fn accept(&self, inbound: Inbound) {
        // Bytes without HTTP cannot be told why; the channel is closed.
        let Some(forward) = self.named(&inbound.forward) else {
            return;
        };
        let drain = self.drain.clone();
        tokio::spawn(async move {
            let (from, number) = (inbound.originator, inbound.connection);
            let ends = http::Ends {
                drain,
                leaving: inbound.leaving,
                ..http::Ends::default()
            };
            http::serve(inbound.stream, forward, from, number, ends).await;
        });
    }
}

fn build(
    config: config::Forward,
    login: Login,
    pauses: &Pauses,
) -> Option<(Arc<str>, Arc<http::Forward>)> {
    if matches!(config.upstream.target, Target::Tcp { .. }) {
        return None;
    }
    let policy = Policy::new(&config.policy).ok()?;
    let upstream = Upstream::new(config.upstream).ok()?;
    let name = config.name;
    // No record: nothing of the vendor's is answered, one GET of our own is, and the log belongs to the service's user.
    let audit = Audit::off();
    let jira = Arc::default();
    let forward = http::Forward::new(
        Arc::clone(&name),
        policy,
        login,
        upstream,
        audit,
        config.http,
        jira,
    );
    Some((
        name,
        Arc::new(forward.pausable(pauses.clone()).only_awaited()),
    ))
}

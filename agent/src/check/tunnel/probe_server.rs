//! Serves the forwards during a check, with the real policy, login and upstream, but answers only the check's own
//! requests: a vendor's request gets an error that says that nothing was sent.

use crate::{
    audit::AuditHandle,
    auth::UpstreamAuth,
    config, http,
    pause::PauseRegistry,
    policy::CompiledPolicy,
    tunnel::{ChannelAcceptor, InboundChannel},
    upstream::{Upstream, UpstreamTarget},
};
use std::{collections::HashMap, sync::Arc};
use tokio_util::sync::CancellationToken;

/// The forwards that could be built; one that could not has its own failing step.
pub(super) struct ProbeServer {
    forwards: HashMap<Arc<str>, Arc<http::HttpForward>>,
    drain: CancellationToken,
}

impl ProbeServer {
    /// Builds the forwards. Those that the administrator paused stay paused.
    pub(super) async fn new(
        forwards: &[(&config::ForwardConfig, &UpstreamAuth)],
        pauses: &PauseRegistry,
    ) -> Arc<Self> {
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

    pub(super) fn named(&self, name: &str) -> Option<Arc<http::HttpForward>> {
        self.forwards.get(name).cloned()
    }

    /// Accepts no further requests.
    pub(super) fn stop(&self) {
        self.drain.cancel();
    }
}

impl ChannelAcceptor for ProbeServer {
    fn accept(&self, inbound: InboundChannel) {
        // Raw bytes have no way to carry a reason; the channel is closed.
        let Some(forward) = self.named(&inbound.forward) else {
            return;
        };
        let drain = self.drain.clone();
        tokio::spawn(async move {
            let origin = http::ChannelOrigin {
                originator: inbound.originator.into(),
                connection: inbound.connection,
                place: Some(inbound.place),
            };
            let ends = http::ShutdownTokens {
                drain,
                replaced: inbound.replaced,
                ..http::ShutdownTokens::default()
            };
            http::serve(inbound.stream, forward, origin, ends).await;
        });
    }
}

fn build(
    config: config::ForwardConfig,
    login: UpstreamAuth,
    pauses: &PauseRegistry,
) -> Option<(Arc<str>, Arc<http::HttpForward>)> {
    if matches!(config.upstream.target, UpstreamTarget::Tcp { .. }) {
        return None;
    }
    let policy = CompiledPolicy::new(&config.policy).ok()?;
    let upstream = Upstream::new(config.upstream).ok()?;
    let name = config.name;
    // No audit: only the check's own GET is answered, and the log belongs to the service's user.
    let audit = AuditHandle::off();
    let jira = Arc::default();
    let forward = http::HttpForward::new(
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
        Arc::new(forward.pausable(pauses.clone()).only_expected()),
    ))
}

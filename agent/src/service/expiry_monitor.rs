//! What the agent holds, and when each ends: asked of the rooms, told to status, metrics and log.

use super::{active_forward::ActiveForward, forward_table::ForwardTable};
use crate::{
    expiry::{CredentialExpiry, ExpiryNotifier, NOTIFY_INTERVAL, TrackedCredential},
    tunnel::session::SshIdentity,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The credentials of all forwards and of the tunnel.
pub(super) struct ExpiryMonitor {
    forwards: Arc<ForwardTable>,
    identity: Mutex<Arc<SshIdentity>>,
    /// There is something new to look at.
    changed: Notify,
    /// As it lay beside the key when it was last looked at: a status does not wait for the disk.
    certificate: Mutex<Option<CredentialExpiry>>,
}

impl ExpiryMonitor {
    pub(super) fn new(sites: Arc<ForwardTable>, identity: Arc<SshIdentity>) -> Self {
        Self {
            forwards: sites,
            identity: Mutex::new(identity),
            changed: Notify::new(),
            certificate: Mutex::default(),
        }
    }

    /// The tunnel logs in with this one from now on.
    pub(super) fn set_identity(&self, identity: Arc<SshIdentity>) {
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        self.changed.notify_one();
    }

    /// The SSH certificate, where there is one.
    pub(super) fn tunnel_expiry(&self) -> Option<CredentialExpiry> {
        let certificate = self.certificate.lock();
        certificate.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of them, the tunnel's first, then in the order of the forwards.
    pub(super) fn credentials(&self) -> Vec<TrackedCredential> {
        let tunnel = self.tunnel_expiry().map(|expiry| TrackedCredential {
            forward: None,
            expiry,
        });
        let of_site = |site: &ActiveForward| {
            let forward = site.config.name.clone();
            let with_name = move |expiry| TrackedCredential {
                forward: Some(forward.clone()),
                expiry,
            };
            site.expiries().into_iter().map(with_name)
        };
        let sites = self.forwards.all();
        let of_sites = sites.iter().map(Arc::as_ref).flat_map(of_site);
        tunnel.into_iter().chain(of_sites).collect()
    }

    /// Looks and tells the log until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut herald = ExpiryNotifier::default();
        loop {
            let identity = self.identity.lock();
            let identity = Arc::clone(&identity.unwrap_or_else(PoisonError::into_inner));
            let found = identity.expiry().await;
            *self
                .certificate
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = found;
            herald.notify(&self.credentials(), SystemTime::now());
            tokio::select! {
                () = tokio::time::sleep(NOTIFY_INTERVAL) => {}
                () = self.changed.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

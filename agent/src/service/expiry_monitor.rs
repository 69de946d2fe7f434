//! The agent's credentials and when they expire, for status, metrics and log.

use super::{active_forward::ActiveForward, forward_table::ForwardTable};
use crate::{
    expiry::{CredentialExpiry, ExpiryNotifier, NOTIFY_INTERVAL, TrackedCredential},
    tunnel::session::SshIdentity,
};
use parking_lot::Mutex;
use std::{sync::Arc, time::SystemTime};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The credentials of all forwards and of the tunnel.
pub(super) struct ExpiryMonitor {
    forwards: Arc<ForwardTable>,
    identity: Mutex<Arc<SshIdentity>>,
    /// A credential has changed: check at once.
    changed: Notify,
    /// As last read from the file beside the key: a status query does not wait for the disk.
    certificate: Mutex<Option<CredentialExpiry>>,
}

impl ExpiryMonitor {
    pub(super) fn new(forwards: Arc<ForwardTable>, identity: Arc<SshIdentity>) -> Self {
        Self {
            forwards,
            identity: Mutex::new(identity),
            changed: Notify::new(),
            certificate: Mutex::default(),
        }
    }

    /// The tunnel logs in with this identity from now on.
    pub(super) fn set_identity(&self, identity: Arc<SshIdentity>) {
        *self.identity.lock() = identity;
        self.changed.notify_one();
    }

    /// When the SSH certificate expires, if there is one.
    pub(super) fn tunnel_expiry(&self) -> Option<CredentialExpiry> {
        self.certificate.lock().clone()
    }

    /// All credentials: the tunnel's first, then those of the forwards in configuration order.
    pub(super) fn credentials(&self) -> Vec<TrackedCredential> {
        let tunnel = self.tunnel_expiry().map(|expiry| TrackedCredential {
            forward: None,
            expiry,
        });
        let of_forward = |active: &ActiveForward| {
            let forward = active.config.name.clone();
            let with_name = move |expiry| TrackedCredential {
                forward: Some(forward.clone()),
                expiry,
            };
            active.expiries().into_iter().map(with_name)
        };
        let forwards = self.forwards.all();
        let of_forwards = forwards.iter().map(Arc::as_ref).flat_map(of_forward);
        tunnel.into_iter().chain(of_forwards).collect()
    }

    /// Reads the expiries and logs those that are near, until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut notifier = ExpiryNotifier::default();
        loop {
            let identity = Arc::clone(&self.identity.lock());
            let found = identity.expiry().await;
            *self.certificate.lock() = found;
            notifier.notify(&self.credentials(), SystemTime::now());
            tokio::select! {
                () = tokio::time::sleep(NOTIFY_INTERVAL) => {}
                () = self.changed.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

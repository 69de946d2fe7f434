//! What the agent holds, and when each ends: asked of the rooms, told to status, metrics and log.

use super::sites::{Site, Sites};
use crate::{
    expiry::{Credential, Expiry, Herald, TELL_EVERY},
    tunnel::session::Identity,
};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tokio_util::sync::CancellationToken;

/// The credentials of all forwards and of the tunnel.
pub(super) struct Forecast {
    sites: Arc<Sites>,
    identity: Arc<Identity>,
    /// As it lay beside the key when it was last looked at: a status does not wait for the disk.
    certificate: Mutex<Option<Expiry>>,
}

impl Forecast {
    pub(super) fn new(sites: Arc<Sites>, identity: Arc<Identity>) -> Self {
        Self {
            sites,
            identity,
            certificate: Mutex::default(),
        }
    }

    /// The SSH certificate, where there is one.
    pub(super) fn tunnel(&self) -> Option<Expiry> {
        let certificate = self.certificate.lock();
        certificate.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All of them, the tunnel's first, then in the order of the forwards.
    pub(super) fn credentials(&self) -> Vec<Credential> {
        let tunnel = self.tunnel().map(|expiry| Credential {
            forward: None,
            expiry,
        });
        let of_site = |site: &Site| {
            let forward = site.config.name.clone();
            let with_name = move |expiry| Credential {
                forward: Some(forward.clone()),
                expiry,
            };
            site.expiries().into_iter().map(with_name)
        };
        tunnel
            .into_iter()
            .chain(self.sites.iter().flat_map(of_site))
            .collect()
    }

    /// Looks and tells the log until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut herald = Herald::default();
        loop {
            let found = self.identity.expiry().await;
            *self
                .certificate
                .lock()
                .unwrap_or_else(PoisonError::into_inner) = found;
            herald.tell(&self.credentials(), SystemTime::now());
            tokio::select! {
                () = tokio::time::sleep(TELL_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}

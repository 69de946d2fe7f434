//! The login probe, and what it has to find out.

use super::{CredentialInjector, ProbeFindings, TRYING};
use crate::{auth::ProbeNeed, status::ProofState};
use std::sync::atomic::Ordering;
use tokio::time::Instant;

impl CredentialInjector {
    pub(in crate::auth) fn reset(&self) {
        self.scheme.invalidate();
        self.cookies.forget_all();
        self.circuit.lock().reset();
        self.guard.lock().reset();
        self.findings.lock().decided = false;
        self.layer.unknown(
            "an administrator asked to retry the credential, and Jira has not answered yet",
            TRYING,
        );
        self.outcome_changed.notify_waiters();
        self.probe_requested.notify_one();
    }

    /// From now on only the probe decides about the credential.
    pub(in crate::auth) fn enable_probing(&self) {
        self.is_probed.store(true, Ordering::Relaxed);
    }

    pub(in crate::auth) async fn probe_requested(&self) {
        self.probe_requested.notified().await;
    }

    pub(in crate::auth) fn request_probe(&self) {
        self.scheme.invalidate();
        self.probe_requested.notify_one();
    }

    pub(in crate::auth) fn probe_need(&self) -> ProbeNeed {
        if !self.findings.lock().decided {
            return ProbeNeed::Untried;
        }
        if self.guard.lock().is_probe_requested(Instant::now()) {
            return ProbeNeed::HeldBack;
        }
        match (self.circuit.lock().is_doubted(), self.scheme.locks_out()) {
            (true, true) => ProbeNeed::HeldBack,
            (true, false) => ProbeNeed::Doubted,
            (false, _) => ProbeNeed::None,
        }
    }

    /// Reads the secret. True: it is another one, and unproven.
    pub(in crate::auth) async fn reload_if_changed(&self) -> bool {
        let found = self.scheme.reload().await;
        let changed = self.on_credential_changed();
        match found {
            Ok(()) => self.on_readable_again() || changed,
            Err(why) => {
                self.is_unreadable.store(true, Ordering::Relaxed);
                self.fail(&why);
                changed
            }
        }
    }

    /// A file that could not be read is back with the known secret, so that the layer's error no longer holds. True: Jira
    /// is to be asked.
    fn on_readable_again(&self) -> bool {
        if !self.is_unreadable.swap(false, Ordering::Relaxed) {
            return false;
        }
        if let Some(why) = self.refused() {
            self.layer
                .failed(ProofState::Failed, &why.cause, &why.remedy);
            return false;
        }
        self.layer.unknown(
            "the secret is readable again, and Jira has not confirmed it yet",
            TRYING,
        );
        self.outcome_changed.notify_waiters();
        self.probe_requested.notify_one();
        true
    }

    /// The probe proved nothing about the credential.
    pub(in crate::auth) fn probe_inconclusive(&self, cause: &str, remedy: &str) {
        // A rejected credential stays rejected until Jira accepts it.
        if self.refused().is_none() && self.layer.unknown(cause, remedy) {
            tracing::warn!(
                forward = self.layer.forward(),
                cause,
                remedy,
                "the credential could not be checked"
            );
        }
    }

    /// Notices another secret, and forgets what was proven of the former one.
    pub(super) fn on_credential_changed(&self) -> bool {
        let version = self.scheme.version();
        {
            let mut findings = self.findings.lock();
            if findings.version == version {
                return false;
            }
            let first = findings.version == 0;
            *findings = ProbeFindings {
                version,
                ..ProbeFindings::default()
            };
            if first && self.layer.snapshot().state != ProofState::Failed {
                return false;
            }
        }
        self.guard.lock().reset();
        self.layer.unknown(
            "the secret has changed, and Jira has not confirmed the new one yet",
            TRYING,
        );
        tracing::info!(
            forward = self.layer.forward(),
            "the secret has changed; trying it now"
        );
        self.outcome_changed.notify_waiters();
        self.probe_requested.notify_one();
        true
    }
}

//! The liveness of one open session, shared by its monitor and by readers of the status.

use super::liveness::{LinkSample, Liveness, LivenessLimits, LivenessVerdict};
use crate::tunnel::{session::Session, transport::TransportHandle};
use parking_lot::Mutex;
use std::{sync::Arc, time::Instant};
use tokio::sync::Notify;

/// Each reader takes a sample first, so that status does not depend on the monitor.
pub(super) struct SessionLiveness {
    limits: LivenessLimits,
    transport: Arc<TransportHandle>,
    liveness: Mutex<Liveness>,
    /// A probe is wanted at once.
    probe_wanted: Notify,
}

impl SessionLiveness {
    pub(super) fn new(session: &Session) -> Arc<Self> {
        let limits = LivenessLimits::of(session.settings());
        let transport = Arc::clone(session.budget().transport());
        let liveness = Liveness::new(limits, Instant::now(), sample(&transport));
        Arc::new(Self {
            limits,
            liveness: Mutex::new(liveness),
            transport,
            probe_wanted: Notify::new(),
        })
    }

    /// The state of the session at `now`, after a new sample.
    pub(super) fn verdict(&self, now: Instant) -> LivenessVerdict {
        let mut liveness = self.liveness.lock();
        liveness.on_sample(now, sample(&self.transport));
        liveness.verdict(now)
    }

    /// Asks the monitor for a probe at once, because the link may have changed.
    pub(super) fn ask_for_probe(&self) {
        self.probe_wanted.notify_one();
    }

    /// Waits until a probe is asked for.
    pub(super) async fn probe_wanted(&self) {
        self.probe_wanted.notified().await;
    }

    /// Notes that a probe is sent now.
    pub(super) fn on_probe_sent(&self, now: Instant) {
        self.liveness
            .lock()
            .on_probe_sent(now, sample(&self.transport));
    }

    /// Whether a probe is due; if so, it counts as sent now.
    pub(super) fn probe_if_due(&self, now: Instant, in_flight: bool) -> bool {
        let mut liveness = self.liveness.lock();
        let due = liveness.next_probe(in_flight);
        let due = due.is_some_and(|due| due <= now);
        if due {
            liveness.on_probe_sent(now, sample(&self.transport));
        }
        due
    }

    pub(super) fn on_acknowledged(&self, acknowledged: u64) {
        self.liveness
            .lock()
            .on_acknowledged(Instant::now(), acknowledged);
    }

    pub(super) fn probe_sent_at(&self) -> Option<Instant> {
        self.liveness.lock().probe_sent_at()
    }

    /// When a probe is due at the earliest.
    pub(super) fn next_probe(&self, in_flight: bool) -> Instant {
        let liveness = self.liveness.lock();
        let next = liveness.next_probe(in_flight);
        next.unwrap_or_else(|| liveness.heard_at())
    }

    pub(super) fn heard_at(&self) -> Instant {
        self.liveness.lock().heard_at()
    }

    pub(super) fn limits(&self) -> LivenessLimits {
        self.limits
    }
}

fn sample(transport: &TransportHandle) -> LinkSample {
    LinkSample {
        received: transport.received(),
        written: transport.written(),
    }
}

//! The liveness of one session that stands, shared by the task that asks and by whoever reads the status.

use super::liveness::{Bounds, LinkSample, Liveness, Verdict};
use crate::tunnel::{session::Session, transport::Meter};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// Whoever looks takes note of what has come meanwhile, so that status does not depend on the task that asks.
pub(super) struct SessionPulse {
    bounds: Bounds,
    meter: Arc<Meter>,
    liveness: Mutex<Liveness>,
}

impl SessionPulse {
    pub(super) fn new(session: &Session) -> Arc<Self> {
        let bounds = Bounds::of(session.settings());
        let meter = Arc::clone(session.budget().meter());
        let liveness = Liveness::new(bounds, Instant::now(), sample(&meter));
        Arc::new(Self {
            bounds,
            liveness: Mutex::new(liveness),
            meter,
        })
    }

    /// What may be said of the session.
    pub(super) fn look(&self, now: Instant) -> Verdict {
        let mut liveness = self.lock();
        liveness.see(now, sample(&self.meter));
        liveness.verdict(now)
    }

    /// A question goes out now.
    pub(super) fn ask(&self, now: Instant) {
        self.lock().ask(now, sample(&self.meter));
    }

    /// Whether a question is due; it counts as asked from now on.
    pub(super) fn ask_if_due(&self, now: Instant, in_flight: bool) -> bool {
        let mut liveness = self.lock();
        let due = liveness.next_question(in_flight);
        let due = due.is_some_and(|due| due <= now);
        if due {
            liveness.ask(now, sample(&self.meter));
        }
        due
    }

    pub(super) fn see_acknowledged(&self, acknowledged: u64) {
        self.lock().see_acknowledged(Instant::now(), acknowledged);
    }

    pub(super) fn asked_at(&self) -> Option<Instant> {
        self.lock().asked_at()
    }

    /// When a question is due at the earliest.
    pub(super) fn next_question(&self, in_flight: bool) -> Instant {
        let liveness = self.lock();
        let next = liveness.next_question(in_flight);
        next.unwrap_or_else(|| liveness.heard_at())
    }

    pub(super) fn heard_at(&self) -> Instant {
        self.lock().heard_at()
    }

    pub(super) fn bounds(&self) -> Bounds {
        self.bounds
    }

    fn lock(&self) -> MutexGuard<'_, Liveness> {
        // Every write leaves a whole state behind.
        self.liveness.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn sample(meter: &Meter) -> LinkSample {
    LinkSample {
        received: meter.received(),
        given: meter.given(),
    }
}

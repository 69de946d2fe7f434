//! The liveness of one open session, shared by its monitor and by readers of the status.

use crate::tunnel::{Settings, session::Session, transport::TransportHandle};
use agent_ssh::liveness::{
    LinkLoad, LinkSample, LivenessClock, LivenessLimits, LivenessVerdict, SendSample,
};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// Each reader takes a sample first, so that status does not depend on the monitor.
pub(super) struct SessionLiveness {
    transport: Arc<TransportHandle>,
    clock: Mutex<LivenessClock>,
    /// A request for a forward is not answered, so that no probe is sent.
    awaiting_forward: AtomicBool,
    /// Channels with requests that are not answered.
    requests: AtomicBool,
    suspect_since: Mutex<Option<Instant>>,
    /// A probe is wanted at once.
    probe_wanted: Notify,
}

impl SessionLiveness {
    pub(super) fn new(session: &Session) -> Arc<Self> {
        let transport = Arc::clone(session.budget().transport());
        let limits = limits(session.settings());
        let clock = LivenessClock::new(limits, Instant::now(), sample(&transport));
        Arc::new(Self {
            clock: Mutex::new(clock),
            transport,
            awaiting_forward: AtomicBool::new(false),
            requests: AtomicBool::new(false),
            suspect_since: Mutex::new(None),
            probe_wanted: Notify::new(),
        })
    }

    /// Notes what the session waits for. Called by the monitor.
    pub(super) fn on_tick(&self, session: &Session, now: Instant) {
        let requests = session.budget().unanswered() > 0;
        self.requests.store(requests, Relaxed);
        let awaiting = session.is_awaiting_forward();
        self.awaiting_forward.store(awaiting, Relaxed);
        self.clock.lock().on_tick(now);
    }

    /// The state of the session at `now`, after a new sample.
    pub(super) fn verdict(&self, now: Instant) -> LivenessVerdict {
        let verdict = {
            let mut clock = self.clock.lock();
            clock.on_sample(now, sample(&self.transport));
            let load = self.load(&clock);
            clock.verdict(now, load)
        };
        let mut since = self.suspect_since.lock();
        match verdict.is_suspect() {
            true => _ = since.get_or_insert(now),
            false => *since = None,
        }
        verdict
    }

    /// Since when an answer is missing.
    pub(super) fn suspect_since(&self) -> Option<Instant> {
        *self.suspect_since.lock()
    }

    /// Whether bytes or requests are in flight that a dead gateway would lose.
    pub(super) fn is_busy(&self) -> bool {
        matches!(self.load(&self.clock.lock()), LinkLoad::Busy(_))
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
        let sample = sample(&self.transport);
        self.clock.lock().on_probe_sent(now, sample);
    }

    /// Whether a probe is due; if so, it counts as sent now.
    pub(super) fn probe_if_due(&self, now: Instant) -> bool {
        let mut clock = self.clock.lock();
        let due = clock.next_probe(self.load(&clock));
        let due = due.is_some_and(|due| due <= now);
        if due {
            clock.on_probe_sent(now, sample(&self.transport));
        }
        due
    }

    pub(super) fn on_probe_answered(&self, now: Instant) {
        self.clock.lock().on_probe_answered(now);
    }

    pub(super) fn on_acknowledged(&self, sent: SendSample) {
        self.clock.lock().on_acknowledged(Instant::now(), sent);
    }

    pub(super) fn probe_sent_at(&self) -> Option<Instant> {
        self.clock.lock().probe_sent_at()
    }

    /// When the monitor has to look again: a probe is due, or an answer is missing.
    pub(super) fn next_event(&self, now: Instant) -> Instant {
        let clock = self.clock.lock();
        let load = self.load(&clock);
        let next = clock.next_probe(load);
        let next = next.or_else(|| clock.next_deadline(now, load));
        next.unwrap_or(now)
    }

    pub(super) fn heard_at(&self) -> Instant {
        self.clock.lock().heard_at()
    }

    /// Age of the last byte at which a proof counts as old.
    pub(super) fn stale_after(&self) -> Duration {
        let clock = self.clock.lock();
        clock.stale_after(self.load(&clock))
    }

    fn load(&self, clock: &LivenessClock) -> LinkLoad {
        if self.awaiting_forward.load(Relaxed) {
            return LinkLoad::AwaitingForward;
        }
        let requests = self.requests.load(Relaxed).then(|| clock.heard_at());
        match self.transport.unanswered_since().or(requests) {
            Some(since) => LinkLoad::Busy(since),
            None => LinkLoad::Rest,
        }
    }
}

fn limits(settings: &Settings) -> LivenessLimits {
    LivenessLimits {
        interval: settings.probe_interval,
        measure_interval: settings.probe_interval,
        patience: settings.probe_timeout,
    }
}

fn sample(transport: &TransportHandle) -> LinkSample {
    LinkSample {
        received: transport.received(),
        written: transport.written(),
    }
}

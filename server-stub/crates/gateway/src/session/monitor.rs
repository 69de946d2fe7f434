//! Probes one session, so that a dead agent is noticed in seconds: the clock is that of the agent (`agent_ssh::liveness`).
//!
//! The probe is a session channel that the agent refuses. russh's server sends no other request with an answer at a moment
//! of our choice.

use super::AgentSession;
use crate::GatewayState;
use agent_ssh::{
    channel::ChannelStream,
    liveness::{LinkLoad, LinkSample, LivenessClock, LivenessLimits, LivenessVerdict},
    transport::TransportHandle,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::{sleep_until, timeout};

/// Probes the session until it ends, and ends it when two answers are missing.
pub(super) async fn monitor(shared: Arc<GatewayState>, session: Arc<AgentSession>) {
    let transport = Arc::clone(&session.transport);
    let mut suspect = false;
    // At once, because until the first answer the round trip is unknown.
    let mut first = true;
    while !transport.is_dead() {
        // Before the counters are read, so that no byte is missed.
        transport.arm_activity();
        let now = Instant::now();
        let load = session.load();
        let (verdict, due) = {
            let mut clock = session.clock.lock();
            clock.on_tick(now);
            clock.on_sample(now, sample(&transport));
            let verdict = clock.verdict(now, load);
            let due = first || clock.next_probe(load).is_some_and(|due| due <= now);
            first = false;

            if due {
                clock.on_probe_sent(now, sample(&transport));
            }
            (verdict, due)
        };
        if let LivenessVerdict::Dead(silence) = verdict {
            tracing::info!(agent = %session.agent, session = session.id, silence_seconds = silence.as_secs(), "the agent does not answer; ending its session");
            // The listeners are free before the task of a stuck session ends.
            shared.registry.remove_session(&session);
            session.abort("the agent does not answer");
            return;
        }
        if suspect != verdict.is_suspect() {
            suspect = verdict.is_suspect();
            tracing::info!(agent = %session.agent, session = session.id, suspect, "session's liveness changed");
            shared.registry.notify();
        }
        if due {
            // A task: opening a channel must not be cancelled.
            let asked = Arc::clone(&session);
            tokio::spawn(async move {
                if asked.probe().await {
                    asked.clock.lock().on_probe_answered(Instant::now());
                    asked.transport.on_answer_after(now.elapsed());
                }
            });
        }
        let (asked, next) = {
            let clock = session.clock.lock();
            let next = clock.next_probe(load);
            let next = next.or_else(|| clock.next_deadline(now, load));
            (clock.probe_sent_at(), next.unwrap_or(now))
        };
        let next = match asked {
            // Only the kernel knows whether the probe still waits in a queue; usually the answer arrives before.
            Some(asked) => next.clamp(now + FINEST, (now + SAMPLE).max(asked + FIRST_SAMPLE)),
            None => next,
        };
        let busy = matches!(load, LinkLoad::Busy(_));
        tokio::select! {
            () = transport.died() => return,
            () = transport.activity(), if asked.is_none() && !busy => {}
            () = sleep_until(next.into()) => if asked.is_some() {
                let sent = timeout(SAMPLE, transport.send_sample()).await;
                if let Ok(sent) = sent {
                    session.clock.lock().on_acknowledged(Instant::now(), sent);
                }
            },
        }
    }
}

impl AgentSession {
    /// Opens a channel that the agent refuses. Returns false if the session has ended.
    async fn probe(&self) -> bool {
        match self.handle.channel_open_session().await {
            Ok(channel) => {
                drop(ChannelStream::new(Arc::clone(&self.budget), channel));
                true
            }
            Err(error) => matches!(error, russh::Error::ChannelOpenFailure(_)),
        }
    }

    /// Whether an answer of the agent is missing. Reads the counters itself, so that it does not depend on the monitor.
    pub(crate) fn is_suspect(&self) -> bool {
        let now = Instant::now();
        let load = self.load();
        let mut clock = self.clock.lock();
        clock.on_sample(now, sample(&self.transport));
        clock.verdict(now, load).is_suspect()
    }

    /// Whether a probe is unanswered for longer than an answer usually takes.
    pub(super) fn is_probe_overdue(&self) -> bool {
        let patience = self.open_patience();
        let clock = self.clock.lock();
        let sent_at = clock.probe_sent_at();
        sent_at.is_some_and(|at| at.elapsed() > patience && clock.heard_at() <= at)
    }

    fn load(&self) -> LinkLoad {
        let requests = (self.requests_in_flight() > 0).then(|| self.clock.lock().heard_at());
        match self.transport.unanswered_since().or(requests) {
            Some(since) => LinkLoad::Busy(since),
            None => LinkLoad::Rest,
        }
    }
}

/// The clock of a session that has just logged in.
pub(super) fn clock(
    transport: &TransportHandle,
    interval: Duration,
    patience: Duration,
) -> LivenessClock {
    let limits = LivenessLimits {
        interval,
        // An agent probes too, so that most sessions are never silent.
        measure_interval: interval.saturating_mul(INTERVALS_PER_MEASURE),
        patience,
    };
    LivenessClock::new(limits, Instant::now(), sample(transport))
}

fn sample(transport: &TransportHandle) -> LinkSample {
    LinkSample {
        received: transport.received(),
        written: transport.written(),
    }
}

/// The round trip is measured this seldom where bytes come.
const INTERVALS_PER_MEASURE: u32 = 4;
/// Interval of samples while a probe is unanswered.
const SAMPLE: Duration = Duration::from_millis(250);
/// Time before the first sample: most answers arrive sooner.
const FIRST_SAMPLE: Duration = Duration::from_millis(400);
/// A deadline that has just passed is not waited for in a busy loop.
const FINEST: Duration = Duration::from_millis(10);

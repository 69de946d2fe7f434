//! Whether a session is alive, as a function of time and of samples of its link. No clock, no socket.
//!
//! A probe is sent after an interval without a byte from the gateway, and sooner while something is in flight. Any received
//! byte is an answer. A missing answer does not prove that the gateway is dead: on a slow link the probe waits behind bulk
//! data. So the deadline counts from the moment when the gateway's kernel has the probe, or has last acknowledged a byte
//! before it. After the deadline the session is *silent*, which status shows. Several deadlines later it is *dead*, which
//! ends it.

use crate::tunnel::Settings;
use std::time::{Duration, Instant};

/// The deadlines of the liveness check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LivenessLimits {
    /// Time between two probes of an idle session.
    pub interval: Duration,
    /// Time limit of the answer to a probe.
    pub timeout: Duration,
    /// Time without any sign of life after which the session is ended.
    pub cut_after: Duration,
}

impl LivenessLimits {
    pub(super) fn of(settings: &Settings) -> Self {
        Self {
            interval: settings.probe_interval,
            timeout: settings.probe_timeout.min(settings.stall_timeout),
            cut_after: settings.cut_after(),
        }
    }
}

/// The counters of the link at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkSample {
    /// Bytes received so far.
    pub received: u64,
    /// Bytes written to the transport.
    pub written: u64,
}

/// The liveness of one session.
#[derive(Debug)]
pub(super) struct Liveness {
    limits: LivenessLimits,
    received: u64,
    heard_at: Instant,
    acknowledged: u64,
    acknowledged_at: Instant,
    probe: Option<PendingProbe>,
    last_probe: Instant,
}

#[derive(Clone, Copy, Debug)]
struct PendingProbe {
    sent_at: Instant,
    /// Its position in the sent bytes: the far kernel has the probe once it has acknowledged this many.
    position: u64,
    delivered_at: Option<Instant>,
    /// `acknowledged` was sampled after the probe was sent: from then on growth is a sign of life.
    sampled: bool,
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessVerdict {
    /// A byte was received within an interval and a deadline, and no probe is overdue.
    Alive,
    /// Nothing was received for too long. `moving`: the far kernel acknowledges bytes, and has not had the probe for longer
    /// than the answer may take.
    Silent {
        /// Time since the last byte.
        silence: Duration,
        /// Whether the link is slow rather than dead.
        moving: bool,
    },
    /// Silent, and nothing was acknowledged either, for the time of several deadlines.
    Dead {
        /// Time since the last byte.
        silence: Duration,
    },
}

impl Liveness {
    /// A session that has just logged in counts as heard.
    pub(super) fn new(limits: LivenessLimits, now: Instant, sample: LinkSample) -> Self {
        Self {
            limits,
            received: sample.received,
            heard_at: now,
            acknowledged: 0,
            acknowledged_at: now,
            probe: None,
            last_probe: now,
        }
    }

    /// Notes received bytes, which answer a pending probe.
    pub(super) fn on_sample(&mut self, now: Instant, sample: LinkSample) {
        if sample.received > self.received {
            self.received = sample.received;
            self.heard_at = now;
            self.probe = None;
        }
    }

    /// Notes how many bytes the far kernel has acknowledged.
    pub(super) fn on_acknowledged(&mut self, now: Instant, acknowledged: u64) {
        let grown = acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged);
        let Some(probe) = &mut self.probe else {
            return;
        };
        let first = !std::mem::replace(&mut probe.sampled, true);
        if grown && !first {
            self.acknowledged_at = now;
        }
        if probe.delivered_at.is_none() && acknowledged >= probe.position {
            // If the first sample shows it, it may have arrived at once.
            probe.delivered_at = Some(if first { probe.sent_at } else { now });
        }
    }

    /// Notes that a probe is sent now, after the bytes written before.
    pub(super) fn on_probe_sent(&mut self, now: Instant, sample: LinkSample) {
        self.last_probe = now;
        self.probe = Some(PendingProbe {
            sent_at: now,
            position: sample.written.saturating_add(1),
            delivered_at: None,
            sampled: false,
        });
    }

    /// When a probe is due; `None` while one is unanswered.
    pub(super) fn next_probe(&self, in_flight: bool) -> Option<Instant> {
        let quiet = match in_flight {
            true => INTERVAL_IN_FLIGHT.min(self.limits.interval),
            false => self.limits.interval,
        };
        // In a steady stream too, to measure the round-trip time.
        let due = (self.heard_at + quiet).min(self.last_probe + self.limits.interval);
        self.probe.is_none().then_some(due)
    }

    /// When the unanswered probe was sent.
    pub(super) fn probe_sent_at(&self) -> Option<Instant> {
        self.probe.map(|probe| probe.sent_at)
    }

    /// When a byte was last received, by the samples.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// The state of the session at `now`.
    pub(super) fn verdict(&self, now: Instant) -> LivenessVerdict {
        let silence = now.saturating_duration_since(self.heard_at);
        let stale = silence > self.limits.interval.saturating_add(self.limits.timeout);
        let Some(probe) = self.probe else {
            return match stale {
                // No probe was sent: the monitor hangs.
                true => LivenessVerdict::Silent {
                    silence,
                    moving: false,
                },
                false => LivenessVerdict::Alive,
            };
        };
        let latest_sign = probe.sent_at.max(self.acknowledged_at);
        let waits_since = probe.delivered_at.unwrap_or(latest_sign);
        let waits = now.saturating_duration_since(waits_since);
        if waits >= self.limits.cut_after {
            LivenessVerdict::Dead { silence }
        } else if stale || waits >= self.limits.timeout {
            let moved = self.acknowledged_at > probe.sent_at;
            LivenessVerdict::Silent {
                silence,
                moving: moved && waits < self.limits.timeout,
            }
        } else {
            LivenessVerdict::Alive
        }
    }
}

/// While something is in flight, a probe is sent after this time without a byte.
const INTERVAL_IN_FLIGHT: Duration = Duration::from_millis(500);

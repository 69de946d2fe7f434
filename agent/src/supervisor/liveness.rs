//! Whether a session still lives: a function of time and of what is seen of its link. No clock, no socket.
//!
//! A probe is put to the gateway after an interval without a byte from it, and soon where something is in flight. Any
//! byte that comes is an answer. One that does not come within the deadline is no proof that the gateway is dead: on a
//! slow link the probe waits behind bulk data. So the deadline counts from the moment at which the gateway's kernel has
//! the probe, or has last acknowledged anything before it. *Silent* is what status says then; *dead*, several deadlines
//! later, ends the session.

use crate::tunnel::Settings;
use std::time::{Duration, Instant};

/// How long is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LivenessLimits {
    /// Between two questions at rest.
    pub interval: Duration,
    /// For the answer to a probe.
    pub timeout: Duration,
    /// Without any sign of life, after which the session is ended.
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

/// What the link shows at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LinkSample {
    /// Bytes that have come.
    pub received: u64,
    /// Bytes that were given to the transport.
    pub written: u64,
}

/// What is known of one session.
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
    /// Its place in what we send: acknowledged as far as this, the far kernel has it.
    position: u64,
    delivered_at: Option<Instant>,
    /// `acknowledged` was looked at since it was asked: from then on growth is a sign of life.
    sampled: bool,
}

/// What may be said of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LivenessVerdict {
    /// Something has come within an interval and a deadline, and no probe is overdue.
    Alive,
    /// Nothing has come for so long. `moving`: the far kernel acknowledges bytes, and has not had the probe for longer
    /// than the answer may take.
    Silent {
        /// Since the last byte.
        silence: Duration,
        /// Slow rather than dead.
        moving: bool,
    },
    /// Silent, and nothing is acknowledged either, for longer than anybody waits.
    Dead {
        /// Since the last byte.
        silence: Duration,
    },
}

impl Liveness {
    /// A session that has just logged in has been heard.
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

    /// Takes note of what has come.
    pub(super) fn on_sample(&mut self, now: Instant, sample: LinkSample) {
        if sample.received > self.received {
            self.received = sample.received;
            self.heard_at = now;
            self.probe = None;
        }
    }

    /// Takes note of how many of our bytes the far kernel has.
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
            // Where it is there at the first look, it may have been from the beginning.
            probe.delivered_at = Some(if first { probe.sent_at } else { now });
        }
    }

    /// A probe goes out now, behind what was given to the transport before.
    pub(super) fn on_probe_sent(&mut self, now: Instant, sample: LinkSample) {
        self.last_probe = now;
        self.probe = Some(PendingProbe {
            sent_at: now,
            position: sample.written.saturating_add(1),
            delivered_at: None,
            sampled: false,
        });
    }

    /// When a probe is due; none while one is unanswered.
    pub(super) fn next_probe(&self, in_flight: bool) -> Option<Instant> {
        let quiet = match in_flight {
            true => QUIET.min(self.limits.interval),
            false => self.limits.interval,
        };
        // In a steady stream too, since the round trip is to be known.
        let due = (self.heard_at + quiet).min(self.last_probe + self.limits.interval);
        self.probe.is_none().then_some(due)
    }

    /// Since when a probe has been unanswered.
    pub(super) fn probe_sent_at(&self) -> Option<Instant> {
        self.probe.map(|probe| probe.sent_at)
    }

    /// When a byte last came, as far as it was seen.
    pub(super) fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// What may be said of the session at `now`.
    pub(super) fn verdict(&self, now: Instant) -> LivenessVerdict {
        let silence = now.saturating_duration_since(self.heard_at);
        let stale = silence > self.limits.interval.saturating_add(self.limits.timeout);
        let Some(probe) = self.probe else {
            return match stale {
                // Nobody has asked: whoever should have, hangs.
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

/// With something in flight the probe goes out after so long without a byte.
const QUIET: Duration = Duration::from_millis(500);

//! Whether a session is alive, as a function of time and of samples of its link. No clock, no socket. The agent and the
//! gateway use the same code.
//!
//! A probe is sent after an interval without a byte from the peer, and at once when something sent stays unanswered for
//! max(1 s, 4 × round trip). A missing answer makes the session *suspect*, a second one *dead*. On a slow link a probe
//! waits behind bulk data, so the time for an answer counts from the last sign of life: a received byte, or a byte before
//! the probe that the far kernel acknowledges. A received byte is none where our own packets no longer arrive. The time
//! itself follows the measured round trip and the longest pause between two signs of life.
//!
//! | module | what it holds |
//! |---|---|
//! | `round_trip` | the measured round trip, which decays slowly after a peak |

mod round_trip;
#[cfg(test)]
mod simulated_link;
#[cfg(test)]
mod tests;

use round_trip::RoundTripEstimate;
use std::time::{Duration, Instant};

/// The times of the liveness check that are settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LivenessLimits {
    /// Time without a byte from the peer after which a session at rest is probed.
    pub interval: Duration,
    /// Time between two probes while bytes arrive; they measure the round trip.
    pub measure_interval: Duration,
    /// Shortest time for an answer under load. At rest it is at least the smaller of 2.5 s and `interval`.
    pub patience: Duration,
}

/// The counters of the link at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkSample {
    /// Bytes received so far.
    pub received: u64,
    /// Bytes written to the transport so far.
    pub written: u64,
}

/// What the kernel shows of the bytes that it sends, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendSample {
    /// Bytes that the far kernel has acknowledged so far.
    pub acknowledged: u64,
    /// How often the kernel has sent the first unacknowledged packet again since the last acknowledgment; `None` if it
    /// waits for something else, such as an open window.
    pub retransmissions: Option<u32>,
}

/// What a session waits for besides the answer to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLoad {
    /// Nothing.
    Rest,
    /// The peer to answer something that was sent, or the end of requests in flight, since this time.
    Busy(Instant),
    /// The peer to answer a request for a forward; no probe is sent before that.
    AwaitingForward,
}

/// The state of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LivenessVerdict {
    /// A byte was received a short time ago, and no answer is overdue.
    Alive,
    /// No byte was received for this time, but the far kernel acknowledges bytes before the probe: the link is slow.
    Delayed(Duration),
    /// One answer is missing. The time is that since the last received byte.
    Suspect(Duration),
    /// Two answers are missing. The time is that since the last received byte.
    Dead(Duration),
}

impl LivenessVerdict {
    /// Whether requests should go to another session, if there is one.
    pub fn is_suspect(self) -> bool {
        matches!(self, Self::Suspect(_) | Self::Dead(_))
    }
}

/// The liveness of one session.
#[derive(Debug)]
pub struct LivenessClock {
    limits: LivenessLimits,
    round_trip: RoundTripEstimate,
    received: u64,
    heard_at: Instant,
    acknowledged: u64,
    probe: Option<PendingProbe>,
    last_probe: Instant,
    last_tick: Instant,
    /// Most retransmissions of a packet that arrived in the end. Decays with answers.
    survived: u32,
    answers: u32,
}

/// A probe that is not answered.
#[derive(Clone, Copy, Debug)]
struct PendingProbe {
    sent_at: Instant,
    /// Its position in the sent bytes: the far kernel has the probe once it has acknowledged this many.
    position: u64,
    /// Bytes received before it.
    received: u64,
    delivered_at: Option<Instant>,
    /// The last sign of life. The time for an answer counts from here.
    sign_at: Instant,
    /// `acknowledged` was sampled after the probe was sent: from then on growth is a sign of life.
    sampled: bool,
    /// How often the first unacknowledged packet was sent again.
    retransmissions: Option<u32>,
    /// That was so at least once since the probe.
    repeated: bool,
}

impl LivenessClock {
    /// A session that has just logged in counts as heard.
    pub fn new(limits: LivenessLimits, now: Instant, sample: LinkSample) -> Self {
        Self {
            limits,
            round_trip: RoundTripEstimate::default(),
            received: sample.received,
            heard_at: now,
            acknowledged: 0,
            probe: None,
            last_probe: now,
            last_tick: now,
            survived: 0,
            answers: 0,
        }
    }

    /// Notes that the task that probes runs. If it was late, this process or host was stopped or overloaded: that time does
    /// not count against the peer.
    pub fn on_tick(&mut self, now: Instant) {
        let pause = now.saturating_duration_since(self.last_tick);
        self.last_tick = now;
        if let Some(probe) = &mut self.probe
            && pause > LATEST_TICK
        {
            probe.sign_at = (probe.sign_at + pause).min(now);
        }
    }

    /// Notes received bytes.
    pub fn on_sample(&mut self, now: Instant, sample: LinkSample) {
        if sample.received > self.received {
            self.received = sample.received;
            self.heard_at = now;
            if self.is_one_way() {
                return;
            }
            let bulk = self
                .probe
                .is_some_and(|probe| self.is_behind_bulk_data(&probe));
            self.on_sign(now, bulk);
        }
    }

    /// Notes how many bytes the far kernel has acknowledged.
    pub fn on_acknowledged(&mut self, now: Instant, sample: SendSample) {
        let acknowledged = sample.acknowledged;
        let grown = acknowledged > self.acknowledged;
        self.acknowledged = self.acknowledged.max(acknowledged);
        let Some(probe) = &mut self.probe else {
            return;
        };
        let first = !std::mem::replace(&mut probe.sampled, true);
        let before = std::mem::replace(&mut probe.retransmissions, sample.retransmissions);
        // What the kernel had to repeat measures an outage, not the round trip (Karn's algorithm, RFC 6298 §3).
        let repeated = before.is_some_and(|tries| tries > 0);
        probe.repeated |= repeated;
        if grown {
            self.survived = self.survived.max(before.unwrap_or(0));
        }
        if probe.delivered_at.is_some() {
            // Bytes in the far kernel prove nothing of the process that should read them.
            return;
        }
        let delivered = acknowledged >= probe.position;
        if delivered {
            // If the first sample shows it, it may have arrived at once.
            probe.delivered_at = Some(if first { probe.sent_at } else { now });
        }
        if (grown || delivered) && !first {
            self.on_sign(now, !repeated);
        }
    }

    /// Notes that a probe is sent now, after the bytes written before.
    pub fn on_probe_sent(&mut self, now: Instant, sample: LinkSample) {
        self.last_probe = now;
        self.last_tick = now;
        self.probe = Some(PendingProbe {
            sent_at: now,
            position: sample.written.saturating_add(1),
            received: sample.received,
            delivered_at: None,
            sign_at: now,
            sampled: false,
            retransmissions: None,
            repeated: false,
        });
    }

    /// Notes the answer to the pending probe.
    pub fn on_probe_answered(&mut self, now: Instant) {
        self.heard_at = now;
        let bulk = self
            .probe
            .is_some_and(|probe| self.is_behind_bulk_data(&probe));
        self.on_sign(now, bulk);
        if let Some(probe) = self.probe.take() {
            // The answer often brings the acknowledgment, between two samples.
            self.survived = self.survived.max(probe.retransmissions.unwrap_or(0));
            let since = probe.delivered_at.unwrap_or(probe.sent_at);
            self.round_trip
                .on_answer(now.saturating_duration_since(since));
            self.answers += 1;
            if self.answers.is_multiple_of(ANSWERS_PER_DECAY) {
                self.survived = self.survived.saturating_sub(1);
            }
        }
    }

    /// When a probe is due; `None` while one is unanswered.
    pub fn next_probe(&self, load: LinkLoad) -> Option<Instant> {
        let rest = (self.heard_at + self.limits.interval)
            .min(self.last_probe + self.limits.measure_interval);
        let due = match load {
            LinkLoad::Rest | LinkLoad::AwaitingForward => rest,
            LinkLoad::Busy(since) => rest.min(since.max(self.heard_at) + self.unanswered_limit()),
        };
        self.probe.is_none().then_some(due)
    }

    /// When the unanswered probe was sent.
    pub fn probe_sent_at(&self) -> Option<Instant> {
        self.probe.map(|probe| probe.sent_at)
    }

    /// When a byte was last received, by the samples.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// Time for one answer.
    pub fn patience(&self, load: LinkLoad) -> Duration {
        let limits = &self.limits;
        // After an outage waiting costs more than a new connection.
        let late = self
            .probe
            .is_some_and(|probe| probe.repeated && probe.delivered_at.is_some());
        let least = match load {
            LinkLoad::Busy(_) => limits.patience,
            LinkLoad::Rest if late => limits.patience,
            LinkLoad::Rest => limits.patience.max(limits.interval.min(REST_PATIENCE)),
            LinkLoad::AwaitingForward => limits.patience.max(FORWARD_PATIENCE),
        };
        // Bulk data arrives before the answer: the round trip is at least that long already.
        let running = self.probe.filter(|probe| self.is_behind_bulk_data(probe));
        let running = running.map(|probe| self.heard_at.saturating_duration_since(probe.sent_at));
        let round_trip = self.round_trip.get().max(running.unwrap_or_default());
        let far = round_trip >= FAR;
        let round_trips = match far {
            true if self.survived > 0 => 2 * ROUND_TRIPS_PER_FAR_ANSWER,
            true => ROUND_TRIPS_PER_FAR_ANSWER,
            false => ROUND_TRIPS_PER_ANSWER,
        };
        least.max((round_trip * round_trips).min(LONGEST_PATIENCE))
    }

    /// Age of the last byte after which it proves nothing any more.
    pub fn stale_after(&self, load: LinkLoad) -> Duration {
        self.limits.interval.saturating_add(self.patience(load))
    }

    /// When the state next becomes worse without a sign of life; `None` if no probe is unanswered.
    pub fn next_deadline(&self, now: Instant, load: LinkLoad) -> Option<Instant> {
        let probe = self.probe?;
        let patience = self.patience(load);
        let suspect = probe.sign_at + patience;
        Some(match suspect > now {
            true => suspect,
            false => probe.sign_at + self.limit(&probe, load),
        })
    }

    /// The state of the session at `now`.
    pub fn verdict(&self, now: Instant, load: LinkLoad) -> LivenessVerdict {
        let silence = now.saturating_duration_since(self.heard_at);
        let patience = self.patience(load);
        let Some(probe) = self.probe else {
            // No probe was sent long after it was due: the task that probes hangs.
            let hangs = silence > self.limits.interval + patience * 2 + LATEST_TICK;
            return match hangs {
                true => LivenessVerdict::Suspect(silence),
                false => LivenessVerdict::Alive,
            };
        };
        let waits = now.saturating_duration_since(probe.sign_at);
        let needed = match self.is_far() {
            true => (RETRANSMISSIONS + 1 + self.survived).min(MOST_RETRANSMISSIONS),
            false => RETRANSMISSIONS,
        };
        let retransmitting = probe.retransmissions.is_some_and(|tries| tries < needed);
        let given_up = !retransmitting || probe.delivered_at.is_some() || waits > LONGEST_WAIT;
        if waits >= self.limit(&probe, load) && given_up {
            LivenessVerdict::Dead(silence)
        } else if waits >= patience {
            LivenessVerdict::Suspect(silence)
        } else if silence >= self.stale_after(load) {
            LivenessVerdict::Delayed(silence)
        } else {
            LivenessVerdict::Alive
        }
    }

    /// Time from the last sign of life after which the session is dead: two answers.
    fn limit(&self, probe: &PendingProbe, load: LinkLoad) -> Duration {
        let limit = self.patience(load) * 2;
        match probe.delivered_at {
            None if self.survived > 0 && !self.is_far() => limit + ONE_MORE_TRANSMISSION,
            // The far kernel repeats its packets as rarely as ours did. That ends with this probe, and a session at rest
            // has nothing to lose by a new connection.
            Some(at) if probe.repeated && matches!(load, LinkLoad::Busy(_)) => {
                let backed_off = at.saturating_duration_since(probe.sent_at);
                limit.max(backed_off.min(LONGEST_PATIENCE))
            }
            _ => limit,
        }
    }

    /// Whether the peer's packets arrive and ours do not: the kernel has repeated one as often as a dead link needs. What the
    /// peer sends of itself, such as its own probes, then proves nothing of our direction.
    fn is_one_way(&self) -> bool {
        let lost = |probe: PendingProbe| {
            let tries = probe.retransmissions.unwrap_or(0);
            probe.delivered_at.is_none() && tries >= RETRANSMISSIONS + self.survived
        };
        self.probe.is_some_and(lost) && !self.is_far()
    }

    fn is_far(&self) -> bool {
        self.round_trip.get() >= FAR
    }

    /// How long something sent may stay unanswered before a probe is sent.
    fn unanswered_limit(&self) -> Duration {
        UNANSWERED.max(self.round_trip.get() * ROUND_TRIPS_UNANSWERED)
    }

    fn is_behind_bulk_data(&self, probe: &PendingProbe) -> bool {
        self.received.saturating_sub(probe.received) >= BULK
    }

    /// `counts`: how long it took says something about the link, and not when the peer had something to send.
    fn on_sign(&mut self, now: Instant, counts: bool) {
        if let Some(probe) = &mut self.probe {
            let pause = now.saturating_duration_since(probe.sign_at);
            probe.sign_at = now;
            if counts {
                self.round_trip.on_pause(pause);
            }
        }
    }
}

/// Something sent may stay unanswered for this long before a probe is sent, or for
/// [`ROUND_TRIPS_UNANSWERED`] if that is longer.
const UNANSWERED: Duration = Duration::from_secs(1);
const ROUND_TRIPS_UNANSWERED: u32 = 4;
/// A lost packet is sent again after two to three round trips, and after twice that if it is lost again. Two answers
/// thus have time for three transmissions, and for more where losses have been seen.
const ROUND_TRIPS_PER_ANSWER: u32 = 8;
const ROUND_TRIPS_PER_FAR_ANSWER: u32 = 10;
/// Bytes that are more than a few answers and requests.
const BULK: u64 = 4096;
/// Longest time for an answer, however slow the link: a session must end some time.
const LONGEST_PATIENCE: Duration = Duration::from_secs(45);
/// A packet is lost this many times, after its first loss, on a link that is dead. On a good link the kernel does that in
/// 1.5 s; on a slow one it knows the time better than a probe.
const RETRANSMISSIONS: u32 = 3;
/// One more on a link of this round trip, and more where packets have arrived after several. Answers are lost there too,
/// which the kernel does not show: they have twice the time.
const FAR: Duration = Duration::from_millis(300);
const MOST_RETRANSMISSIONS: u32 = 6;
const ANSWERS_PER_DECAY: u32 = 8;
/// On a near link that has had an outage: time for the transmission after those, and short enough to notice the next one in
/// five seconds.
const ONE_MORE_TRANSMISSION: Duration = Duration::from_millis(700);
/// Longest wait for them.
const LONGEST_WAIT: Duration = Duration::from_secs(100);
/// Shortest time for an answer at rest: nothing is lost by waiting.
const REST_PATIENCE: Duration = Duration::from_millis(2500);
/// A gateway may take some time to decide about a forward, and answers requests in order.
const FORWARD_PATIENCE: Duration = Duration::from_millis(3500);
/// The task that probes runs at least this often while a probe is unanswered, unless the process is overloaded.
const LATEST_TICK: Duration = Duration::from_secs(1);

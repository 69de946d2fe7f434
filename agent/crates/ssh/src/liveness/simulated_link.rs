//! Two ends of a session over a slow, lossy link, in virtual time: TCP in little, a session's backlog, and the clock of
//! each end. Deterministic for a seed.

use super::{LinkLoad, LinkSample, LivenessClock, LivenessLimits, LivenessVerdict, SendSample};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

/// Microseconds of virtual time.
pub(super) type Micros = u64;

/// What the link does, the same in both directions unless a field says otherwise.
#[derive(Clone, Debug)]
pub(super) struct LinkProfile {
    /// Bytes per second.
    pub rate: u64,
    /// Delay of each direction.
    pub delay: Micros,
    /// Part of the packets that are lost at random.
    pub loss: f64,
    /// Bytes that wait in front of the link before packets are dropped.
    pub queue: u64,
    /// Bytes of bulk data that the sender keeps queued above TCP, by end; 0 for an end that sends nothing.
    pub backlog: [u64; 2],
    /// An end opens the window (a small packet) whenever it has received this much.
    pub window: u64,
    /// No packet of an end's arrives after this time.
    pub black_hole: [Option<Micros>; 2],
    /// Nothing arrives during the first `.0` of every `.1`.
    pub bursts: Option<(Micros, Micros)>,
    /// Nothing arrives from the first time to the second.
    pub outage: (Micros, Micros),
    /// The process of this end stops at this time; its kernel does not.
    pub stopped: [Option<Micros>; 2],
    /// This end sends a request at each tick, which the other one answers.
    pub calls: [bool; 2],
}

impl LinkProfile {
    /// 64 kbit/s, 600 ms, 5 % loss, full both ways.
    pub(super) fn satellite() -> Self {
        Self {
            rate: 8_000,
            delay: 300_000,
            loss: 0.05,
            queue: 32 << 10,
            backlog: [128 << 10; 2],
            window: 96 << 10,
            black_hole: [None; 2],
            bursts: None,
            outage: (0, 0),
            stopped: [None; 2],
            calls: [false; 2],
        }
    }

    /// 1 Gbit/s, 1 ms, without loss, at rest.
    pub(super) fn lan() -> Self {
        Self {
            rate: 125_000_000,
            delay: 500,
            loss: 0.0,
            queue: 1 << 20,
            backlog: [0; 2],
            window: 1 << 20,
            ..Self::satellite()
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A packet of this end arrives at the other: position and length of its data, and what it acknowledges.
    Packet {
        from: usize,
        position: u64,
        length: u64,
        acknowledged: u64,
        /// Later data has arrived before (RFC 2018).
        selective: bool,
        /// When it was sent, and the time of the packet that it answers (RFC 7323).
        stamp: Micros,
        echo: Micros,
    },
    /// The retransmission timer of this end, as set for the `n`th time.
    Timer { end: usize, n: u64 },
    /// The monitor of this end runs.
    Tick { end: usize },
}

/// One end: TCP's sender and receiver, the session above, and the clock.
struct LinkEnd {
    clock: LivenessClock,
    /// Bytes written to TCP.
    written: u64,
    bulk: u64,
    sent: u64,
    acknowledged: u64,
    /// Sent and not acknowledged: length, and when it was sent last.
    in_flight: BTreeMap<u64, (u64, Micros)>,
    duplicates: u32,
    recovery: u64,
    congestion_window: u64,
    slow_start: u64,
    smoothed: Option<(f64, f64)>,
    backoff: u32,
    timer: u64,
    armed: bool,
    link_free_at: Micros,
    last_stamp: Micros,
    /// Received in order, and what came before its time.
    received: u64,
    early: BTreeMap<u64, u64>,
    opened: u64,
    /// Where the probes and answers of the other end lie in what this end receives.
    probes: VecDeque<u64>,
    answers: VecDeque<u64>,
    heard_at: Micros,
    written_since: Option<Micros>,
    verdicts: Vec<(Micros, LivenessVerdict)>,
}

/// The two ends, the link, and the events to come.
pub(super) struct SimulatedLink {
    profile: LinkProfile,
    start: Instant,
    now: Micros,
    random: u64,
    order: u64,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    ends: [LinkEnd; 2],
    /// A request of end 1 that end 0 works at all the time.
    pub(super) in_flight: bool,
}

impl SimulatedLink {
    pub(super) fn new(profile: LinkProfile, seed: u64, limits: LivenessLimits) -> Self {
        let start = Instant::now();
        let end = || LinkEnd {
            clock: LivenessClock::new(limits, start, LinkSample::default()),
            written: 0,
            bulk: 0,
            sent: 0,
            acknowledged: 0,
            in_flight: BTreeMap::new(),
            duplicates: 0,
            recovery: 0,
            congestion_window: 10 * SEGMENT,
            slow_start: u64::MAX,
            smoothed: None,
            backoff: 0,
            timer: 0,
            armed: false,
            link_free_at: 0,
            last_stamp: 0,
            received: 0,
            early: BTreeMap::new(),
            opened: 0,
            probes: VecDeque::new(),
            answers: VecDeque::new(),
            heard_at: 0,
            written_since: None,
            verdicts: Vec::new(),
        };
        let mut link = Self {
            profile,
            start,
            now: 0,
            random: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            order: 0,
            events: BinaryHeap::new(),
            ends: [end(), end()],
            in_flight: false,
        };
        link.at(0, Event::Tick { end: 0 });
        link.at(37_000, Event::Tick { end: 1 });
        link
    }

    /// Runs until `end` and returns the changes of each end's verdict.
    pub(super) fn run(&mut self, end: Duration) -> [Vec<(Micros, LivenessVerdict)>; 2] {
        let end = end.as_micros() as Micros;
        while let Some(Reverse((at, _, event))) = self.events.pop() {
            if at > end {
                break;
            }
            self.now = at;
            match event {
                Event::Packet {
                    from,
                    position,
                    length,
                    acknowledged,
                    selective,
                    stamp,
                    echo,
                } => {
                    if length > 0 {
                        self.ends[1 - from].last_stamp = stamp;
                    }
                    self.on_acknowledgment(1 - from, acknowledged, selective, echo);
                    self.on_data(1 - from, position, length);
                }
                Event::Timer { end, n } => self.on_timer(end, n),
                Event::Tick { end } => self.on_tick(end),
            }
        }
        [0, 1].map(|end| std::mem::take(&mut self.ends[end].verdicts))
    }

    /// Bytes that this end has received.
    pub(super) fn received(&self, end: usize) -> u64 {
        self.ends[end].received
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.order += 1;
        self.events.push(Reverse((at, self.order, event)));
    }

    /// xorshift64*, between 0 and 1.
    fn random(&mut self) -> f64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let bits = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11;
        bits as f64 / (1u64 << 53) as f64
    }

    fn is_stopped(&self, end: usize) -> bool {
        self.profile.stopped[end].is_some_and(|at| self.now >= at)
    }

    /// The monitor of one end, as those of agent and gateway work.
    fn on_tick(&mut self, index: usize) {
        self.at(self.now + TICK, Event::Tick { end: index });
        if self.is_stopped(index) {
            return;
        }
        self.fill(index);
        if self.profile.calls[index] {
            self.write(index, 2 * SMALL);
        }
        let now = self.start + Duration::from_micros(self.now);
        let in_flight = self.in_flight;
        let start = self.start;
        let end = &mut self.ends[index];
        let sample = LinkSample {
            received: end.received,
            written: end.written,
        };
        let unanswered = end
            .written_since
            .map(|at| start + Duration::from_micros(at));
        let heard_at = start + Duration::from_micros(end.heard_at);
        let load = match unanswered.or(in_flight.then_some(heard_at)) {
            Some(since) => LinkLoad::Busy(since),
            None => LinkLoad::Rest,
        };
        end.clock.on_tick(now);
        end.clock.on_sample(now, sample);
        if end.clock.probe_sent_at().is_some() {
            let sent = SendSample {
                acknowledged: end.acknowledged,
                retransmissions: end.armed.then_some(end.backoff),
            };
            end.clock.on_acknowledged(now, sent);
        }
        let mut write = false;
        if end.clock.next_probe(load).is_some_and(|due| due <= now) {
            end.clock.on_probe_sent(now, sample);
            write = true;
        }
        let verdict = end.clock.verdict(now, load);
        let kind = |verdict: &LivenessVerdict| std::mem::discriminant(verdict);
        if end.verdicts.last().map(|(_, last)| kind(last)) != Some(kind(&verdict)) {
            end.verdicts.push((self.now, verdict));
        }
        if write {
            self.write(index, SMALL);
            let position = self.ends[index].written;
            self.ends[1 - index].probes.push_back(position);
        }
    }

    /// Keeps bulk data queued above TCP.
    fn fill(&mut self, index: usize) {
        let end = &mut self.ends[index];
        let queued = end.written - end.sent;
        let wanted = self.profile.backlog[index];
        if queued < wanted {
            end.bulk += wanted - queued;
            self.write(index, wanted - queued);
        }
    }

    fn write(&mut self, index: usize, bytes: u64) {
        let now = self.now;
        let end = &mut self.ends[index];
        end.written += bytes;
        if bytes > SMALL {
            end.written_since.get_or_insert(now);
        }
        self.transmit(index);
    }

    /// Sends what the congestion window allows.
    fn transmit(&mut self, index: usize) {
        loop {
            let end = &mut self.ends[index];
            let length = (end.written - end.sent).min(SEGMENT);
            if length == 0 || end.sent - end.acknowledged + length > end.congestion_window {
                break;
            }
            let position = end.sent;
            end.sent += length;
            self.send_segment(index, position, length);
        }
        self.arm(index, false);
    }

    fn send_segment(&mut self, index: usize, position: u64, length: u64) {
        let now = self.now;
        self.ends[index].in_flight.insert(position, (length, now));
        self.send_packet(index, position, length);
    }

    fn send_packet(&mut self, from: usize, position: u64, length: u64) {
        let size = length + HEADERS;
        let free_at = self.ends[from].link_free_at.max(self.now);
        let waiting = (free_at - self.now) * self.profile.rate / SECOND;
        if waiting + size > self.profile.queue {
            return;
        }
        let through = free_at + size * SECOND / self.profile.rate;
        self.ends[from].link_free_at = through;
        let arrives = through + self.profile.delay;
        let swallowed = self.profile.black_hole[from].is_some_and(|at| arrives >= at);
        let burst = self.profile.bursts;
        let burst = burst.is_some_and(|(length, every)| arrives % every < length);
        let (begin, end) = self.profile.outage;
        let outage = (begin..end).contains(&arrives);
        if self.random() < self.profile.loss || swallowed || burst || outage {
            return;
        }
        let acknowledged = self.ends[from].received;
        let selective = !self.ends[from].early.is_empty();
        let packet = Event::Packet {
            from,
            position,
            length,
            acknowledged,
            selective,
            stamp: self.now,
            echo: std::mem::take(&mut self.ends[from].last_stamp),
        };
        self.at(arrives, packet);
    }

    fn on_data(&mut self, index: usize, position: u64, length: u64) {
        if length == 0 {
            return;
        }
        let end = &mut self.ends[index];
        let before = end.received;
        if position + length > before {
            end.early.insert(position, length);
        }
        while let Some((position, length)) = end.early.first_key_value().map(|(p, l)| (*p, *l)) {
            if position > end.received {
                break;
            }
            end.early.pop_first();
            end.received = end.received.max(position + length);
        }
        self.send_packet(index, self.ends[index].sent, 0);
        if self.ends[index].received > before && !self.is_stopped(index) {
            self.on_bytes(index);
        }
    }

    /// The process of this end reads what has arrived.
    fn on_bytes(&mut self, index: usize) {
        let now = self.start + Duration::from_micros(self.now);
        let window = self.profile.window;
        let end = &mut self.ends[index];
        end.heard_at = self.now;
        end.written_since = None;
        let received = end.received;
        let sample = LinkSample {
            received,
            written: end.written,
        };
        end.clock.on_sample(now, sample);
        let arrived = |queue: &mut VecDeque<u64>| {
            let mut count = 0;
            while queue.front().is_some_and(|at| *at <= received) {
                queue.pop_front();
                count += 1;
            }
            count
        };
        let asked = arrived(&mut end.probes);
        if arrived(&mut end.answers) > 0 {
            end.clock.on_probe_answered(now);
        }
        let opens = received / window != end.opened;
        end.opened = received / window;
        for _ in 0..asked {
            self.write(index, SMALL);
            let position = self.ends[index].written;
            self.ends[1 - index].answers.push_back(position);
        }
        if opens || self.profile.calls[1 - index] {
            self.write(index, SMALL);
        }
        self.fill(index);
    }

    fn on_acknowledgment(
        &mut self,
        index: usize,
        acknowledged: u64,
        selective: bool,
        echo: Micros,
    ) {
        let now = self.now;
        let end = &mut self.ends[index];
        if echo > 0 {
            let round_trip = (now - echo) as f64;
            end.smoothed = Some(match end.smoothed {
                None => (round_trip, round_trip / 2.0),
                Some((smooth, vary)) => (
                    smooth * 0.875 + round_trip * 0.125,
                    vary * 0.75 + (smooth - round_trip).abs() * 0.25,
                ),
            });
        }
        if acknowledged > end.acknowledged {
            let gained = acknowledged - end.acknowledged;
            end.in_flight = end.in_flight.split_off(&acknowledged);
            end.acknowledged = acknowledged;
            end.duplicates = 0;
            end.backoff = 0;
            let window = &mut end.congestion_window;
            *window += match *window < end.slow_start {
                true => gained,
                false => (SEGMENT * gained / *window).max(1),
            };
            *window = (*window).min(1 << 20);
            self.arm(index, true);
        } else if selective && !end.in_flight.is_empty() {
            end.duplicates += 1;
            if end.duplicates == 3 && end.acknowledged >= end.recovery {
                end.recovery = end.sent;
                end.slow_start = (end.congestion_window / 2).max(2 * SEGMENT);
                end.congestion_window = end.slow_start;
            }
        }
        if selective {
            self.repeat_holes(index);
        }
        self.transmit(index);
    }

    /// Sends again what is missing before data that has arrived, once a round trip (RFC 8985).
    fn repeat_holes(&mut self, index: usize) {
        let round_trip = self.ends[index]
            .smoothed
            .map_or(SECOND as f64, |(smooth, _)| smooth);
        let before = self.now.saturating_sub((round_trip * 1.25) as Micros);
        let other = &self.ends[1 - index];
        let newest = other
            .early
            .last_key_value()
            .map_or(0, |(position, _)| *position);
        let in_flight = self.ends[index].in_flight.range(..newest);
        let missing = in_flight.filter(|(position, (_, sent_at))| {
            *sent_at < before && !other.early.contains_key(position) && **position >= other.received
        });
        let missing: Vec<_> = missing.take(3).map(|(p, (l, _))| (*p, *l)).collect();
        for (position, length) in missing {
            self.send_segment(index, position, length);
        }
    }

    fn repeat_first(&mut self, index: usize) {
        let first = self.ends[index].in_flight.first_key_value();
        if let Some((position, length)) = first.map(|(p, (l, _))| (*p, *l)) {
            self.send_segment(index, position, length);
        }
    }

    /// The timer of RFC 6298, with the least value of Linux.
    fn arm(&mut self, index: usize, again: bool) {
        let end = &mut self.ends[index];
        if end.in_flight.is_empty() {
            end.armed = false;
            end.timer += 1;
            return;
        }
        if end.armed && !again {
            return;
        }
        let timeout = match end.smoothed {
            None => SECOND,
            Some((smooth, vary)) => ((smooth + (4.0 * vary).max(200_000.0)) as Micros).max(200_000),
        };
        let timeout = (timeout << end.backoff.min(10)).min(120 * SECOND);
        end.armed = true;
        end.timer += 1;
        let n = end.timer;
        self.at(self.now + timeout, Event::Timer { end: index, n });
    }

    fn on_timer(&mut self, index: usize, n: u64) {
        let end = &mut self.ends[index];
        if end.timer != n || end.in_flight.is_empty() {
            return;
        }
        end.slow_start = (end.congestion_window / 2).max(2 * SEGMENT);
        end.congestion_window = SEGMENT;
        end.recovery = end.sent;
        end.backoff += 1;
        end.duplicates = 0;
        self.repeat_first(index);
        self.arm(index, true);
    }
}

const SECOND: Micros = 1_000_000;
/// How often the monitors run.
const TICK: Micros = 100_000;
const SEGMENT: u64 = 1400;
const HEADERS: u64 = 52;
/// Bytes of a probe, of its answer, and of a packet that opens the window.
const SMALL: u64 = 52;

//! How a simulated gateway answers, by its state.

use super::*;

/// How a gateway treats what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GatewayState {
    Good,
    /// Nothing listens: a dial fails at once, and sessions have ended.
    Down,
    /// Packets are dropped: a dial waits, and sessions end when the agent notices.
    Silent,
    /// A login takes seconds.
    Slow,
    /// It refuses the login.
    Refusing,
    /// It ends each session at once.
    Cutting,
    /// It accepts no login, and asks for a wait.
    Full,
}

impl GatewayState {
    pub(super) const ALL: [Self; 7] = [
        Self::Good,
        Self::Down,
        Self::Silent,
        Self::Slow,
        Self::Refusing,
        Self::Cutting,
        Self::Full,
    ];

    /// The milliseconds that a login or its failure takes.
    fn login_time(self) -> (u64, u64) {
        match self {
            Self::Slow => (2000, 5000),
            Self::Silent => (1000, 2000),
            Self::Good | Self::Down | Self::Refusing | Self::Cutting | Self::Full => (1, 200),
        }
    }
}

/// With the time at which the gateway notices that it is dead, if it is.
type PlaceHolder = (SessionHolder, Option<Duration>);

pub(super) struct SimulatedGateway {
    pub state: GatewayState,
    /// One session listens at a place, as with OpenSSH; otherwise all may, as with the stub.
    pub exclusive: bool,
    /// How long it keeps the place of a session that it does not know to be dead.
    keeps: Duration,
    /// By forward and slot number: who listens, and until when if that one is dead.
    places: BTreeMap<(usize, Option<u16>), Vec<PlaceHolder>>,
}

impl SimulatedGateway {
    pub(super) fn new(rng: &mut SmallRng) -> Self {
        Self {
            state: GatewayState::Good,
            exclusive: rng.random_bool(0.6),
            keeps: seconds(rng.random_range(14..120)),
            places: BTreeMap::new(),
        }
    }

    /// The sessions that listen at each place and are alive.
    pub(super) fn listeners(&self) -> impl Iterator<Item = Vec<SessionHolder>> {
        self.places.values().map(|holders| {
            let live = holders.iter().filter(|(_, until)| until.is_none());
            live.map(|(holder, _)| *holder).collect()
        })
    }

    /// Whether it took a dead session for a living one then.
    pub(super) fn keeps_dead(&self, then: Duration) -> bool {
        let mut all = self.places.values().flatten();
        all.any(|(_, until)| until.is_some_and(|until| until > then))
    }

    /// The slot numbers at which it took a dead session for a living one then.
    pub(super) fn kept_slots(&self, then: Duration) -> impl Iterator<Item = u16> {
        let kept = self.places.iter().filter(move |(_, holders)| {
            let mut until = holders.iter().filter_map(|(_, until)| *until);
            until.any(|until| until > then)
        });
        kept.filter_map(|((_, slot), _)| *slot)
    }
}

pub(super) struct SimulatedSession {
    pub gateway: usize,
    /// By forward: the slot number at which it listens.
    pub held: BTreeMap<usize, Option<u16>>,
    /// The same, of requests without an answer.
    pub asked: BTreeMap<usize, Option<u16>>,
}

impl SimulatedSession {
    /// Whether it listens at this place, or has asked for it.
    pub(super) fn is_at(&self, forward: usize, place: Option<u16>) -> bool {
        let (held, asked) = (self.held.get(&forward), self.asked.get(&forward));
        held == Some(&place) || asked == Some(&place)
    }
}

impl SimulatedWorld {
    pub(super) fn is_answered(&self, process: usize, id: SessionId) -> bool {
        let session = self.sessions.get(&(process, id));
        session.is_some_and(|one| self.gateways[one.gateway].state != GatewayState::Silent)
    }

    pub(super) fn begin_dial(&mut self, process: usize, id: SessionId, gateway: usize) {
        self.dials.insert((process, id), (gateway, false));
        let (least, most) = self.gateways[gateway].state.login_time();
        self.soon(least, most, ScheduledEvent::DialEnds(process, id));
    }

    pub(super) fn dial_ends(&mut self, process: usize, id: SessionId) {
        let Some((gateway, abandoned)) = self.dials.get(&(process, id)).copied() else {
            return;
        };
        let state = self.gateways[gateway].state;
        let pace = match state {
            GatewayState::Silent if !abandoned => {
                // The first packet is repeated.
                return self.soon(1000, 2000, ScheduledEvent::DialEnds(process, id));
            }
            _ if abandoned => Some(RetryPace::Soon),
            GatewayState::Silent | GatewayState::Down => Some(RetryPace::Soon),
            GatewayState::Full => Some(RetryPace::After(seconds(self.rng.random_range(0..20)))),
            GatewayState::Refusing => {
                self.processes[process].refused.insert(gateway, self.now);
                Some(RetryPace::Slow)
            }
            GatewayState::Good | GatewayState::Slow | GatewayState::Cutting => None,
        };
        self.dials.remove(&(process, id));
        if let Some(pace) = pace {
            return self.send(process, SupervisorEvent::OpenFailed(id, pace));
        }
        let session = SimulatedSession {
            gateway,
            held: BTreeMap::new(),
            asked: BTreeMap::new(),
        };
        self.sessions.insert((process, id), session);
        match state == GatewayState::Cutting {
            true => self.soon(0, 300, ScheduledEvent::Ended(process, id)),
            false => self.soon(1, 200, ScheduledEvent::Answered(process, id)),
        }
        self.send(process, SupervisorEvent::Opened(id));
    }

    pub(super) fn requested(&mut self, process: usize, id: SessionId, forward: usize) {
        if !self.is_answered(process, id) {
            return;
        }
        let now = self.now;
        let session = self.sessions.get_mut(&(process, id)).unwrap();
        let place = session.asked.remove(&forward).expect("a request");
        let gateway = &mut self.gateways[session.gateway];
        let holders = gateway.places.entry((forward, place)).or_default();
        holders.retain(|(_, until)| until.is_none_or(|until| until > now));
        if gateway.exclusive && !holders.is_empty() {
            return self.send(process, SupervisorEvent::Refused(id, forward));
        }
        holders.push(((process, id), None));
        session.held.insert(forward, place);
        self.send(process, SupervisorEvent::Granted(id, forward));
    }

    /// A session leaves one place, or all; a gateway that does not know it keeps them for a time.
    pub(super) fn leave(&mut self, holder: SessionHolder, forward: Option<usize>, keeps: Duration) {
        let Some(session) = self.sessions.get_mut(&holder) else {
            return;
        };
        let until = self.now + keeps;
        let gateway = &mut self.gateways[session.gateway];
        session.held.retain(|held, place| {
            if forward.is_some_and(|one| one != *held) {
                return true;
            }
            let holders = gateway.places.entry((*held, *place)).or_default();
            match keeps.is_zero() {
                true => holders.retain(|(by, _)| *by != holder),
                false => {
                    let mine = holders.iter_mut().filter(|(by, _)| *by == holder);
                    mine.for_each(|(_, end)| *end = Some(until));
                }
            }
            false
        });
    }

    pub(super) fn ended(&mut self, process: usize, id: SessionId, keeps: Duration) {
        self.leave((process, id), None, keeps);
        if self.sessions.remove(&(process, id)).is_some() {
            self.send(process, SupervisorEvent::Ended(id, None));
        }
    }

    pub(super) fn changes(&mut self, number: usize, state: GatewayState) {
        let gateway = &mut self.gateways[number];
        let before = std::mem::replace(&mut gateway.state, state);
        let keeps = gateway.keeps;
        let here = self.sessions.iter();
        let here = here.filter(|(_, session)| session.gateway == number);
        let here: Vec<SessionHolder> = here.map(|(holder, _)| *holder).collect();
        for (process, id) in here {
            match state {
                GatewayState::Down | GatewayState::Cutting => {
                    self.ended(process, id, Duration::ZERO);
                }
                // The agent notices within seconds; the gateway does not.
                GatewayState::Silent => {
                    self.leave((process, id), None, keeps);
                    self.soon(3000, 10_000, ScheduledEvent::Ended(process, id));
                }
                // What was unanswered for a while has been noticed as well.
                GatewayState::Good
                | GatewayState::Slow
                | GatewayState::Refusing
                | GatewayState::Full
                    if before == GatewayState::Silent =>
                {
                    self.ended(process, id, keeps);
                }
                GatewayState::Good
                | GatewayState::Slow
                | GatewayState::Refusing
                | GatewayState::Full => {}
            }
        }
    }
}

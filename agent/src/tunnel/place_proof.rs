//! What shows that the requests at a place reach the session that holds it, with cause and remedy where they do not.

use super::BindAddress;

/// What requests through a place have shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceProof {
    /// Only the gateway's grant. Why no request shows more, if that is known.
    Granted(Option<UnprovenReason>),
    /// A request through it reached the session.
    Proven,
    /// Something else answers there.
    Taken(PlaceTaker),
    /// Nothing answers there that did before.
    Lost(LostSign),
}

/// Why no request can prove a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnprovenReason {
    /// The gateway does not let the agent connect to the place, and checks none itself.
    Prohibited,
    /// The gateway says that it cannot connect to the place. OpenSSH says the same of sockets that it forbids.
    NotConnected,
    /// The gateway leaves open whether it can connect to the place.
    NoAnswer,
    /// The forward leads to tcp://, where a health request would reach the upstream.
    Bytes,
    /// The gateway's own checks have stopped, and the agent may not connect.
    ChecksStopped,
}

/// What answers at a place in place of the session that holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceTaker {
    /// Another connection of this agent, of this number.
    OwnConnection(usize),
    /// Another agent, or another process of this one.
    OtherAgent,
    /// A program that is no agent: the address at which it answers, and what it does.
    OtherProgram(BindAddress, String),
}

/// How it shows that a place is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostSign {
    /// The gateway cannot connect to it any more.
    NothingListens,
    /// The gateway's own checks, which came regularly, have stopped.
    ChecksStopped,
    /// Another program had one address of the name and has ended; the gateway listens on the other one alone.
    HalfListens,
}

impl PlaceProof {
    /// Whether vendor requests at this place may reach the session, as far as is known.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Granted(_) | Self::Proven)
    }

    /// Whether vendor requests at this place do not reach this agent.
    pub fn is_broken(&self) -> bool {
        match self {
            Self::Granted(_) | Self::Proven | Self::Taken(PlaceTaker::OwnConnection(_)) => false,
            Self::Taken(PlaceTaker::OtherAgent | PlaceTaker::OtherProgram(..)) | Self::Lost(_) => {
                true
            }
        }
    }

    /// Why requests at this place do not reach the session, in one sentence. `bind`: its address.
    pub fn cause(&self, bind: &BindAddress) -> Option<String> {
        Some(match self {
            Self::Granted(_) | Self::Proven => return None,
            Self::Taken(PlaceTaker::OwnConnection(other)) => {
                format!("connection {other} of this agent answers on {bind}")
            }
            Self::Taken(PlaceTaker::OtherAgent) => format!(
                "another agent answers on {bind}, which the gateway granted to this one: this agent gets none of its requests"
            ),
            Self::Taken(PlaceTaker::OtherProgram(at, what)) => format!(
                "another program on the gateway has {at}, although the gateway granted {bind}: it {what}"
            ),
            Self::Lost(LostSign::NothingListens) => {
                format!("nothing listens on {bind} any more, although the gateway granted it")
            }
            Self::Lost(LostSign::HalfListens) => format!(
                "the gateway listens on one address of {bind} alone, because another program had the other one when it granted the port"
            ),
            Self::Lost(LostSign::ChecksStopped) => format!(
                "the gateway's health checks of {bind} have stopped, although it granted the place"
            ),
        })
    }

    /// What an administrator does about it.
    pub fn remedy(&self, bind: &BindAddress) -> Option<&'static str> {
        let is_socket = matches!(bind, BindAddress::Socket(_));
        Some(match self {
            Self::Granted(_) | Self::Proven | Self::Taken(PlaceTaker::OwnConnection(_)) => {
                return None;
            }
            Self::Taken(PlaceTaker::OtherAgent) => OTHER_AGENT,
            Self::Taken(PlaceTaker::OtherProgram(..)) if is_socket => OTHER_PROGRAM_SOCKET,
            Self::Taken(PlaceTaker::OtherProgram(at, _)) if at != bind => OTHER_PROGRAM_HALF,
            Self::Taken(PlaceTaker::OtherProgram(..)) => OTHER_PROGRAM_PORT,
            Self::Lost(LostSign::NothingListens) if is_socket => SOCKET_GONE,
            Self::Lost(LostSign::NothingListens) => PORT_GONE,
            Self::Lost(LostSign::ChecksStopped) => CHECKS_STOPPED,
            Self::Lost(LostSign::HalfListens) => HALF_LISTENS,
        })
    }
}

impl UnprovenReason {
    /// The reason in one clause, for status.
    pub fn text(self) -> &'static str {
        match self {
            Self::Prohibited => "the gateway does not let the agent connect to it",
            Self::NotConnected => "the gateway does not connect the agent to it",
            Self::NoAnswer => "the gateway does not answer when the agent connects to it",
            Self::Bytes => "a tcp:// forward has no health request",
            Self::ChecksStopped => "the gateway's health checks have stopped",
        }
    }
}

const OTHER_AGENT: &str = "nothing while the other agent serves; this one asks again as soon as it does not. For both to \
     serve, give each host slots of its own: a bind with {slot}, and tunnel.slots";
const OTHER_PROGRAM_SOCKET: &str = "the agent asks for the place again by itself; ask the vendor which program has the \
     socket (on the gateway: ss -lxp), and for \"StreamLocalBindUnlink yes\"";
const OTHER_PROGRAM_PORT: &str = "ask the vendor which program has the port (on the gateway: ss -ltnp), also on the other \
     one of 127.0.0.1 and ::1, or for another port; the agent asks again by itself";
const OTHER_PROGRAM_HALF: &str = "ask the vendor which program has the port at that address (on the gateway: ss -ltnp), or for \
     another port; the agent serves the other address meanwhile, and asks for the port again once the program has ended";
const HALF_LISTENS: &str =
    "the agent asks for the port again by itself, now that the program has ended";
const SOCKET_GONE: &str = "the agent asks for the place again by itself; if this recurs, ask the vendor what removes or \
     replaces the socket on the gateway";
const PORT_GONE: &str = "the agent asks for the place again by itself; if this recurs, ask the vendor what closes the port \
     on the gateway (ss -ltnp)";
const CHECKS_STOPPED: &str = "the agent asks for the place again by itself; ask the vendor whether its balancer runs, and \
     whether something has replaced the socket or port";

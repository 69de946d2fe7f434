//! What the machine is told and what it asks for.

use super::places::SlotShare;
use crate::tunnel::session::RetryPace;
use std::time::Duration;

/// Something that has happened. Outdated generations are ignored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum SupervisorEvent {
    /// A deadline may have passed.
    Tick,
    /// A dial has passed a hop: from TCP on, each one counts.
    Progressed(SessionId),
    /// A dial has opened a session.
    Opened(SessionId),
    /// A dial has failed, or was abandoned.
    OpenFailed(SessionId, RetryPace),
    /// The gateway listens for a forward.
    Granted(SessionId, usize),
    /// The gateway refuses to listen.
    Refused(SessionId, usize),
    /// The gateway has stopped listening.
    Cancelled(SessionId, usize),
    /// Requests through the place of a granted forward do not reach its session.
    PlaceLost(SessionId, usize, PlaceLoss),
    /// A session has answered its first probe.
    Proven(SessionId),
    /// A session has ended; with the time after which the gateway wants to be dialed again, if it has said so.
    Ended(SessionId, Option<Duration>),
    /// A session should be replaced, because it is near its limits.
    NeedsReplacement(SessionId),
    /// A replaced session has no open channel.
    Idle(SessionId),
    /// An address or route of this host has changed, or the host was suspended: what failed before may work now.
    Woken,
    /// The configuration has changed; ignored in a drain.
    Reload(DesiredState),
    /// Another process of this agent has released its forwards and requests none: all slot numbers may be asked for, and
    /// each refused forward is requested again.
    UseReleased,
    /// Another process of this agent begins or ends to ask for slot numbers.
    ShareSlots(SlotShare),
    /// Let requests in flight finish within this time, then stop.
    Drain(Duration),
}

/// Why requests through a place do not reach the session that holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum PlaceLoss {
    /// Nothing answers there, or a program that is no agent.
    Gone,
    /// A program that is no agent has one of its addresses, and the session serves the other one. To ask for it again does not
    /// help while the program is there.
    HalfTaken,
    /// Another agent answers there. It must not lose the place in turn, or two agents take it from each other forever.
    OtherAgent,
}

/// What the configuration asks for. Gateways and forwards are numbers that are never reused: one that disappears does not
/// come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::supervisor) struct DesiredState {
    /// Number of connections to keep, at least 1.
    pub connections: usize,
    /// At least one; connections are spread over them in this order.
    pub gateways: Vec<usize>,
    pub forwards: Vec<usize>,
    /// Those of them whose bind names the slot: each session has a place of its own.
    pub slotted: Vec<usize>,
    /// The slot numbers that sessions may use, in the order of preference.
    pub slots: Vec<u16>,
    /// User, key, proxy or bounds have changed: open sessions must be replaced.
    pub replace_sessions: bool,
}

/// Something that the shell must do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::supervisor) enum SupervisorAction {
    /// Open a session to the gateway of this number; answered by `Opened` or `OpenFailed`.
    Dial(SessionId, usize),
    /// Abandon a dial; answered by `OpenFailed`, or by `Opened` if that was faster.
    Abandon(SessionId),
    /// Tell the channels of a session that a new session serves, so that idle ones end.
    MarkReplaced(SessionId),
    /// Request a forward, at the place of this slot if its bind names the slot; answered by `Granted`, `Refused` or
    /// `Ended`.
    Request(SessionId, usize, Option<u16>),
    /// Cancel a forward; answered by `Cancelled` or `Ended`.
    Cancel(SessionId, usize),
    /// Answer with `Idle` as soon as no channel is open.
    WatchIdle(SessionId),
    /// End a session; answered by `Ended`.
    Disconnect(SessionId),
    /// Everything has stopped after a drain. The last action.
    Stopped,
}

/// One dial and the session that it opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::supervisor) struct SessionId {
    /// Number of the connection.
    pub slot: usize,
    /// Counts up over all connections; never used twice.
    pub generation: u64,
}

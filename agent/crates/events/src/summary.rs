//! What people see of a queue: figures and lists. No body, no target, no header.

use crate::EventId;
use std::time::SystemTime;
use tokio::time::Instant;

/// Which bound has no room for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueBound {
    /// The bound [`max_bytes`](crate::QueueLimits::max_bytes).
    Bytes,
    /// The bound [`max_bytes_per_source`](crate::QueueLimits::max_bytes_per_source).
    BytesOfSource,
    /// The bound [`max_events`](crate::QueueLimits::max_events).
    Events,
}

impl QueueBound {
    /// The configuration key that sets it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Bytes => "max_queue",
            Self::BytesOfSource => "max_queue_per_source",
            Self::Events => "max_queue_events",
        }
    }
}

/// When there is something to lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DueEvents {
    /// An event can be leased now.
    Now,
    /// The next one can be leased then, unless the queue changes before.
    At(Instant),
    /// None until the queue changes: it is empty, or the head of each lane is leased.
    Nothing,
}

/// Where an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventState {
    /// Not tried yet, or behind another event of its lane.
    Queued,
    /// Being delivered right now.
    Delivering,
    /// Failed, and waiting for its next attempt.
    Waiting,
    /// A dead letter, which is not tried again.
    Dead,
}

impl EventState {
    /// As in the JSON.
    pub fn code(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Delivering => "delivering",
            Self::Waiting => "waiting",
            Self::Dead => "dead",
        }
    }
}

/// One event as people see it. Lane, type, key, source and error are text of other hosts: print them as such.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSummary {
    /// The same in each attempt.
    pub id: EventId,
    /// Where it is now.
    pub state: EventState,
    /// When it was stored.
    pub received_at: SystemTime,
    /// `issue:10001`, `project:SEC`, or empty.
    pub lane: String,
    /// Jira's `webhookEvent`, such as `jira:issue_updated`.
    pub event_type: Option<String>,
    /// Jira's key of the issue.
    pub issue_key: Option<String>,
    /// Address of the sender.
    pub source: String,
    /// Bytes of the body.
    pub body_bytes: u64,
    /// Failed attempts: of this process, or of a dead letter until it died.
    pub attempts: u32,
    /// Why the last attempt failed, or why it is a dead letter.
    pub last_error: Option<String>,
    /// When a waiting event is tried again.
    pub next_attempt: Option<Instant>,
    /// When a dead letter died.
    pub died_at: Option<SystemTime>,
}

/// Which events a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFilter {
    /// Queued events, then dead letters.
    All,
    /// Those that are still to be delivered.
    Queued,
    /// Dead letters, the oldest first.
    Dead,
}

/// Which events are retried or dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventSelection {
    /// One event, queued or dead.
    Id(EventId),
    /// All dead letters, the oldest first.
    AllDead,
}

/// The queue in numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueFigures {
    /// Events that are still to be delivered.
    pub events: usize,
    /// Their bytes, with what is stored beside the bodies.
    pub bytes: u64,
    /// The bound [`max_bytes`](crate::QueueLimits::max_bytes).
    pub max_bytes: u64,
    /// The bound [`max_events`](crate::QueueLimits::max_events).
    pub max_events: usize,
    /// When the event was stored that has waited longest.
    pub oldest_received: Option<SystemTime>,
    /// When the next failed event is tried again, if one waits.
    pub next_attempt: Option<Instant>,
    /// Why the last failed attempt failed; gone after the next delivered event.
    pub last_error: Option<String>,
    /// Dead letters in the file.
    pub dead_events: usize,
    /// Bytes of the dead letters.
    pub dead_bytes: u64,
    /// Since when events are refused or dropped, for which bound.
    pub full_since: Option<(SystemTime, QueueBound)>,
    /// Why the file cannot be written right now.
    pub disk_error: Option<String>,
    /// Counted since the file was made.
    pub totals: QueueTotals,
}

/// Events counted since the file was made. Those that change nothing else on the disk (repeated, refused, failed attempts)
/// are saved with the next event, so that a crash may lose the last of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueTotals {
    /// Stored for the first time.
    pub stored: u64,
    /// Sent by Jira again while the first one was still here.
    pub repeated: u64,
    /// Delivered to the vendor.
    pub delivered: u64,
    /// Attempts to deliver that failed.
    pub failed_attempts: u64,
    /// Events that became dead letters.
    pub died: u64,
    /// Refused because the queue was full.
    pub refused_full: u64,
    /// Dropped to make room in a full queue.
    pub dropped_full: u64,
    /// Dead letters dropped because of their age or size.
    pub dropped_dead: u64,
    /// Dropped by an administrator.
    pub dropped_by_hand: u64,
}

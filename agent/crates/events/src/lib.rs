//! The durable queue of events that Jira sends to the vendor. It knows no HTTP, no SSH and no configuration.
//!
//! An event is on disk (fsync) before it is acknowledged. It leaves the queue when the vendor has taken it, or as a dead
//! letter. Events of one lane (an issue) leave in the order in which they came; lanes do not wait for each other.
//!
//! | module | what it holds |
//! |---|---|
//! | [`event`] | the event, its id, and what is stored beside its body |
//! | [`jira_event`] | what an event says about itself: type, issue, project, lane |
//! | [`limits`] | the bounds of a queue |
//! | [`queue`] | the handle: store, lease, settle |
//! | [`summary`] | what people see of a queue: figures and lists, never a body |
//! | [`signature`] | signatures of Standard Webhooks |
//! | [`hub_signature`] | Jira's own signature of a webhook |
//!
//! Behind the handle: `index` (in memory and pure: lanes, leases, due times, bounds), `tables` (the file), `writer` (the one
//! thread that reads and writes it), `inbox` (what waits for that thread), `change` (what a commit changes).
#![forbid(unsafe_code)]

mod change;
mod error;
pub mod event;
pub mod hub_signature;
mod inbox;
mod index;
pub mod jira_event;
pub mod limits;
pub mod queue;
pub mod signature;
pub mod summary;
mod tables;
mod writer;

pub use error::{OpenError, QueueError, StoreError};
pub use event::{EventHead, EventId, NewEvent};
pub use jira_event::JiraEvent;
pub use limits::{QueueLimits, WhenFull};
pub use queue::{EventQueue, Expired, LeasedEvent, Stored, set_damaged_aside};
pub use signature::SigningSecrets;
pub use summary::{
    DueEvents, EventSelection, EventState, EventSummary, ListFilter, QueueBound, QueueFigures,
    QueueTotals,
};

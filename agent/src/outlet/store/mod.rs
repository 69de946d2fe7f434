//! Mode `store`: Jira gets 202 once its event is on the disk, and the agent delivers it until the vendor has accepted it.
//! The queue is the crate `agent-events`; this joins it to the path of a request and to the upstream of the outlet.
//!
//! | module | what it holds |
//! |---|---|
//! | `event_store` | the queue file: opened, kept over reloads, handed over |
//! | `scope` | which events may leave |
//! | `acceptor` | takes an event of Jira into the queue |
//! | `deliverer` | which event is sent next, and when |
//! | `attempt` | one attempt, signed, and what becomes of its event |
//! | `retry` | what an answer means, and how long to wait |
//! | `losses` | records and log lines of events that were not delivered |
//! | `off_runtime` | work on long bodies |

mod acceptor;
mod attempt;
mod deliverer;
mod event_store;
mod losses;
mod off_runtime;
mod retry;
mod scope;

pub use acceptor::EventAcceptor;
pub use deliverer::{EventDeliverer, SessionWatch};
pub use event_store::{EventStore, QueueCondition, queue_file, removed_queues};
pub use losses::EventLosses;
pub use scope::{EventScope, ScopeError, ScopeList};

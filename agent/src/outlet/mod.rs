//! The way out: a listener on the customer's side whose requests go to one host of the vendor, through the tunnel. Each
//! request takes the path of `http/exchange/` with its framing, policy, audit and typed errors. Knows no SSH: the caller
//! gives it an upstream whose connections are channels.
//!
//! | module | what it holds |
//! |---|---|
//! | `settings` | one `[[outlet]]`, validated |
//! | `source_gate` | who may call, and which bodies may leave |
//! | `listener` | accepts connections, plain or in TLS |
//! | `client_stream` | one connection of Jira |
//! | `store` | mode `store`: the queue of events and what delivers them |

mod client_stream;
mod listener;
mod settings;
mod source_gate;
mod store;

pub use listener::{ListenerCondition, OutletListener, OutletSockets};
pub use settings::{
    OutletTarget, OutletTargetError, PathSecret, PathSecretError, ServerTlsError, Settings,
    StoreSettings, server_config,
};
pub use source_gate::{SourceGate, SourceList};
pub use store::{
    EventAcceptor, EventDeliverer, EventLosses, EventScope, EventStore, QueueCondition, ScopeError,
    ScopeList, SessionWatch, queue_file, removed_queues,
};

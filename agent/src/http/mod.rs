//! One HTTP/1.1 or prior-knowledge h2c server per channel, and the path of one request. Knows no Jira.
//!
//! `server` drives a channel (`http2` where it speaks that), `current_forward` is the forward that answers on it, `framing`
//! hands hyper one unambiguous message at a time, `exchange` is the path of one request, `body` counts and watches what
//! streams, `problem` is what the agent answers itself (`docs/errors.md`).

mod body;
mod current_forward;
mod dry_run;
mod error_body;
mod event_audit;
mod event_delivery;
mod event_sink;
mod exchange;
mod expected;
mod forward;
mod framing;
#[cfg(fuzzing)]
pub(crate) use framing::fuzz_properties;
mod gate;
mod health;
mod hop_by_hop;
mod http2;
mod own_headers;
mod pending_record;
mod precheck;
pub mod problem;
mod refusal_limit;
mod replay;
mod request_id;
mod server;
mod trailers;

pub use current_forward::CurrentForward;
pub use dry_run::DryRun;
pub use event_audit::{EventAudit, EventEnd, EventEnding};
pub use event_delivery::{EventAnswer, event_request};
pub use event_sink::{EventRefusal, EventSink, IncomingEvent, LARGEST_EVENT};
pub use expected::ExpectedRequest;
pub use forward::{HttpForward, InFlightGuard, RequestCounter};
pub use gate::{AdmissionRefusal, RequestGate, strip_first_segment};
pub use health::{HEALTH_PATH, HealthReport, HealthState, SENDER};
pub(crate) use own_headers::X_TUNNEL_ANSWERED_BY;
pub use server::{ChannelOrigin, ShutdownTokens, VendorStream, serve};

use crate::upstream::StallLimits;
use std::time::Duration;

/// Bounds of one forward's HTTP side. Each is a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Request line and headers together, bytes; more is 431.
    pub max_head: usize,
    /// From the first byte to the end of a request head; longer is 408.
    pub head_timeout: Duration,
    /// A kept-alive connection with no request on it.
    pub idle_timeout: Duration,
    /// A body that stands still for this long is given up. A moving body has no deadline.
    pub stall_timeout: Duration,
    /// Least bytes per second that the vendor sends of a body, or takes of an answer, on average over five
    /// `stall_timeout` in which it was awaited.
    pub min_body_rate: u64,
    /// Requests in flight on this forward; more are 503 with `Retry-After`.
    pub max_concurrent: usize,
    /// Requests that policy or framing may refuse in a minute with an audit line each; more are 429 and counted in one
    /// line.
    pub refusals_per_minute: u32,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            max_head: 64 << 10,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            stall_timeout: Duration::from_secs(120),
            min_body_rate: 50,
            max_concurrent: 256,
            refusals_per_minute: 600,
        }
    }
}

impl From<&HttpLimits> for StallLimits {
    fn from(limits: &HttpLimits) -> Self {
        Self {
            stall: limits.stall_timeout,
            rate: limits.min_body_rate,
        }
    }
}

#[cfg(test)]
mod tests;

//! Which connection to open, when to retry, when to drain: a pure state machine and the thin shell that carries its
//! actions out.

mod view;

pub use view::{ConnectionView, ForwardState, ForwardView, Phase};

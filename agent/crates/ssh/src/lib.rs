//! What the agent and a gateway need around russh: the byte stream below a session, its channels above, and the
//! algorithms. It knows neither HTTP nor Jira, and nothing of gateways, forwards or sessions.
//!
//! | module | what it holds |
//! |---|---|
//! | [`transport`] | below russh: writes never wait, a stalled link is noticed |
//! | [`channel`] | above russh: a slow reader never blocks its session |
//! | [`algorithms`] | which algorithms are offered |
#![forbid(unsafe_code)]

pub mod algorithms;
pub mod channel;
pub mod transport;

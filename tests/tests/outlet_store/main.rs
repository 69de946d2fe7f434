//! Outlets of mode `store`: Jira gets 202 once its event is on the disk, and the vendor's receiver gets each event, signed
//! and in order per issue, whatever fails in between. With a stock sshd and a receiver that verifies every signature.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod delivery;
mod lifecycle;
mod refusals;
mod secrets;

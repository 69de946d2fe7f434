//! Facts about Jira Cloud on the wire, one test each, over real HTTPS against the imitation.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api_tokens;
mod client;
mod token_service;

//! OAuth 1.0a held by the agent, end to end: every signature is verified by the imitation Jira, by `oauthlib` and
//! by OpenSSL.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod corners;
mod dance;
mod keys;
mod refresh;
mod refusals;
mod signing;

//! Facts about Jira on the wire, one test each, over real HTTP against the imitation.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod attachments;
mod basic;
mod client;
mod faults;
mod issues;
mod limits;
mod oauth1;
mod oauth1_signer;
mod oauth2;
mod pat;
mod permissions;
mod record;
mod search;
mod server;
mod tls;

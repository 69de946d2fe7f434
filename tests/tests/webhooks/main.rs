//! Webhooks of the imitation Jira, in each form that Jira has had, and the vendor's receiver of events.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod app;
mod data_center;
mod delivery;
mod hmac;
mod hook_sink;
mod instance;
mod receiver;

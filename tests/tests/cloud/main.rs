//! Jira Cloud end to end: the real agent in front of an imitation Cloud, on the site's own URL and behind the API
//! gateway.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api_token;
mod common;
mod links;
mod moving;
mod scopes;
mod three_legged;

//! What the vendor is told when something goes wrong, what is written down of it, and that nothing reaches Jira that
//! the policy did not see.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_response;
mod audit;
mod errors;
mod evasion;
mod raw_query;
mod smuggling;
#[path = "../../../agent/tests/policy/table.rs"]
mod table;

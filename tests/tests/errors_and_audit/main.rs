//! The vendor's error answers, their audit records, and that nothing reaches Jira that the policy has not seen.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod agent_response;
mod audit;
mod errors;
mod evasion;
mod raw_query;
mod smuggling;
#[path = "../../../agent/tests/policy/table.rs"]
mod table;

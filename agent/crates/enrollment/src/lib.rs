//! What the vendor's gateway and the agent agree on when a customer enrolls: the token, the command that registers a key,
//! and the line of authorized_keys. docs/enroll.md describes all three. Opens no connection and writes no file.
#![forbid(unsafe_code)]

mod authorized_keys;
#[cfg(any(test, fuzzing))]
pub mod fuzz_properties;
mod token;

pub use authorized_keys::{authorized_line, registered_options};
pub use token::{
    EnrollmentToken, EnrollmentTokenError, OneTimeSecret, TOKEN_MAX_LEN, TOKEN_PREFIX, TokenForward,
};

/// Name of the SSH command that registers a key. A gateway with a forced command can read it (`SSH_ORIGINAL_COMMAND`).
pub const REGISTER_COMMAND: &str = "jira-tunnel-enroll 1";

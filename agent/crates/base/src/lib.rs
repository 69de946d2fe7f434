//! What every part of the agent and of the gateway may use. It knows neither SSH nor HTTP nor Jira, and imports no other
//! crate of this project.
//!
//! | module | what it holds |
//! |---|---|
//! | [`accounts`] | names of local users and groups |
//! | [`backoff`] | how long to wait after failures |
//! | [`descriptors`] | the limit of open files, and a reserve below it |
//! | [`disk`] | free space that must remain, space that is reserved, blocking work with a bound |
//! | [`plain_file`] | regular files read within a bound |
//! | [`printable`] | text of other hosts, made safe to print |
//! | [`secret`] | secrets in memory and in files |
//! | [`spelling`] | the known word that a mistyped one is close to |
//! | [`vendor_text`] | text that the vendor may read |
#![forbid(unsafe_code)]

pub mod accounts;
pub mod backoff;
pub mod descriptors;
pub mod disk;
pub mod plain_file;
pub mod printable;
pub mod secret;
pub mod spelling;
pub mod vendor_text;

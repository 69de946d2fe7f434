//! `oauth1`: requests signed by OAuth 1.0a with RSA-SHA1 (RFC 5849), for application links of Jira Server, Data
//! Center and, as legacy, Cloud.
//!
//! Bottom up: `encode` reads and writes parameters, `base_string` makes the text that is signed, `key` signs,
//! `signer` makes the header. Those are pure. `signing` does it off the asynchronous workers, `endpoint` asks
//! Jira for tokens, `renewal` exchanges stored ones, `stored` holds them, `look` sees when they change on the disk, `scheme` signs requests; `problem` says what a refusal of
//! Jira's means.

mod base_string;
mod encode;
mod endpoint;
mod key;
mod look;
mod problem;
mod renewal;
mod scheme;
mod settings;
mod signer;
mod signing;
mod stored;

pub use base_string::{SignedUrl, base_string};
pub use encode::{Misread, Parameter, form, parse};
pub use endpoint::{Endpoint, EndpointError, RequestToken};
pub use key::{KeyError, SigningKey};
pub use problem::{Blame, Facts, Problem};
pub use renewal::renew;
pub(super) use scheme::{OAuth1, judge_query};
pub use settings::{Settings, TokenFrom};
pub use signer::{Protocol, Signed, Signer};

#[cfg(test)]
mod tests;

//! `oauth1`: requests signed by OAuth 1.0a with RSA-SHA1 (RFC 5849), for application links of Jira Server, Data
//! Center and, as legacy, Cloud.
//!
//! Bottom up: `encode` reads and writes parameters, `base_string` makes the text that is signed, `key` signs,
//! `signer` makes the header. Those are pure. `signing` signs off the asynchronous workers, `endpoint` asks Jira for
//! tokens, `refresh` exchanges stored ones, `token_provider` does so for the token cache, `scheme` signs requests.
//! `problem` explains Jira's rejections.

mod base_string;
mod encode;
mod endpoint;
mod key;
mod problem;
mod refresh;
mod scheme;
mod settings;
mod signer;
mod signing;
mod token_provider;

pub use base_string::{SignedUrl, base_string};
pub use encode::{FormDecodeError, OAuthParameter, form, parse};
pub use endpoint::{OAuth1Endpoints, OAuth1Error, RequestToken};
pub use key::{SigningKey, SigningKeyError};
pub use problem::{OAuth1Context, OAuth1Problem, RejectedPart};
pub use refresh::refresh;
pub(super) use scheme::{OAuth1Scheme, check_query};
pub use settings::{AccessTokenSource, Settings};
pub use signer::{ProtocolParameters, RequestSigner, SignedParts};

#[cfg(test)]
mod tests;

//! Tokens that must survive a restart: what an OAuth login gave, one file per forward in the state
//! folder. Knows files, locks and durability; knows neither HTTP nor what a token is good for.
//!
//! A server that rotates refresh tokens invalidates the old one the moment it answers. So the order is
//! fixed, and every step of it is durable (write, fsync, rename, fsync of the folder) before the next:
//!
//! 1. take the [lock](TokenStore::lock), so that one process at a time refreshes, and read what is there;
//! 2. save the record with [`pending`](TokenRecord::pending) set: from now on the refresh token may be invalid;
//! 3. send it;
//! 4. save what came, with `pending` taken out, and only then use it.
//!
//! A process that finds `pending` set knows that an answer may have been lost between 3 and 4.

mod json;
mod record;
mod store;

pub use record::{TokenOwner, TokenRecord, TokenSet};
pub(crate) use store::match_owner;
pub use store::{LockedTokenStore, TokenStore, TokenStoreError};

#[cfg(test)]
mod tests;

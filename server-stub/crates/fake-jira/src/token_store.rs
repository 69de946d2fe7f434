//! What all providers need for codes and tokens: random text, comparison in constant time, a bounded store, expiry. The
//! time is an argument.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

use rand::Rng;
use rand::distr::Alphanumeric;
use subtle::ConstantTimeEq;
use time::{Duration, OffsetDateTime};

/// Codes, tokens or grants, oldest first. Beyond [`MAX_KEPT`] the oldest is dropped.
pub(crate) struct TokenStore<T>(VecDeque<T>);

impl<T> TokenStore<T> {
    pub(crate) fn push(&mut self, new: T) {
        if self.0.len() == MAX_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(new);
    }
}

impl<T> Default for TokenStore<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Deref for TokenStore<T> {
    type Target = VecDeque<T>;

    fn deref(&self) -> &VecDeque<T> {
        &self.0
    }
}

impl<T> DerefMut for TokenStore<T> {
    fn deref_mut(&mut self) -> &mut VecDeque<T> {
        &mut self.0
    }
}

/// Random letters and digits.
pub(crate) fn random_token(length: usize) -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(length)
        .map(char::from)
        .collect()
}

/// Whether two secrets are equal, in constant time.
pub(crate) fn secrets_match(one: &str, other: &str) -> bool {
    one.as_bytes().ct_eq(other.as_bytes()).into()
}

/// The time this many seconds after `now`.
pub(crate) fn expires_at(now: OffsetDateTime, seconds: u32) -> OffsetDateTime {
    now.saturating_add(Duration::seconds(seconds.into()))
}

/// More than any test uses at once.
const MAX_KEPT: usize = 4096;

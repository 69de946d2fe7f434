//! Failed logins per user, after which a CAPTCHA is required.

use std::collections::HashMap;

/// Counts failed logins of users of the directory, whose number bounds it.
#[derive(Default)]
pub(in crate::jira) struct FailedLogins(HashMap<String, u32>);

impl FailedLogins {
    pub(crate) fn failed(&mut self, user: &str) {
        *self.0.entry(user.to_owned()).or_default() += 1;
    }

    /// Whether `user` has failed so often that even the correct password is refused.
    pub(crate) fn requires_captcha(&self, user: &str, after: u32) -> bool {
        self.0.get(user).is_some_and(|&failures| failures >= after)
    }

    /// Resets the count, after a successful login or a solved CAPTCHA.
    pub(crate) fn clear(&mut self, user: &str) {
        self.0.remove(user);
    }
}

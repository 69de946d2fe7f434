//! Failed logins per user, and the challenge that follows too many of them.

use std::collections::HashMap;

/// Counts failed logins. Only users of the directory are counted, which bounds it.
#[derive(Default)]
pub(in crate::jira) struct FailedLogins(HashMap<String, u32>);

impl FailedLogins {
    pub fn failed(&mut self, user: &str) {
        *self.0.entry(user.to_owned()).or_default() += 1;
    }

    /// Whether `user` has failed so often that even the right password is refused.
    pub fn requires_captcha(&self, user: &str, after: u32) -> bool {
        self.0.get(user).is_some_and(|&failures| failures >= after)
    }

    /// Someone solved the CAPTCHA, or a login went well before it came to one.
    pub fn clear(&mut self, user: &str) {
        self.0.remove(user);
    }
}

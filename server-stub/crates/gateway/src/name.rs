//! The name of an agent: its SSH user, its folder and its label in the `Host` header.

use std::{fmt, str::FromStr, sync::Arc};

/// A valid agent name: 1 to 63 of `a-z`, `0-9`, `-`, `_`; begins and ends with a letter or digit; no
/// `--`, which separates a forward from its agent in a host name. It is safe as a folder name and as
/// a host label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentName(Arc<str>);

impl AgentName {
    /// The agent's name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentName {
    type Err = AgentNameError;

    fn from_str(text: &str) -> Result<Self, AgentNameError> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let bytes = text.as_bytes();
        let valid = bytes.len() <= MAX_LENGTH
            && bytes.first().copied().is_some_and(plain)
            && bytes.last().copied().is_some_and(plain)
            && bytes
                .iter()
                .all(|&byte| plain(byte) || byte == b'-' || byte == b'_')
            && !text.contains("--");
        if valid {
            Ok(Self(Arc::from(text)))
        } else {
            Err(AgentNameError)
        }
    }
}

impl fmt::Display for AgentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text is not an agent name.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "an agent name has 1 to 63 of a-z, 0-9, '-' and '_', begins and ends with a letter or digit, and does not contain '--'"
)]
pub struct AgentNameError;

/// Length of a DNS label (RFC 1035 §2.3.4).
const MAX_LENGTH: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_folder_and_a_host_label_at_once() {
        for good in ["acme", "a", "acme-2", "acme_eu", "7seas"] {
            assert!(good.parse::<AgentName>().is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "", ".", "..", "a/b", "../x", "Acme", "-a", "a-", "a--b", "a.b", "a b", "ä", &long,
        ] {
            assert_eq!(bad.parse::<AgentName>(), Err(AgentNameError), "{bad}");
        }
    }
}

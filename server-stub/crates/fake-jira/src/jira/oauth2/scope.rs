//! The scopes of OAuth 2.0 tokens. Each includes those before it.

use serde::Deserialize;

use super::refusal::OAuth2Error;

/// A scope of the Data Center provider. Cloud has others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OAuth2Scope {
    /// Read access to what the user may see.
    Read,
    /// Read and write access as the user.
    Write,
    /// Also administration of projects and users.
    Admin,
    /// Also administration of the system.
    SystemAdmin,
}

impl OAuth2Scope {
    /// All scopes, smallest first.
    pub const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Admin, Self::SystemAdmin];

    /// The scope's name in requests and responses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "READ",
            Self::Write => "WRITE",
            Self::Admin => "ADMIN",
            Self::SystemAdmin => "SYSTEM_ADMIN",
        }
    }

    /// The largest of the requested scopes, at most `allowed`; `allowed` itself if none is requested.
    pub(super) fn requested(list: Option<&str>, allowed: Self) -> Result<Self, OAuth2Error> {
        let mut largest = None;
        for name in list.unwrap_or_default().split_ascii_whitespace() {
            let scope = Self::ALL
                .into_iter()
                .find(|scope| scope.name() == name)
                .ok_or_else(|| OAuth2Error::bad("invalid_scope", "Requested scope is invalid"))?;
            largest = largest.max(Some(scope));
        }
        let scope = largest.unwrap_or(allowed);
        if scope > allowed {
            return Err(OAuth2Error::bad(
                "invalid_scope",
                "Requested scope exceeds the scope of the client",
            ));
        }
        Ok(scope)
    }
}

//! Why a request is not sent on.

use super::CredentialUnavailable;
use crate::vendor_text::{VendorQuote, VendorText};

/// A request that must not be sent on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthRefusal {
    /// The query or a form tries to choose another identity; names the parameter, never its value.
    ForeignIdentity(String),
    /// A form-encoded body, which can choose another identity, cannot be checked; the text is the reason.
    FormBody(&'static str),
    /// The query can be read in more than one way, so that it cannot be signed; the text is the reason.
    AmbiguousQuery(&'static str),
    /// No credential, or the circuit is open.
    Unavailable(CredentialUnavailable),
}

impl AuthRefusal {
    /// Its stable code: `foreign-identity`, `form-body`, `ambiguous-query`, `login-unavailable`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::ForeignIdentity(_) => "foreign-identity",
            Self::FormBody(_) => "form-body",
            Self::AmbiguousQuery(_) => "ambiguous-query",
            Self::Unavailable(_) => "login-unavailable",
        }
    }
}

/// For the customer's side.
impl std::fmt::Display for AuthRefusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unavailable(why) => f.write_str(&why.cause),
            Self::ForeignIdentity(_) | Self::FormBody(_) | Self::AmbiguousQuery(_) => {
                self.vendor_text().fmt(f)
            }
        }
    }
}

impl AuthRefusal {
    /// For the vendor's engineer. Why there is no credential stays on the customer's side.
    pub fn vendor_text(&self) -> VendorText {
        match self {
            Self::ForeignIdentity(parameter) => VendorText::of(&[
                &"the parameter ",
                &VendorQuote(parameter),
                &" chooses an identity, which is the customer's to choose here; leave it out",
            ]),
            Self::FormBody(why) => VendorText::of(&[
                &"a form-encoded body can choose an identity, which is the customer's to choose here, and this one cannot be checked: ",
                why,
            ]),
            Self::AmbiguousQuery(why) => VendorText::of(&[
                &"the query can be read in more than one way, so that a signature over it would not verify: ",
                why,
            ]),
            Self::Unavailable(_) => {
                "the customer's agent has no credential for Jira right now; nothing was sent".into()
            }
        }
    }
}

//! The token with which a vendor invites an agent: one printable line, `jtaenroll1.BODY.CHECK`, or `jtaenroll2` where the
//! bind names the slot. `BODY` is JSON in
//! unpadded base64url, `CHECK` the first eight hex digits of the SHA-256 of everything before its dot. docs/enroll.md
//! has the format.
//!
//! The input may be anything from a clipboard, so the parser is strict and bounded. It distinguishes truncated,
//! mistyped, foreign, newer and expired tokens. Errors repeat at most one wrong value, and never the secret.

use agent_base::{printable::hex, secret::Secret};
use agent_ssh::{
    address::GatewayAddress,
    bind_template::{BindTemplate, SlotRange},
    host_key::HostKeys,
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use russh::keys::{PrivateKey, ssh_key::private::Ed25519Keypair};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};
use zeroize::Zeroizing;

/// The content of a token, checked as far as possible without a configuration.
#[derive(Debug)]
pub struct EnrollmentToken {
    /// The gateways in the vendor's order, 1 to 16.
    pub gateways: Vec<GatewayAddress>,
    /// User name at the vendor's gateways.
    pub user: String,
    /// `SHA256:…` of the gateways' host keys.
    pub host_keys: Vec<String>,
    /// Lines of a known_hosts file, `@cert-authority` ones for instance. Either this or `host_keys` is not empty.
    pub known_hosts: Vec<String>,
    /// The forward that the agent requests from the gateway.
    pub forward: TokenForward,
    /// Registers the public key once. Without it, the customer sends the key to the vendor.
    pub secret: Option<OneTimeSecret>,
    /// When the token expires, in whole seconds.
    pub expires: SystemTime,
}

/// The forward that the vendor expects: its name and address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenForward {
    /// Name of the `[[forward]]` section.
    pub name: String,
    /// Where the gateway listens.
    pub bind: BindTemplate,
    /// The slot numbers of this host, if not the first ones: for a second host of the customer.
    pub slots: Option<SlotRange>,
}

impl TokenForward {
    /// The slot numbers that the agent uses with this token.
    pub fn slots(&self) -> SlotRange {
        self.slots.unwrap_or_default()
    }
}

/// 32 bytes, the seed of an Ed25519 key (RFC 8032 §5.1.5). A signature proves it, so it is never sent, and the gateway
/// stores no secret.
pub struct OneTimeSecret(Secret);

impl OneTimeSecret {
    /// Generates a new random secret.
    pub fn generate() -> Self {
        let seed: Zeroizing<[u8; SEED]> = Zeroizing::new(rand::random());
        Self(Secret::new(seed.to_vec()))
    }

    /// The key generated from this seed.
    pub fn key(&self) -> PrivateKey {
        let mut seed = Zeroizing::new([0; SEED]);
        // `of` checked the length.
        for (to, from) in seed.iter_mut().zip(self.0.expose()) {
            *to = *from;
        }
        PrivateKey::from(Ed25519Keypair::from_seed(&seed))
    }

    fn of(text: &str) -> Option<Self> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text).ok()?;
        let secret = Secret::new(bytes);
        (secret.expose().len() == SEED).then_some(Self(secret))
    }
}

impl std::fmt::Debug for OneTimeSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a secret")
    }
}

impl EnrollmentToken {
    /// Reads what was pasted, also where a mail program has wrapped or quoted it (`unwrapped`).
    ///
    /// # Errors
    /// What is wrong with it and what to do; [`expiry`](Self::check_expiry) is not looked at.
    pub fn parse(text: &str) -> Result<Self, EnrollmentTokenError> {
        let text = strip_mail_wrapping(text);
        let text = text.as_str();
        if text.is_empty() {
            return Err(EnrollmentTokenError::Empty);
        }
        if text.len() > TOKEN_MAX_LEN {
            return Err(EnrollmentTokenError::TooLong);
        }
        let rest = match text.strip_prefix(TOKEN_PREFIX) {
            Some(rest) => rest,
            None if TOKEN_PREFIX.starts_with(text) => return Err(EnrollmentTokenError::Truncated),
            None => return Err(EnrollmentTokenError::NotAToken),
        };
        let version = rest.split('.').next().unwrap_or_default();
        match version.parse::<u16>() {
            Ok(VERSION_WITHOUT_SLOTS..=VERSION) if version.len() == 1 => {}
            Ok(newer) if newer > VERSION => {
                return Err(EnrollmentTokenError::UnsupportedVersion(newer));
            }
            // Truncated within its first word.
            _ if version.is_empty() && rest.is_empty() => {
                return Err(EnrollmentTokenError::Truncated);
            }
            _ => return Err(EnrollmentTokenError::NotAToken),
        }
        let mut parts = rest.split('.').skip(1);
        let (Some(body), Some(check)) = (parts.next(), parts.next()) else {
            return Err(EnrollmentTokenError::Truncated);
        };
        if check.len() < CHECK_DIGITS {
            return Err(EnrollmentTokenError::Truncated);
        }
        let sealed = text.get(..text.len() - check.len() - 1);
        if parts.next().is_some() || sealed.map(checksum).as_deref() != Some(check) {
            return Err(EnrollmentTokenError::BadChecksum);
        }
        let json = Zeroizing::new(BASE64_URL_SAFE_NO_PAD.decode(body).map_err(|_| {
            EnrollmentTokenError::Body("its middle part is not unpadded base64url".to_owned())
        })?);
        // The full text of the error could repeat a value, so only its position is used.
        let body: TokenBody = serde_json::from_slice(&json).map_err(|error| {
            EnrollmentTokenError::Body(format!(
                "line {} column {} of its content does not match the format",
                error.line(),
                error.column()
            ))
        })?;
        body.check()
    }

    /// The text of the token.
    pub fn to_text(&self) -> Zeroizing<String> {
        let body = TokenBody {
            gateways: self.gateways.iter().map(ToString::to_string).collect(),
            user: self.user.clone(),
            host_keys: self.host_keys.clone(),
            known_hosts: self.known_hosts.clone(),
            forward: TokenBodyForward {
                name: self.forward.name.clone(),
                bind: self.forward.bind.to_string(),
                slots: self.forward.slots.map(|slots| slots.to_string()),
            },
            secret: self.secret.as_ref().map(|secret| {
                Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(secret.0.expose())).to_string()
            }),
            expires: humantime::format_rfc3339_seconds(self.expires).to_string(),
        };
        // Only strings and lists of strings, so this cannot fail.
        let json = Zeroizing::new(serde_json::to_vec(&body).unwrap_or_default());
        // A version that older agents read, unless they would misread it: `{slot}` was a path like any other.
        let version = match self.forward.bind.has_slot() || self.forward.slots.is_some() {
            true => VERSION,
            false => VERSION_WITHOUT_SLOTS,
        };
        let sealed = Zeroizing::new(format!(
            "{TOKEN_PREFIX}{version}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(&json)
        ));
        Zeroizing::new(format!("{}.{}", sealed.as_str(), checksum(&sealed)))
    }

    /// Checks that the token has not expired.
    ///
    /// # Errors
    /// [`EnrollmentTokenError::Expired`].
    pub fn check_expiry(&self, now: SystemTime) -> Result<(), EnrollmentTokenError> {
        let shown = |time| humantime::format_rfc3339_seconds(time).to_string();
        match now < self.expires {
            true => Ok(()),
            false => Err(EnrollmentTokenError::Expired {
                end: shown(self.expires),
                now: shown(now),
            }),
        }
    }

    /// Digest that identifies a token. It reveals nothing about its secret.
    pub fn digest(text: &str) -> String {
        hex(&Sha256::digest(strip_mail_wrapping(text).as_bytes()))
    }
}

/// Why a token cannot be used. None repeats it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnrollmentTokenError {
    /// The text holds no token.
    #[error("no token was given; paste the line from the vendor")]
    Empty,
    /// The text is something else, or its beginning is missing.
    #[error(
        "this is not an enrollment token, or its beginning is missing: a token begins with {TOKEN_PREFIX} and is one line; copy the whole line from the vendor"
    )]
    NotAToken,
    /// Made for a newer agent.
    #[error(
        "this token has version {0}, but this agent supports versions up to {VERSION}; install a newer jira-tunnel-agent, or ask the vendor for a token of version {VERSION}"
    )]
    UnsupportedVersion(u16),
    /// The end of the token is missing.
    #[error(
        "this token is truncated: its end is missing; copy the whole line from the vendor, which may be longer than the window"
    )]
    Truncated,
    /// The checksum does not match.
    #[error(
        "this token is damaged: its checksum does not match, so a character is wrong or missing; copy it instead of typing it"
    )]
    BadChecksum,
    /// The text is longer than any token.
    #[error(
        "this is longer than a token can be ({TOKEN_MAX_LEN} characters); copy only the vendor's line"
    )]
    TooLong,
    /// The checksum matches, but the content is invalid.
    #[error("this token is complete, but invalid: {0}; ask the vendor for a new one")]
    Body(String),
    /// The token has expired.
    #[error(
        "this token expired at {end}, and this host's clock shows {now}; ask the vendor for a new one, or set the clock (timedatectl)"
    )]
    Expired {
        /// Time in RFC 3339 format.
        end: String,
        /// Time in RFC 3339 format.
        now: String,
    },
}

/// The JSON body of a token.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBody {
    gateways: Vec<String>,
    user: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    host_keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known_hosts: Vec<String>,
    forward: TokenBodyForward,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    expires: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenBodyForward {
    name: String,
    bind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slots: Option<String>,
}

impl TokenBody {
    /// Every member is shown to root in a terminal, and later again from a file.
    fn is_printable(&self) -> Result<(), EnrollmentTokenError> {
        let printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let (name, bind) = (&self.forward.name, &self.forward.bind);
        let none = String::new();
        let slots = self.forward.slots.as_ref().unwrap_or(&none);
        let texts = [
            ("forward.slots", slots),
            ("user", &self.user),
            ("forward.name", name),
            ("forward.bind", bind),
            ("expires", &self.expires),
        ];
        let lists = [
            ("gateways", &self.gateways),
            ("host_keys", &self.host_keys),
            ("known_hosts", &self.known_hosts),
        ];
        let lists = lists.into_iter();
        let listed = lists.flat_map(|(member, list)| list.iter().map(move |text| (member, text)));
        match texts
            .into_iter()
            .chain(listed)
            .find(|(_, text)| !printable(text))
        {
            Some((member, _)) => Err(EnrollmentTokenError::Body(format!(
                "{member} has a character that is not printable ASCII"
            ))),
            None => Ok(()),
        }
    }

    fn check(self) -> Result<EnrollmentToken, EnrollmentTokenError> {
        self.is_printable()?;
        let secret = self.secret.map(Zeroizing::new);
        let wrong = |what: &str| EnrollmentTokenError::Body(what.to_owned());
        if self.gateways.is_empty() || self.gateways.len() > MAX_LIST {
            return Err(wrong("gateways must list 1 to 16 addresses"));
        }
        let gateways = self.gateways.iter().map(|text| {
            text.parse()
                .map_err(|error| EnrollmentTokenError::Body(format!("gateways: {error}")))
        });
        let gateways = gateways.collect::<Result<_, _>>()?;
        if !is_user(&self.user) {
            return Err(wrong("user is not a user name"));
        }
        if self.host_keys.len() > MAX_LIST || self.known_hosts.len() > MAX_LIST {
            return Err(wrong("there are more than 16 host_keys or known_hosts"));
        }
        let lines = self.known_hosts.join("\n");
        let file = (!lines.is_empty()).then_some((Path::new("known_hosts"), lines.as_str()));
        HostKeys::new(self.host_keys.clone(), file)
            .map_err(|error| EnrollmentTokenError::Body(error.to_string()))?;
        if !is_name(&self.forward.name) {
            return Err(wrong(
                "forward.name must be 1 to 64 letters, digits, \"-\" or \"_\"",
            ));
        }
        let bind = self.forward.bind.parse::<BindTemplate>();
        let bind =
            bind.map_err(|error| EnrollmentTokenError::Body(format!("forward.bind: {error}")))?;
        let slots = self.forward.slots.as_deref().map(str::parse::<SlotRange>);
        let slots = slots
            .transpose()
            .map_err(|error| EnrollmentTokenError::Body(format!("forward.slots: {error}")))?;
        bind.check(slots.unwrap_or_default())
            .map_err(|error| EnrollmentTokenError::Body(format!("forward.bind: {error}")))?;
        let secret = match secret {
            Some(text) => Some(
                OneTimeSecret::of(&text)
                    .ok_or_else(|| wrong("secret is not 32 bytes in unpadded base64url"))?,
            ),
            None => None,
        };
        let expires = humantime::parse_rfc3339(&self.expires)
            .ok()
            .filter(|time| *time > UNIX_EPOCH)
            .ok_or_else(|| wrong("expires is not a time like 2027-01-31T12:00:00Z"))?;
        Ok(EnrollmentToken {
            gateways,
            user: self.user,
            host_keys: self.host_keys,
            known_hosts: self.known_hosts,
            forward: TokenForward {
                name: self.forward.name,
                bind,
                slots,
            },
            secret,
            expires,
        })
    }
}

/// Removes what mail programs insert: line breaks, spaces, `>` before quoted lines, zero-width marks. A token contains
/// none of them.
fn strip_mail_wrapping(text: &str) -> Zeroizing<String> {
    // Allocated at once: growing would leave copies in memory.
    let mut token = Zeroizing::new(String::with_capacity(text.len()));
    let put_in =
        |c: &char| c.is_whitespace() || matches!(c, '>' | '\u{200b}' | '\u{feff}' | '\u{ad}');
    token.extend(text.chars().filter(|c| !put_in(c)));
    token
}

/// A user name without white space.
fn is_user(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=64).contains(&text.len()) && text.bytes().all(plain)
}

fn checksum(sealed: &str) -> String {
    let mut digits = hex(&Sha256::digest(sealed.as_bytes()));
    digits.truncate(CHECK_DIGITS);
    digits
}

/// Beginning of every token. For secret scanners: `jtaenroll[0-9]+\.[A-Za-z0-9_-]+\.[0-9a-f]{8}`.
pub const TOKEN_PREFIX: &str = "jtaenroll";
const VERSION: u16 = 2;
/// Of a token whose bind names no slot.
const VERSION_WITHOUT_SLOTS: u16 = 1;
/// 32 bits: one mistake in four billion is missed here, and most likely found in the body.
const CHECK_DIGITS: usize = 8;
/// Terminals accept lines of at most 4095 bytes; 16 gateways and a few keys need less than half.
pub const TOKEN_MAX_LEN: usize = 4000;
/// As many as there can be connections.
const MAX_LIST: usize = 16;
/// Bytes of an Ed25519 seed.
const SEED: usize = 32;

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;

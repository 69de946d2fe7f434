//! The token by which a vendor invites: one printable line, `jtaenroll1.BODY.CHECK`. `BODY` is JSON in unpadded
//! base64url, `CHECK` the first eight hex digits of the SHA-256 of all before its dot. docs/enroll.md has the format.
//!
//! What comes in may be anything that fits into a clipboard, so the reader is strict and bounded, and says apart what
//! is cut, mistyped, foreign, newer or expired. Nothing here repeats what was in the token but the one value that is
//! wrong, and never the secret.

use crate::{
    printable::hex,
    secret::Secret,
    tunnel::{BindAddress, GatewayAddress, session::HostKeys},
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

/// What the vendor has said, checked as far as it can be without a configuration.
#[derive(Debug)]
pub struct EnrollmentToken {
    /// Where the gateways are, in the vendor's order; 1 to 16.
    pub gateways: Vec<GatewayAddress>,
    /// User name at the vendor's gateways.
    pub user: String,
    /// `SHA256:…` of the gateways' host keys.
    pub host_keys: Vec<String>,
    /// Lines of a known_hosts file, `@cert-authority` ones for instance. These or `host_keys` are there.
    pub known_hosts: Vec<String>,
    /// What the agent is to ask the gateway for.
    pub forward: TokenForward,
    /// By which the public key may be registered, once. Without it the vendor gets the key by hand.
    pub secret: Option<OneTimeSecret>,
    /// When the invitation ends. Seconds matter, no more.
    pub expires: SystemTime,
}

/// The forward that the vendor expects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenForward {
    /// Name of the `[[forward]]` section.
    pub name: String,
    /// Where the gateway is to listen.
    pub bind: BindAddress,
}

/// 32 bytes that are the seed of an Ed25519 key (RFC 8032 §5.1.5), so that they are proven by a signature and never
/// sent, and the gateway need keep nothing that is secret.
pub struct OneTimeSecret(Secret);

impl OneTimeSecret {
    /// Generates a new random secret.
    pub fn generate() -> Self {
        let seed: Zeroizing<[u8; SEED]> = Zeroizing::new(rand::random());
        Self(Secret::new(seed.to_vec()))
    }

    /// The key whose seed it is.
    pub fn key(&self) -> PrivateKey {
        let mut seed = Zeroizing::new([0; SEED]);
        // `of` has seen to the length.
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
        if text.len() > MAX_LEN {
            return Err(EnrollmentTokenError::TooLong);
        }
        let rest = match text.strip_prefix(PREFIX) {
            Some(rest) => rest,
            None if PREFIX.starts_with(text) => return Err(EnrollmentTokenError::Truncated),
            None => return Err(EnrollmentTokenError::NotAToken),
        };
        let version = rest.split('.').next().unwrap_or_default();
        match version.parse::<u16>() {
            Ok(VERSION) if version == "1" => {}
            Ok(newer) if newer > VERSION => {
                return Err(EnrollmentTokenError::UnsupportedVersion(newer));
            }
            // Cut in the middle of its first word.
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
            EnrollmentTokenError::Body("its middle part is no unpadded base64url".to_owned())
        })?);
        // serde's text names a place and what was expected there, not what was found, unless that is a known word.
        let body: TokenBody = serde_json::from_slice(&json).map_err(|error| {
            EnrollmentTokenError::Body(format!(
                "line {} column {} of what is in it is not as the format says",
                error.line(),
                error.column()
            ))
        })?;
        body.check()
    }

    /// The text to hand over.
    pub fn to_text(&self) -> Zeroizing<String> {
        let body = TokenBody {
            gateways: self.gateways.iter().map(ToString::to_string).collect(),
            user: self.user.clone(),
            host_keys: self.host_keys.clone(),
            known_hosts: self.known_hosts.clone(),
            forward: TokenBodyForward {
                name: self.forward.name.clone(),
                bind: self.forward.bind.to_string(),
            },
            secret: self.secret.as_ref().map(|secret| {
                Zeroizing::new(BASE64_URL_SAFE_NO_PAD.encode(secret.0.expose())).to_string()
            }),
            expires: humantime::format_rfc3339_seconds(self.expires).to_string(),
        };
        // Texts and lists of texts: there is nothing in them that JSON could not hold.
        let json = Zeroizing::new(serde_json::to_vec(&body).unwrap_or_default());
        let sealed = Zeroizing::new(format!(
            "{PREFIX}{VERSION}.{}",
            BASE64_URL_SAFE_NO_PAD.encode(&json)
        ));
        Zeroizing::new(format!("{}.{}", sealed.as_str(), checksum(&sealed)))
    }

    /// Whether it still holds.
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

    /// By which the same token is known again. It says nothing about the secret in it.
    pub fn digest(text: &str) -> String {
        hex(&Sha256::digest(strip_mail_wrapping(text).as_bytes()))
    }
}

/// Why a token cannot be used. None repeats it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum EnrollmentTokenError {
    /// The text holds no token.
    #[error("no token was given; paste the line that the vendor sent you")]
    Empty,
    /// Something else was in the clipboard.
    #[error(
        "this is no enrolment token, or its beginning is missing: a token begins with {PREFIX}{VERSION}. and is one line; copy the whole line that the vendor sent you"
    )]
    NotAToken,
    /// Made for a later agent.
    #[error(
        "this token is of version {0}, and this agent knows version {VERSION} only; install a newer jira-tunnel-agent, or ask the vendor for a token of version {VERSION}"
    )]
    UnsupportedVersion(u16),
    /// Not copied to its end.
    #[error(
        "this token is cut: its end is missing; copy the whole line that the vendor sent you, which may be longer than the window"
    )]
    Truncated,
    /// The checksum does not fit.
    #[error(
        "this token was changed on its way: its checksum does not fit, so that a character is wrong or missing; copy it, do not type it"
    )]
    BadChecksum,
    /// Not what it could be.
    #[error(
        "this is longer than a token can be ({MAX_LEN} characters); copy the vendor's line alone"
    )]
    TooLong,
    /// Whole, and made wrongly.
    #[error("this token is whole, but it was made wrongly: {0}; ask the vendor for another one")]
    Body(String),
    /// Too late.
    #[error(
        "this token ended at {end}, and this host's clock says {now}; ask the vendor for a new one, or set the clock (timedatectl)"
    )]
    Expired {
        /// RFC 3339.
        end: String,
        /// RFC 3339.
        now: String,
    },
}

/// What is in it, as written.
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
}

impl TokenBody {
    /// Each member is shown to root in a terminal, and written into a file that is shown later.
    fn is_printable(&self) -> Result<(), EnrollmentTokenError> {
        let printable = |text: &str| text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        let (name, bind) = (&self.forward.name, &self.forward.bind);
        let texts = [
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
            return Err(wrong("gateways must name 1 to 16"));
        }
        let gateways = self.gateways.iter().map(|text| {
            text.parse()
                .map_err(|error| EnrollmentTokenError::Body(format!("gateways: {error}")))
        });
        let gateways = gateways.collect::<Result<_, _>>()?;
        if !is_user(&self.user) {
            return Err(wrong("user is no user name"));
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
        let bind = self.forward.bind.parse();
        let bind =
            bind.map_err(|error| EnrollmentTokenError::Body(format!("forward.bind: {error}")))?;
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
            .ok_or_else(|| wrong("expires is no moment like 2027-01-31T12:00:00Z"))?;
        Ok(EnrollmentToken {
            gateways,
            user: self.user,
            host_keys: self.host_keys,
            known_hosts: self.known_hosts,
            forward: TokenForward {
                name: self.forward.name,
                bind,
            },
            secret,
            expires,
        })
    }
}

/// Without what mail programs put in: line breaks, spaces, `>` before quoted lines, marks of no width. None of it is
/// ever in a token.
fn strip_mail_wrapping(text: &str) -> Zeroizing<String> {
    // Room for everything at once: growing would leave copies behind.
    let mut token = Zeroizing::new(String::with_capacity(text.len()));
    let put_in =
        |c: &char| c.is_whitespace() || matches!(c, '>' | '\u{200b}' | '\u{feff}' | '\u{ad}');
    token.extend(text.chars().filter(|c| !put_in(c)));
    token
}

/// A name without white space.
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

/// What a scanner for secrets looks for: `jtaenroll[0-9]+\.[A-Za-z0-9_-]+\.[0-9a-f]{8}`.
pub const PREFIX: &str = "jtaenroll";
const VERSION: u16 = 1;
/// 32 bits: one mistake in four thousand million goes unnoticed here, and then most likely shows in the body.
const CHECK_DIGITS: usize = 8;
/// A terminal takes lines of at most 4095 bytes; 16 gateways and a few keys need less than half.
pub const MAX_LEN: usize = 4000;
/// As many connections as there can be.
const MAX_LIST: usize = 16;
/// Bytes of an Ed25519 seed.
const SEED: usize = 32;

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;

//! A record as the JSON of its file. Secrets pass through buffers that are zeroed; the type with their plain text exists
//! only here.

use super::{TokenOwner, TokenRecord, TokenSet};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::SystemTime};
use zeroize::{Zeroize, Zeroizing};

/// Serializes the record to the bytes of the token file.
pub(super) fn write(record: &TokenRecord) -> Result<Zeroizing<Vec<u8>>, NotText> {
    let text = |secret: &Option<Secret>| match secret {
        None => Ok(None),
        Some(secret) => match std::str::from_utf8(secret.expose()) {
            Ok(text) => Ok(Some(PlainSecret(text.to_owned()))),
            Err(_) => Err(NotText),
        },
    };
    let tokens = match record.tokens.as_deref() {
        None => None,
        Some(tokens) => Some(PlainTokens {
            access: text(&tokens.access)?,
            access_secret: text(&tokens.access_secret)?,
            access_expires: tokens.access_expires.map(Rfc3339Time),
            refresh: text(&tokens.refresh)?,
            refresh_expires: tokens.refresh_expires.map(Rfc3339Time),
            obtained: Rfc3339Time(tokens.obtained),
            user: tokens.user.clone(),
            scope: tokens.scope.clone(),
        }),
    };
    let file = TokenFile {
        version: VERSION,
        mode: record.owner.mode.clone(),
        client: record.owner.client.clone(),
        issuer: record.owner.issuer.clone(),
        pending: record.pending.map(Rfc3339Time),
        ended: record.ended.clone(),
        seed: record.seed.clone(),
        tokens,
    };
    // Room for everything at once: growing would leave unzeroed copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_LEN));
    // Texts and numbers into memory: nothing in it can fail.
    serde_json::to_writer_pretty(&mut *bytes, &file).map_err(|_| NotText)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Parses the file's bytes; `None` if this version does not understand them.
pub(super) fn read(bytes: &[u8]) -> Option<TokenRecord> {
    let file: TokenFile = serde_json::from_slice(bytes).ok()?;
    if file.version != VERSION {
        return None;
    }
    let tokens = file.tokens.map(|open| {
        Arc::new(TokenSet {
            access: open.access.map(PlainSecret::close),
            access_secret: open.access_secret.map(PlainSecret::close),
            access_expires: open.access_expires.map(|m| m.0),
            refresh: open.refresh.map(PlainSecret::close),
            refresh_expires: open.refresh_expires.map(|m| m.0),
            obtained: open.obtained.0,
            user: open.user,
            scope: open.scope,
        })
    });
    Some(TokenRecord {
        owner: TokenOwner {
            mode: file.mode,
            client: file.client,
            issuer: file.issuer,
        },
        tokens,
        seed: file.seed,
        pending: file.pending.map(|m| m.0),
        ended: file.ended,
    })
}

/// A token that is no text cannot be written as JSON; no server issues one.
#[derive(Debug)]
pub(super) struct NotText;

#[derive(Serialize, Deserialize)]
struct TokenFile {
    version: u32,
    mode: String,
    client: String,
    issuer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Rfc3339Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<PlainTokens>,
}

#[derive(Serialize, Deserialize)]
struct PlainTokens {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<PlainSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_secret: Option<PlainSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_expires: Option<Rfc3339Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<PlainSecret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_expires: Option<Rfc3339Time>,
    obtained: Rfc3339Time,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
}

/// A secret on its way to or from the file.
#[derive(Serialize, Deserialize)]
struct PlainSecret(String);

impl PlainSecret {
    fn close(mut self) -> Secret {
        Secret::new(std::mem::take(&mut self.0).into_bytes())
    }
}

impl Drop for PlainSecret {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A time as an administrator can read it, to the second.
struct Rfc3339Time(SystemTime);

impl Serialize for Rfc3339Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_seconds(self.0))
    }
}

impl<'de> Deserialize<'de> for Rfc3339Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// Version of the file's format.
const VERSION: u32 = 1;
/// Bytes. As much as is read of a secret's file.
const MAX_LEN: usize = 64 << 10;

//! A record as the JSON of its file. Secrets pass through buffers that are zeroed; the type that has
//! them in the open lives only here.

use super::{Owner, Record, Tokens};
use crate::secret::Secret;
use serde::{Deserialize, Serialize};
use std::{sync::Arc, time::SystemTime};
use zeroize::{Zeroize, Zeroizing};

/// The file's bytes.
pub(super) fn write(record: &Record) -> Result<Zeroizing<Vec<u8>>, NotText> {
    let text = |secret: &Option<Secret>| match secret {
        None => Ok(None),
        Some(secret) => match std::str::from_utf8(secret.expose()) {
            Ok(text) => Ok(Some(Open(text.to_owned()))),
            Err(_) => Err(NotText),
        },
    };
    let tokens = match record.tokens.as_deref() {
        None => None,
        Some(tokens) => Some(OpenTokens {
            access: text(&tokens.access)?,
            access_secret: text(&tokens.access_secret)?,
            access_expires: tokens.access_expires.map(Moment),
            refresh: text(&tokens.refresh)?,
            refresh_expires: tokens.refresh_expires.map(Moment),
            obtained: Moment(tokens.obtained),
            user: tokens.user.clone(),
        }),
    };
    let file = File {
        version: VERSION,
        mode: record.owner.mode.clone(),
        client: record.owner.client.clone(),
        issuer: record.owner.issuer.clone(),
        pending: record.pending.map(Moment),
        ended: record.ended.clone(),
        seed: record.seed.clone(),
        tokens,
    };
    // Room for everything at once: growing would leave unzeroed copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST));
    // Texts and numbers into memory: nothing in it can fail.
    serde_json::to_writer_pretty(&mut *bytes, &file).map_err(|_| NotText)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// What the file's bytes say; `None` where they say nothing that this version understands.
pub(super) fn read(bytes: &[u8]) -> Option<Record> {
    let file: File = serde_json::from_slice(bytes).ok()?;
    if file.version != VERSION {
        return None;
    }
    let tokens = file.tokens.map(|open| {
        Arc::new(Tokens {
            access: open.access.map(Open::close),
            access_secret: open.access_secret.map(Open::close),
            access_expires: open.access_expires.map(|m| m.0),
            refresh: open.refresh.map(Open::close),
            refresh_expires: open.refresh_expires.map(|m| m.0),
            obtained: open.obtained.0,
            user: open.user,
        })
    });
    Some(Record {
        owner: Owner {
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
struct File {
    version: u32,
    mode: String,
    client: String,
    issuer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tokens: Option<OpenTokens>,
}

#[derive(Serialize, Deserialize)]
struct OpenTokens {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access: Option<Open>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_secret: Option<Open>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    access_expires: Option<Moment>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh: Option<Open>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    refresh_expires: Option<Moment>,
    obtained: Moment,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user: Option<String>,
}

/// A secret on its way to or from the file.
#[derive(Serialize, Deserialize)]
struct Open(String);

impl Open {
    fn close(mut self) -> Secret {
        Secret::new(std::mem::take(&mut self.0).into_bytes())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// A time as an administrator can read it, to the second.
struct Moment(SystemTime);

impl Serialize for Moment {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_seconds(self.0))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_rfc3339(&text)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

/// Of the file's form.
const VERSION: u32 = 1;
/// Bytes. As much as is read of a secret's file.
const MOST: usize = 64 << 10;

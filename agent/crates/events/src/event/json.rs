//! How parts of a head are written in JSON.

use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::time::{Duration, SystemTime};

fn to_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    // A clock before 1970 is wrong anyway.
    since.map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}

fn from_millis<E: Error>(millis: u64) -> Result<SystemTime, E> {
    let since = Duration::from_millis(millis);
    let time = SystemTime::UNIX_EPOCH.checked_add(since);
    time.ok_or_else(|| E::custom("not a time of this system"))
}

/// A time to the millisecond: what is read back equals what was written.
pub(crate) fn whole_millis(time: SystemTime) -> SystemTime {
    let since = Duration::from_millis(to_millis(time));
    SystemTime::UNIX_EPOCH.checked_add(since).unwrap_or(time)
}

/// Milliseconds since 1970.
pub(crate) mod unix_millis {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(to_millis(*time))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
        from_millis(u64::deserialize(from)?)
    }
}

/// Milliseconds since 1970, or null.
pub(crate) mod optional_unix_millis {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        time: &Option<SystemTime>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_some(&to_millis(*time)),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<SystemTime>, D::Error> {
        Option::<u64>::deserialize(from)?
            .map(from_millis)
            .transpose()
    }
}

/// Header fields as pairs of texts. Each byte of a value is one character of the same number (ISO 8859-1): readable, and a
/// quarter of a list of numbers.
pub(crate) mod header_fields {
    use super::*;

    pub(crate) fn serialize<S: Serializer>(
        fields: &[(String, Vec<u8>)],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        let text = |value: &[u8]| {
            value
                .iter()
                .map(|byte| char::from(*byte))
                .collect::<String>()
        };
        to.collect_seq(fields.iter().map(|(name, value)| (name, text(value))))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<(String, Vec<u8>)>, D::Error> {
        let bytes = |value: String| {
            value
                .chars()
                .map(u8::try_from)
                .collect::<Result<Vec<u8>, _>>()
        };
        let fields = Vec::<(String, String)>::deserialize(from)?;
        let fields = fields.into_iter().map(|(name, value)| {
            let value =
                bytes(value).map_err(|_| D::Error::custom("a header value is not bytes"))?;
            Ok((name, value))
        });
        fields.collect()
    }
}

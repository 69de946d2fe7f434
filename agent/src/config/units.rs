//! Values with a unit: durations and sizes, as written in the file and shown to users.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr, time::Duration};

/// A duration, written like `30s`, `500ms` or `1h 30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HumanDuration(pub Duration);

/// A number of bytes, written as a number or like `64KiB`, `1MiB`, `8GiB` (powers of 1024; `kB`, `MB`
/// and `GB` are powers of 1000).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HumanSize(pub u64);

impl HumanSize {
    /// As a length in memory. Saturates; values within a checked range never do.
    pub(super) fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The text is not a duration.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("not a duration: write a number with its unit, for example \"30s\", \"500ms\" or \"5m\"")]
pub(super) struct DurationError;

/// The text is not a size.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "not a size: write a number of bytes, or a number with its unit, for example \"64KiB\" or \"1GiB\""
)]
pub(super) struct SizeParseError;

impl FromStr for HumanDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, DurationError> {
        humantime::parse_duration(text)
            .map(Self)
            .map_err(|_| DurationError)
    }
}

impl FromStr for HumanSize {
    type Err = SizeParseError;

    fn from_str(text: &str) -> Result<Self, SizeParseError> {
        bytesize::ByteSize::from_str(text)
            .map(|size| Self(size.as_u64()))
            .map_err(|_| SizeParseError)
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = UNITS
            .iter()
            .find(|(unit, _)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((unit, name)) => write!(f, "{}{name}", self.0 / unit),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for HumanSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A bare number is kept as a number; as text both are the same.
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for HumanSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

const UNITS: [(u64, &str); 3] = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!("30s".parse(), Ok(HumanDuration(Duration::from_secs(30))));
        assert_eq!("1m 30s".parse(), Ok(HumanDuration(Duration::from_secs(90))));
        for wrong in ["30", "", "-1s", "soon", "1 parsec"] {
            assert_eq!(
                wrong.parse::<HumanDuration>(),
                Err(DurationError),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_size_is_bytes_unless_it_names_a_unit() {
        for (text, bytes) in [
            ("4096", 4096),
            ("64KiB", 65536),
            ("1 MiB", 1 << 20),
            ("1MB", 1_000_000),
        ] {
            assert_eq!(text.parse(), Ok(HumanSize(bytes)), "{text}");
        }
        for wrong in ["", "-1", "many", "1 parsec"] {
            assert_eq!(wrong.parse::<HumanSize>(), Err(SizeParseError), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_written_back(bytes in 0u64..1 << 50, millis in 0u64..1 << 40) {
            prop_assert_eq!(HumanSize(bytes).to_string().parse(), Ok(HumanSize(bytes)));
            let span = HumanDuration(Duration::from_millis(millis));
            prop_assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}

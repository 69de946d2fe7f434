//! Times in OpenSSH certificates (PROTOCOL.certkeys): seconds since 1970, the largest number for "forever".

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Seconds since 1970 as UTC; OpenSSH writes "forever" as the largest number.
pub fn date(seconds: u64) -> String {
    instant(seconds).map_or_else(
        || "forever".to_owned(),
        |t| humantime::format_rfc3339_seconds(t).to_string(),
    )
}

/// `None` for what OpenSSH writes as "forever".
pub fn instant(seconds: u64) -> Option<SystemTime> {
    UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .filter(|_| seconds < YEAR_9999)
}

/// 9999-12-31, the last date RFC 3339 can write.
const YEAR_9999: u64 = 253_402_300_799;

//! Times as people and Jira write them.

use std::time::SystemTime;
use time::{
    Date, OffsetDateTime, Time,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

/// A day like `2027-01-31`: its beginning in UTC, so that no warning is late.
pub fn day(text: &str) -> Option<SystemTime> {
    let date = Date::parse(text, DAY).ok()?;
    representable(date.with_time(Time::MIDNIGHT).assume_utc())
}

/// A moment as Jira's REST API writes it: `2027-01-31T10:16:49.337+0000`; RFC 3339 is taken as well.
pub fn jira(text: &str) -> Option<SystemTime> {
    let moment =
        OffsetDateTime::parse(text, JIRA).or_else(|_| OffsetDateTime::parse(text, &Rfc3339));
    representable(moment.ok()?)
}

/// What can be written down again: from 1970 to the year 9999.
fn representable(moment: OffsetDateTime) -> Option<SystemTime> {
    let known = 0..END_OF_9999;
    known
        .contains(&moment.unix_timestamp())
        .then(|| moment.into())
}

/// Seconds since 1970.
const END_OF_9999: i64 = 253_402_300_800;

const DAY: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const JIRA: &[BorrowedFormatItem<'_>] = format_description!(
    "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond][offset_hour sign:mandatory][offset_minute]"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jiras_form_and_rfc_3339_mean_the_same() {
        let expected = humantime::parse_rfc3339("2027-01-31T10:16:49.337Z").ok();
        for text in [
            "2027-01-31T10:16:49.337+0000",
            "2027-01-31T11:16:49.337+0100",
            "2027-01-31T10:16:49.337Z",
            "2027-01-31T11:16:49.337+01:00",
        ] {
            assert_eq!(jira(text), expected, "{text}");
        }
        for wrong in [
            "soon",
            "1969-12-31T23:59:59.999+0000",
            "9999-12-31T23:59:59.000-0100",
        ] {
            assert_eq!(jira(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_day_is_its_beginning() {
        let expected = humantime::parse_rfc3339("2027-01-31T00:00:00Z").ok();
        assert_eq!(day("2027-01-31"), expected);
        for last in ["1970-01-01", "9999-12-31"] {
            let moment = day(last).unwrap_or_else(SystemTime::now);
            let written = humantime::format_rfc3339_seconds(moment).to_string();
            assert!(written.starts_with(last), "{written}");
        }
        for wrong in [
            "2027-02-30",
            "31.01.2027",
            "2027-1-31",
            "",
            "1969-12-31",
            "0001-01-01",
        ] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }
}

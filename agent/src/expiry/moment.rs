//! Moments as people and Jira write them.

use std::time::SystemTime;
use time::{
    Date, OffsetDateTime, Time,
    format_description::{BorrowedFormatItem, well_known::Rfc3339},
    macros::format_description,
};

/// A day like `2027-01-31`: its beginning in UTC, so that nobody is told too late.
pub fn day(text: &str) -> Option<SystemTime> {
    let date = Date::parse(text, DAY).ok()?;
    Some(date.with_time(Time::MIDNIGHT).assume_utc().into())
}

/// A moment as Jira's REST API writes it: `2027-01-31T10:16:49.337+0000`; RFC 3339 is taken as well.
pub fn jira(text: &str) -> Option<SystemTime> {
    let moment =
        OffsetDateTime::parse(text, JIRA).or_else(|_| OffsetDateTime::parse(text, &Rfc3339));
    moment.ok().map(SystemTime::from)
}

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
        assert_eq!(jira("soon"), None);
    }

    #[test]
    fn a_day_is_its_beginning() {
        let expected = humantime::parse_rfc3339("2027-01-31T00:00:00Z").ok();
        assert_eq!(day("2027-01-31"), expected);
        for wrong in ["2027-02-30", "31.01.2027", "2027-1-31", ""] {
            assert_eq!(day(wrong), None, "{wrong}");
        }
    }
}

//! Dates of issues, and dates in queries.

use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{Date, Duration, OffsetDateTime, PrimitiveDateTime, Time};

use crate::jira::model::Issue;
use crate::jira::model::fields::FieldDefinition;

/// The value of a date field of an issue.
pub(super) fn date_value(field: &FieldDefinition, issue: &Issue) -> Option<OffsetDateTime> {
    match field.id {
        "created" => Some(issue.created),
        "updated" => Some(issue.updated),
        "resolutiondate" => issue.resolved,
        "duedate" => parse_date(issue.text("duedate")),
        _ => None,
    }
}

/// Parses a date, a date and time, a period such as `-7d`, or a function without arguments.
pub(super) fn parse_date(text: &str) -> Option<OffsetDateTime> {
    let now = OffsetDateTime::now_utc();
    match text {
        "now" => return Some(now),
        "startofday" => return Some(now.replace_time(Time::MIDNIGHT)),
        "endofday" => return Some(now.replace_time(Time::MIDNIGHT) + Duration::days(1)),
        _ => {}
    }
    let dashed = text.replace('/', "-");
    if let Ok(date) = Date::parse(&dashed, DATE) {
        return Some(date.midnight().assume_utc());
    }
    if let Ok(date_time) = PrimitiveDateTime::parse(&dashed, DATE_TIME) {
        return Some(date_time.assume_utc());
    }
    let (sign, period) = match text.strip_prefix('-') {
        Some(period) => (-1, period),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut minutes: i64 = 0;
    for part in period.split_whitespace() {
        let unit = part.chars().last()?;
        let count: i64 = part[..part.len() - unit.len_utf8()].parse().ok()?;
        let each = match unit {
            'w' => 7 * 24 * 60,
            'd' => 24 * 60,
            'h' => 60,
            'm' => 1,
            _ => return None,
        };
        minutes = minutes.checked_add(count.checked_mul(each)?)?;
    }
    if period.trim().is_empty() || minutes.abs() > MAX_PERIOD_MINUTES {
        return None;
    }
    now.checked_add(Duration::minutes(sign * minutes))
}

/// A thousand years.
const MAX_PERIOD_MINUTES: i64 = 1000 * 366 * 24 * 60;
const DATE: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]");
const DATE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day] [hour]:[minute]");

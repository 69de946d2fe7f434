//! Events as text. What an event says about itself comes from another host: the texts must be printable.

use crate::{
    control::{EventList, EventQuery, EventRow, EventRowState, OutletEvents},
    status::{ColorMode, bytes, count, duration, wrapped},
};
use std::{fmt::Write, time::SystemTime};

/// The list that `agent events` prints.
pub(super) fn list(
    list: &EventList,
    query: &EventQuery,
    now: SystemTime,
    color: ColorMode,
    width: Option<usize>,
) -> String {
    let mut page = EventPage {
        text: String::new(),
        width,
    };
    if list.outlets.is_empty() {
        page.line("no outlet stores events; see mode = \"store\" of [[outlet]]");
    }
    for (index, outlet) in list.outlets.iter().enumerate() {
        if index > 0 {
            page.line("");
        }
        page.line(&format!("outlet {}: {}", outlet.outlet, totals(outlet)));
        for event in &outlet.events {
            page.event(event, now, color);
        }
        if let Some(last) = outlet.events.last().filter(|_| outlet.more) {
            page.line(&more(outlet, query, &last.id));
        }
    }
    page.text
}

/// What `agent events show` prints.
pub(super) fn one(list: &EventList, now: SystemTime, width: Option<usize>) -> String {
    let mut page = EventPage {
        text: String::new(),
        width,
    };
    let events = list
        .outlets
        .iter()
        .flat_map(|outlet| outlet.events.iter().map(move |event| (outlet, event)));
    for (outlet, event) in events {
        page.line(&event.id);
        let state = match event.state {
            EventRowState::Queued => "queued",
            EventRowState::Delivering => "being delivered",
            EventRowState::Waiting => "waiting for its next attempt",
            EventRowState::Dead => "dead letter: only agent events retry delivers it",
        };
        let received = format!("{}{}", event.received, ago(event, now));
        let body = format!("{}, not shown", bytes(event.body_bytes));
        let attempts = format!("{} failed", event.attempts);
        let rows: [(&str, Option<&str>); 12] = [
            ("outlet", Some(&outlet.outlet)),
            ("state", Some(state)),
            ("received", Some(&received)),
            ("event", event.event_type.as_deref()),
            ("issue", event.issue_key.as_deref()),
            (
                "in order of",
                Some(&*event.lane).filter(|lane| !lane.is_empty()),
            ),
            ("sender", Some(&event.source)),
            ("body", Some(&body)),
            ("attempts", Some(&attempts)),
            ("last error", event.last_error.as_deref()),
            ("next", event.next_attempt.as_deref()),
            ("given up", event.given_up.as_deref()),
        ];
        for (name, value) in rows {
            if let Some(value) = value {
                page.line(&format!("  {name:<11}  {value}"));
            }
        }
    }
    page.text
}

struct EventPage {
    text: String,
    width: Option<usize>,
}

impl EventPage {
    fn event(&mut self, event: &EventRow, now: SystemTime, color: ColorMode) {
        let state = match event.state {
            EventRowState::Queued => "queued    ".to_owned(),
            EventRowState::Delivering => "delivering".to_owned(),
            EventRowState::Waiting => color.yellow("waiting   "),
            EventRowState::Dead => color.red("DEAD      "),
        };
        let about = [&event.issue_key, &event.event_type];
        let about: Vec<_> = about.into_iter().flatten().map(String::as_str).collect();
        self.line(format!("  {}  {state}  {}", event.id, about.join("  ")).trim_end());
        self.line(&format!(
            "      received {}{}, {} from {}",
            event.received,
            ago(event, now),
            bytes(event.body_bytes),
            event.source
        ));
        if event.attempts == 0 && event.last_error.is_none() {
            return;
        }
        let mut attempts = count(event.attempts.into(), "failed attempt");
        if let Some(next) = &event.next_attempt {
            attempts += &format!(", the next one at {next}");
        }
        if let Some(end) = &event.given_up {
            attempts += &format!(", given up at {end}");
        }
        if let Some(why) = &event.last_error {
            attempts += &format!("; last error: {why}");
        }
        self.line(&format!("      {attempts}"));
    }

    fn line(&mut self, text: &str) {
        // Writing to a string cannot fail.
        let _ = match self.width {
            Some(width) => writeln!(self.text, "{}", wrapped(text, width)),
            None => writeln!(self.text, "{text}"),
        };
    }
}

/// How many events an outlet has, whether they are listed or not.
fn totals(outlet: &OutletEvents) -> String {
    let waiting = match outlet.waiting {
        0 => String::from("no event waits"),
        1 => String::from("1 event waits"),
        many => format!("{many} events wait"),
    };
    let dead = match outlet.dead_letters {
        0 => String::from("no dead letter"),
        many => count(many, "dead letter"),
    };
    format!("{waiting}, {dead}")
}

/// How to see the rest.
fn more(outlet: &OutletEvents, query: &EventQuery, last: &str) -> String {
    let all = match query.dead {
        true => outlet.dead_letters,
        false => outlet.waiting + outlet.dead_letters,
    };
    let number = match query.after {
        None => format!(
            "{} more",
            all.saturating_sub(outlet.events.len() as u64).max(1)
        ),
        // How many precede this part of the list is not known.
        Some(_) => String::from("more"),
    };
    let dead = if query.dead { " --dead" } else { "" };
    format!(
        "  {number}: agent events --outlet {}{dead} --after {last}",
        outlet.outlet
    )
}

/// `, 3 h 5 min ago`; nothing if the clock was set back since.
fn ago(event: &EventRow, now: SystemTime) -> String {
    let received = humantime::parse_rfc3339(&event.received).ok();
    let age = received.and_then(|received| now.duration_since(received).ok());
    age.map(|age| format!(", {} ago", duration(age.as_secs_f64())))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ID: &str = "msg_0123456789abcdef0123456789abcdef";

    fn row(state: EventRowState) -> EventRow {
        EventRow {
            id: ID.into(),
            state,
            received: "2026-11-30T17:00:00Z".into(),
            lane: "issue:10001".into(),
            event_type: Some("jira:issue_updated".into()),
            issue_key: Some("SEC-12".into()),
            source: "10.0.0.5".into(),
            body_bytes: 2150,
            attempts: 0,
            last_error: None,
            next_attempt: None,
            given_up: None,
        }
    }

    fn of(events: Vec<EventRow>, waiting: u64, dead_letters: u64, more: bool) -> EventList {
        EventList {
            version: 1,
            outlets: vec![OutletEvents {
                outlet: "events".into(),
                waiting,
                dead_letters,
                events,
                more,
            }],
        }
    }

    fn now() -> SystemTime {
        humantime::parse_rfc3339("2026-11-30T20:05:00Z").unwrap()
    }

    fn shown(of: &EventList, query: &EventQuery, width: Option<usize>) -> String {
        list(of, query, now(), ColorMode::No, width)
    }

    #[test]
    fn a_list_fits_into_80_columns_and_names_the_rest() {
        let dead = EventRow {
            attempts: 11,
            last_error: Some("the vendor's host answers HTTP 503".into()),
            given_up: Some("2026-11-30T19:00:00Z".into()),
            ..row(EventRowState::Dead)
        };
        let waiting = EventRow {
            attempts: 1,
            last_error: Some("the vendor's host answers HTTP 500".into()),
            next_attempt: Some("2026-11-30T20:06:00Z".into()),
            issue_key: None,
            ..row(EventRowState::Waiting)
        };
        let events = vec![row(EventRowState::Queued), waiting, dead];
        let text = shown(&of(events, 2, 3, true), &EventQuery::default(), Some(80));
        assert_eq!(
            text,
            format!(
                "outlet events: 2 events wait, 3 dead letters\n\
                 \x20 {ID}  queued      SEC-12  jira:issue_updated\n\
                 \x20     received 2026-11-30T17:00:00Z, 3 h 5 min ago, 2.1 KiB from 10.0.0.5\n\
                 \x20 {ID}  waiting     jira:issue_updated\n\
                 \x20     received 2026-11-30T17:00:00Z, 3 h 5 min ago, 2.1 KiB from 10.0.0.5\n\
                 \x20     1 failed attempt, the next one at 2026-11-30T20:06:00Z; last error: the\n\
                 \x20       vendor's host answers HTTP 500\n\
                 \x20 {ID}  DEAD        SEC-12  jira:issue_updated\n\
                 \x20     received 2026-11-30T17:00:00Z, 3 h 5 min ago, 2.1 KiB from 10.0.0.5\n\
                 \x20     11 failed attempts, given up at 2026-11-30T19:00:00Z; last error: the\n\
                 \x20       vendor's host answers HTTP 503\n\
                 \x20 2 more: agent events --outlet events --after\n\
                 \x20   {ID}\n"
            )
        );
        let part = EventQuery {
            after: Some(ID.into()),
            dead: true,
            ..EventQuery::default()
        };
        let text = shown(&of(vec![row(EventRowState::Dead)], 2, 3, true), &part, None);
        assert!(
            text.ends_with(&format!(
                "  more: agent events --outlet events --dead --after {ID}\n"
            )),
            "{text}"
        );
    }

    #[test]
    fn nothing_is_said_in_words() {
        let none = EventList {
            version: 1,
            outlets: Vec::new(),
        };
        let text = shown(&none, &EventQuery::default(), None);
        assert!(text.starts_with("no outlet stores events"), "{text}");
        let text = shown(&of(Vec::new(), 0, 0, false), &EventQuery::default(), None);
        assert_eq!(text, "outlet events: no event waits, no dead letter\n");
    }

    #[test]
    fn one_event_is_shown_with_what_is_known() {
        let event = EventRow {
            lane: String::new(),
            ..row(EventRowState::Delivering)
        };
        let text = one(&of(vec![event], 1, 0, false), now(), None);
        assert_eq!(
            text,
            format!(
                "{ID}\n\
                 \x20 outlet       events\n\
                 \x20 state        being delivered\n\
                 \x20 received     2026-11-30T17:00:00Z, 3 h 5 min ago\n\
                 \x20 event        jira:issue_updated\n\
                 \x20 issue        SEC-12\n\
                 \x20 sender       10.0.0.5\n\
                 \x20 body         2.1 KiB, not shown\n\
                 \x20 attempts     0 failed\n"
            )
        );
        // A clock that was set back.
        let before = humantime::parse_rfc3339("2026-11-30T16:00:00Z").unwrap();
        let text = one(
            &of(vec![row(EventRowState::Dead)], 0, 1, false),
            before,
            None,
        );
        assert!(
            text.contains("received     2026-11-30T17:00:00Z\n"),
            "{text}"
        );
    }
}

//! What `agent events` does with the queues of the outlets.

use super::outlet_table::{ActiveOutlet, OutletTable};
use crate::{
    control::{
        EVENT_LIST_VERSION, EventList, EventOrder, EventOrderResult, EventQuery, EventRow,
        EventRowState, MAX_LISTED, OutletEvents,
    },
    http::{EventEnd, EventEnding},
    printable::printable,
    upstream::Delivery,
};
use agent_events::{
    EventId, EventQueue, EventSelection, EventState, EventSummary, ListFilter, QueueError,
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::time::Instant;

/// The events that `query` selects, without their bodies.
pub(super) fn list(table: &OutletTable, query: &EventQuery) -> Result<EventList, String> {
    let queues = queues(table, query.outlet.as_deref())?;
    let clock = Clock::now();
    if query.after.is_some() && query.outlet.is_none() {
        return Err("a list that begins behind an event is that of one outlet".to_owned());
    }
    if let Some(text) = &query.id {
        let id = event_id(text)?;
        let mut found = queues
            .iter()
            .filter_map(|(outlet, queue)| Some((outlet, queue, queue.find(id)?)));
        let Some((outlet, queue, event)) = found.next() else {
            return Err(not_here(text));
        };
        let events = vec![row(&event, clock)];
        return Ok(document(vec![section(outlet, queue, events, false)]));
    }
    let filter = match query.dead {
        true => ListFilter::Dead,
        false => ListFilter::All,
    };
    let after = query.after.as_deref().map(event_id).transpose()?;
    let mut room = query.limit.min(MAX_LISTED);
    let mut outlets = Vec::new();
    for (outlet, queue) in &queues {
        let events = match room {
            0 => Vec::new(),
            room => queue.list(filter, after, room),
        };
        room -= events.len().min(room);
        let last = events.last().map(|event| event.id).or(after);
        let more = !queue.list(filter, last, 1).is_empty();
        let events = events.iter().map(|event| row(event, clock)).collect();
        outlets.push(section(outlet, queue, events, more));
    }
    Ok(document(outlets))
}

/// Has events tried again now.
pub(super) async fn retry(
    table: &OutletTable,
    order: &EventOrder,
    by_uid: Option<u32>,
) -> Result<EventOrderResult, String> {
    let queues = queues(table, order.outlet.as_deref())?;
    let mut result = EventOrderResult { events: 0, left: 0 };
    let Some(text) = &order.id else {
        for (outlet, queue) in &queues {
            let retried = queue.retry(EventSelection::AllDead).await;
            let retried = retried.map_err(|error| failed(outlet, &error))? as u64;
            result.events += retried;
            result.left += queue.figures().dead_events as u64;
            if retried > 0 {
                let outlet = &*outlet.config.settings.name;
                tracing::warn!(outlet, retried, by_uid, "dead letters are tried again");
            }
        }
        return Ok(result);
    };
    let (outlet, queue, event) = holder(&queues, text)?;
    let retried = queue.retry(EventSelection::Id(event.id)).await;
    result.events = retried.map_err(|error| failed(outlet, &error))? as u64;
    if result.events == 0 {
        return Err(format!(
            "{text} cannot be tried now: it is being delivered, or the queue has no room for it"
        ));
    }
    let outlet = &*outlet.config.settings.name;
    tracing::warn!(outlet, event_id = text, by_uid, "an event is tried again");
    Ok(result)
}

/// Deletes events, and records each.
pub(super) async fn drop_events(
    table: &OutletTable,
    order: &EventOrder,
    by_uid: Option<u32>,
) -> Result<EventOrderResult, String> {
    let queues = queues(table, order.outlet.as_deref())?;
    let mut result = EventOrderResult { events: 0, left: 0 };
    let Some(text) = &order.id else {
        for (outlet, queue) in &queues {
            let dropped = queue.drop_events(EventSelection::AllDead).await;
            let dropped = dropped.map_err(|error| failed(outlet, &error))?;
            result.events += dropped.len() as u64;
            result.left += queue.figures().dead_events as u64;
            record_dropped(outlet, &dropped, by_uid).await;
            if !dropped.is_empty() {
                let (outlet, dropped) = (&*outlet.config.settings.name, dropped.len());
                tracing::warn!(outlet, dropped, by_uid, "dead letters were dropped");
            }
        }
        return Ok(result);
    };
    let (outlet, queue, event) = holder(&queues, text)?;
    let dropped = queue.drop_events(EventSelection::Id(event.id)).await;
    let dropped = dropped.map_err(|error| failed(outlet, &error))?;
    result.events = dropped.len() as u64;
    if dropped.is_empty() {
        return Err(format!(
            "{text} was not dropped: it is being delivered right now"
        ));
    }
    record_dropped(outlet, &dropped, by_uid).await;
    let outlet = &*outlet.config.settings.name;
    tracing::warn!(outlet, event_id = text, by_uid, "an event was dropped");
    Ok(result)
}

/// One audit record each.
async fn record_dropped(outlet: &ActiveOutlet, dropped: &[EventSummary], by_uid: Option<u32>) {
    let Some(store) = &outlet.store else {
        return;
    };
    let who = by_uid.map_or_else(String::new, |uid| format!(" (uid {uid})"));
    for (index, event) in dropped.iter().enumerate() {
        if index > 0 && index % AUDIT_BURST == 0 {
            // The queue of the audit loses what it has no room for.
            tokio::time::sleep(AUDIT_PAUSE).await;
        }
        let end = EventEnd {
            id: event.id.as_str(),
            request: None,
            source: &event.source,
            received_at: event.received_at,
            body_bytes: event.body_bytes,
            ending: EventEnding::Dropped,
            attempts: event.attempts,
            status: None,
            // Of a former process nothing is known.
            delivery: Delivery::MaybeSent,
            cause: Some(format!("an administrator dropped it{who}")),
        };
        store.losses.audit().record(&end, None);
    }
}

type OpenQueue = (Arc<ActiveOutlet>, EventQueue);

/// The queue of one outlet, or of each that stores.
fn queues(table: &OutletTable, outlet: Option<&str>) -> Result<Vec<OpenQueue>, String> {
    let all = table.all();
    let Some(name) = outlet else {
        let open = all.into_iter().filter_map(|active| {
            let queue = active.queue()?;
            Some((active, queue))
        });
        return Ok(open.collect());
    };
    let storing = all.iter().filter(|active| active.store.is_some());
    let found = storing
        .clone()
        .find(|active| *active.config.settings.name == *name);
    let Some(found) = found else {
        let names: Vec<_> = storing
            .map(|active| &*active.config.settings.name)
            .collect();
        let others = match names.as_slice() {
            [] => String::from("no outlet stores"),
            names => format!("it has {}", names.join(", ")),
        };
        return Err(format!(
            "the running agent has no outlet {name:?} that stores events; {others}"
        ));
    };
    match found.queue() {
        Some(queue) => Ok(vec![(Arc::clone(found), queue)]),
        None => Err(format!(
            "the queue of outlet {name} is not open; see: agent status"
        )),
    }
}

fn holder<'a>(
    queues: &'a [OpenQueue],
    text: &str,
) -> Result<(&'a ActiveOutlet, &'a EventQueue, EventSummary), String> {
    let id = event_id(text)?;
    let mut found = queues
        .iter()
        .filter_map(|(outlet, queue)| Some((&**outlet, queue, queue.find(id)?)));
    found.next().ok_or_else(|| not_here(text))
}

fn not_here(id: &str) -> String {
    format!("no event {id} is here: it was delivered or dropped")
}

fn event_id(text: &str) -> Result<EventId, String> {
    text.parse()
        .map_err(|error: agent_events::event::EventIdError| error.to_string())
}

fn failed(outlet: &ActiveOutlet, error: &QueueError) -> String {
    let name = &outlet.config.settings.name;
    format!("outlet {name}: {error}; see agent status, then run the command again")
}

fn document(outlets: Vec<OutletEvents>) -> EventList {
    EventList {
        version: EVENT_LIST_VERSION,
        outlets,
    }
}

fn section(
    outlet: &ActiveOutlet,
    queue: &EventQueue,
    events: Vec<EventRow>,
    more: bool,
) -> OutletEvents {
    let figures = queue.figures();
    OutletEvents {
        outlet: outlet.config.settings.name.to_string(),
        waiting: figures.events as u64,
        dead_letters: figures.dead_events as u64,
        events,
        more,
    }
}

/// This moment by both clocks.
#[derive(Clone, Copy)]
struct Clock {
    now: SystemTime,
    instant: Instant,
}

impl Clock {
    fn now() -> Self {
        Self {
            now: SystemTime::now(),
            instant: Instant::now(),
        }
    }
}

/// Text of other hosts becomes printable and bounded.
fn row(event: &EventSummary, clock: Clock) -> EventRow {
    let short = |text: &String| printable(text, MAX_WORD);
    EventRow {
        id: event.id.to_string(),
        state: match event.state {
            EventState::Queued => EventRowState::Queued,
            EventState::Delivering => EventRowState::Delivering,
            EventState::Waiting => EventRowState::Waiting,
            EventState::Dead => EventRowState::Dead,
        },
        received: rfc3339(event.received_at),
        lane: short(&event.lane),
        event_type: event.event_type.as_ref().map(short),
        issue_key: event.issue_key.as_ref().map(short),
        source: short(&event.source),
        body_bytes: event.body_bytes,
        attempts: event.attempts,
        last_error: event
            .last_error
            .as_ref()
            .map(|error| printable(error, MAX_ERROR)),
        next_attempt: event
            .next_attempt
            .map(|at| rfc3339(clock.now + at.saturating_duration_since(clock.instant))),
        given_up: event.died_at.map(rfc3339),
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Characters of a lane, a type, a key or an address: Jira's are far shorter.
const MAX_WORD: usize = 80;
/// Characters of an error: one sentence.
const MAX_ERROR: usize = 300;
/// Records at once: far below what the queue of the audit takes by default (8,192).
const AUDIT_BURST: usize = 50;
/// In which the audit writes that many lines to a slow disk.
const AUDIT_PAUSE: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// A sender on another host chooses these texts.
    #[test]
    fn what_an_event_says_cannot_steer_a_terminal_or_fill_an_answer() {
        let long = "x\u{1b}[2J".repeat(1000);
        let clock = Clock::now();
        let event = EventSummary {
            id: EventId::random(),
            state: EventState::Waiting,
            received_at: clock.now,
            lane: long.clone(),
            event_type: Some(long.clone()),
            issue_key: Some(long.clone()),
            source: long.clone(),
            body_bytes: 1,
            attempts: 2,
            last_error: Some(long),
            next_attempt: Some(clock.instant + Duration::from_secs(40)),
            died_at: None,
        };
        let row = row(&event, clock);
        let later = clock.now + Duration::from_secs(40);
        assert_eq!(row.next_attempt, Some(rfc3339(later)));
        let written = serde_json::to_string(&row).unwrap_or_default();
        assert!(
            !written.contains("u001b") && written.contains('\u{fffd}'),
            "{written}"
        );
        assert!(written.len() < 3500, "{}", written.len());
    }
}

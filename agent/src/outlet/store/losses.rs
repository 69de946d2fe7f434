//! Events that were not delivered: a record for each, and a line in the log now and then.

use crate::{
    http::{EventAudit, EventEnd, EventEnding},
    upstream::Delivery,
};
use agent_events::EventSummary;
use parking_lot::Mutex;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// Records and reports the events of one outlet that were not delivered.
pub struct EventLosses {
    outlet: Arc<str>,
    audit: EventAudit,
    dead: LogPacer,
    dropped: LogPacer,
}

impl EventLosses {
    /// For the outlet of this name.
    pub fn new(outlet: Arc<str>, audit: EventAudit) -> Self {
        Self {
            outlet,
            audit,
            dead: LogPacer::default(),
            dropped: LogPacer::default(),
        }
    }

    /// The records of how events end.
    pub fn audit(&self) -> &EventAudit {
        &self.audit
    }

    /// These events were removed without being delivered.
    pub fn dropped(&self, events: &[EventSummary], why: &str) {
        self.record(events, EventEnding::Dropped, Some(why));
        if let Some(count) = self.dropped.count(events.len()) {
            tracing::warn!(
                outlet = &*self.outlet,
                count,
                why,
                remedy = "agent status shows why the vendor takes no events",
                "events were dropped undelivered"
            );
        }
    }

    /// These events became dead letters because of their age.
    pub(super) fn expired(&self, events: &[EventSummary]) {
        self.record(events, EventEnding::Dead, None);
        self.report_dead(
            events.len(),
            "the vendor has not accepted them in retry_for",
        );
    }

    /// Reports dead letters whose records are written elsewhere.
    pub(super) fn report_dead(&self, count: usize, why: &str) {
        if let Some(count) = self.dead.count(count) {
            tracing::warn!(
                outlet = &*self.outlet,
                count,
                why,
                remedy = "agent events --dead lists them; when the vendor has corrected the cause: agent events retry --all",
                "events have become dead letters"
            );
        }
    }

    fn record(&self, events: &[EventSummary], ending: EventEnding, why: Option<&str>) {
        for event in events {
            let last_error = event.last_error.as_deref();
            let end = EventEnd {
                id: event.id.as_str(),
                request: None,
                source: &event.source,
                received_at: event.received_at,
                body_bytes: event.body_bytes,
                ending,
                attempts: event.attempts,
                status: None,
                // Of a former process nothing is known.
                delivery: Delivery::MaybeSent,
                cause: why.or(last_error).map(str::to_owned),
            };
            self.audit.record(&end, None);
        }
    }
}

/// Lets one line of a kind into the log per minute, with the count since the last one.
#[derive(Default)]
struct LogPacer(Mutex<PacerState>);

#[derive(Default)]
struct PacerState {
    last: Option<Instant>,
    uncounted: usize,
}

impl LogPacer {
    /// Counts; returns the number to log, if a line is due.
    fn count(&self, more: usize) -> Option<usize> {
        let mut state = self.0.lock();
        state.uncounted += more;
        let is_due = state.last.is_none_or(|last| last.elapsed() >= LOG_INTERVAL);
        if state.uncounted == 0 || !is_due {
            return None;
        }
        state.last = Some(Instant::now());
        Some(std::mem::take(&mut state.uncounted))
    }
}

const LOG_INTERVAL: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_line_a_minute_counts_all() {
        let pacer = LogPacer::default();
        assert_eq!(pacer.count(0), None);
        assert_eq!(pacer.count(2), Some(2));
        assert_eq!((pacer.count(3), pacer.count(0)), (None, None));
        tokio::time::advance(LOG_INTERVAL).await;
        assert_eq!(pacer.count(1), Some(4));
    }
}

//! The queue of an outlet of mode `store` in the status document.

use super::{
    LayerState,
    layout::{count, duration},
};
use crate::printable::printable;
use agent_events::QueueFigures;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// The events that an outlet of mode `store` holds.
#[derive(
    Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct QueueReport {
    /// `proven` while events are stored and nothing is overdue; `degraded` while the queue is full or nearly so, an event
    /// has waited for 15 minutes although a session lives, or an event became a dead letter within the last 24 hours;
    /// `failed` while events cannot be stored; `unknown` before the queue is open.
    pub state: LayerState,
    /// Why it is not proven, one sentence.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
    /// Events that are still to be delivered.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bound of `events`.
    pub max_events: u64,
    /// The bound of `bytes`.
    pub max_bytes: u64,
    /// When the event was received that has waited longest, RFC 3339, UTC; absent if none waits.
    pub oldest_received: Option<String>,
    /// For how many seconds it has waited.
    pub oldest_seconds: Option<f64>,
    /// When the next failed event is tried again, RFC 3339, UTC; absent if none waits for that.
    pub next_attempt: Option<String>,
    /// Why the last attempt failed; absent once an event was delivered since.
    pub last_error: Option<String>,
    /// Events that were given up, and wait for `agent events retry` or `agent events drop`.
    pub dead_letters: u64,
    /// Bytes of the dead letters.
    pub dead_bytes: u64,
    /// When the last of them was given up, RFC 3339, UTC; absent if there is none.
    pub last_dead: Option<String>,
    /// Since when events have been refused or dropped because the queue is full, RFC 3339, UTC.
    pub full_since: Option<String>,
    /// Present if the queue grows so that it is full within a day: `full in about 3 h`.
    pub forecast: Option<String>,
    /// Events stored since the queue's file was made.
    pub stored: u64,
    /// Events that Jira sent again while the first one was still here.
    pub repeated: u64,
    /// Events delivered since the queue's file was made.
    pub delivered: u64,
    /// Attempts that failed since the queue's file was made.
    pub failed_attempts: u64,
    /// Events that became dead letters since the queue's file was made.
    pub given_up: u64,
    /// Events that were never delivered: dropped by a full queue, because of age or size, or by an administrator.
    pub dropped: u64,
    /// Events refused because the queue was full.
    pub refused: u64,
}

/// What is known of a queue at one moment.
#[derive(Clone, Debug)]
pub struct QueueObservation<'a> {
    /// The queue in numbers.
    pub figures: &'a QueueFigures,
    /// How long until it is full, if it grows.
    pub full_in: Option<Duration>,
    /// When the last event became a dead letter.
    pub last_dead: Option<SystemTime>,
    /// Whether events should be leaving: a session lives, and the outlet is not paused.
    pub is_delivering: bool,
    /// Now, by the clock of this host.
    pub now: SystemTime,
    /// Now, for the times of the next attempts.
    pub instant: Instant,
}

impl QueueReport {
    /// The report of an open queue.
    pub fn of(seen: &QueueObservation<'_>) -> Self {
        let figures = seen.figures;
        let totals = &figures.totals;
        let now = seen.now;
        let (state, cause, remedy) = match seen.problem() {
            Some(QueueProblem {
                state,
                cause,
                remedy,
            }) => (state, Some(cause), Some(remedy.to_owned())),
            None => (LayerState::Proven, None, None),
        };
        Self {
            state,
            cause,
            remedy,
            events: figures.events as u64,
            bytes: figures.bytes,
            max_events: figures.max_events as u64,
            max_bytes: figures.max_bytes,
            oldest_received: figures.oldest_received.map(rfc3339),
            oldest_seconds: figures
                .oldest_received
                .map(|oldest| (age(oldest, now).as_secs_f64() * 10.0).round() / 10.0),
            next_attempt: figures
                .next_attempt
                .map(|at| rfc3339(now + at.saturating_duration_since(seen.instant))),
            last_error: figures
                .last_error
                .as_deref()
                .map(|error| printable(error, MAX_ERROR)),
            dead_letters: figures.dead_events as u64,
            dead_bytes: figures.dead_bytes,
            last_dead: seen.last_dead.map(rfc3339),
            full_since: figures.full_since.map(|(since, _)| rfc3339(since)),
            forecast: seen
                .full_in
                .filter(|_| figures.full_since.is_none())
                .map(queue_forecast),
            stored: totals.stored,
            repeated: totals.repeated,
            delivered: totals.delivered,
            failed_attempts: totals.failed_attempts,
            given_up: totals.died,
            dropped: totals.dropped_full + totals.dropped_dead + totals.dropped_by_hand,
            refused: totals.refused_full,
        }
    }

    /// The report of a queue that is about to be opened.
    pub fn opening() -> Self {
        Self {
            state: LayerState::Unknown,
            cause: Some("the queue is not open yet".to_owned()),
            remedy: Some("wait a few seconds; if this persists, check the log".to_owned()),
            ..Self::default()
        }
    }

    /// The report of a queue that cannot be opened, and why.
    pub fn unusable(cause: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            state: LayerState::Failed,
            cause: Some(cause.into()),
            remedy: Some(remedy.into()),
            ..Self::default()
        }
    }

    /// The share of the queue that is used, by the bound that is nearer: 1 is full.
    pub fn used(&self) -> f64 {
        let share = |used: u64, bound: u64| used as f64 / bound.max(1) as f64;
        share(self.events, self.max_events).max(share(self.bytes, self.max_bytes))
    }
}

struct QueueProblem {
    state: LayerState,
    cause: String,
    remedy: &'static str,
}

impl QueueObservation<'_> {
    /// The worst that is wrong with it.
    fn problem(&self) -> Option<QueueProblem> {
        let figures = self.figures;
        let degraded = |cause, remedy| {
            Some(QueueProblem {
                state: LayerState::Degraded,
                cause,
                remedy,
            })
        };
        if let Some(error) = &figures.disk_error {
            return Some(QueueProblem {
                state: LayerState::Failed,
                cause: format!("events cannot be stored: {}", printable(error, MAX_ERROR)),
                remedy: DISK_REMEDY,
            });
        }
        if let Some((since, bound)) = figures.full_since {
            let totals = &figures.totals;
            let cause = format!(
                "the queue is full since {} ({}); so far {} events refused, {} dropped",
                rfc3339(since),
                bound.key(),
                totals.refused_full,
                totals.dropped_full
            );
            return degraded(cause, FULL_REMEDY);
        }
        let dead = self.last_dead.filter(|_| figures.dead_events > 0);
        if let Some(last) = dead
            .map(|last| age(last, self.now))
            .filter(|age| *age < NEW_DEAD)
        {
            let cause = format!(
                "{}, the last one given up {} ago",
                count(figures.dead_events as u64, "dead letter"),
                duration(last.as_secs_f64())
            );
            return degraded(cause, DEAD_REMEDY);
        }
        let oldest = figures.oldest_received.map(|oldest| age(oldest, self.now));
        if let Some(oldest) = oldest.filter(|age| *age > OVERDUE && self.is_delivering) {
            let cause = format!(
                "the oldest event has waited for {}",
                duration(oldest.as_secs_f64())
            );
            let cause = match &figures.last_error {
                Some(error) => format!("{cause}: {}", printable(error, MAX_ERROR)),
                None => cause,
            };
            return degraded(cause, OVERDUE_REMEDY);
        }
        let share = percent(figures.events as u64, figures.max_events as u64)
            .max(percent(figures.bytes, figures.max_bytes));
        if share >= NEARLY_FULL {
            return degraded(format!("the queue is {share} % full"), FULL_REMEDY);
        }
        None
    }
}

/// `full in about 3 h`.
pub fn queue_forecast(full_in: Duration) -> String {
    // Rounded down: never more time than there is.
    match full_in.as_secs() {
        0..120 => String::from("full within 2 min"),
        seconds @ 120..7200 => format!("full in about {} min", seconds / 60),
        seconds => format!("full in about {} h", seconds / 3600),
    }
}

fn percent(used: u64, bound: u64) -> u64 {
    match bound {
        0 => 0,
        bound => u64::try_from(u128::from(used) * 100 / u128::from(bound)).unwrap_or(u64::MAX),
    }
}

/// A clock that was set back makes nothing younger than now.
fn age(since: SystemTime, now: SystemTime) -> Duration {
    now.duration_since(since).unwrap_or_default()
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Percent from which on the queue counts as nearly full.
pub const NEARLY_FULL: u64 = 80;
/// For how long a dead letter degrades the status: someone looks at it once a day.
const NEW_DEAD: Duration = Duration::from_secs(24 * 3600);
/// Three times the longest wait between two attempts.
const OVERDUE: Duration = Duration::from_secs(15 * 60);
/// Characters of an error: one sentence.
const MAX_ERROR: usize = 300;
const DISK_REMEDY: &str = "free space on the disk of the state folder, or make it writable for the agent's user; Jira gets 503 until then";
const FULL_REMEDY: &str =
    "see why the vendor takes no events: agent check; max_queue of the outlet is the bound";
const DEAD_REMEDY: &str =
    "see why: agent events --dead; then: agent events retry --all, or agent events drop --all";
const OVERDUE_REMEDY: &str =
    "see which: agent events; test the way to the vendor's host: agent check";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use agent_events::{QueueBound, QueueTotals};

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
    }

    fn ago(seconds: u64) -> SystemTime {
        now() - Duration::from_secs(seconds)
    }

    fn figures() -> QueueFigures {
        QueueFigures {
            events: 0,
            bytes: 0,
            max_bytes: 1000,
            max_events: 100,
            oldest_received: None,
            next_attempt: None,
            last_error: None,
            dead_events: 0,
            dead_bytes: 0,
            full_since: None,
            disk_error: None,
            totals: QueueTotals::default(),
        }
    }

    fn report(figures: &QueueFigures) -> QueueReport {
        report_if(figures, |_| {})
    }

    fn report_if(
        figures: &QueueFigures,
        change: impl FnOnce(&mut QueueObservation<'_>),
    ) -> QueueReport {
        let mut seen = QueueObservation {
            figures,
            full_in: None,
            last_dead: None,
            is_delivering: true,
            now: now(),
            instant: Instant::now(),
        };
        change(&mut seen);
        let report = QueueReport::of(&seen);
        let explained = report.cause.is_some() && report.remedy.is_some();
        assert_eq!(explained, report.state != LayerState::Proven, "{report:?}");
        report
    }

    #[test]
    fn an_old_event_degrades_only_while_it_could_leave() {
        let waiting = |seconds| QueueFigures {
            events: 2,
            bytes: 20,
            oldest_received: Some(ago(seconds)),
            last_error: Some("503 of the vendor's host\u{1b}[2J".into()),
            ..figures()
        };
        let fresh = report(&waiting(900));
        assert_eq!(fresh.state, LayerState::Proven);
        assert_eq!(fresh.oldest_seconds, Some(900.0));
        assert_eq!(
            fresh.oldest_received.as_deref(),
            Some("2027-01-15T07:45:00Z")
        );
        let old = report(&waiting(1200));
        assert_eq!(old.state, LayerState::Degraded);
        assert_eq!(
            old.cause.as_deref(),
            Some("the oldest event has waited for 20 min: 503 of the vendor's host\u{fffd}[2J")
        );
        // The tunnel is down, or the outlet is paused: that is what the status names.
        let held = report_if(&waiting(100_000), |c| c.is_delivering = false);
        assert_eq!(held.state, LayerState::Proven);
        // The clock was set back.
        let future = QueueFigures {
            oldest_received: Some(now() + Duration::from_secs(5)),
            ..waiting(0)
        };
        assert_eq!(report(&future).oldest_seconds, Some(0.0));
    }

    #[test]
    fn a_dead_letter_degrades_for_a_day_and_while_it_is_there() {
        let dead = QueueFigures {
            dead_events: 1,
            dead_bytes: 7,
            ..figures()
        };
        let at = |seconds, figures| report_if(figures, |c| c.last_dead = Some(ago(seconds)));
        let new = at(3600, &dead);
        assert_eq!(new.state, LayerState::Degraded);
        assert_eq!(
            new.cause.as_deref(),
            Some("1 dead letter, the last one given up 1 h 0 min ago")
        );
        assert!(new.remedy.unwrap().contains("agent events retry --all"));
        let old = at(24 * 3600, &dead);
        assert_eq!((old.state, old.dead_letters), (LayerState::Proven, 1));
        assert_eq!(at(60, &figures()).state, LayerState::Proven, "dropped");
    }

    #[test]
    fn a_full_queue_and_a_failing_disk_come_first() {
        let full = QueueFigures {
            events: 100,
            oldest_received: Some(ago(5000)),
            full_since: Some((ago(60), QueueBound::Events)),
            totals: QueueTotals {
                refused_full: 12,
                dropped_full: 1,
                dropped_dead: 2,
                dropped_by_hand: 4,
                ..QueueTotals::default()
            },
            ..figures()
        };
        let seen = report_if(&full, |c| c.full_in = Some(Duration::ZERO));
        assert_eq!(seen.state, LayerState::Degraded);
        assert_eq!(
            seen.cause.as_deref(),
            Some(
                "the queue is full since 2027-01-15T07:59:00Z (max_queue_events); so far 12 events refused, 1 dropped"
            )
        );
        assert_eq!((seen.refused, seen.dropped, seen.used()), (12, 7, 1.0));
        assert_eq!(seen.forecast, None);
        let failing = QueueFigures {
            disk_error: Some("Read-only file system".into()),
            ..full
        };
        let seen = report(&failing);
        assert_eq!(seen.state, LayerState::Failed);
        assert!(seen.cause.unwrap().ends_with("Read-only file system"));
    }

    #[test]
    fn a_queue_that_is_nearly_full_is_named_before_it_refuses() {
        let filled = |events, bytes| QueueFigures {
            events,
            bytes,
            ..figures()
        };
        assert_eq!(report(&filled(79, 799)).state, LayerState::Proven);
        for nearly in [filled(80, 0), filled(0, 800)] {
            let seen = report(&nearly);
            assert_eq!(seen.cause.as_deref(), Some("the queue is 80 % full"));
        }
        let growing = report_if(&filled(5, 5), |c| {
            c.full_in = Some(Duration::from_secs(3 * 3600 + 1700));
        });
        assert_eq!(growing.state, LayerState::Proven);
        assert_eq!(growing.forecast.as_deref(), Some("full in about 3 h"));
        assert_eq!(
            queue_forecast(Duration::from_secs(119)),
            "full within 2 min"
        );
        assert_eq!(
            queue_forecast(Duration::from_secs(7199)),
            "full in about 119 min"
        );
    }

    #[test]
    fn the_next_attempt_is_shown_by_the_clock_of_this_host() {
        let begun = Instant::now();
        let waiting = QueueFigures {
            next_attempt: Some(begun + Duration::from_secs(40)),
            ..figures()
        };
        let seen = report_if(&waiting, |c| c.instant = begun);
        assert_eq!(seen.next_attempt.as_deref(), Some("2027-01-15T08:00:40Z"));
    }
}

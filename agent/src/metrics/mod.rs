//! Metrics in Prometheus' text format, composed when monitoring asks for them.
//!
//! The request path only counts, in [`TrafficCounters`]. All else is taken from the status at that moment. Label values
//! are names from the configuration and words from fixed sets: nothing of a request, no path, no user.

pub mod families;
mod traffic;

pub use traffic::TrafficCounters;

use crate::{
    expiry::ExpiryUrgency,
    status::{ConnectionPhase, ConnectionView, LayerState, PlaceState, QueueReport, StatusReport},
};
use families::{MetricFamily, MetricKind};
use prometheus::{CounterVec, GaugeVec, Opts, Registry, TextEncoder};
use std::{sync::Arc, time::SystemTime};

/// The page with all families that `docs/metrics.md` describes.
pub fn render(
    report: &StatusReport,
    traffic: &[Arc<TrafficCounters>],
) -> prometheus::Result<String> {
    let page = MetricsPage(Registry::new());
    for counters in traffic {
        counters.register(&page.0)?;
    }
    page.agent(report)?;
    page.layers(report)?;
    page.forwards(report)?;
    page.queues(report)?;
    page.connections(&report.connections)?;
    page.credentials(report)?;
    TextEncoder::new().encode_to_string(&page.0.gather())
}

struct MetricsPage(Registry);

impl MetricsPage {
    fn agent(&self, report: &StatusReport) -> prometheus::Result<()> {
        self.add(&families::AGENT, [([report.agent.version.as_str()], 1.0)])?;
        let refused = report.configuration.refused.is_some();
        self.set(&families::CONFIGURATION, flag(refused))?;
        let uptime = report.agent.uptime_seconds as f64;
        self.set(&families::UPTIME, uptime)?;
        let audit = &report.audit;
        self.set(&families::AUDIT_WRITTEN, audit.written as f64)?;
        self.set(&families::AUDIT_SUMMED, audit.summed as f64)?;
        let states = STATES.map(|(state, word)| ([word], flag(state == audit.state)));
        self.add(&families::AUDIT_STATE, states)?;
        let spool = &report.spool;
        let full = spool.state == LayerState::Degraded;
        self.set(&families::SPOOL_DEGRADED, flag(full))?;
        self.set(&families::SPOOL_RESETS, spool.resets as f64)?;
        let refused = report.descriptors.refused as f64;
        self.set(&families::DESCRIPTORS_REFUSED, refused)?;
        let unsaved = report.state_folder.state == LayerState::Degraded;
        self.set(&families::STATE_FOLDER_DEGRADED, flag(unsaved))?;
        self.set(&families::AUDIT_DROPPED, audit.dropped as f64)
    }

    fn layers(&self, report: &StatusReport) -> prometheus::Result<()> {
        let l = &report.layers;
        let mut layers = vec![
            ("", "network", &l.network),
            ("", "tunnel", &l.tunnel),
            ("", "jira", &l.jira),
            ("", "login", &l.login),
        ];
        for f in &report.forwards {
            let name = f.name.as_str();
            layers.extend([
                (name, "tunnel", &f.tunnel),
                (name, "jira", &f.jira),
                (name, "login", &f.login),
            ]);
        }
        for outlet in &report.outlets {
            let name = outlet.name.as_str();
            layers.extend([
                (name, "listener", &outlet.listener),
                (name, "vendor", &outlet.vendor),
            ]);
        }
        let queues = report.outlets.iter().filter_map(|outlet| {
            let queue = outlet.queue.as_ref()?;
            Some((outlet.name.as_str(), "queue", queue.state))
        });
        let all = layers
            .iter()
            .map(|(forward, layer, report)| (*forward, *layer, report.state));
        let states = |(forward, layer, now): (&str, &'static str, LayerState)| {
            let forward = forward.to_owned();
            STATES.map(|(state, word)| {
                let labels = [forward.clone(), layer.to_owned(), word.to_owned()];
                (labels, flag(state == now))
            })
        };
        self.add(&families::LAYER, all.chain(queues).flat_map(states))?;
        let ages = layers.iter().filter_map(|(forward, layer, report)| {
            Some(([*forward, *layer], report.proven_seconds_ago?))
        });
        self.add(&families::LAYER_AGE, ages)
    }

    fn forwards(&self, report: &StatusReport) -> prometheus::Result<()> {
        let each = || report.forwards.iter().map(|f| ([f.name.as_str()], f));
        let bound = each().map(|(name, f)| (name, flag(!f.bound.is_empty())));
        self.add(&families::BOUND, bound)?;
        let places = each().flat_map(|([name], _)| {
            let views = report.connections.iter().flat_map(|c| &c.forwards);
            let proofs: Vec<_> = views
                .filter(|view| view.name == name)
                .filter_map(|view| view.proof)
                .collect();
            PLACE_STATES.map(|(state, word)| {
                let number = proofs.iter().filter(|proof| **proof == state).count();
                ([name, word], number as f64)
            })
        });
        self.add(&families::PLACES, places)?;
        let outlets = || report.outlets.iter().map(|o| ([o.name.as_str()], o));
        let paused = each().map(|(name, f)| (name, flag(f.paused.is_some())));
        let also_paused = outlets().map(|(name, o)| (name, flag(o.paused.is_some())));
        self.add(&families::PAUSED, paused.chain(also_paused))?;
        let in_flight = each().map(|(name, f)| (name, f.in_flight as f64));
        let also_in_flight = outlets().map(|(name, o)| (name, o.in_flight as f64));
        self.add(&families::IN_FLIGHT, in_flight.chain(also_in_flight))?;
        let breakers = each().map(|(name, f)| (name, flag(f.protection.breaker_open)));
        self.add(&families::BREAKER, breakers)?;
        let held = each().map(|(name, f)| (name, f.protection.held_seconds));
        self.add(&families::HELD, held)?;
        let limits = each().map(|(name, f)| (name, f.protection.concurrency_limit as f64));
        self.add(&families::LIMIT, limits)?;
        let queued = each().map(|(name, f)| (name, f.protection.queued as f64));
        self.add(&families::QUEUED, queued)?;
        let circuits = each().map(|(name, f)| (name, flag(f.circuit_open)));
        self.add(&families::CIRCUIT, circuits)
    }

    /// A queue that is not open has no figures.
    fn queues(&self, report: &StatusReport) -> prometheus::Result<()> {
        type Figure = fn(&QueueReport) -> f64;
        let figures: [(&MetricFamily, Figure); 12] = [
            (&families::QUEUE_EVENTS, |q| q.events as f64),
            (&families::QUEUE_BYTES, |q| q.bytes as f64),
            (&families::QUEUE_USED, |q| q.used()),
            (&families::QUEUE_OLDEST, |q| q.oldest_seconds.unwrap_or(0.0)),
            (&families::DEAD_LETTERS, |q| q.dead_letters as f64),
            (&families::EVENTS_STORED, |q| q.stored as f64),
            (&families::EVENTS_REPEATED, |q| q.repeated as f64),
            (&families::EVENTS_DELIVERED, |q| q.delivered as f64),
            (&families::DELIVERY_FAILURES, |q| q.failed_attempts as f64),
            (&families::EVENTS_GIVEN_UP, |q| q.given_up as f64),
            (&families::EVENTS_DROPPED, |q| q.dropped as f64),
            (&families::EVENTS_REFUSED, |q| q.refused as f64),
        ];
        for (family, figure) in figures {
            let values = report.outlets.iter().filter_map(|outlet| {
                let queue = outlet.queue.as_ref().filter(|queue| queue.max_bytes > 0)?;
                Some(([outlet.name.as_str()], figure(queue)))
            });
            self.add(family, values)?;
        }
        Ok(())
    }

    fn connections(&self, connections: &[ConnectionView]) -> prometheus::Result<()> {
        let phases = connections.iter().flat_map(|c| {
            PHASES.map(|phase| {
                let labels = [c.index.to_string(), phase.to_string()];
                (labels, flag(c.phase == phase))
            })
        });
        self.add(&families::PHASE, phases)?;
        let rtts = connections
            .iter()
            .filter_map(|c| Some(([c.index.to_string()], c.rtt_ms? / 1000.0)));
        self.add(&families::ROUND_TRIP, rtts)?;
        let suspects = connections.iter().map(|c| {
            let suspect = flag(c.suspect_seconds.is_some());
            ([c.index.to_string()], suspect)
        });
        self.add(&families::SUSPECT, suspects)?;
        type Count = fn(&ConnectionView) -> u64;
        let counts: [(&MetricFamily, Count); 6] = [
            (&families::SESSIONS, |c| c.generation),
            (&families::CHANNELS, |c| c.channels as u64),
            (&families::RECEIVED, |c| c.bytes_received),
            (&families::SENT, |c| c.bytes_sent),
            (&families::BACKLOG, |c| c.backlog as u64),
            (&families::RESETS, |c| c.channel_resets),
        ];
        for (family, count) in counts {
            let values = connections
                .iter()
                .map(|c| ([c.index.to_string()], count(c) as f64));
            self.add(family, values)?;
        }
        Ok(())
    }

    fn credentials(&self, report: &StatusReport) -> prometheus::Result<()> {
        let each = || {
            let credentials = report.credentials.iter();
            credentials.map(|c| (c.forward.as_deref().unwrap_or_default(), c))
        };
        let ends = each().filter_map(|(forward, c)| {
            let end = humantime::parse_rfc3339(c.expires.as_deref()?).ok()?;
            let seconds = end.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(([forward, c.credential.code()], seconds.as_secs_f64()))
        });
        self.add(&families::EXPIRY, ends)?;
        let warnings = each().flat_map(|(forward, c)| {
            THRESHOLDS.map(|(urgency, within)| {
                let labels = [forward, c.credential.code(), within];
                (labels, flag(c.urgency >= urgency))
            })
        });
        self.add(&families::WARNING, warnings)
    }

    fn set(&self, family: &MetricFamily, value: f64) -> prometheus::Result<()> {
        self.add::<0, &str>(family, [([], value)])
    }

    fn add<const N: usize, L: AsRef<str>>(
        &self,
        family: &MetricFamily,
        values: impl IntoIterator<Item = ([L; N], f64)>,
    ) -> prometheus::Result<()> {
        let options = Opts::new(family.name(), family.help);
        match family.kind {
            MetricKind::Gauge => {
                let gauges = GaugeVec::new(options, family.labels)?;
                for (labels, value) in values {
                    let labels = labels.each_ref().map(AsRef::as_ref);
                    gauges.get_metric_with_label_values(&labels)?.set(value);
                }
                self.0.register(Box::new(gauges))
            }
            MetricKind::Counter | MetricKind::Histogram => {
                let counters = CounterVec::new(options, family.labels)?;
                for (labels, value) in values {
                    let labels = labels.each_ref().map(AsRef::as_ref);
                    counters
                        .get_metric_with_label_values(&labels)?
                        .inc_by(value);
                }
                self.0.register(Box::new(counters))
            }
        }
    }
}

fn flag(is: bool) -> f64 {
    f64::from(u8::from(is))
}

const PLACE_STATES: [(PlaceState, &str); 5] = [
    (PlaceState::Granted, "granted"),
    (PlaceState::Proven, "proven"),
    (PlaceState::Shared, "shared"),
    (PlaceState::Taken, "taken"),
    (PlaceState::Lost, "lost"),
];
const STATES: [(LayerState, &str); 5] = [
    (LayerState::Proven, "proven"),
    (LayerState::Degraded, "degraded"),
    (LayerState::Failed, "failed"),
    (LayerState::Unknown, "unknown"),
    (LayerState::NotApplicable, "not_applicable"),
];
const PHASES: [ConnectionPhase; 6] = [
    ConnectionPhase::Connecting,
    ConnectionPhase::Serving,
    ConnectionPhase::Standby,
    ConnectionPhase::Waiting,
    ConnectionPhase::Draining,
    ConnectionPhase::Stopped,
];
const THRESHOLDS: [(ExpiryUrgency, &str); 4] = [
    (ExpiryUrgency::Within30Days, "30d"),
    (ExpiryUrgency::Within14Days, "14d"),
    (ExpiryUrgency::Within7Days, "7d"),
    (ExpiryUrgency::Over, "over"),
];

#[cfg(test)]
mod tests;

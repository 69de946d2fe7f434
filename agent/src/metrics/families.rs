//! The metric families. A test compares `docs/metrics.md` with this list.

/// One family of metrics.
pub struct MetricFamily {
    /// The name without the prefix.
    short: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// Label names; `forward` first where there is one.
    pub labels: &'static [&'static str],
    /// Help text of the family, one sentence.
    pub help: &'static str,
}

/// Type of the family in Prometheus' terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

impl MetricFamily {
    /// Full name with the prefix, such as `jira_tunnel_agent_requests_total`.
    pub fn name(&self) -> String {
        format!("{PREFIX}{}", self.short)
    }
}

macro_rules! families {
    ($($constant:ident = $kind:ident $short:literal [$($label:literal)*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub const $constant: MetricFamily = MetricFamily {
                short: $short,
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*
        /// All families, in the order of `docs/metrics.md`.
        pub const ALL: &[&MetricFamily] = &[$(&$constant),*];
    };
}

families! {
    AGENT = Gauge "info" ["version"] "1; the label names the running version.";
    CONFIGURATION = Gauge "configuration_refused" [] "1 while a changed configuration is refused and the previous one stays in use.";
    UPTIME = Gauge "uptime_seconds" [] "Seconds since the agent started.";
    LAYER = Gauge "layer_state" ["forward" "layer" "state"] "1 for the state that a layer is in, 0 for the others; an empty forward sums up all.";
    LAYER_AGE = Gauge "layer_proven_age_seconds" ["forward" "layer"] "Seconds since the other side last replied; absent if it never did.";
    BOUND = Gauge "forward_bound" ["forward"] "1 while a gateway listens for this forward.";
    PLACES = Gauge "forward_places" ["forward" "state"] "Places that gateways have granted for this forward, by what requests through them have shown.";
    PAUSED = Gauge "forward_paused" ["forward"] "1 while the administrator has paused the forward or outlet.";
    REQUESTS = Counter "requests_total" ["forward" "outcome" "class"] "Requests that have ended, by outcome and first digit of the status.";
    ERRORS = Counter "errors_total" ["forward" "error"] "The agent's own answers, by the code of docs/errors.md.";
    REMOVED_HEADERS = Counter "request_headers_removed_total" ["forward" "class"] "Headers removed from the vendor's requests, by class.";
    HEALTH = Counter "health_requests_total" ["forward"] "Health requests answered, which count nowhere else.";
    IN_FLIGHT = Gauge "requests_in_flight" ["forward"] "Requests in flight; byte channels for tcp://.";
    REPEATED = Counter "requests_repeated_total" ["forward"] "Idempotent requests sent once more because a kept-alive connection to Jira broke before their answer.";
    BREAKER = Gauge "jira_breaker_open" ["forward"] "1 while requests fail at once because Jira takes no connections or gives no answers.";
    HELD = Gauge "jira_held_seconds" ["forward"] "For how long the last of Jira's rate limits and pauses still holds requests back; 0 if none does.";
    LIMIT = Gauge "jira_concurrency_limit" ["forward"] "Requests that may be with Jira at once now; below max_connections while Jira is slow.";
    QUEUED = Gauge "jira_queued_requests" ["forward"] "Requests that wait for their turn.";
    REQUEST_BYTES = Counter "request_bytes_total" ["forward"] "Body bytes read from the vendor, counted when the request ends.";
    RESPONSE_BYTES = Counter "response_bytes_total" ["forward"] "Body bytes handed to the vendor's channel, counted when the request ends.";
    DURATION = Histogram "request_duration_seconds" ["forward"] "From the request head to the end of the answer.";
    FIRST_BYTE = Histogram "first_byte_seconds" ["forward"] "From the request head to the head of Jira's answer.";
    QUEUE_EVENTS = Gauge "outlet_queue_events" ["forward"] "Events of an outlet that wait to be delivered.";
    QUEUE_BYTES = Gauge "outlet_queue_bytes" ["forward"] "Bytes of these events.";
    QUEUE_USED = Gauge "outlet_queue_used_ratio" ["forward"] "How full the queue is, by the nearer of its bounds; 1 is full.";
    QUEUE_OLDEST = Gauge "outlet_queue_oldest_age_seconds" ["forward"] "For how long the oldest event has waited; 0 if none waits.";
    DEAD_LETTERS = Gauge "outlet_dead_letters" ["forward"] "Events that were given up and are still there.";
    EVENTS_STORED = Counter "outlet_events_stored_total" ["forward"] "Events stored; this and the next six count since the queue's file was made.";
    EVENTS_REPEATED = Counter "outlet_events_repeated_total" ["forward"] "Events that Jira sent again while the first one was still here.";
    EVENTS_DELIVERED = Counter "outlet_events_delivered_total" ["forward"] "Events that the vendor has accepted.";
    DELIVERY_FAILURES = Counter "outlet_delivery_failures_total" ["forward"] "Attempts to deliver an event that failed.";
    EVENTS_GIVEN_UP = Counter "outlet_events_given_up_total" ["forward"] "Events that became dead letters.";
    EVENTS_DROPPED = Counter "outlet_events_dropped_total" ["forward"] "Events deleted without delivery: by a full queue, for their age or size, or by the administrator.";
    EVENTS_REFUSED = Counter "outlet_events_refused_total" ["forward"] "Events refused because the queue was full.";
    PHASE = Gauge "connection_phase" ["connection" "phase"] "1 for what an SSH connection is doing, 0 for the rest.";
    SESSIONS = Counter "connection_sessions_total" ["connection"] "SSH sessions so far; each after the first is a reconnect.";
    ROUND_TRIP = Gauge "connection_round_trip_seconds" ["connection"] "Round-trip time of the last probe.";
    SUSPECT = Gauge "connection_suspect" ["connection"] "1 while an answer of the gateway to a probe is missing.";
    CHANNELS = Gauge "connection_channels" ["connection"] "Forwarded channels open now.";
    RECEIVED = Counter "connection_received_bytes_total" ["connection"] "Bytes received on the wire; resets with each session.";
    SENT = Counter "connection_sent_bytes_total" ["connection"] "Bytes sent on the wire; resets with each session.";
    BACKLOG = Gauge "connection_backlog_bytes" ["connection"] "Bytes waiting to be written to the kernel.";
    RESETS = Counter "connection_channel_resets_total" ["connection"] "Channels reset because they were over a bound or their spool failed; resets with each session.";
    CIRCUIT = Gauge "login_circuit_open" ["forward"] "1 while Jira has rejected the credential and requests are held back.";
    EXPIRY = Gauge "credential_expiry_timestamp_seconds" ["forward" "credential"] "When a credential ends, seconds since 1970; an empty forward is the tunnel.";
    WARNING = Gauge "credential_expiry_warning" ["forward" "credential" "within"] "1 for each threshold that a credential without automatic refresh has passed, 0 for the others.";
    AUDIT_WRITTEN = Counter "audit_records_written_total" [] "Audit records written.";
    SPOOL_DEGRADED = Gauge "spool_degraded" [] "1 while the spool's disk has no room, and for an hour after a channel was reset because its spool had no room or failed.";
    SPOOL_RESETS = Counter "spool_resets_total" [] "Channels reset because their spool had no room or failed, since the agent started.";
    DESCRIPTORS_REFUSED = Counter "descriptors_refused_total" [] "How often no file descriptor was left, since the agent started.";
    STATE_FOLDER_DEGRADED = Gauge "state_folder_degraded" [] "1 while a pause or refreshed tokens cannot be saved in the state folder.";
    AUDIT_STATE = Gauge "audit_state" ["state"] "1 for the state that the audit is in, 0 for the others: degraded while nothing can be written and for an hour after a loss, failed where requests are refused for it.";
    AUDIT_SUMMED = Counter "audit_refusals_summed_total" [] "Refused requests that share a summary line in the audit instead of one line each.";
    AUDIT_DROPPED = Counter "audit_records_dropped_total" [] "Audit records lost because the sink failed or was too slow.";
}

const PREFIX: &str = "jira_tunnel_agent_";

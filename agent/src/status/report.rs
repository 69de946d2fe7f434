//! The report that `agent status --json` prints. Its schema is `docs/status.schema.json`.

use super::{
    ConnectionView, CredentialReport, DescriptorReport, LayerReport, LayerState, SpoolReport,
    StateFolderReport,
};
use crate::{
    audit::AuditCondition, pause::PauseRecord, printable::printable_lines,
    upstream::ProtectionSnapshot,
};

/// Version of the status document. Fields may be added within a version; none is removed or changes its meaning.
pub const REPORT_VERSION: u32 = 1;

/// The status of the running agent: what is proven right now.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Report")]
pub struct StatusReport {
    /// Version of this document, 1.
    pub version: u32,
    /// When the report was made, RFC 3339, UTC.
    pub time: String,
    /// The status in one word; decides the exit code of `agent status`.
    pub overall: OverallState,
    /// The running agent process.
    pub agent: AgentReport,
    /// The four layers over all connections and forwards.
    pub layers: LayerSummary,
    /// One entry per SSH connection.
    pub connections: Vec<ConnectionView>,
    /// One entry per `[[forward]]`, in configuration order.
    pub forwards: Vec<ForwardReport>,
    /// The credentials of the agent, and when each expires.
    #[serde(default)]
    pub credentials: Vec<CredentialReport>,
    /// State of the audit log.
    pub audit: AuditReport,
    /// The folder where channels buffer what is not read in time.
    #[serde(default)]
    pub spool: SpoolReport,
    /// The folder where pauses and refreshed tokens are saved.
    #[serde(default)]
    pub state_folder: StateFolderReport,
    /// Files that the agent's process may have open.
    #[serde(default)]
    pub descriptors: DescriptorReport,
    /// Which configuration is in effect.
    #[serde(default)]
    pub configuration: ConfigurationReport,
    /// The last hand-over to a new process, while it lasts or if it has failed.
    #[serde(default)]
    pub upgrade: Option<UpgradeReport>,
}

/// A hand-over to a new process (`agent upgrade`).
#[derive(
    Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[schemars(rename = "Upgrade")]
pub struct UpgradeReport {
    /// How far it is.
    pub state: UpgradeState,
    /// Version of the other process, if it is known.
    pub version: Option<String>,
    /// When this state began, RFC 3339, UTC.
    pub since: String,
    /// Why it has failed, one sentence.
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    pub remedy: Option<String>,
}

/// How far a hand-over to a new process is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum UpgradeState {
    /// The new process has not yet proven what this one has.
    InProgress,
    /// The new process has failed; this one keeps serving, and does not try that program again by itself.
    Failed,
    /// This process serves; the one before it finishes its requests.
    Finishing,
}

/// All layers in one word.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Overall")]
pub enum OverallState {
    /// Every layer that this configuration has is proven. Exit code 0.
    Proven,
    /// Requests may pass, but not everything is proven, or a forward is paused. Exit code 1.
    Degraded,
    /// No request can pass. Exit code 2.
    Down,
}

/// The running agent process.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct AgentReport {
    /// Version of the running agent.
    pub version: String,
    /// Process id of the running agent.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_seconds: u64,
    /// Whether it is stopping and only finishes requests in progress.
    pub draining: bool,
}

/// The four layers, each summed up over connections and forwards.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Layers")]
pub struct LayerSummary {
    /// A gateway answers: the best of the connections.
    pub network: LayerReport,
    /// A session answered a probe and holds a forward: the worst forward.
    pub tunnel: LayerReport,
    /// Jira answered: the worst forward.
    pub jira: LayerReport,
    /// Jira accepts the agent's credential: the worst forward.
    pub login: LayerReport,
}

/// State of one `[[forward]]`.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct ForwardReport {
    /// Name of the forward.
    pub name: String,
    /// The address that was requested from the gateway.
    pub bind: String,
    /// The addresses that gateways granted, with the port that each chose; empty if no connection holds the forward.
    pub bound: Vec<String>,
    /// The upstream URL that the forward leads to.
    pub upstream: String,
    /// The `mode` of `[forward.auth]`; `none` for a tcp:// forward.
    pub auth_mode: String,
    /// Whether a proven session holds this forward.
    pub tunnel: LayerReport,
    /// Whether Jira answers requests.
    pub jira: LayerReport,
    /// Whether Jira accepts the agent's credential.
    pub login: LayerReport,
    /// Whether Jira rejected the credential, so that requests are held back until it changes.
    #[serde(default)]
    pub circuit_open: bool,
    /// What keeps requests from Jira now, and how many may be there at once.
    #[serde(default)]
    pub protection: ProtectionReport,
    /// The pause, while the administrator has the forward paused.
    #[serde(default)]
    pub paused: Option<PauseRecord>,
    /// Requests or byte channels in progress now.
    pub in_flight: u64,
    /// Requests since the start, allowed or refused.
    pub requests: u64,
}

/// How the agent protects Jira now; all zero for a tcp:// forward.
#[derive(
    Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct ProtectionReport {
    /// Whether requests fail at once because Jira takes no connections or gives no answers.
    pub breaker_open: bool,
    /// Rate limits and pauses that Jira asked for and that are kept now.
    pub held: u64,
    /// For how many seconds the last of them lasts.
    pub held_seconds: f64,
    /// Requests that may be with Jira at once now; below `max_connections` while Jira is slow.
    pub concurrency_limit: u64,
    /// Requests that are with Jira.
    pub with_jira: u64,
    /// Requests that wait for their turn.
    pub queued: u64,
}

impl From<ProtectionSnapshot> for ProtectionReport {
    fn from(snapshot: ProtectionSnapshot) -> Self {
        let (held, left) = snapshot.held.unwrap_or_default();
        Self {
            breaker_open: snapshot.breaker_open,
            held: held as u64,
            held_seconds: (left.as_secs_f64() * 10.0).round() / 10.0,
            concurrency_limit: snapshot.limit as u64,
            with_jira: snapshot.in_use as u64,
            queued: snapshot.queued as u64,
        }
    }
}

/// The configuration in use.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct ConfigurationReport {
    /// When it was read, at the start or at a reload, RFC 3339, UTC.
    pub loaded: String,
    /// Present if the last reload was refused, so that the previous configuration stays in use.
    #[serde(default)]
    pub refused: Option<RefusedConfiguration>,
    /// Sections that have changed since the start and need a restart.
    #[serde(default)]
    pub restart: Vec<String>,
}

/// A changed configuration that was refused.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct RefusedConfiguration {
    /// When it was refused, RFC 3339, UTC.
    pub time: String,
    /// What is wrong with it, in the words of a failed start; at most 20 lines.
    pub problems: Vec<String>,
}

/// State of the audit log.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct AuditReport {
    /// Records written since the start.
    pub written: u64,
    /// Records dropped because the sink did not keep up or failed.
    pub dropped: u64,
    /// Whether requests are recorded: `proven` while each record is written, `degraded` while none can be written and for
    /// an hour after one was lost, `failed` if requests are refused because of that (`audit.required`).
    #[serde(default)]
    pub state: LayerState,
    /// Why it is not proven, one sentence.
    #[serde(default)]
    pub cause: Option<String>,
    /// What to do about it, one sentence.
    #[serde(default)]
    pub remedy: Option<String>,
    /// Where audit lines are written.
    #[serde(default)]
    pub sink: String,
    /// Why audit lines are written there.
    #[serde(default)]
    pub sink_reason: String,
    /// Whether requests are refused while no record can be written (`audit.required`).
    #[serde(default)]
    pub required: bool,
    /// Seconds since a record was last lost; absent if none was.
    #[serde(default)]
    pub dropped_seconds_ago: Option<f64>,
    /// Refused requests without a line of their own, counted in a summary line.
    #[serde(default)]
    pub summed: u64,
    /// Identifier of this run of the agent, `run` in each audit line.
    #[serde(default)]
    pub run: String,
}

impl AuditReport {
    /// The report of this condition, with cause and remedy if something is wrong.
    pub fn of(condition: &AuditCondition) -> Self {
        let (state, cause, remedy) = assess(condition);
        Self {
            written: condition.written,
            dropped: condition.dropped,
            state,
            cause,
            remedy: remedy.map(str::to_owned),
            sink: condition.sink.clone(),
            sink_reason: condition.sink_reason.clone(),
            required: condition.required,
            dropped_seconds_ago: condition.last_dropped.map(|ago| ago.as_secs_f64()),
            summed: condition.summed,
            run: condition.run.clone(),
        }
    }
}

fn assess(condition: &AuditCondition) -> (LayerState, Option<String>, Option<&'static str>) {
    let lost = match condition.dropped {
        0 => String::new(),
        1 => String::from("; 1 record was lost since the start"),
        many => format!("; {many} records were lost since the start"),
    };
    if !condition.on {
        return (LayerState::NotApplicable, None, None);
    }
    match &condition.fault {
        Some(fault) if condition.required => {
            let cause = format!("{fault}{lost}; requests are answered 503 audit-unavailable");
            (LayerState::Failed, Some(cause), Some(CANNOT_WRITE))
        }
        Some(fault) => (
            LayerState::Degraded,
            Some(format!("{fault}{lost}")),
            Some(CANNOT_WRITE),
        ),
        None if condition.has_lost_recently() => {
            let ago = condition.last_dropped.unwrap_or_default().as_secs();
            let cause = format!(
                "{} audit records were lost since the start, the last {ago} s ago",
                condition.dropped
            );
            (LayerState::Degraded, Some(cause), Some(LOST))
        }
        None => (LayerState::Proven, None, None),
    }
}

const CANNOT_WRITE: &str = "free space on its disk, give the agent's user write permission, or find out why journald does not \
                            accept lines; the agent retries every second";
const LOST: &str = "check the log at that time; gaps in seq show which records are missing; this notice ends an hour \
                    after the last loss";

/// The JSON schema of [`StatusReport`]: `docs/status.schema.json`.
pub fn schema() -> String {
    let schema = schemars::schema_for!(StatusReport);
    // Plain data: it cannot fail to serialize.
    serde_json::to_string_pretty(&schema).unwrap_or_default() + "\n"
}

impl StatusReport {
    /// A copy with control characters replaced in all texts, whoever they come from.
    #[must_use]
    pub fn printable(&self) -> Self {
        let printed = serde_json::to_value(self).and_then(|mut document| {
            make_printable(&mut document);
            serde_json::from_value(document)
        });
        // Plain data that was just written always parses.
        printed.unwrap_or_else(|_| self.clone())
    }
}

fn make_printable(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = printable_lines(text),
        serde_json::Value::Array(items) => items.iter_mut().for_each(make_printable),
        serde_json::Value::Object(members) => members.values_mut().for_each(make_printable),
        serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
    }
}

impl LayerSummary {
    /// Sums up connections and forwards.
    pub fn of(connections: &[ConnectionView], forwards: &[ForwardReport]) -> Self {
        Self {
            network: LayerReport::best(connections.iter().map(|c| &c.network)),
            tunnel: LayerReport::worst(forwards.iter().map(|f| &f.tunnel)),
            jira: LayerReport::worst(forwards.iter().map(|f| &f.jira)),
            login: LayerReport::worst(forwards.iter().map(|f| &f.login)),
        }
    }
}

impl OverallState {
    /// Down if no forward works; proven if every layer of every connection and forward is and nothing is paused; degraded
    /// in between. A standby connection is proven: with OpenSSH, only one can hold a port.
    pub fn of(connections: &[ConnectionView], forwards: &[ForwardReport]) -> Self {
        let of_forward = |f: &ForwardReport| [f.tunnel.state, f.jira.state, f.login.state];
        let of_connection = |c: &ConnectionView| [c.network.state, c.tunnel.state];
        let dead = |f: &ForwardReport| of_forward(f).contains(&LayerState::Failed);
        let fine = |state| matches!(state, LayerState::Proven | LayerState::NotApplicable);
        if forwards.iter().all(dead) {
            Self::Down
        } else if forwards.iter().all(|f| f.paused.is_none())
            && forwards.iter().flat_map(of_forward).all(fine)
            && connections.iter().flat_map(of_connection).all(fine)
        {
            Self::Proven
        } else {
            Self::Degraded
        }
    }

    /// Requests without a record degrade it; if requests are refused without one, it is down.
    pub fn with_audit(self, audit: &AuditReport) -> Self {
        match (self, audit.state) {
            (_, LayerState::Failed) => Self::Down,
            (Self::Proven, LayerState::Degraded | LayerState::Unknown) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// A full spool degrades it: long requests fail.
    pub fn with_spool(self, spool: &SpoolReport) -> Self {
        match (self, spool.state) {
            (Self::Proven, LayerState::Degraded) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// An unwritable state folder degrades it: a restart loses what could not be saved.
    pub fn with_state_folder(self, state_folder: &StateFolderReport) -> Self {
        match (self, state_folder.state) {
            (Self::Proven, LayerState::Degraded) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// A shortage of file descriptors degrades it: requests are refused.
    pub fn with_descriptors(self, descriptors: &DescriptorReport) -> Self {
        match (self, descriptors.state) {
            (Self::Proven, LayerState::Degraded) => Self::Degraded,
            (overall, _) => overall,
        }
    }

    /// The exit code of `agent status`: 0, 1 or 2.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Proven => 0,
            Self::Degraded => 1,
            Self::Down => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{ColorMode, ConnectionPhase, render, render_rates};
    use super::*;
    use crate::expiry::{CredentialKind, ExpiryUrgency};
    use std::time::Duration;

    fn layer(state: LayerState) -> LayerReport {
        let failed = state == LayerState::Failed;
        LayerReport {
            state,
            proven_seconds_ago: Some(2.0),
            since_seconds: Some(60.0),
            detail: None,
            cause: failed.then(|| "connection refused".to_owned()),
            remedy: failed.then(|| "ask the network team".to_owned()),
        }
    }

    fn forward(tunnel: LayerState, jira: LayerState, login: LayerState) -> ForwardReport {
        ForwardReport {
            name: "jira".into(),
            bind: "127.0.0.1:8080".into(),
            bound: vec!["127.0.0.1:8080".into()],
            upstream: "https://jira.corp.example/jira".into(),
            auth_mode: "pat".into(),
            tunnel: layer(tunnel),
            jira: layer(jira),
            login: layer(login),
            circuit_open: false,
            protection: ProtectionReport::default(),
            paused: None,
            in_flight: 0,
            requests: 3,
        }
    }

    fn pause() -> PauseRecord {
        PauseRecord {
            since: "2026-11-22T09:30:00Z".into(),
            reason: Some("CHG-7".into()),
            by_uid: Some(0),
        }
    }

    fn connection(network: LayerState, tunnel: LayerState) -> ConnectionView {
        ConnectionView {
            index: 0,
            gateway: "gw1.vendor.example:443".into(),
            via: None,
            address: None,
            user: "acme".into(),
            phase: ConnectionPhase::Serving,
            since_seconds: 60.0,
            attempt: 0,
            next_retry_seconds: None,
            network: layer(network),
            tunnel: layer(tunnel),
            failed_hop: None,
            suspect_seconds: None,
            rtt_ms: Some(12.3),
            generation: 1,
            host_key: None,
            key_exchange: None,
            cipher: None,
            strict_key_exchange: None,
            channels: 4,
            bytes_received: 2048,
            bytes_sent: 10,
            backlog: 0,
            closed_first: 0,
            channel_resets: 0,
            forwards: Vec::new(),
        }
    }

    use LayerState::{Degraded, Failed, NotApplicable, Proven, Unknown};

    #[test]
    fn proven_means_that_every_layer_of_everything_is() {
        let proven = [forward(Proven, Proven, NotApplicable)];
        let fine = [connection(Proven, Proven)];
        assert_eq!(OverallState::of(&fine, &proven), OverallState::Proven);
        for spoiled in [Unknown, Degraded] {
            assert_eq!(
                OverallState::of(&fine, &[forward(Proven, spoiled, Proven)]),
                OverallState::Degraded
            );
        }
        let mut paused = forward(Proven, Proven, Proven);
        paused.paused = Some(pause());
        assert_eq!(OverallState::of(&fine, &[paused]), OverallState::Degraded);
        let one_gateway_away = [connection(Proven, Proven), connection(Failed, Unknown)];
        assert_eq!(
            OverallState::of(&one_gateway_away, &proven),
            OverallState::Degraded
        );
    }

    #[test]
    fn a_lost_record_is_degraded_for_an_hour_and_a_required_audit_that_fails_is_down() {
        let on = AuditCondition {
            on: true,
            ..AuditCondition::default()
        };
        let judged = |condition: AuditCondition| {
            let report = AuditReport::of(&condition);
            let explained = report.cause.is_some() && report.remedy.is_some();
            assert_eq!(explained, matches!(report.state, Degraded | Failed));
            OverallState::Proven.with_audit(&report)
        };
        let lost = |seconds| AuditCondition {
            dropped: 3,
            last_dropped: Some(std::time::Duration::from_secs(seconds)),
            ..on.clone()
        };
        let failing = |required| AuditCondition {
            fault: Some("cannot write to the file /x: No space left on device".into()),
            required,
            ..on.clone()
        };
        assert_eq!(judged(on.clone()), OverallState::Proven);
        assert_eq!(judged(lost(3599)), OverallState::Degraded);
        assert_eq!(judged(lost(3600)), OverallState::Proven);
        assert_eq!(judged(failing(false)), OverallState::Degraded);
        assert_eq!(judged(failing(true)), OverallState::Down);
        assert_eq!(judged(AuditCondition::default()), OverallState::Proven);
    }

    #[test]
    fn a_state_folder_that_takes_nothing_is_degraded_with_cause_and_remedy() {
        let judged = |found| {
            let report = StateFolderReport::of(std::path::Path::new("/state"), found);
            let is_told = report.cause.is_some() && report.remedy.is_some();
            assert_eq!(is_told, report.state == Degraded);
            OverallState::Proven.with_state_folder(&report)
        };
        assert_eq!(judged(None), OverallState::Proven);
        assert_eq!(judged(Some(Ok(()))), OverallState::Proven);
        assert_eq!(judged(Some(Err("full"))), OverallState::Degraded);
        let full = StateFolderReport::of(std::path::Path::new("/state"), Some(Err("full")));
        assert_eq!(
            OverallState::Down.with_state_folder(&full),
            OverallState::Down
        );
    }

    #[test]
    fn the_cause_of_a_single_connection_stands_once() {
        let mentions = |connections: Vec<ConnectionView>, forwards: usize| {
            let forwards = vec![forward(Failed, Proven, Proven); forwards];
            let document = serde_json::json!({
                "version": REPORT_VERSION,
                "time": "",
                "overall": OverallState::of(&connections, &forwards),
                "agent": { "version": "", "pid": 1, "uptime_seconds": 1, "draining": false },
                "layers": LayerSummary::of(&connections, &forwards),
                "connections": connections,
                "forwards": forwards,
                "audit": AuditReport::default(),
            });
            let report: StatusReport = serde_json::from_value(document).unwrap();
            let text = render(&report, ColorMode::No);
            text.matches("cause:  connection refused").count()
        };
        let failing = || connection(Failed, Failed);
        // Once for each layer.
        assert_eq!(mentions(vec![failing()], 1), 2);
        // Which connection, and which forward.
        assert_eq!(mentions(vec![failing(), failing()], 1), 2 + 4);
        assert_eq!(mentions(vec![failing()], 2), 1 + 1 + 2);
    }

    #[test]
    fn down_means_that_no_request_can_pass_by_any_forward() {
        let fine = [connection(Proven, Proven)];
        let dead = forward(Proven, Proven, Failed);
        assert_eq!(
            OverallState::of(&fine, std::slice::from_ref(&dead)),
            OverallState::Down
        );
        let one_of_two = [dead, forward(Proven, Proven, Proven)];
        assert_eq!(OverallState::of(&fine, &one_of_two), OverallState::Degraded);
        assert_eq!(
            [
                OverallState::Proven,
                OverallState::Degraded,
                OverallState::Down
            ]
            .map(OverallState::exit_code),
            [0, 1, 2]
        );
    }

    #[test]
    fn the_documented_schema_is_the_one_of_the_code() {
        let documented = include_str!("../../../docs/status.schema.json");
        assert_eq!(
            documented,
            schema(),
            "run `make docs` and look at the difference"
        );
    }

    #[test]
    fn the_table_names_cause_and_remedy_and_colours_only_when_asked() {
        let connections = vec![connection(Failed, Unknown)];
        let mut forwards = vec![forward(Failed, Proven, Proven)];
        forwards[0].paused = Some(pause());
        let report = StatusReport {
            version: REPORT_VERSION,
            time: String::new(),
            overall: OverallState::of(&connections, &forwards),
            agent: AgentReport {
                version: "0.1.0".into(),
                pid: 1,
                uptime_seconds: 7300,
                draining: false,
            },
            layers: LayerSummary::of(&connections, &forwards),
            connections,
            forwards,
            credentials: vec![CredentialReport {
                forward: Some("jira".into()),
                credential: CredentialKind::PersonalAccessToken,
                expires: Some("2027-01-31T00:00:00Z".into()),
                days_left: Some(12.3),
                renewed_by_itself: false,
                urgency: ExpiryUrgency::Within14Days,
                summary: "the personal access token ends in 12 days (2027-01-31)".into(),
                remedy: Some("make a new one".into()),
            }],
            spool: SpoolReport {
                state: Degraded,
                cause: Some("no room".into()),
                remedy: Some("make room on it".into()),
                ..SpoolReport::default()
            },
            state_folder: StateFolderReport::of(
                std::path::Path::new("/state"),
                Some(Err("Read-only file system")),
            ),
            descriptors: DescriptorReport {
                state: Degraded,
                cause: Some("too many files are open".into()),
                remedy: Some("raise the limit".into()),
                ..DescriptorReport::default()
            },
            audit: AuditReport::of(&AuditCondition {
                written: 1,
                dropped: 2,
                last_dropped: Some(std::time::Duration::from_secs(7)),
                on: true,
                sink: "the journal".into(),
                sink_reason: "this and that".into(),
                ..AuditCondition::default()
            }),
            configuration: ConfigurationReport {
                loaded: "2026-11-28T07:00:00Z".into(),
                refused: Some(RefusedConfiguration {
                    time: "2026-11-28T08:00:00Z".into(),
                    problems: vec!["agent.toml:7: tunnel.user: not a user name".into()],
                }),
                restart: vec!["audit".into()],
            },
            upgrade: Some(UpgradeReport {
                state: UpgradeState::Failed,
                version: Some("0.2.0".into()),
                since: "2026-11-28T09:00:00Z".into(),
                cause: Some("it did not prove the tunnel".into()),
                remedy: Some("agent upgrade --retry".into()),
            }),
        };
        let plain = render(&report, ColorMode::No);
        for part in [
            "DOWN",
            "2 h 1 min",
            "cause:  connection refused",
            "remedy: ask the network team",
            "audit\n  to the journal: this and that",
            "upgrade: FAILED at 2026-11-28T09:00:00Z: the new process, version 0.2.0, did not take over; this one, version 0.1.0, keeps serving\n  cause: it did not prove the tunnel\n  remedy: agent upgrade --retry\n",
            "1 written, 2 DROPPED",
            "DEGRADED  2 audit records were lost since the start, the last 7 s ago",
            "spool\n  DEGRADED  no room\n            remedy: make room on it",
            "state folder\n  DEGRADED  cannot write to /state: Read-only file system\n            remedy: free space",
            "descriptors\n  DEGRADED  too many files are open\n            remedy: raise the limit",
            "PAUSED    since 2026-11-22T09:30:00Z by uid 0: CHG-7",
            "WARNING   the personal access token ends in 12 days",
            "remedy: make a new one",
            "REFUSED at 2026-11-28T08:00:00Z; the agent uses the one loaded at 2026-11-28T07:00:00Z",
            "agent.toml:7: tunnel.user",
            "audit changed; to apply it: systemctl restart",
        ] {
            assert!(plain.contains(part), "{part} is missing in:\n{plain}");
        }
        assert!(!plain.contains('\x1b'));
        assert!(render(&report, ColorMode::Yes).contains("\x1b[31mDOWN"));

        let mut later = report.clone();
        later.forwards[0].requests += 5;
        later.connections[0].bytes_received += 4096;
        // A session that began meanwhile counts from its beginning.
        later.connections.push(ConnectionView {
            index: 7,
            bytes_received: 1024,
            bytes_sent: 0,
            ..connection(Proven, Proven)
        });
        let two = Duration::from_secs(2);
        assert_eq!(
            render_rates(&report, &later, two).unwrap(),
            "\nin the last 2.0 s\n  jira  5 requests (2.5 a second)\n  tunnel  5.0 KiB in (2.5 KiB a second)  0 B out (0 B a second)\n"
        );
        later.agent.pid += 1;
        assert_eq!(render_rates(&report, &later, two), None, "restarted");
    }
}

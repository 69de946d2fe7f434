//! The runtime socket: how `agent status` and the other commands talk to the running agent.
//!
//! HTTP over a unix socket, so that `curl --unix-socket` works too. It reads what the data path has written and never
//! waits for it: a status query cannot delay a request.

mod client;
mod events;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz_properties;
mod server;

pub use client::{AgentClient, AgentClientError};
pub use events::{
    EVENT_LIST_VERSION, EventList, EventOrder, EventOrderResult, EventQuery, EventRow,
    EventRowState, MAX_LISTED, OutletEvents, event_list_schema,
};
pub use server::{ControlListenError, ControlListener};

use crate::{check::CheckStep, pause::PauseRequest, status::StatusReport};
use futures_util::future::BoxFuture;
use std::time::Duration;

/// What the commands can ask of the running agent. Each `Err` is one text for the person at the terminal.
pub trait ControlHandler: Send + Sync + 'static {
    /// The status document, as of now.
    fn status(&self) -> StatusReport;
    /// The metrics in Prometheus text format. `Err`: a fault of the agent.
    fn metrics(&self) -> Result<String, String>;
    /// Checks host and tunnel for one forward, or for all if `forward` is empty. `Err`: there is no such forward, or a
    /// check is already running.
    fn check_tunnel(&self, forward: &str) -> BoxFuture<'static, Result<Vec<CheckStep>, String>>;
    /// Checks one forward's hops to Jira. `Err`: there is no such forward, or a check is already running.
    fn check(&self, forward: &str) -> BoxFuture<'static, Result<Vec<CheckStep>, String>>;
    /// Changes the log level until the next change or restart. `Err` says what is wrong with `level`.
    fn set_log_level(&self, level: &str) -> Result<(), String>;
    /// Has a credential that Jira rejected tried once more: that of one forward, or of each. `Err`: there is no such
    /// forward.
    fn retry_login(&self, forward: Option<&str>) -> Result<(), String>;
    /// Reads the configuration again and applies what changed; returns one line per change. `Err`: what is wrong with it;
    /// the previous one stays in use.
    fn reload(&self) -> BoxFuture<'static, Result<Vec<String>, String>>;
    /// Hands over to a new process of the program on the disk; `by` is the user id of the caller. `retry`: also if that
    /// program has failed before. Returns which process serves, one sentence.
    fn upgrade(
        &self,
        retry: bool,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<String, UpgradeError>>;
    /// Refuses the vendor's requests; `by` is the user id of the caller. `Err`: not paused, or not saved to disk.
    fn pause(
        &self,
        request: PauseRequest,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<(), String>>;
    /// Accepts the vendor's requests again. `Err`: still paused, and why.
    fn resume(
        &self,
        request: PauseRequest,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<(), String>>;
    /// The events of outlets of mode `store`. `Err`: there is no such outlet, or no such event.
    fn events(&self, query: EventQuery) -> Result<EventList, String>;
    /// Has events tried again now; `by` is the user id of the caller. `Err`: there is no such outlet, or no such event.
    fn retry_events(
        &self,
        order: EventOrder,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<EventOrderResult, String>>;
    /// Deletes events, which are never delivered. `Err`: as for [`retry_events`](Self::retry_events).
    fn drop_events(
        &self,
        order: EventOrder,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<EventOrderResult, String>>;
}

/// Why a hand-over to a new process did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpgradeError {
    /// The running process keeps serving.
    #[error("{0}")]
    Failed(String),
    /// The two programs know no hand-over between them; a restart is needed.
    #[error("{0}")]
    Unsupported(String),
}

/// Above the sum of the deadlines of a check's steps.
const CHECK_DEADLINE: Duration = Duration::from_secs(120);
/// Above the deadlines of a reload: reading the files, cancelling forwards, notifying systemd.
const RELOAD_DEADLINE: Duration = Duration::from_secs(75);
/// For a queue of 200,000 dead letters to be rewritten on a slow disk.
const EVENTS_DEADLINE: Duration = Duration::from_secs(60);
/// Above the deadlines of a hand-over: the process before, reading and starting the program, the proof, the commit. Below
/// what the server grants.
const UPGRADE_DEADLINE: Duration = Duration::from_secs(118);
/// File name of the socket in the runtime folder.
pub const SOCKET_NAME: &str = "agent.sock";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{
        AgentReport, AuditReport, LayerReport, LayerSummary, OverallState, REPORT_VERSION,
    };
    use parking_lot::Mutex;
    use std::{
        os::unix::fs::{MetadataExt, PermissionsExt},
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };
    use tokio_util::sync::CancellationToken;

    /// The command, what it was given, and by whom.
    type Ordered = (&'static str, Option<String>, Option<u32>);

    #[derive(Default)]
    struct Recorder {
        level: Mutex<String>,
        retries: AtomicUsize,
        orders: Mutex<Vec<Ordered>>,
    }

    impl ControlHandler for Recorder {
        fn status(&self) -> StatusReport {
            let layer = LayerReport::not_applicable("test");
            StatusReport {
                version: REPORT_VERSION,
                time: String::new(),
                overall: OverallState::Degraded,
                agent: AgentReport {
                    version: "1.2.3".into(),
                    pid: 7,
                    uptime_seconds: 1,
                    draining: false,
                },
                layers: LayerSummary {
                    network: layer.clone(),
                    tunnel: layer.clone(),
                    jira: layer.clone(),
                    login: layer,
                },
                connections: Vec::new(),
                forwards: Vec::new(),
                outlets: Vec::new(),
                credentials: Vec::new(),
                audit: AuditReport::default(),
                spool: Default::default(),
                state_folder: Default::default(),
                descriptors: Default::default(),
                configuration: Default::default(),
                upgrade: None,
            }
        }

        fn metrics(&self) -> Result<String, String> {
            Ok("up 1\n".into())
        }

        fn check(&self, forward: &str) -> BoxFuture<'static, Result<Vec<CheckStep>, String>> {
            let outcome = Err(format!("no forward {forward}"));
            Box::pin(std::future::ready(outcome))
        }

        fn check_tunnel(
            &self,
            forward: &str,
        ) -> BoxFuture<'static, Result<Vec<CheckStep>, String>> {
            self.check(forward)
        }

        fn set_log_level(&self, level: &str) -> Result<(), String> {
            if level == "nonsense" {
                return Err("no such level".into());
            }
            *self.level.lock() = level.to_owned();
            Ok(())
        }

        fn retry_login(&self, forward: Option<&str>) -> Result<(), String> {
            self.retries.fetch_add(1, Ordering::Relaxed);
            match forward {
                None | Some("jira") => Ok(()),
                Some(other) => Err(format!("no forward {other}")),
            }
        }

        fn reload(&self) -> BoxFuture<'static, Result<Vec<String>, String>> {
            let outcome = match self.retries.load(Ordering::Relaxed) {
                0 => Ok(vec!["forward jira: policy".to_owned()]),
                _ => Err("agent.toml:1: wrong".to_owned()),
            };
            Box::pin(std::future::ready(outcome))
        }

        fn upgrade(
            &self,
            retry: bool,
            by: Option<u32>,
        ) -> BoxFuture<'static, Result<String, UpgradeError>> {
            let text = format!("retry {retry} by {by:?}");
            let outcome = match retry {
                true => Err(UpgradeError::Unsupported(text)),
                false => Err(UpgradeError::Failed(text)),
            };
            Box::pin(std::future::ready(outcome))
        }

        fn pause(
            &self,
            request: PauseRequest,
            by: Option<u32>,
        ) -> BoxFuture<'static, Result<(), String>> {
            self.orders.lock().push(("pause", request.reason, by));
            Box::pin(std::future::ready(Ok(())))
        }

        fn resume(
            &self,
            request: PauseRequest,
            by: Option<u32>,
        ) -> BoxFuture<'static, Result<(), String>> {
            self.orders.lock().push(("resume", request.forward, by));
            Box::pin(std::future::ready(Err("still paused".into())))
        }

        fn events(&self, query: EventQuery) -> Result<EventList, String> {
            let outlet = query.outlet.ok_or("which outlet?")?;
            let row = EventRow {
                id: query.after.unwrap_or_default(),
                state: EventRowState::Dead,
                received: "2026-11-30T20:00:00Z".into(),
                lane: "issue:1".into(),
                event_type: None,
                issue_key: Some("SEC-1".into()),
                source: "127.0.0.1".into(),
                body_bytes: 3,
                attempts: 2,
                last_error: None,
                next_attempt: None,
                given_up: None,
            };
            Ok(EventList {
                version: EVENT_LIST_VERSION,
                outlets: vec![OutletEvents {
                    outlet,
                    waiting: 0,
                    dead_letters: 1,
                    events: vec![row; query.limit],
                    more: false,
                }],
            })
        }

        fn retry_events(
            &self,
            order: EventOrder,
            by: Option<u32>,
        ) -> BoxFuture<'static, Result<EventOrderResult, String>> {
            self.orders.lock().push(("retry", order.id, by));
            Box::pin(std::future::ready(Ok(EventOrderResult {
                events: 7,
                left: 0,
            })))
        }

        fn drop_events(
            &self,
            order: EventOrder,
            by: Option<u32>,
        ) -> BoxFuture<'static, Result<EventOrderResult, String>> {
            self.orders.lock().push(("drop", order.outlet, by));
            Box::pin(std::future::ready(Err("no such event".into())))
        }
    }

    async fn listening(dir: &std::path::Path) -> (Arc<Recorder>, CancellationToken) {
        let commands = Arc::new(Recorder::default());
        let stop = CancellationToken::new();
        let listener = ControlListener::bind(dir).await.unwrap();
        tokio::spawn(listener.serve(Arc::<Recorder>::clone(&commands), stop.clone()));
        (commands, stop)
    }

    #[tokio::test]
    async fn commands_reach_the_running_agent_and_its_refusals_come_back() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, _stop) = listening(dir.path()).await;
        let client = AgentClient::new(dir.path());
        assert_eq!(client.status().await.unwrap().agent.version, "1.2.3");
        assert_eq!(client.metrics().await.unwrap(), "up 1\n");
        let refused = client.check("none").await.unwrap_err();
        assert!(matches!(refused, AgentClientError::Refused(why) if why == "no forward none"));
        client.set_log_level("debug").await.unwrap();
        assert_eq!(*commands.level.lock(), "debug");
        assert_eq!(client.reload().await.unwrap(), ["forward jira: policy"]);
        client.retry_login(None).await.unwrap();
        client.retry_login(Some("jira")).await.unwrap();
        let refused = client.retry_login(Some("none")).await.unwrap_err();
        assert!(matches!(refused, AgentClientError::Refused(why) if why == "no forward none"));
        assert_eq!(commands.retries.load(Ordering::Relaxed), 3);
        let refused = client.reload().await.unwrap_err();
        assert!(matches!(refused, AgentClientError::Refused(why) if why == "agent.toml:1: wrong"));
        let request = PauseRequest {
            forward: Some("jira".into()),
            reason: Some("ü".repeat(200)),
        };
        client.pause(&request).await.unwrap();
        let refused = client.resume(&request).await.unwrap_err();
        assert!(matches!(refused, AgentClientError::Refused(why) if why == "still paused"));
        // The kernel says who asks.
        let uid = std::fs::metadata(dir.path()).unwrap().uid();
        let orders = commands.orders.lock().clone();
        assert_eq!(orders[0], ("pause", request.reason, Some(uid)));
        assert_eq!(orders[1], ("resume", request.forward, Some(uid)));
        let refused = client.set_log_level("nonsense").await.unwrap_err();
        assert!(matches!(refused, AgentClientError::Refused(why) if why == "no such level"));
    }

    #[tokio::test]
    async fn orders_about_events_arrive_with_who_gave_them() {
        let dir = tempfile::tempdir().unwrap();
        let (commands, _stop) = listening(dir.path()).await;
        let client = AgentClient::new(dir.path());
        let query = EventQuery {
            outlet: Some("events".into()),
            after: Some("msg_1".into()),
            limit: MAX_LISTED,
            ..EventQuery::default()
        };
        let list = client.events(&query).await.unwrap();
        let [listed] = &list.outlets[..] else {
            panic!("{list:?}");
        };
        assert_eq!(
            (&*listed.outlet, listed.events.len()),
            ("events", MAX_LISTED)
        );
        assert_eq!(listed.events[0].id, "msg_1");
        let refused = client.events(&EventQuery::default()).await.unwrap_err();
        assert!(matches!(refused, AgentClientError::Refused(why) if why == "which outlet?"));

        let order = EventOrder {
            outlet: Some("events".into()),
            id: Some("msg_1".into()),
        };
        assert_eq!(client.retry_events(&order).await.unwrap().events, 7);
        let refused = client.drop_events(&order).await.unwrap_err();
        assert!(matches!(refused, AgentClientError::Refused(why) if why == "no such event"));
        let uid = std::fs::metadata(dir.path()).unwrap().uid();
        let orders = commands.orders.lock().clone();
        assert_eq!(orders[0], ("retry", order.id, Some(uid)));
        assert_eq!(orders[1], ("drop", order.outlet, Some(uid)));
    }

    #[tokio::test]
    async fn nobody_but_user_and_group_may_ask() {
        let dir = tempfile::tempdir().unwrap();
        let _running = listening(dir.path()).await;
        let mode = std::fs::metadata(dir.path().join(SOCKET_NAME))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[tokio::test]
    async fn no_agent_is_told_apart_from_an_agent_that_says_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let error = AgentClient::new(dir.path()).status().await.unwrap_err();
        assert!(matches!(error, AgentClientError::NotRunning { .. }));
    }

    #[tokio::test]
    async fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET_NAME)).unwrap());
        let _running = listening(dir.path()).await;
        let second = ControlListener::bind(dir.path()).await;
        assert!(matches!(second, Err(ControlListenError::InUse { .. })));
        assert!(AgentClient::new(dir.path()).status().await.is_ok());
    }
}

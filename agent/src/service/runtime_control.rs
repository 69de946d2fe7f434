//! What the runtime socket can do with the running agent.

use super::{
    configuration::ActiveConfiguration, event_commands, forward_table::ForwardTable,
    handover::UpgradeRequest, outlet_table::OutletTable, reload::ConfigReloader,
    report::StatusCollector,
};
use crate::{
    check,
    control::{ControlHandler, EventList, EventOrder, EventOrderResult, EventQuery, UpgradeError},
    metrics,
    pause::{PauseError, PauseRegistry, PauseRequest},
    status::StatusReport,
    supervisor::SupervisorHandle,
    telemetry,
};
use futures_util::future::BoxFuture;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// The running agent, as the runtime socket reaches it.
pub(super) struct RuntimeControl {
    pub(super) collector: StatusCollector,
    pub(super) forwards: Arc<ForwardTable>,
    pub(super) outlets: Arc<OutletTable>,
    pub(super) supervisor: SupervisorHandle,
    pub(super) configuration: Arc<ActiveConfiguration>,
    /// Cancelled once the agent is stopping.
    pub(super) stopping: CancellationToken,
    pub(super) pauses: PauseRegistry,
    pub(super) log: telemetry::LogLevelHandle,
    pub(super) reloader: Arc<ConfigReloader>,
    /// One check at a time.
    pub(super) checking: Arc<Semaphore>,
    pub(super) upgrades: mpsc::Sender<UpgradeRequest>,
}

impl ControlHandler for RuntimeControl {
    fn status(&self) -> StatusReport {
        self.collector.report(self.stopping.is_cancelled())
    }

    fn metrics(&self) -> Result<String, String> {
        let mut traffic = self.forwards.traffic();
        traffic.extend(self.outlets.traffic());
        metrics::render(&self.status(), &traffic).map_err(|error| error.to_string())
    }

    fn check_tunnel(
        &self,
        forward: &str,
    ) -> BoxFuture<'static, Result<Vec<check::CheckStep>, String>> {
        let permit = self.lock_check();
        let under_test = self.forwards.forwards_under_test(forward, &self.supervisor);
        let host = check::HostRequirements::of(&self.configuration.current());
        let supervisor = self.supervisor.clone();
        Box::pin(async move {
            let _permit = permit?;
            let running = check::RunningAgent {
                connections: supervisor.connections(),
                failures: supervisor.failures(),
                forwards: under_test?,
            };
            Ok(check::check_running(&host, &supervisor.settings(), &running).await)
        })
    }

    fn check(&self, forward: &str) -> BoxFuture<'static, Result<Vec<check::CheckStep>, String>> {
        let permit = self.lock_check();
        let outlet = self.outlets.named(forward);
        let active = self.forwards.require(forward);
        let queue = outlet.as_ref().and_then(|_| self.queue_under_test(forward));
        Box::pin(async move {
            let _permit = permit?;
            if let Some(outlet) = outlet {
                return Ok(outlet.check(queue).await);
            }
            Ok(active?.check().await)
        })
    }

    fn set_log_level(&self, level: &str) -> Result<(), String> {
        self.log.set_level(level).map_err(|error| error.to_string())
    }

    fn retry_login(&self, forward: Option<&str>) -> Result<(), String> {
        self.forwards.retry_login(forward)
    }

    fn reload(&self) -> BoxFuture<'static, Result<Vec<String>, String>> {
        let reloader = Arc::clone(&self.reloader);
        // The client may disconnect; a reload that has begun is completed.
        let task = tokio::spawn(async move { reloader.reload().await });
        Box::pin(async move {
            match task.await {
                Ok(outcome) => outcome.map_err(|refused| refused.to_string()),
                Err(_) => Err("the reload failed unexpectedly; check the log".to_owned()),
            }
        })
    }

    fn upgrade(
        &self,
        retry: bool,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<String, UpgradeError>> {
        let own = rustix::process::geteuid().as_raw();
        if by.is_some_and(|by| by != 0 && by != own) {
            let text = "only root and the agent's user may do that";
            return Box::pin(std::future::ready(Err(UpgradeError::Failed(
                text.to_owned(),
            ))));
        }
        let (answer, answered) = oneshot::channel();
        let asked = self.upgrades.try_send(UpgradeRequest { retry, answer });
        Box::pin(async move {
            asked.map_err(|_| UpgradeError::Failed(IN_PROGRESS.to_owned()))?;
            let stopping = || UpgradeError::Failed("the agent is stopping".to_owned());
            answered.await.map_err(|_| stopping())?
        })
    }

    fn pause(
        &self,
        request: PauseRequest,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let pauses = self.pauses.clone();
        self.change_pauses(request, move |request| async move {
            pauses.pause(request, by).await
        })
    }

    fn resume(
        &self,
        request: PauseRequest,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let pauses = self.pauses.clone();
        self.change_pauses(request, move |request| async move {
            pauses.resume(&request, by).await
        })
    }

    fn events(&self, query: EventQuery) -> Result<EventList, String> {
        event_commands::list(&self.outlets, &query)
    }

    fn retry_events(
        &self,
        order: EventOrder,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<EventOrderResult, String>> {
        let outlets = Arc::clone(&self.outlets);
        complete(async move { event_commands::retry(&outlets, &order, by).await })
    }

    fn drop_events(
        &self,
        order: EventOrder,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<EventOrderResult, String>> {
        let outlets = Arc::clone(&self.outlets);
        complete(async move { event_commands::drop_events(&outlets, &order, by).await })
    }
}

/// Runs it to its end even if the client disconnects: what was dropped is recorded.
fn complete<T: Send + 'static>(
    order: impl Future<Output = Result<T, String>> + Send + 'static,
) -> BoxFuture<'static, Result<T, String>> {
    let task = tokio::spawn(order);
    Box::pin(async move {
        let done = task.await;
        done.unwrap_or_else(|_| Err("the command failed unexpectedly; check the log".to_owned()))
    })
}

impl RuntimeControl {
    /// What `agent check` looks at of this outlet's queue; `None`: it has none.
    fn queue_under_test(&self, outlet: &str) -> Option<check::QueueUnderTest> {
        let outlets = self.status().outlets;
        let mut named = outlets.into_iter().filter(|report| report.name == outlet);
        let report = named.next()?.queue?;
        let folder = self.configuration.current().state_dir.clone();
        Some(check::QueueUnderTest { report, folder })
    }

    /// Whether there is a forward or an outlet of this name. `Err`: which there are.
    fn require(&self, name: &str) -> Result<(), String> {
        match self.outlets.named(name) {
            Some(_) => Ok(()),
            None => self.forwards.require(name).map(drop),
        }
    }

    /// Calls `change`, unless the request names a forward that does not exist.
    fn change_pauses<F>(
        &self,
        request: PauseRequest,
        change: impl FnOnce(PauseRequest) -> F + Send + 'static,
    ) -> BoxFuture<'static, Result<(), String>>
    where
        F: Future<Output = Result<(), PauseError>> + Send,
    {
        let named = request.forward.as_deref();
        let known = named.map(|name| self.require(name)).transpose();
        Box::pin(async move {
            known?;
            change(request).await.map_err(|error| error.to_string())
        })
    }

    /// Permission for one check. `Err`: another one is running.
    fn lock_check(&self) -> Result<OwnedSemaphorePermit, String> {
        let permit = Arc::clone(&self.checking).try_acquire_owned();
        permit.map_err(|_| "a check is already running; try again when it has finished".to_owned())
    }
}

const IN_PROGRESS: &str = "an upgrade is already in progress; try again when it has finished";

//! Joins the rooms into the running agent: builds, waits, drains. It decides nothing about a request or a connection.
//!
//! `forward_table` holds the forwards, each an `active_forward`, and routes each inbound channel to its own. `report`
//! assembles the status, `expiry_monitor` knows when credentials expire, `disk_watch` whether spool and state folder can
//! be written. `configuration` is the configuration in use, `reload` applies the next one. `notify` and `watchdog` report
//! to systemd.

mod active_forward;
mod configuration;
mod disk_watch;
mod expiry_monitor;
mod folders;
mod forward_table;
mod notify;
mod reload;
mod report;
mod watchdog;

pub use folders::make_spool_dir;

use crate::{
    audit::AuditHandle,
    check,
    config::{Config, ConfigSources},
    control::{ControlHandler, ControlListener},
    disk::DiskReserve,
    metrics,
    pause::{PauseRegistry, PauseRequest},
    status::StatusReport,
    supervisor::{Supervisor, SupervisorHandle},
    telemetry,
    tunnel::ChannelAcceptor,
};
use active_forward::ServiceContext;
use anyhow::Context;
use configuration::ActiveConfiguration;
use disk_watch::DiskWatch;
use expiry_monitor::ExpiryMonitor;
use forward_table::ForwardTable;
use futures_util::future::BoxFuture;
use notify::SystemdNotifier;
use reload::ConfigReloader;
use report::StatusCollector;
use std::{io::IsTerminal, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or SIGINT, then drains. SIGHUP reloads `sources`; on a terminal it means that the terminal was
/// closed, and ends the agent too. `log` changes the log level of this process.
pub async fn run(
    config: Config,
    sources: ConfigSources,
    log: telemetry::LogLevelHandle,
) -> anyhow::Result<()> {
    // First of all: from here on, no signal ends the process abruptly.
    let mut stops = StopSignals::listen()?;
    let hangup = signal(SignalKind::hangup()).context("installing the SIGHUP handler")?;
    let listener = ControlListener::bind(&config.runtime_dir).await?;
    let (audit, audit_task) = AuditHandle::spawn(config.audit.clone());
    let stopping = CancellationToken::new();
    let drain = CancellationToken::new();
    let abort = CancellationToken::new();
    let stop = CancellationToken::new();
    let (table, first, pauses) = {
        let (forwards, audit, drain) = (config.forwards.clone(), audit.clone(), drain.clone());
        let (state_dir, abort, stop) = (config.state_dir.clone(), abort.clone(), stop.clone());
        // Reads the system's certificate store.
        tokio::task::spawn_blocking(move || {
            // Before anything fills the disk. If it cannot be created, the watch of the state folder reports it.
            let _ = DiskReserve::of(&state_dir).ensure();
            let pauses = PauseRegistry::load(&state_dir);
            let context = ServiceContext {
                audit,
                pauses: pauses.clone(),
                drain,
                abort,
                stop,
            };
            let table = ForwardTable::new(context);
            let first = table.prepare(&forwards);
            first.map(|first| (table, first, pauses))
        })
        .await??
    };
    let table = Arc::new(table);
    table.activate(first);
    let accept: Arc<dyn ChannelAcceptor> = Arc::<ForwardTable>::clone(&table);
    let supervisor = Supervisor::spawn(Arc::clone(&config.tunnel), accept, stop.clone());
    let identity = Arc::clone(&config.tunnel.identity);
    let expiry = Arc::new(ExpiryMonitor::new(Arc::clone(&table), identity));
    tokio::spawn(Arc::clone(&expiry).run(stop.clone()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        forwards = config.forwards.len(),
        connections = config.tunnel.connections,
        "agent started"
    );
    let configuration = Arc::new(ActiveConfiguration::new(sources, config));
    let notify = Arc::new(SystemdNotifier::from_environment());
    let reloader = Arc::new(ConfigReloader {
        configuration: Arc::clone(&configuration),
        forwards: Arc::clone(&table),
        supervisor: supervisor.clone(),
        expiry: Arc::clone(&expiry),
        log: log.clone(),
        notify: Arc::clone(&notify),
        stopping: stopping.clone(),
        pending: tokio::sync::Mutex::default(),
    });
    let spool = Arc::new(DiskWatch::of_spool(Arc::clone(&configuration)));
    tokio::spawn(Arc::clone(&spool).run(stop.clone()));
    let state_folder = Arc::new(DiskWatch::of_state_folder(Arc::clone(&configuration)));
    tokio::spawn(Arc::clone(&state_folder).run(stop.clone()));
    let collector = StatusCollector::new(
        Arc::clone(&configuration),
        Arc::clone(&table),
        supervisor.clone(),
        audit,
        expiry,
        spool,
        state_folder,
    );
    let running = Arc::new(RuntimeControl {
        collector,
        forwards: Arc::clone(&table),
        supervisor: supervisor.clone(),
        configuration,
        stopping: stopping.clone(),
        pauses,
        log,
        reloader: Arc::clone(&reloader),
        checking: Arc::new(Semaphore::new(1)),
    });
    let control =
        tokio::spawn(listener.serve(Arc::<RuntimeControl>::clone(&running), stop.clone()));
    let feeding = watchdog::feed(Arc::clone(&notify), supervisor.clone(), stop.clone());
    tokio::spawn(feeding);
    notify.ready().await;
    match std::io::stderr().is_terminal() {
        // The terminal was closed.
        true => stops.hangup = Some(hangup),
        false => drop(tokio::spawn(
            Arc::clone(&reloader).listen(hangup, stopping.clone()),
        )),
    }
    let report = move || running.status();
    tokio::spawn(watchdog::notify_status(
        Arc::clone(&notify),
        report,
        stop.clone(),
    ));

    let why = stops.received().await;
    stopping.cancel();
    let limit = reloader.drain_limit();
    notify.stopping(limit + AFTER_DRAIN).await;
    tracing::info!(
        signal = why,
        requests = table.in_flight(),
        "stopping: requests in progress finish"
    );
    // Until the gateway has cancelled the forwards, requests are answered as usual: a channel closed at once would give
    // the vendor no reason.
    let close_idle = async {
        let cancelled = tokio::time::timeout(CANCEL_TIMEOUT, supervisor.cancelled(|_| true)).await;
        drain.cancel();
        if cancelled.is_ok() {
            std::future::pending::<()>().await;
        }
        // Such a gateway does not answer any more; Jira may still answer the requests in progress.
        while table.in_flight() > 0 {
            tokio::time::sleep(IN_FLIGHT_POLL).await;
        }
    };
    let abort_requests = async {
        tokio::time::sleep(limit).await;
        let requests = table.in_flight();
        tracing::warn!(
            requests,
            "the drain limit has passed; aborting the requests still in progress"
        );
        abort.cancel();
        std::future::pending().await
    };
    tokio::select! {
        () = supervisor.drain(limit + LAST_ANSWERS) => {}
        () = close_idle => {}
        () = abort_requests => {}
    }
    drain.cancel();
    stop.cancel();
    if tokio::time::timeout(LOGIN_LIMIT, table.wait_for_logins())
        .await
        .is_err()
    {
        tracing::warn!(
            remedy = "if the next start reports a lost login: agent login",
            "stopping while an OAuth token is being refreshed; the new tokens may be lost"
        );
    }
    if !audit_task.shutdown(AUDIT_LIMIT).await {
        tracing::warn!(
            remedy = "check the disk or journal that audit.sink writes to",
            "some audit records were not written before the agent stopped"
        );
    }
    let _ = tokio::time::timeout(CONTROL_LIMIT, control).await;
    tracing::info!("agent stopped");
    Ok(())
}

/// What the runtime socket can do with the running agent.
struct RuntimeControl {
    collector: StatusCollector,
    forwards: Arc<ForwardTable>,
    supervisor: SupervisorHandle,
    configuration: Arc<ActiveConfiguration>,
    /// Cancelled once the agent is stopping.
    stopping: CancellationToken,
    pauses: PauseRegistry,
    log: telemetry::LogLevelHandle,
    reloader: Arc<ConfigReloader>,
    /// One check at a time.
    checking: Arc<Semaphore>,
}

impl ControlHandler for RuntimeControl {
    fn status(&self) -> StatusReport {
        self.collector.report(self.stopping.is_cancelled())
    }

    fn metrics(&self) -> Result<String, String> {
        let traffic = self.forwards.traffic();
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
        let active = self.forwards.require(forward);
        Box::pin(async move {
            let _permit = permit?;
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

    fn pause(
        &self,
        request: PauseRequest,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let named = request.forward.as_deref();
        let known = named.map(|name| self.forwards.require(name)).transpose();
        let pauses = self.pauses.clone();
        Box::pin(async move {
            known?;
            let done = pauses.pause(request, by).await;
            done.map_err(|error| error.to_string())
        })
    }

    fn resume(
        &self,
        request: PauseRequest,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let named = request.forward.as_deref();
        let known = named.map(|name| self.forwards.require(name)).transpose();
        let pauses = self.pauses.clone();
        Box::pin(async move {
            known?;
            let done = pauses.resume(&request, by).await;
            done.map_err(|error| error.to_string())
        })
    }
}

impl RuntimeControl {
    /// Permission for one check. `Err`: another one is running.
    fn lock_check(&self) -> Result<OwnedSemaphorePermit, String> {
        let permit = Arc::clone(&self.checking).try_acquire_owned();
        permit.map_err(|_| "a check is already running; try again when it has finished".to_owned())
    }
}

/// The signals that stop the agent.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Only where it does not mean a reload.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// From now on they no longer end the process by themselves.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("installing the SIGTERM handler")?,
            interrupt: signal(SignalKind::interrupt()).context("installing the SIGINT handler")?,
            hangup: None,
        })
    }

    async fn received(mut self) -> &'static str {
        let hangup = async {
            match &mut self.hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = hangup => "SIGHUP",
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// For the gateways to confirm that they no longer listen. One that takes longer is probably unreachable.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// Only a stop with a silent gateway polls.
const IN_FLIGHT_POLL: Duration = Duration::from_millis(50);
/// For the answers that report aborted requests to reach the gateway.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// What may follow the drain limit: the last answers, 15 s to close the sessions, the three limits below, and a margin.
const AFTER_DRAIN: Duration = Duration::from_secs(50);
/// A token endpoint that takes longer is not expected to answer.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);
/// For the audit queue to be written.
const AUDIT_LIMIT: Duration = Duration::from_secs(5);
/// For the runtime socket to close.
const CONTROL_LIMIT: Duration = Duration::from_secs(1);

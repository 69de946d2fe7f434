//! Joins the rooms into the running agent: builds, waits, drains. No decision about a request or a connection is made
//! here.
//!
//! `forward_table` holds the forwards, each a `active_forward`, and hands each inbound channel to its own; `report` puts the status together,
//! `expiry_monitor` knows when credentials end, `disk_watch` whether spool and state folder can be written. `configuration` says which configuration holds, `reload` brings the next one
//! about. `notify` and `watchdog` tell systemd.

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

/// Runs until SIGTERM or SIGINT, then drains; reads `sources` again at SIGHUP, but for the
/// end of a terminal, which ends the agent too. `log` changes the log level of this
/// process.
pub async fn run(
    config: Config,
    sources: ConfigSources,
    log: telemetry::LogLevelHandle,
) -> anyhow::Result<()> {
    // Before anything else: from now on no signal ends the process by itself.
    let mut stops = StopSignals::listen()?;
    let hangup = signal(SignalKind::hangup()).context("installing the SIGHUP handler")?;
    let listener = ControlListener::bind(&config.runtime_dir).await?;
    let (audit, audit_task) = AuditHandle::spawn(config.audit.clone());
    let stopping = CancellationToken::new();
    let drain = CancellationToken::new();
    let cut = CancellationToken::new();
    let stop = CancellationToken::new();
    let (sites, first, pauses) = {
        let (forwards, audit, drain) = (config.forwards.clone(), audit.clone(), drain.clone());
        let (state_dir, cut, stop) = (config.state_dir.clone(), cut.clone(), stop.clone());
        // Reads the system's certificate store.
        tokio::task::spawn_blocking(move || {
            // Before anything fills the disk. Where it cannot be made, the watch of the state folder says so.
            let _ = DiskReserve::of(&state_dir).ensure();
            let pauses = PauseRegistry::load(&state_dir);
            let common = ServiceContext {
                audit,
                pauses: pauses.clone(),
                drain,
                abort: cut,
                stop,
            };
            let sites = ForwardTable::new(common);
            let first = sites.prepare(&forwards);
            first.map(|first| (sites, first, pauses))
        })
        .await??
    };
    let sites = Arc::new(sites);
    sites.activate(first);
    let accept: Arc<dyn ChannelAcceptor> = Arc::<ForwardTable>::clone(&sites);
    let supervisor = Supervisor::spawn(Arc::clone(&config.tunnel), accept, stop.clone());
    let identity = Arc::clone(&config.tunnel.identity);
    let forecast = Arc::new(ExpiryMonitor::new(Arc::clone(&sites), identity));
    tokio::spawn(Arc::clone(&forecast).run(stop.clone()));
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
        forwards: Arc::clone(&sites),
        supervisor: supervisor.clone(),
        expiry: Arc::clone(&forecast),
        log: log.clone(),
        notify: Arc::clone(&notify),
        stopping: stopping.clone(),
        reading: tokio::sync::Mutex::default(),
    });
    let spool = Arc::new(DiskWatch::of_spool(Arc::clone(&configuration)));
    tokio::spawn(Arc::clone(&spool).run(stop.clone()));
    let state_folder = Arc::new(DiskWatch::of_state_folder(Arc::clone(&configuration)));
    tokio::spawn(Arc::clone(&state_folder).run(stop.clone()));
    let observer = StatusCollector::new(
        Arc::clone(&configuration),
        Arc::clone(&sites),
        supervisor.clone(),
        audit,
        forecast,
        spool,
        state_folder,
    );
    let running = Arc::new(RuntimeControl {
        observer,
        forwards: Arc::clone(&sites),
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
    let fed = watchdog::feed(Arc::clone(&notify), supervisor.clone(), stop.clone());
    tokio::spawn(fed);
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

    let why = stops.heard().await;
    stopping.cancel();
    let limit = reloader.drain_limit();
    notify.stopping(limit + AFTER_DRAIN).await;
    tracing::info!(signal = why, requests = sites.in_flight(), "draining");
    // Until the gateway has been told, what comes is answered as ever: a channel closed at once would tell the vendor
    // nothing.
    let close_idle = async {
        let let_go = tokio::time::timeout(LET_GO, supervisor.cancelled(|_| true)).await;
        drain.cancel();
        if let_go.is_ok() {
            std::future::pending::<()>().await;
        }
        // Nothing more is to be had of a gateway that does not answer; Jira may still answer what it was asked.
        while sites.in_flight() > 0 {
            tokio::time::sleep(IN_FLIGHT_POLL).await;
        }
    };
    let cut_off = async {
        tokio::time::sleep(limit).await;
        let requests = sites.in_flight();
        tracing::warn!(
            requests,
            "the drain limit has passed; requests that are still in progress are cut off"
        );
        cut.cancel();
        std::future::pending().await
    };
    tokio::select! {
        () = supervisor.drain(limit + LAST_ANSWERS) => {}
        () = close_idle => {}
        () = cut_off => {}
    }
    drain.cancel();
    stop.cancel();
    if tokio::time::timeout(LOGIN_LIMIT, sites.wait_for_logins())
        .await
        .is_err()
    {
        tracing::warn!(
            "an OAuth token is still being refreshed while the agent stops; if its new tokens are lost, the next start reports it"
        );
    }
    if !audit_task.shutdown(AUDIT_LIMIT).await {
        tracing::warn!("some audit records were not written before the agent stopped");
    }
    let _ = tokio::time::timeout(CONTROL_LIMIT, control).await;
    tracing::info!("agent stopped");
    Ok(())
}

/// What the runtime socket reaches.
struct RuntimeControl {
    observer: StatusCollector,
    forwards: Arc<ForwardTable>,
    supervisor: SupervisorHandle,
    configuration: Arc<ActiveConfiguration>,
    /// The agent has been told to stop.
    stopping: CancellationToken,
    pauses: PauseRegistry,
    log: telemetry::LogLevelHandle,
    reloader: Arc<ConfigReloader>,
    /// One at a time.
    checking: Arc<Semaphore>,
}

impl ControlHandler for RuntimeControl {
    fn status(&self) -> StatusReport {
        self.observer.report(self.stopping.is_cancelled())
    }

    fn metrics(&self) -> Result<String, String> {
        let traffic = self.forwards.traffic();
        metrics::render(&self.status(), &traffic).map_err(|error| error.to_string())
    }

    fn check_tunnel(
        &self,
        forward: &str,
    ) -> BoxFuture<'static, Result<Vec<check::CheckStep>, String>> {
        let turn = self.lock_check();
        let lanes = self.forwards.forwards_under_test(forward, &self.supervisor);
        let host = check::HostRequirements::of(&self.configuration.current());
        let supervisor = self.supervisor.clone();
        Box::pin(async move {
            let _turn = turn?;
            let live = check::RunningAgent {
                connections: supervisor.connections(),
                failures: supervisor.failures(),
                forwards: lanes?,
            };
            Ok(check::check_running(&host, &supervisor.settings(), &live).await)
        })
    }

    fn check(&self, forward: &str) -> BoxFuture<'static, Result<Vec<check::CheckStep>, String>> {
        let turn = match self.lock_check() {
            Ok(turn) => turn,
            Err(why) => return Box::pin(std::future::ready(Err(why))),
        };
        let Some(site) = self.forwards.named(forward) else {
            let why = forward_table::unknown(forward);
            return Box::pin(std::future::ready(Err(why)));
        };
        Box::pin(async move {
            let _turn = turn;
            Ok(site.check().await)
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
        // Whoever asked may go away; what was begun is brought to its end.
        let task = tokio::spawn(async move { reloader.reload().await });
        Box::pin(async move {
            match task.await {
                Ok(outcome) => outcome.map_err(|refused| refused.to_string()),
                Err(_) => Err("the reload broke off; look at the log".to_owned()),
            }
        })
    }

    fn pause(
        &self,
        order: PauseRequest,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let known = self.require_known(&order);
        let pauses = self.pauses.clone();
        Box::pin(async move {
            known?;
            let done = pauses.pause(order, by).await;
            done.map_err(|error| error.to_string())
        })
    }

    fn resume(
        &self,
        order: PauseRequest,
        by: Option<u32>,
    ) -> BoxFuture<'static, Result<(), String>> {
        let known = self.require_known(&order);
        let pauses = self.pauses.clone();
        Box::pin(async move {
            known?;
            let done = pauses.resume(&order, by).await;
            done.map_err(|error| error.to_string())
        })
    }
}

impl RuntimeControl {
    /// One check at a time.
    fn lock_check(&self) -> Result<OwnedSemaphorePermit, String> {
        let turn = Arc::clone(&self.checking).try_acquire_owned();
        turn.map_err(|_| "a check is running already; wait for its end".to_owned())
    }

    /// Refuses the name of a forward that there is not.
    fn require_known(&self, order: &PauseRequest) -> Result<(), String> {
        match &order.forward {
            Some(name) if self.forwards.named(name).is_none() => {
                let sites = self.forwards.all();
                let known: Vec<_> = sites.iter().map(|s| &*s.config.name).collect();
                let known = known.join(", ");
                Err(format!(
                    "the running agent has no forward {name:?}; it has {known}"
                ))
            }
            _ => Ok(()),
        }
    }
}

/// The signals that end the agent.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    /// Where it does not ask for a reload.
    hangup: Option<Signal>,
}

impl StopSignals {
    /// From now on they do not end the process by themselves.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("installing the SIGTERM handler")?,
            interrupt: signal(SignalKind::interrupt()).context("installing the SIGINT handler")?,
            hangup: None,
        })
    }

    async fn heard(mut self) -> &'static str {
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

/// For the gateways to answer that they listen no more. One that takes longer is likely gone.
const LET_GO: Duration = Duration::from_secs(5);
/// Only a stop with a silent gateway polls.
const IN_FLIGHT_POLL: Duration = Duration::from_millis(50);
/// For the answers that say what was cut off to reach the gateway.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// What may come after the drain limit: the last answers, 15 s of goodbyes, then the three below, and something to spare.
const AFTER_DRAIN: Duration = Duration::from_secs(50);
/// A token endpoint answers within this, or not at all.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);
/// The audit queue is written within this.
const AUDIT_LIMIT: Duration = Duration::from_secs(5);
/// The runtime socket is gone within this.
const CONTROL_LIMIT: Duration = Duration::from_secs(1);

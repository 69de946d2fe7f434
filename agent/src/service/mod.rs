//! Joins the rooms into the running agent: builds, waits, drains. No decision about a request or a connection is made
//! here.
//!
//! `sites` holds the forwards and hands each inbound channel to its own, `report` puts the status together, `forecast` knows when
//! credentials end. `notify` and `pulse` tell systemd.

mod forecast;
mod notify;
mod pulse;
mod report;
mod sites;

use crate::{
    audit::Audit,
    check,
    config::Config,
    control::{Commands, Listener},
    metrics,
    pause::{Order, Pauses},
    status::Report,
    supervisor::{Supervisor, SupervisorHandle},
    telemetry,
    tunnel::Accept,
};
use anyhow::Context;
use forecast::Forecast;
use futures_util::future::BoxFuture;
use notify::Notify;
use report::Observer;
use sites::Sites;
use std::{sync::Arc, time::Duration};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{OwnedSemaphorePermit, Semaphore},
};
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or SIGINT, then drains. `log` changes the log level of this process.
pub async fn run(config: Config, log: telemetry::Handle) -> anyhow::Result<()> {
    let listener = Listener::bind(&config.runtime_dir).await?;
    let (audit, audit_task) = Audit::spawn(config.audit.clone());
    let drain = CancellationToken::new();
    let stop = CancellationToken::new();
    let (sites, probes, pauses) = {
        let (forwards, audit, drain) = (config.forwards.clone(), audit.clone(), drain.clone());
        let state_dir = config.state_dir.clone();
        // Reads the system's certificate store.
        tokio::task::spawn_blocking(move || {
            let pauses = Pauses::load(&state_dir);
            Sites::new(&forwards, &audit, &pauses, drain)
                .map(|(sites, probes)| (sites, probes, pauses))
        })
        .await??
    };
    let sites = Arc::new(sites);
    let accept: Arc<dyn Accept> = Arc::<Sites>::clone(&sites);
    let supervisor = Supervisor::spawn(Arc::clone(&config.tunnel), accept, stop.clone());
    for probe in probes {
        tokio::spawn(probe.run(stop.clone()));
    }
    let identity = Arc::clone(&config.tunnel.identity);
    let forecast = Arc::new(Forecast::new(Arc::clone(&sites), identity));
    tokio::spawn(Arc::clone(&forecast).run(stop.clone()));
    let observer = Observer::new(
        &config,
        Arc::clone(&sites),
        supervisor.clone(),
        audit,
        forecast,
    );
    let running = Arc::new(Running {
        observer,
        sites: Arc::clone(&sites),
        supervisor: supervisor.clone(),
        host: check::Host::of(&config),
        drain: drain.clone(),
        pauses,
        log,
        checking: Arc::new(Semaphore::new(1)),
    });
    let control = tokio::spawn(listener.serve(Arc::<Running>::clone(&running), stop.clone()));
    let notify = Arc::new(Notify::from_environment());
    let fed = pulse::feed(Arc::clone(&notify), supervisor.clone(), stop.clone());
    tokio::spawn(fed);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        forwards = config.forwards.len(),
        connections = config.tunnel.connections,
        "agent started"
    );

    let stops = Stops::listen()?;
    notify.ready().await;
    let report = move || running.status();
    tokio::spawn(pulse::tell_status(
        Arc::clone(&notify),
        report,
        stop.clone(),
    ));

    let why = stops.heard().await;
    notify.stopping().await;
    tracing::info!(signal = why, requests = sites.in_flight(), "draining");
    drain.cancel();
    supervisor.drain(DRAIN_LIMIT).await;
    stop.cancel();
    if tokio::time::timeout(LOGIN_LIMIT, sites.settle_logins())
        .await
        .is_err()
    {
        tracing::warn!(
            "a login is still being renewed; should its new tokens be lost, the next start says so"
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
struct Running {
    observer: Observer,
    sites: Arc<Sites>,
    supervisor: SupervisorHandle,
    host: check::Host,
    drain: CancellationToken,
    pauses: Pauses,
    log: telemetry::Handle,
    /// One at a time.
    checking: Arc<Semaphore>,
}

impl Commands for Running {
    fn status(&self) -> Report {
        self.observer.report(self.drain.is_cancelled())
    }

    fn metrics(&self) -> Result<String, String> {
        let traffic: Vec<_> = self.sites.traffic().collect();
        metrics::render(&self.status(), &traffic).map_err(|error| error.to_string())
    }

    fn check_tunnel(&self, forward: &str) -> BoxFuture<'static, Result<Vec<check::Step>, String>> {
        let turn = self.turn_to_check();
        let lanes = self.sites.lanes(forward, &self.supervisor);
        let host = self.host.clone();
        let supervisor = self.supervisor.clone();
        Box::pin(async move {
            let _turn = turn?;
            let live = check::Live {
                connections: supervisor.connections(),
                failures: supervisor.failures(),
                lanes: lanes?,
            };
            Ok(check::live(&host, &supervisor.settings(), &live).await)
        })
    }

    fn check(&self, forward: &str) -> BoxFuture<'static, Result<Vec<check::Step>, String>> {
        let turn = match self.turn_to_check() {
            Ok(turn) => turn,
            Err(why) => return Box::pin(std::future::ready(Err(why))),
        };
        let Some(site) = self.sites.named(forward) else {
            let why = sites::unknown(forward);
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
        self.sites.retry_login(forward)
    }

    fn pause(&self, order: Order, by: Option<u32>) -> BoxFuture<'static, Result<(), String>> {
        let known = self.known(&order);
        let pauses = self.pauses.clone();
        Box::pin(async move {
            known?;
            let done = pauses.pause(order, by).await;
            done.map_err(|error| error.to_string())
        })
    }

    fn resume(&self, order: Order, by: Option<u32>) -> BoxFuture<'static, Result<(), String>> {
        let known = self.known(&order);
        let pauses = self.pauses.clone();
        Box::pin(async move {
            known?;
            let done = pauses.resume(&order, by).await;
            done.map_err(|error| error.to_string())
        })
    }
}

impl Running {
    /// One check at a time.
    fn turn_to_check(&self) -> Result<OwnedSemaphorePermit, String> {
        let turn = Arc::clone(&self.checking).try_acquire_owned();
        turn.map_err(|_| "a check is running already; wait for its end".to_owned())
    }

    /// Refuses the name of a forward that there is not.
    fn known(&self, order: &Order) -> Result<(), String> {
        match &order.forward {
            Some(name) if self.sites.named(name).is_none() => {
                let known: Vec<_> = self.sites.iter().map(|s| &*s.config.name).collect();
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
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    /// From now on they do not end the process by themselves.
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("installing the SIGTERM handler")?,
            interrupt: signal(SignalKind::interrupt()).context("installing the SIGINT handler")?,
        })
    }

    async fn heard(mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Requests under way may finish within this; systemd's own limit is 90 s.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);
/// A token endpoint answers within this, or not at all.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);
/// The audit queue is written within this.
const AUDIT_LIMIT: Duration = Duration::from_secs(5);
/// The runtime socket is gone within this.
const CONTROL_LIMIT: Duration = Duration::from_secs(1);

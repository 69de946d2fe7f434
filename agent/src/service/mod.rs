//! Joins the rooms into the running agent: builds, waits, drains. It decides nothing about a request or a connection.
//!
//! | module | what it holds |
//! |---|---|
//! | `active_forward` | one forward that answers |
//! | `forward_table` | all forwards; routes each inbound channel to its own |
//! | `outlet_table`, `outlet_report` | all outlets, and what status shows of them |
//! | `outlet_store` | the queue of an outlet of mode `store`, and what delivers from it |
//! | `queue_watch` | how the queues of outlets fill |
//! | `event_commands` | what `agent events` does with them |
//! | `session_dialer` | connections of outlets, as channels of a session |
//! | `configuration` | the configuration in use |
//! | `reload` | puts the next one into use |
//! | `report` | assembles the status |
//! | `runtime_control` | what the runtime socket can do |
//! | `expiry_monitor` | when credentials expire |
//! | `disk_watch` | whether spool and state folder can be written |
//! | `folders` | the folder of the spool |
//! | `place_prover` | whether requests at the granted places arrive |
//! | `handover` | replaces this process by a new one |
//! | `stop_signals` | the signals that stop the agent |
//! | `notify`, `watchdog` | report to systemd |

mod active_forward;
mod configuration;
mod disk_watch;
mod event_commands;
mod expiry_monitor;
mod folders;
mod forward_table;
mod handover;
mod notify;
mod outlet_report;
mod outlet_store;
mod outlet_table;
mod place_prover;
mod queue_watch;
mod reload;
mod report;
mod runtime_control;
mod session_dialer;
mod stop_signals;
mod watchdog;

pub use folders::make_spool_dir;
pub use handover::{PredecessorLink, detach};

use crate::{
    audit::AuditHandle,
    config::{Config, ConfigSources},
    control::{ControlHandler, ControlListener},
    descriptors::DescriptorBudget,
    disk::DiskReserve,
    pause::PauseRegistry,
    status::UpgradeState,
    supervisor::Supervisor,
    telemetry,
    tunnel::{self, ChannelAcceptor},
};
use active_forward::ServiceContext;
use anyhow::Context;
use configuration::ActiveConfiguration;
use disk_watch::DiskWatch;
use expiry_monitor::ExpiryMonitor;
use forward_table::ForwardTable;
use handover::{Coordinator, HandedOver, ReplaceableProgram, Successor, UpgradeCondition};
use notify::SystemdNotifier;
use outlet_table::OutletTable;
use place_prover::PlaceProver;
use queue_watch::QueueWatch;
use reload::ConfigReloader;
use report::StatusCollector;
use runtime_control::RuntimeControl;
use std::{io::IsTerminal, sync::Arc, time::Duration};
use stop_signals::StopSignals;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, mpsc, watch},
};
use tokio_util::sync::CancellationToken;

/// Runs until SIGTERM or SIGINT, or until a new process has taken over, then drains. SIGHUP reloads `sources`; on a terminal
/// it means that the terminal was closed, and ends the agent too. `log` changes the log level of this process. With
/// `predecessor`, this process takes over from that one.
pub async fn run(
    config: Config,
    sources: ConfigSources,
    log: telemetry::LogLevelHandle,
    predecessor: Option<PredecessorLink>,
) -> anyhow::Result<()> {
    // First of all: from here on, no signal ends the process abruptly.
    let mut stops = StopSignals::listen()?;
    // Before a package can replace the file.
    let program = ReplaceableProgram::of_process();
    let hangup = signal(SignalKind::hangup()).context("installing the SIGHUP handler")?;
    let runtime_dir = config.runtime_dir.clone();
    let (mut listener, mut successor) = match predecessor {
        None => (Some(ControlListener::bind(&runtime_dir).await?), None),
        Some(link) => (None, Some(Successor::begin(link, &config).await?)),
    };
    let takes_over = successor.is_some();
    let (audit, audit_task) = AuditHandle::spawn(config.audit.clone());
    let stopping = CancellationToken::new();
    let drain = CancellationToken::new();
    let abort = CancellationToken::new();
    let stop = CancellationToken::new();
    let (table, first, pauses, context) = {
        let (forwards, audit, drain) = (config.forwards.clone(), audit.clone(), drain.clone());
        let (state_dir, abort, stop) = (config.state_dir.clone(), abort.clone(), stop.clone());
        // Reads the system's certificate store.
        tokio::task::spawn_blocking(move || {
            // Before anything fills the disk. If it cannot be created, the watch of the state folder reports it.
            let _ = DiskReserve::of(&state_dir).ensure();
            let pauses = match takes_over {
                true => PauseRegistry::unknown(&state_dir),
                false => PauseRegistry::load(&state_dir),
            };
            let context = ServiceContext {
                audit,
                pauses: pauses.clone(),
                drain,
                abort,
                stop,
            };
            let table = ForwardTable::new(context.clone());
            let first = table.prepare(&forwards);
            first.map(|first| (table, first, pauses, context))
        })
        .await??
    };
    let table = Arc::new(table);
    table.activate(first);
    let accept: Arc<dyn ChannelAcceptor> = Arc::<ForwardTable>::clone(&table);
    let tunnel = match takes_over {
        // It requests the forwards when it has proven all else, so that the vendor's requests reach it for a moment only.
        true => Arc::new(tunnel::Settings {
            forwards: Vec::new(),
            ..(*config.tunnel).clone()
        }),
        false => Arc::clone(&config.tunnel),
    };
    let supervisor = Supervisor::spawn(tunnel, accept, stop.clone());
    let state_dir = config.state_dir.clone();
    let outlets = OutletTable::new(context, supervisor.clone(), stopping.clone(), state_dir);
    let outlets = Arc::new(outlets);
    let first_outlets = {
        let (outlets, configured) = (Arc::clone(&outlets), config.outlets.clone());
        // Reads the system's certificate store.
        tokio::task::spawn_blocking(move || outlets.prepare(&configured)).await??
    };
    let prover = PlaceProver::new(supervisor.clone(), Arc::clone(&table));
    tokio::spawn(prover.run(stop.clone()));
    if let Some(successor) = &successor {
        supervisor.avoid_slots(successor.held_slots()).await;
    }
    let identity = Arc::clone(&config.tunnel.identity);
    let expiry = Arc::new(ExpiryMonitor::new(Arc::clone(&table), identity));
    tokio::spawn(Arc::clone(&expiry).run(stop.clone()));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        forwards = config.forwards.len(),
        connections = config.tunnel.connections,
        "agent started"
    );
    DescriptorBudget::of_process().warn_if_few();
    let configuration = Arc::new(ActiveConfiguration::new(sources, config));
    let notify = Arc::new(SystemdNotifier::from_environment());
    let reloader = Arc::new(ConfigReloader {
        configuration: Arc::clone(&configuration),
        forwards: Arc::clone(&table),
        outlets: Arc::clone(&outlets),
        supervisor: supervisor.clone(),
        expiry: Arc::clone(&expiry),
        log: log.clone(),
        notify: Arc::clone(&notify),
        stopping: stopping.clone(),
        pending: tokio::sync::Mutex::default(),
        applied: watch::channel(0).0,
    });
    let upgrade = Arc::new(UpgradeCondition::default());
    let spool = Arc::new(DiskWatch::of_spool(Arc::clone(&configuration)));
    tokio::spawn(Arc::clone(&spool).run(stop.clone()));
    let state_folder = Arc::new(DiskWatch::of_state_folder(Arc::clone(&configuration)));
    tokio::spawn(Arc::clone(&state_folder).run(stop.clone()));
    let queues = Arc::new(QueueWatch::new(Arc::clone(&outlets)));
    tokio::spawn(Arc::clone(&queues).run(stop.clone()));
    let collector = StatusCollector::new(
        Arc::clone(&configuration),
        Arc::clone(&table),
        supervisor.clone(),
        audit,
        expiry,
        spool,
        state_folder,
    )
    .with_upgrade(Arc::clone(&upgrade))
    .with_outlets(Arc::clone(&outlets), queues);
    // One waits while another is handled; a third is refused.
    let (upgrades, upgrade_requests) = mpsc::channel(1);
    let running = Arc::new(RuntimeControl {
        collector,
        forwards: Arc::clone(&table),
        outlets: Arc::clone(&outlets),
        supervisor: supervisor.clone(),
        configuration: Arc::clone(&configuration),
        stopping: stopping.clone(),
        pauses: pauses.clone(),
        log,
        reloader: Arc::clone(&reloader),
        checking: Arc::new(Semaphore::new(1)),
        upgrades,
    });
    let (draining, predecessor) = watch::channel(takes_over);
    let mut process_before = None;
    if let Some(successor) = successor.take() {
        let report = || running.status();
        let request_forwards = async || {
            let tunnel = Arc::clone(&configuration.current().tunnel);
            supervisor.reload(tunnel, false).await;
        };
        let taken_over = successor
            .take_over(report, &pauses, request_forwards, stops.received())
            .await;
        let Some(mut taken_over) = taken_over else {
            // The process before this one keeps serving; requests that wait here were not sent to Jira.
            abort.cancel();
            drain.cancel();
            supervisor.drain(REJECT_WAITING).await;
            stop.cancel();
            anyhow::bail!("the process before this one did not hand over; it keeps serving");
        };
        taken_over.wait_for_main().await;
        match ControlListener::take_over(&runtime_dir) {
            Ok(taken) => listener = Some(taken),
            Err(error) => {
                tracing::error!(%error, "the runtime socket cannot be taken over: agent status and the other commands do not reach this process")
            }
        }
        upgrade.set(UpgradeState::Finishing, None, None, None);
        taken_over.answering().await;
        process_before = Some(taken_over.process_before());
        let (upgrade, pauses, supervisor, reloader) = (
            Arc::clone(&upgrade),
            pauses.clone(),
            supervisor.clone(),
            Arc::clone(&reloader),
        );
        tokio::spawn(async move {
            taken_over.follow(pauses, supervisor, reloader).await;
            upgrade.clear_finished();
            draining.send_replace(false);
        });
    }
    // A process that takes over listens when the one before it has handed over.
    outlets.activate(first_outlets);
    let removed = Arc::clone(&outlets);
    tokio::spawn(async move { removed.report_removed_queues().await });
    let control = listener.map(|listener| {
        tokio::spawn(listener.serve(Arc::<RuntimeControl>::clone(&running), stop.clone()))
    });
    // Ends when this process is not the main one any more: systemd listens to that one alone.
    let is_main = stop.child_token();
    let feeding = watchdog::feed(Arc::clone(&notify), supervisor.clone(), is_main.clone());
    tokio::spawn(feeding);
    notify.ready().await;
    match std::io::stderr().is_terminal() {
        // The terminal was closed.
        true => stops.hangup = Some(hangup),
        false => drop(tokio::spawn(
            Arc::clone(&reloader).listen(hangup, stopping.clone()),
        )),
    }
    let reporting = Arc::clone(&running);
    tokio::spawn(watchdog::notify_status(
        Arc::clone(&notify),
        move || reporting.status(),
        is_main.clone(),
    ));
    let asked_to_stop = CancellationToken::new();
    let started = configuration.current();
    let coordinator = Coordinator {
        pauses,
        notify: Arc::clone(&notify),
        condition: upgrade,
        supervisor: supervisor.clone(),
        report: Box::new(move || running.status()),
        is_main,
        predecessor: predecessor.clone(),
        reloads: reloader.applied.subscribe(),
        // A reload does not change them.
        folders: (started.state_dir.clone(), started.runtime_dir.clone()),
        stop: asked_to_stop.clone(),
        program,
        refused: None,
    };

    let mut coordinating = std::pin::pin!(coordinator.run(upgrade_requests));
    let (mut handed_over, mut signal) = tokio::select! {
        why = stops.received() => {
            // A hand-over that is too far to be taken back is completed first.
            asked_to_stop.cancel();
            (coordinating.await, Some(why))
        }
        handed_over = &mut coordinating => (handed_over, None),
    };
    if let (Some(handed_over), None) = (&handed_over, signal) {
        tokio::select! {
            () = tokio::time::sleep(handed_over.settle_time()) => {}
            why = stops.received() => signal = Some(why),
        }
    }
    let successor_stop = handed_over.as_mut().map(HandedOver::successor_stop);
    let released = {
        let supervisor = supervisor.clone();
        async move { supervisor.released().await }
    };
    let successor = handed_over.map(|h| tokio::spawn(h.follow(released)).abort_handle());
    // systemd has sent it before it knew the new process, or has stopped to listen.
    let successor_stop = successor_stop.filter(|_| signal.is_some());
    if let Some(successor_stop) = &successor_stop {
        successor_stop.send();
    }
    stopping.cancel();
    outlets.clients_ended().await;
    // A new process waits for the queues.
    outlets.close_queues().await;
    outlets.close_idle();
    let in_flight = || table.in_flight() + outlets.in_flight();
    let limit = reloader.drain_limit();
    match signal {
        Some(signal) => {
            notify.stopping(limit + AFTER_DRAIN).await;
            tracing::info!(
                signal,
                requests = in_flight(),
                "stopping: requests in progress finish"
            );
        }
        None => tracing::info!(
            requests = in_flight(),
            "handed over: requests in progress finish"
        ),
    }
    // Until the gateway has cancelled the forwards, requests are answered as usual: a channel closed at once would give
    // the vendor no reason.
    let close_idle = async {
        let released = tokio::time::timeout(CANCEL_TIMEOUT, supervisor.released()).await;
        drain.cancel();
        if released.is_ok() {
            std::future::pending::<()>().await;
        }
        // Such a gateway is slow, or does not answer any more. Jira may still answer the requests in progress.
        while in_flight() > 0 || supervisor.open_channels() > 0 {
            tokio::time::sleep(IN_FLIGHT_POLL).await;
        }
        supervisor.disconnect().await;
        std::future::pending::<()>().await;
    };
    let abort_requests = async {
        tokio::time::sleep(limit).await;
        let requests = in_flight();
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
    if let Some(successor_stop) = &successor_stop {
        // systemd may kill what is left of the unit when this process ends.
        let _ = tokio::time::timeout(limit + LAST_ANSWERS, successor_stop.finished()).await;
    }
    if let Some(successor) = successor {
        successor.abort();
    }
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
    if let Some(control) = control {
        let _ = tokio::time::timeout(CONTROL_LIMIT, control).await;
    }
    if let Some(process_before) = process_before {
        process_before.finished().await;
    }
    // systemd kills what is left of the unit when its main process ends.
    let mut predecessor = predecessor;
    let ended = predecessor.wait_for(|draining| !draining);
    if tokio::time::timeout(limit, ended).await.is_err() {
        tracing::warn!("stopping before the process before this one has finished its requests");
    }
    tracing::info!("agent stopped");
    Ok(())
}

/// For the answers to requests that waited for a hand-over which did not happen.
const REJECT_WAITING: Duration = Duration::from_secs(1);
/// For the gateways to confirm that they no longer listen. One that takes longer is slow or unreachable.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(5);
/// Only a stop with a slow or silent gateway polls.
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

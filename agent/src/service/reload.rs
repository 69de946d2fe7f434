//! Applies a changed configuration while everything runs: all of it, or nothing.

use super::{
    CANCEL_TIMEOUT,
    configuration::ActiveConfiguration,
    expiry_monitor::ExpiryMonitor,
    folders::make_spool_dir,
    forward_table::{ForwardTable, PreparedForwards},
    notify::SystemdNotifier,
    outlet_table::{OutletTable, PreparedOutlets},
};
use crate::{
    config::{Config, ConfigProblems},
    supervisor::SupervisorHandle,
    telemetry,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    signal::unix::Signal,
    sync::watch,
    task::{JoinError, JoinHandle, spawn_blocking},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// Reads the configuration again and applies what changed.
pub(super) struct ConfigReloader {
    pub(super) configuration: Arc<ActiveConfiguration>,
    pub(super) forwards: Arc<ForwardTable>,
    pub(super) outlets: Arc<OutletTable>,
    pub(super) supervisor: SupervisorHandle,
    pub(super) expiry: Arc<ExpiryMonitor>,
    pub(super) log: telemetry::LogLevelHandle,
    pub(super) notify: Arc<SystemdNotifier>,
    /// Cancelled once the agent is stopping.
    pub(super) stopping: CancellationToken,
    /// One reload at a time.
    pub(super) pending: tokio::sync::Mutex<PendingRead>,
    /// Counts the configurations that were applied.
    pub(super) applied: watch::Sender<u64>,
}

/// A configuration that is ready to be applied.
pub(super) struct NextConfiguration {
    config: Config,
    forwards: PreparedForwards,
    outlets: PreparedOutlets,
}

/// A read that hangs on the disk, if any: the next one waits for it, and ignores its outdated result.
pub(super) type PendingRead = Option<JoinHandle<Result<NextConfiguration, ReloadError>>>;

/// Why a reload was refused, one problem per line.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReloadError {
    #[error(transparent)]
    Problems(#[from] ConfigProblems),
    #[error(
        "{key} cannot change while the agent runs; restart the agent, or restore the previous value"
    )]
    NeedsRestart { key: &'static str },
    #[error("{0:#}")]
    Unusable(anyhow::Error),
    #[error(
        "the files could not be read within {} s; check the disk they are on", .0.as_secs()
    )]
    TimedOut(Duration),
    #[error("the configuration could not be read: {0}; please report this with the log")]
    Aborted(JoinError),
    #[error("the agent is stopping")]
    Stopping,
}

impl ConfigReloader {
    /// What changed, one line each, or why the previous configuration stays. Notifies systemd of begin and end.
    pub(super) async fn reload(&self) -> Result<Vec<String>, ReloadError> {
        let lock = timeout(READ_LIMIT, self.pending.lock()).await;
        let mut pending = lock.map_err(|_| ReloadError::TimedOut(READ_LIMIT))?;
        if self.stopping.is_cancelled() {
            return Err(ReloadError::Stopping);
        }
        self.notify.reloading().await;
        let outcome = self.try_reload(&mut pending).await;
        if outcome.is_ok() {
            self.applied.send_modify(|count| *count += 1);
        }
        match &outcome {
            Ok(changes) if changes.is_empty() => {
                tracing::info!("configuration reloaded; nothing has changed");
            }
            Ok(changes) => {
                let changes = changes.join("; ");
                tracing::info!("configuration changed: {changes}");
            }
            Err(refused) => {
                let problems = refused.to_string();
                for problem in problems.lines() {
                    tracing::error!("the changed configuration is refused: {problem}");
                }
                tracing::error!(
                    remedy = "correct the files, then: agent reload",
                    "keeping the previous configuration"
                );
                self.configuration.refused(&problems);
            }
        }
        if !self.stopping.is_cancelled() {
            self.notify.ready().await;
        }
        outcome
    }

    /// How long requests in progress may take to finish when the agent stops.
    pub(super) fn drain_limit(&self) -> Duration {
        self.configuration.current().tunnel.drain_limit
    }

    /// Reloads at each SIGHUP until `stop`.
    pub(super) async fn listen(self: Arc<Self>, mut hangup: Signal, stop: CancellationToken) {
        let listening = async {
            while hangup.recv().await.is_some() {
                // The outcome is in log and status.
                let _ = self.reload().await;
            }
        };
        stop.run_until_cancelled(listening).await;
    }

    async fn try_reload(&self, pending: &mut PendingRead) -> Result<Vec<String>, ReloadError> {
        let timed_out = |_| ReloadError::TimedOut(READ_LIMIT);
        if let Some(former) = pending {
            let _ = timeout(READ_LIMIT, former).await.map_err(timed_out)?;
        }
        let (configuration, forwards) =
            (Arc::clone(&self.configuration), Arc::clone(&self.forwards));
        let outlets = Arc::clone(&self.outlets);
        let reading = move || read(&configuration, &forwards, &outlets);
        let task = pending.insert(spawn_blocking(reading));
        let read = timeout(READ_LIMIT, task).await.map_err(timed_out)?;
        *pending = None;
        let next = read.map_err(ReloadError::Aborted)??;
        // From here on, nothing fails.
        let before = self.configuration.current();
        let NextConfiguration {
            config,
            forwards,
            outlets,
        } = next;
        let mut changes = forwards.changes.clone();
        changes.extend(outlets.changes.clone());
        changes.extend(self.apply_log_level(&before, &config));
        let restart = self.pending_restart(&config);
        changes.extend(
            restart
                .iter()
                .map(|section| format!("{section}: needs a restart")),
        );
        let removed = self.forwards.activate(forwards);
        self.outlets.activate(outlets);
        let tunnel = tunnel_changes(&before, &config);
        if !tunnel.is_empty() || before.tunnel.forwards != config.tunnel.forwards {
            let replace_sessions = before.tunnel_fingerprint != config.tunnel_fingerprint;
            self.supervisor
                .reload(Arc::clone(&config.tunnel), replace_sessions)
                .await;
            self.expiry
                .set_identity(Arc::clone(&config.tunnel.identity));
        }
        // Until the gateway has cancelled a removed forward, its requests are answered as usual.
        let removed = |name: &str| removed.iter().any(|active| *active.config.name == *name);
        if timeout(CANCEL_TIMEOUT, self.supervisor.cancelled(removed))
            .await
            .is_err()
        {
            tracing::warn!(
                "a gateway did not confirm cancelling a removed forward within {} s; channels it still opens for it will be closed",
                CANCEL_TIMEOUT.as_secs()
            );
        }
        self.forwards.close_removed();
        changes.extend(tunnel);
        if before.tunnel.drain_limit != config.tunnel.drain_limit {
            let limit = humantime::format_duration(config.tunnel.drain_limit);
            changes.push(format!("tunnel.drain_limit: {limit}"));
        }
        self.configuration.accepted(config, restart);
        self.forwards.recheck_logins();
        Ok(changes)
    }

    fn apply_log_level(&self, before: &Config, now: &Config) -> Option<String> {
        if before.log.level == now.log.level {
            return None;
        }
        // It was validated with the rest.
        let _ = self.log.configure(&now.log.level);
        Some(format!("log.level: {}", now.log.level))
    }

    fn pending_restart(&self, config: &Config) -> Vec<String> {
        let started = &self.configuration.started;
        let parts = [
            ("audit", started.audit != config.audit),
            ("log.format", started.log_format != config.log.format),
        ];
        let changed = parts.into_iter().filter(|(_, changed)| *changed);
        changed.map(|(part, _)| part.to_owned()).collect()
    }
}

/// Blocks on the disk.
fn read(
    configuration: &ActiveConfiguration,
    forwards: &ForwardTable,
    outlets: &OutletTable,
) -> Result<NextConfiguration, ReloadError> {
    let config = Config::load(&configuration.sources)?;
    let started = &configuration.started;
    for (key, changed) in [
        ("state_dir", started.state_dir != config.state_dir),
        ("runtime_dir", started.runtime_dir != config.runtime_dir),
    ] {
        if changed {
            return Err(ReloadError::NeedsRestart { key });
        }
    }
    make_spool_dir(&config).map_err(ReloadError::Unusable)?;
    let forwards = forwards
        .prepare(&config.forwards)
        .map_err(ReloadError::Unusable)?;
    let outlets = outlets
        .prepare(&config.outlets)
        .map_err(ReloadError::Unusable)?;
    Ok(NextConfiguration {
        config,
        forwards,
        outlets,
    })
}

fn tunnel_changes(was: &Config, is: &Config) -> Vec<String> {
    let (before, now) = (&was.tunnel, &is.tunnel);
    let mut changes = Vec::new();
    if before.gateways != now.gateways {
        let names: Vec<_> = now.gateways.iter().map(ToString::to_string).collect();
        changes.push(format!("tunnel.gateways: {}", names.join(", ")));
    }
    if before.connections != now.connections {
        changes.push(format!("tunnel.connections: {}", now.connections));
    }
    if was.tunnel_fingerprint != is.tunnel_fingerprint {
        changes.push("tunnel: the sessions are replaced one after another".to_owned());
    }
    changes
}

/// Files of a local disk are read within milliseconds, and a certificate store within a second. Less than what systemd
/// gives a reload (TimeoutStartSec, 90 s).
const READ_LIMIT: Duration = Duration::from_secs(30);

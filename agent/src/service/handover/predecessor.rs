//! The old process: starts the new one, judges what it proves, and hands over.

use super::{
    attempt::{Attempt, AttemptFailure, ReportSource},
    handed_over::HandedOver,
    messages::{ToPredecessor, ToSuccessor, folder_text},
    phases::{PredecessorAction, PredecessorEvent, PredecessorMachine, STOPPING},
    process::{ReplaceableProgram, SuccessorProcess},
    proof::ProofStage,
};
use crate::{
    control::UpgradeError,
    pause::PauseRegistry,
    service::notify::SystemdNotifier,
    status::{UpgradeReport, UpgradeState},
    supervisor::SupervisorHandle,
};
use parking_lot::Mutex;
use std::{
    io,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// An administrator asks for the hand-over.
pub(in crate::service) struct UpgradeRequest {
    /// Also for a program that has failed before.
    pub(in crate::service) retry: bool,
    /// Gets the outcome, one sentence.
    pub(in crate::service) answer: oneshot::Sender<Result<String, UpgradeError>>,
}

/// Hands over to new processes, one at a time.
pub(in crate::service) struct Coordinator {
    pub(in crate::service) pauses: PauseRegistry,
    pub(in crate::service) notify: Arc<SystemdNotifier>,
    pub(in crate::service) condition: Arc<UpgradeCondition>,
    pub(in crate::service) supervisor: SupervisorHandle,
    /// What this process has proven.
    pub(in crate::service) report: Box<ReportSource>,
    /// Cancelled when this process is not the main one any more: it reports nothing to systemd then.
    pub(in crate::service) is_main: CancellationToken,
    /// Whether the predecessor of this process still drains.
    pub(in crate::service) predecessor: watch::Receiver<bool>,
    /// Counts the configurations that this process has applied.
    pub(in crate::service) reloads: watch::Receiver<u64>,
    /// The folders of this process: state, runtime.
    pub(in crate::service) folders: (PathBuf, PathBuf),
    /// Cancelled when this process was asked to stop.
    pub(in crate::service) stop: CancellationToken,
    pub(in crate::service) program: io::Result<ReplaceableProgram>,
    /// The program that failed last, by its digest, and why.
    pub(in crate::service) refused: Option<(ProgramDigest, String)>,
}

/// SHA-256 of a program.
type ProgramDigest = [u8; 32];

/// How far the last hand-over is, for status and log.
#[derive(Default)]
pub(in crate::service) struct UpgradeCondition(Mutex<Option<UpgradeReport>>);

impl Coordinator {
    /// Answers requests until one of them has led to a process that serves, or until this process was asked to stop. A new
    /// process that has not taken over then ends; one that takes over was asked to stop too.
    pub(in crate::service) async fn run(
        mut self,
        mut requests: mpsc::Receiver<UpgradeRequest>,
    ) -> Option<HandedOver> {
        loop {
            let request = tokio::select! {
                biased;
                () = self.stop.cancelled() => None,
                request = requests.recv() => request,
            };
            let Some(UpgradeRequest { retry, answer }) = request else {
                self.stop.cancelled().await;
                return None;
            };
            match self.hand_over(retry).await {
                Ok((handed_over, digest, done)) => {
                    requests.close();
                    // Callers may have given up.
                    let _ = answer.send(Ok(done.clone()));
                    while let Ok(UpgradeRequest { answer, .. }) = requests.try_recv() {
                        let is_same = self.digest().await.is_ok_and(|now| now == digest);
                        let again = || UpgradeError::Failed(AGAIN.to_owned());
                        let _ = answer.send(is_same.then(|| done.clone()).ok_or_else(again));
                    }
                    return Some(handed_over);
                }
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        }
    }

    /// Of the program on the disk.
    async fn digest(&self) -> Result<ProgramDigest, UpgradeError> {
        let program = match &self.program {
            Ok(program) => program.clone(),
            Err(error) => {
                let text = format!("the program of this process cannot be found: {error}");
                return Err(UpgradeError::Unsupported(text));
            }
        };
        tokio::select! {
            // A stop does not wait for the disk.
            () = self.stop.cancelled() => Err(UpgradeError::Failed(STOPPING.to_owned())),
            digest = program.digest() => digest.map_err(|error| {
                UpgradeError::Failed(format!("{}: {error}", program.path().display()))
            }),
        }
    }

    async fn hand_over(
        &mut self,
        retry: bool,
    ) -> Result<(HandedOver, ProgramDigest, String), UpgradeError> {
        if std::process::id() == 1 {
            return Err(UpgradeError::Unsupported(FIRST_PROCESS.to_owned()));
        }
        let alone = self.predecessor.wait_for(|draining| !draining);
        let is_alone = tokio::select! {
            () = self.stop.cancelled() => return Err(UpgradeError::Failed(STOPPING.to_owned())),
            // An error within means that there was none.
            waited = timeout(PREDECESSOR_LIMIT, alone) => waited.is_ok(),
        };
        if !is_alone {
            return Err(UpgradeError::Failed(String::from(
                "the process before this one still finishes its requests; try again when it has ended",
            )));
        }
        let digest = self.digest().await?;
        let Ok(program) = self.program.as_ref().cloned() else {
            return Err(UpgradeError::Failed(AGAIN.to_owned()));
        };
        let path = program.path().display().to_string();
        if let Some((refused, cause)) = &self.refused
            && *refused == digest
            && !retry
        {
            return Err(UpgradeError::Failed(format!(
                "{path} has failed before and is not tried again: {cause}; after you have removed the cause: agent upgrade --retry"
            )));
        }
        tracing::info!(path, "upgrade: starting the new process");
        self.condition
            .set(UpgradeState::InProgress, None, None, None);
        match self.attempt(&program).await {
            Ok((handed_over, done)) => Ok((handed_over, digest, done)),
            Err(failure) => {
                self.supervisor.use_all_slots().await;
                let AttemptFailure {
                    version,
                    cause,
                    unsupported,
                    has_listened,
                } = failure;
                if self.stop.is_cancelled() {
                    self.condition.clear();
                    tracing::info!(cause, "upgrade: taken back, because the agent is stopping");
                    return Err(UpgradeError::Failed(STOPPING.to_owned()));
                }
                if has_listened {
                    self.supervisor.retake_sockets().await;
                }
                if unsupported {
                    self.condition.clear();
                    tracing::info!(cause, "upgrade: the new program needs a restart");
                    return Err(UpgradeError::Unsupported(cause));
                }
                tracing::error!(
                    version,
                    cause,
                    remedy = REMEDY,
                    "the upgrade has failed; this process keeps serving"
                );
                self.condition.set(
                    UpgradeState::Failed,
                    version,
                    Some(cause.clone()),
                    Some(REMEDY),
                );
                self.refused = Some((digest, cause.clone()));
                Err(UpgradeError::Failed(cause))
            }
        }
    }

    async fn attempt(
        &mut self,
        program: &ReplaceableProgram,
    ) -> Result<(HandedOver, String), AttemptFailure> {
        let start = Instant::now();
        let mut machine = PredecessorMachine::new();
        let mut attempt: Option<Attempt> = None;
        let mut event = PredecessorEvent::Requested;
        self.reloads.mark_unchanged();
        loop {
            let mut follow_up = None;
            for action in machine.step(start.elapsed(), event) {
                match (action, &mut attempt) {
                    (PredecessorAction::Start, _) => {
                        let begin = ToSuccessor::Begin {
                            held_slots: self.supervisor.keep_held_slots().await,
                            state_dir: folder_text(&self.folders.0),
                            runtime_dir: folder_text(&self.folders.1),
                        };
                        attempt = Some(Attempt::start(program, &begin).await?);
                    }
                    (PredecessorAction::Listen, Some(attempt)) => {
                        attempt.stage = ProofStage::Forwards;
                        attempt.sender.send(&ToSuccessor::Listen).await;
                    }
                    (PredecessorAction::Freeze, Some(attempt)) => {
                        follow_up = Some(match self.pauses.freeze().await {
                            Ok(freeze) => {
                                attempt.freeze = Some(freeze);
                                PredecessorEvent::Frozen
                            }
                            Err(error) => {
                                let cause = format!("the pauses cannot be saved: {error}");
                                PredecessorEvent::Failed(cause)
                            }
                        });
                    }
                    (PredecessorAction::Commit, Some(attempt)) => {
                        attempt.sender.send(&ToSuccessor::Commit).await;
                    }
                    (PredecessorAction::End, Some(attempt)) => attempt.end().await,
                    (PredecessorAction::Kill, Some(attempt)) => attempt.kill().await,
                    (PredecessorAction::Thaw, Some(attempt)) => attempt.freeze = None,
                    (PredecessorAction::Fail(cause), attempt) => {
                        return Err(AttemptFailure {
                            version: attempt.as_mut().and_then(|a| a.version.take()),
                            cause,
                            unsupported: attempt.as_ref().is_some_and(|a| a.needs_restart),
                            has_listened: attempt.as_ref().is_some_and(Attempt::has_listened),
                        });
                    }
                    (PredecessorAction::Drain, attempt) => {
                        if let Some(attempt) = attempt.take() {
                            return Ok(self.leave(attempt).await);
                        }
                    }
                    (_, None) => {}
                }
            }
            event = match (follow_up, &mut attempt) {
                (Some(event), _) => event,
                (None, Some(attempt)) => {
                    let deadline = machine.deadline();
                    attempt
                        .next(start, deadline, &self.report, &self.stop)
                        .await
                }
                (None, None) => PredecessorEvent::Lost,
            };
        }
    }

    /// The new process serves: reports it to systemd, and waits until it answers on the runtime socket.
    async fn leave(&self, mut attempt: Attempt) -> (HandedOver, String) {
        let version = attempt.version.take().unwrap_or_default();
        let pid = attempt.process.as_ref().map(SuccessorProcess::pid);
        self.is_main.cancel();
        if let Some(pid) = pid {
            self.notify.main_process(pid).await;
        }
        if let Some(process) = &mut attempt.process {
            process.set_taken_over();
        }
        if let Some(freeze) = attempt.freeze.take() {
            freeze.keep();
        }
        attempt.sender.send(&ToSuccessor::Main).await;
        let answering = async {
            while let Some(message) = attempt.receiver.receive().await {
                if message == ToPredecessor::Answering {
                    break;
                }
            }
        };
        let _ = timeout(ANSWERING_LIMIT, answering).await;
        let pid = pid.unwrap_or_default();
        tracing::info!(
            version,
            pid,
            "upgrade: the new process serves; this one finishes its requests"
        );
        let handed_over = HandedOver {
            is_bound: attempt.is_bound(),
            sender: attempt.sender,
            receiver: attempt.receiver,
            pauses: self.pauses.clone(),
            reloads: self.reloads.clone(),
            process: attempt.process,
            finished: CancellationToken::new(),
        };
        (
            handed_over,
            format!("version {version} serves, process {pid}"),
        )
    }
}

impl UpgradeCondition {
    /// For the status.
    pub(in crate::service) fn report(&self) -> Option<UpgradeReport> {
        self.0.lock().clone()
    }

    /// Changes what the status shows.
    pub(in crate::service) fn set(
        &self,
        state: UpgradeState,
        version: Option<String>,
        cause: Option<String>,
        remedy: Option<&str>,
    ) {
        *self.0.lock() = Some(UpgradeReport {
            state,
            version,
            since: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
            cause,
            remedy: remedy.map(str::to_owned),
        });
    }

    pub(super) fn clear(&self) {
        *self.0.lock() = None;
    }

    /// The process before this one has ended.
    pub(in crate::service) fn clear_finished(&self) {
        let mut report = self.0.lock();
        report.take_if(|report| report.state == UpgradeState::Finishing);
    }
}

const REMEDY: &str = "remove the cause, then: agent upgrade --retry; to use the new version regardless: systemctl restart jira-tunnel-agent";
const AGAIN: &str = "another upgrade has just replaced this process; run the command again";
const FIRST_PROCESS: &str =
    "this process is the first one of its container, which ends with it; restart the container";
/// For the process before this one to finish its requests. All limits together are below what the client grants.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(45);
/// For the new process to answer on the runtime socket.
const ANSWERING_LIMIT: Duration = Duration::from_secs(5);

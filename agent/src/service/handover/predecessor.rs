//! The old process: starts the new one, judges what it proves, and hands over.

use super::{
    messages::{LinkReceiver, LinkSender, ToPredecessor, ToSuccessor, split},
    phases::{PredecessorAction, PredecessorEvent, PredecessorMachine},
    process::{ReplaceableProgram, SuccessorProcess, socket_pair},
    proof::{self, ForwardProof},
};
use crate::{
    control::UpgradeError,
    pause::{PauseFreeze, PauseRegistry},
    service::notify::SystemdNotifier,
    status::{StatusReport, UpgradeReport, UpgradeState},
    supervisor::SupervisorHandle,
};
use parking_lot::Mutex;
use std::{
    collections::BTreeSet,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
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
    pub(in crate::service) report: Box<dyn Fn() -> StatusReport + Send + Sync>,
    /// Cancelled when this process is not the main one any more: it reports nothing to systemd then.
    pub(in crate::service) is_main: CancellationToken,
    /// Whether the predecessor of this process still drains.
    pub(in crate::service) predecessor: watch::Receiver<bool>,
    program: io::Result<ReplaceableProgram>,
    /// The program that failed last, by its digest, and why.
    refused: Option<([u8; 32], String)>,
}

/// How far the last hand-over is, for status and log.
#[derive(Default)]
pub(in crate::service) struct UpgradeCondition(Mutex<Option<UpgradeReport>>);

/// The new process serves.
pub(in crate::service) struct HandedOver {
    is_bound: bool,
    sender: LinkSender,
    receiver: LinkReceiver<ToPredecessor>,
    pauses: PauseRegistry,
}

/// A successor that was started.
struct Attempt {
    sender: LinkSender,
    receiver: LinkReceiver<ToPredecessor>,
    process: Option<SuccessorProcess>,
    version: Option<String>,
    gateways: Vec<String>,
    theirs: Vec<ForwardProof>,
    freeze: Option<PauseFreeze>,
}

impl Coordinator {
    /// For the program of this process.
    pub(in crate::service) fn new(
        pauses: PauseRegistry,
        notify: Arc<SystemdNotifier>,
        condition: Arc<UpgradeCondition>,
        supervisor: SupervisorHandle,
        report: Box<dyn Fn() -> StatusReport + Send + Sync>,
        is_main: CancellationToken,
        predecessor: watch::Receiver<bool>,
    ) -> Self {
        Self {
            supervisor,
            pauses,
            notify,
            condition,
            report,
            is_main,
            predecessor,
            program: ReplaceableProgram::of_process(),
            refused: None,
        }
    }

    /// Answers requests until one of them has led to a process that serves. May be dropped at any time: a new process that
    /// has not taken over then ends.
    pub(in crate::service) async fn run(
        mut self,
        mut requests: mpsc::Receiver<UpgradeRequest>,
    ) -> HandedOver {
        loop {
            let Some(UpgradeRequest { retry, answer }) = requests.recv().await else {
                // Nobody can ask any more.
                return std::future::pending().await;
            };
            match self.hand_over(retry).await {
                Ok((handed_over, done)) => {
                    // Whoever asked may have given up.
                    let _ = answer.send(Ok(done));
                    return handed_over;
                }
                Err(error) => {
                    let _ = answer.send(Err(error));
                }
            }
        }
    }

    async fn hand_over(&mut self, retry: bool) -> Result<(HandedOver, String), UpgradeError> {
        let alone = self.predecessor.wait_for(|draining| !draining);
        // An error means that there was none.
        if timeout(PREDECESSOR_LIMIT, alone).await.is_err() {
            return Err(UpgradeError::Failed(String::from(
                "the process before this one still finishes its requests; try again when it has ended",
            )));
        }
        let program = match &self.program {
            Ok(program) => program.clone(),
            Err(error) => {
                let text = format!("the program of this process cannot be found: {error}");
                return Err(UpgradeError::Unsupported(text));
            }
        };
        let path = program.path().display().to_string();
        let hashed = program.clone();
        let digest = match spawn_blocking(move || hashed.digest()).await {
            Ok(Ok(digest)) => digest,
            Ok(Err(error)) => return Err(UpgradeError::Failed(format!("{path}: {error}"))),
            Err(error) => return Err(UpgradeError::Failed(error.to_string())),
        };
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
            Ok(done) => Ok(done),
            Err(failure) => {
                self.supervisor.use_all_slots().await;
                let AttemptFailure {
                    version,
                    cause,
                    unsupported,
                } = failure;
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
        &self,
        program: &ReplaceableProgram,
    ) -> Result<(HandedOver, String), AttemptFailure> {
        let start = Instant::now();
        let mut machine = PredecessorMachine::new();
        let mut attempt: Option<Attempt> = None;
        let mut event = PredecessorEvent::Requested;
        loop {
            for action in machine.step(start.elapsed(), event) {
                match (action, &mut attempt) {
                    (PredecessorAction::Start, _) => {
                        let held_slots = self.supervisor.keep_held_slots().await;
                        attempt = Some(Attempt::start(program, held_slots).await?);
                    }
                    (PredecessorAction::Freeze, Some(attempt)) => {
                        attempt.freeze = Some(self.pauses.freeze().await);
                    }
                    (PredecessorAction::Commit, Some(attempt)) => {
                        attempt.sender.send(&ToSuccessor::Commit).await;
                    }
                    (PredecessorAction::Kill, Some(attempt)) => attempt.kill().await,
                    (PredecessorAction::Thaw, Some(attempt)) => attempt.freeze = None,
                    (PredecessorAction::Fail(cause), attempt) => {
                        let version = attempt.as_mut().and_then(|a| a.version.take());
                        return Err(AttemptFailure::of(version, cause));
                    }
                    (PredecessorAction::Drain, attempt) => {
                        if let Some(attempt) = attempt.take() {
                            return Ok(self.leave(attempt).await);
                        }
                    }
                    (_, None) => {}
                }
            }
            event = match &mut attempt {
                Some(attempt) => attempt.next(start, machine.deadline(), &self.report).await,
                None => PredecessorEvent::Lost,
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
            is_bound: attempt.theirs.iter().any(ForwardProof::is_bound),
            sender: attempt.sender,
            receiver: attempt.receiver,
            pauses: self.pauses.clone(),
        };
        (
            handed_over,
            format!("version {version} serves, process {pid}"),
        )
    }
}

impl Attempt {
    async fn start(
        program: &ReplaceableProgram,
        held_slots: BTreeSet<u16>,
    ) -> Result<Self, AttemptFailure> {
        let path = program.path().display();
        let failed = |error: io::Error| {
            AttemptFailure::of(None, format!("{path} cannot be started: {error}"))
        };
        let (ours, theirs) = socket_pair().map_err(failed)?;
        let (sender, receiver) = split(ours);
        sender.send(&ToSuccessor::Begin { held_slots }).await;
        let ended = program.start(theirs).await.map_err(failed)?;
        match ended.code() {
            Some(0) => Ok(Self {
                sender,
                receiver,
                process: None,
                version: None,
                gateways: Vec::new(),
                theirs: Vec::new(),
                freeze: None,
            }),
            Some(USAGE) => Err(AttemptFailure {
                version: None,
                cause: format!("{path} is of a version that cannot take over from a running agent"),
                unsupported: true,
            }),
            _ => Err(AttemptFailure::of(
                None,
                format!("{path} cannot be started: {ended}"),
            )),
        }
    }

    /// The next event for the machine.
    async fn next(
        &mut self,
        start: Instant,
        deadline: Option<Duration>,
        report: &(dyn Fn() -> StatusReport + Send + Sync),
    ) -> PredecessorEvent {
        let deadline = start + deadline.unwrap_or(PREDECESSOR_LIMIT);
        // What this process has proven changes too.
        let look = (Instant::now() + LOOK_INTERVAL).min(deadline);
        tokio::select! {
            message = self.receiver.receive() => match message {
                Some(ToPredecessor::Started { pid }) => {
                    self.process = Some(SuccessorProcess::new(pid));
                    PredecessorEvent::Tick
                }
                Some(ToPredecessor::Hello { version, gateways }) => {
                    self.version = Some(version);
                    self.gateways = gateways;
                    PredecessorEvent::Hello
                }
                Some(ToPredecessor::Proof { forwards }) => {
                    self.theirs = forwards;
                    self.judge(report)
                }
                Some(ToPredecessor::Failed { cause }) => PredecessorEvent::Failed(cause),
                Some(ToPredecessor::Committed) => PredecessorEvent::Committed,
                Some(
                    ToPredecessor::Answering | ToPredecessor::Pauses | ToPredecessor::Unknown,
                ) => PredecessorEvent::Tick,
                None => PredecessorEvent::Lost,
            },
            () = sleep_until(look) => match self.theirs.is_empty() || look == deadline {
                true => PredecessorEvent::Tick,
                false => self.judge(report),
            },
        }
    }

    fn judge(&self, report: &(dyn Fn() -> StatusReport + Send + Sync)) -> PredecessorEvent {
        let ours = proof::of_report(&report());
        PredecessorEvent::Proof(proof::lacking(&ours, &self.theirs, &self.gateways))
    }

    async fn kill(&mut self) {
        if let Some(process) = &self.process {
            process.kill();
        }
        if !self.receiver.ended(KILL_LIMIT).await {
            tracing::warn!("the new process of a failed upgrade has not ended");
        }
    }
}

impl HandedOver {
    /// How long this process serves on, so that balancers find the places of the new one before those of this one end.
    pub(in crate::service) fn settle_time(&self) -> Duration {
        match self.is_bound {
            true => SETTLE_TIME,
            false => Duration::ZERO,
        }
    }

    /// For messages to the new process.
    pub(in crate::service) fn sender(&self) -> SuccessorSender {
        SuccessorSender(self.sender.clone())
    }

    /// Reads the pauses again whenever the new process changes them. Ends with that process.
    pub(in crate::service) async fn follow_pauses(&mut self) {
        while let Some(message) = self.receiver.receive().await {
            if message == ToPredecessor::Pauses {
                let pauses = self.pauses.clone();
                let read = spawn_blocking(move || pauses.read_again());
                if let Ok(Err(error)) = read.await {
                    tracing::error!(%error, "a pause of the new process cannot be read; requests that this process still accepts are not paused");
                }
            }
        }
    }
}

/// Sends messages to the new process.
pub(in crate::service) struct SuccessorSender(LinkSender);

impl SuccessorSender {
    /// The gateways have cancelled the forwards of this process.
    pub(in crate::service) async fn released(&self) {
        self.0.send(&ToSuccessor::Released).await;
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

/// Why an attempt has led to nothing.
struct AttemptFailure {
    version: Option<String>,
    cause: String,
    /// The program knows no hand-over.
    unsupported: bool,
}

impl AttemptFailure {
    fn of(version: Option<String>, cause: String) -> Self {
        Self {
            version,
            cause,
            unsupported: false,
        }
    }
}

const REMEDY: &str = "remove the cause, then: agent upgrade --retry; to use the new version regardless: systemctl restart jira-tunnel-agent";
/// EX_USAGE: the flag is not known.
const USAGE: i32 = 64;
/// For the process before this one to finish its requests.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(60);
/// HAProxy of gateway-openssh looks at each place once a second.
const SETTLE_TIME: Duration = Duration::from_millis(1500);
/// For the new process to answer on the runtime socket.
const ANSWERING_LIMIT: Duration = Duration::from_secs(5);
/// A killed process ends at once, unless it waits for a disk.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// Between two comparisons of what both have proven.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

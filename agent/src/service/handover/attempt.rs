//! A new process that was started to take over, as the old one sees it.

use super::{
    messages::{LinkReceiver, LinkSender, ToPredecessor, ToSuccessor, split},
    phases::PredecessorEvent,
    process::{ReplaceableProgram, SuccessorProcess, socket_pair},
    proof::{self, ProcessProof, ProofStage},
};
use crate::{pause::PauseFreeze, status::StatusReport};
use std::{io, time::Duration};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// What this process has proven.
pub(super) type ReportSource = dyn Fn() -> StatusReport + Send + Sync;

/// A successor that was started.
pub(super) struct Attempt {
    pub(super) sender: LinkSender,
    pub(super) receiver: LinkReceiver<ToPredecessor>,
    pub(super) process: Option<SuccessorProcess>,
    pub(super) version: Option<String>,
    pub(super) freeze: Option<PauseFreeze>,
    pub(super) stage: ProofStage,
    /// It cannot take over, and a restart can.
    pub(super) needs_restart: bool,
    gateways: Vec<String>,
    theirs: Option<ProcessProof>,
    /// What this process has proven since the start.
    needed: ProcessProof,
    /// Until then the new process should prove more than this one has.
    prefers_all_until: Instant,
    is_stopping: bool,
}

/// Why an attempt has led to nothing.
pub(super) struct AttemptFailure {
    pub(super) version: Option<String>,
    pub(super) cause: String,
    /// The program knows no hand-over.
    pub(super) unsupported: bool,
    /// The new process may have requested its forwards.
    pub(super) has_listened: bool,
}

impl AttemptFailure {
    pub(super) fn of(version: Option<String>, cause: String) -> Self {
        Self {
            version,
            cause,
            unsupported: false,
            has_listened: false,
        }
    }
}

impl Attempt {
    pub(super) async fn start(
        program: &ReplaceableProgram,
        begin: &ToSuccessor,
    ) -> Result<Self, AttemptFailure> {
        let path = program.path().display();
        let failed = |error: io::Error| {
            AttemptFailure::of(None, format!("{path} cannot be started: {error}"))
        };
        let (ours, theirs) = socket_pair().map_err(failed)?;
        let (sender, receiver) = split(ours);
        sender.send(begin).await;
        let ended = program.start(theirs).await.map_err(failed)?;
        match ended.code() {
            Some(0) => Ok(Self {
                sender,
                receiver,
                process: None,
                version: None,
                freeze: None,
                stage: ProofStage::Sessions,
                needs_restart: false,
                gateways: Vec::new(),
                theirs: None,
                needed: ProcessProof::default(),
                prefers_all_until: Instant::now() + PREFERS_ALL,
                is_stopping: false,
            }),
            Some(USAGE) => Err(AttemptFailure {
                version: None,
                cause: format!(
                    "{path} is of a version that cannot take over from a running agent; restart it: systemctl restart jira-tunnel-agent"
                ),
                unsupported: true,
                has_listened: false,
            }),
            _ => Err(AttemptFailure::of(
                None,
                format!("{path} cannot be started: {ended}"),
            )),
        }
    }

    /// The next event for the machine.
    pub(super) async fn next(
        &mut self,
        start: Instant,
        deadline: Option<Duration>,
        report: &ReportSource,
        stop: &CancellationToken,
    ) -> PredecessorEvent {
        let deadline = deadline.map(|deadline| start + deadline);
        // What this process has proven changes too.
        let look = Instant::now() + LOOK_INTERVAL;
        let look = deadline.map_or(look, |deadline| look.min(deadline));
        tokio::select! {
            () = stop.cancelled(), if !self.is_stopping => {
                self.is_stopping = true;
                PredecessorEvent::Stop
            }
            message = self.receiver.receive() => self.received(message, report),
            () = sleep_until(look) => match self.theirs.is_none() || Some(look) == deadline {
                true => PredecessorEvent::Tick,
                false => self.judge(report),
            },
        }
    }

    fn received(
        &mut self,
        message: Option<ToPredecessor>,
        report: &ReportSource,
    ) -> PredecessorEvent {
        match message {
            Some(ToPredecessor::Started { pid }) => {
                self.process = Some(SuccessorProcess::new(pid));
                PredecessorEvent::Tick
            }
            Some(ToPredecessor::Hello { version, gateways }) => {
                self.version = Some(version);
                self.gateways = gateways;
                PredecessorEvent::Hello
            }
            Some(ToPredecessor::Proof(theirs)) => {
                self.theirs = Some(theirs);
                self.judge(report)
            }
            Some(ToPredecessor::Failed {
                cause,
                needs_restart,
            }) => {
                self.needs_restart = needs_restart;
                PredecessorEvent::Failed(cause)
            }
            Some(ToPredecessor::Committed) => PredecessorEvent::Committed,
            Some(
                ToPredecessor::Answering
                | ToPredecessor::Pauses
                | ToPredecessor::Finished
                | ToPredecessor::Unknown,
            ) => PredecessorEvent::Tick,
            None => PredecessorEvent::Lost,
        }
    }

    fn judge(&mut self, report: &ReportSource) -> PredecessorEvent {
        let ours = proof::of_report(&report());
        self.needed = ours.clone().with_earlier(&self.needed);
        let Some(theirs) = &self.theirs else {
            return PredecessorEvent::Tick;
        };
        // One that cannot be killed must not take over.
        if self.process.is_none() {
            return PredecessorEvent::Proof(Some(String::from("its process id")));
        }
        let gateways = &self.gateways;
        let mut lacking = proof::lacking(self.stage, &self.needed, &ours, theirs, gateways);
        if lacking.is_none() && Instant::now() < self.prefers_all_until {
            lacking = theirs.unproven();
        }
        PredecessorEvent::Proof(lacking)
    }

    /// Whether a gateway listens for a forward of the new process.
    pub(super) fn is_bound(&self) -> bool {
        self.theirs.as_ref().is_some_and(ProcessProof::is_bound)
    }

    /// Whether the process was told to request its forwards.
    pub(super) fn has_listened(&self) -> bool {
        self.stage == ProofStage::Forwards
    }

    /// Lets the process reject the requests that wait there, and end.
    pub(super) async fn end(&mut self) {
        self.sender.close().await;
        if !self.receiver.ended(END_LIMIT).await {
            self.kill().await;
        }
    }

    pub(super) async fn kill(&mut self) {
        if let Some(process) = &self.process {
            process.kill();
        }
        if !self.receiver.ended(KILL_LIMIT).await {
            tracing::warn!("the new process of a failed upgrade has not ended");
        }
    }
}

/// EX_USAGE: the flag is not known.
const USAGE: i32 = 64;
/// A layer of this process may fail for a moment just when the hand-over begins.
const PREFERS_ALL: Duration = Duration::from_secs(5);
/// A process that takes over takes a second for the last answers, and one to end.
const END_LIMIT: Duration = Duration::from_secs(3);
/// A killed process ends at once, unless it waits for a disk.
const KILL_LIMIT: Duration = Duration::from_secs(2);
/// Between two comparisons of what both have proven.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

//! The new process: proves, takes over, and follows the old one to its end.

use super::{
    messages::{LinkReceiver, LinkSender, ToPredecessor, ToSuccessor, folder_text, line, split},
    phases::{SuccessorAction, SuccessorEvent, SuccessorMachine},
    process::SUCCESSOR_FLAG,
    proof,
};
use crate::{
    config::Config, pause::PauseRegistry, service::reload::ConfigReloader, status::StatusReport,
    supervisor::SupervisorHandle,
};
use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, Write},
    os::{fd::AsFd, unix::net::UnixStream as StdUnixStream},
    pin::pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::UnixStream,
    task::spawn_blocking,
    time::{sleep, timeout},
};

/// The connection to the process that this one succeeds.
pub struct PredecessorLink(StdUnixStream);

impl PredecessorLink {
    /// Takes the connection from standard input, which is empty from then on.
    pub fn from_stdin() -> io::Result<Self> {
        let stdin = io::stdin();
        let link = StdUnixStream::from(stdin.as_fd().try_clone_to_owned()?);
        link.peer_addr().map_err(|_| {
            io::Error::other(format!(
                "{SUCCESSOR_FLAG} is for the agent itself; to upgrade a running agent: agent upgrade"
            ))
        })?;
        let null = File::open("/dev/null")?;
        rustix::stdio::dup2_stdin(null)?;
        Ok(Self(link))
    }

    /// Reports that this process cannot take over.
    pub fn fail(mut self, cause: &str) {
        let cause = cause.to_owned();
        let _ = self.0.set_write_timeout(Some(Duration::from_secs(1)));
        // The old process may have ended; then no process waits for the reason.
        let _ = self.0.write_all(&line(&ToPredecessor::Failed {
            cause,
            needs_restart: false,
        }));
    }
}

/// This process before it has taken over.
pub(in crate::service) struct Successor {
    held_slots: BTreeSet<u16>,
    sender: LinkSender,
    receiver: LinkReceiver<ToSuccessor>,
    machine: SuccessorMachine,
}

/// This process after it has taken over, while the old one drains.
pub(in crate::service) struct TakenOver {
    sender: LinkSender,
    receiver: LinkReceiver<ToSuccessor>,
}

impl Successor {
    /// Reports that the configuration is valid and that this process begins to connect.
    pub(in crate::service) async fn begin(
        link: PredecessorLink,
        config: &Config,
    ) -> io::Result<Self> {
        link.0.set_nonblocking(true)?;
        let (sender, mut receiver) = split(UnixStream::from_std(link.0)?);
        let first = timeout(BEGIN_LIMIT, receiver.receive()).await;
        let Ok(Some(ToSuccessor::Begin {
            held_slots,
            state_dir,
            runtime_dir,
        })) = first
        else {
            return Err(io::Error::other(
                "the old process does not begin the hand-over",
            ));
        };
        for (key, moved) in [
            ("state_dir", state_dir != folder_text(&config.state_dir)),
            (
                "runtime_dir",
                runtime_dir != folder_text(&config.runtime_dir),
            ),
        ] {
            if moved {
                let cause = format!(
                    "{key} has changed, which needs a restart: systemctl restart jira-tunnel-agent"
                );
                let needs_restart = true;
                sender
                    .send(&ToPredecessor::Failed {
                        cause: cause.clone(),
                        needs_restart,
                    })
                    .await;
                return Err(io::Error::other(cause));
            }
        }
        let gateways = config.tunnel.gateways.iter();
        sender
            .send(&ToPredecessor::Hello {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                gateways: gateways.map(ToString::to_string).collect(),
            })
            .await;
        Ok(Self {
            held_slots,
            sender,
            receiver,
            machine: SuccessorMachine::new(),
        })
    }

    /// The slot numbers that the old process holds.
    pub(in crate::service) fn held_slots(&self) -> BTreeSet<u16> {
        self.held_slots.clone()
    }

    /// Reports what is proven until the old process hands over. `None`: this process has to end, as after `stop`.
    pub(in crate::service) async fn take_over(
        mut self,
        report: impl Fn() -> StatusReport,
        pauses: &PauseRegistry,
        request_forwards: impl AsyncFn(),
        stop: impl Future<Output = &'static str>,
    ) -> Option<TakenOver> {
        let mut last = None;
        let mut stop = pin!(stop);
        loop {
            let event = tokio::select! {
                message = self.receiver.receive() => match message {
                    Some(ToSuccessor::Listen) => SuccessorEvent::Listen,
                    Some(ToSuccessor::Commit) => SuccessorEvent::Commit,
                    Some(
                        ToSuccessor::Begin { .. }
                        | ToSuccessor::Main
                        | ToSuccessor::Released
                        | ToSuccessor::Reload
                        | ToSuccessor::Unknown,
                    ) => continue,
                    None => SuccessorEvent::Lost,
                },
                signal = stop.as_mut() => {
                    tracing::info!(signal, "stopping before this process has taken over");
                    SuccessorEvent::Stop
                }
                () = sleep(LOOK_INTERVAL) => {
                    let proven = proof::of_report(&report());
                    if last.as_ref() != Some(&proven) {
                        last = Some(proven.clone());
                        self.sender.send(&ToPredecessor::Proof(proven)).await;
                    }
                    continue;
                }
            };
            let mut actions = self.machine.step(event);
            while let Some(action) = actions.first().copied() {
                actions.remove(0);
                match action {
                    SuccessorAction::RequestForwards => request_forwards().await,
                    SuccessorAction::ReadPauses => {
                        actions.extend(self.read_pauses(pauses).await);
                    }
                    SuccessorAction::Serve => pauses.set_known(),
                    SuccessorAction::Confirm => {
                        self.sender.send(&ToPredecessor::Committed).await;
                    }
                    SuccessorAction::TakeSocket => {
                        return Some(TakenOver {
                            sender: self.sender,
                            receiver: self.receiver,
                        });
                    }
                    SuccessorAction::Refuse => {
                        let cause = String::from("the saved pauses cannot be read");
                        let needs_restart = false;
                        let failed = ToPredecessor::Failed {
                            cause,
                            needs_restart,
                        };
                        self.sender.send(&failed).await;
                    }
                    SuccessorAction::End => return None,
                }
            }
        }
    }

    async fn read_pauses(&mut self, pauses: &PauseRegistry) -> Vec<SuccessorAction> {
        let reading = pauses.clone();
        let read = spawn_blocking(move || reading.read_again());
        let event = match timeout(READ_LIMIT, read).await {
            Ok(Ok(Ok(()))) => SuccessorEvent::Read,
            _ => SuccessorEvent::Unreadable,
        };
        self.machine.step(event)
    }
}

impl TakenOver {
    /// Waits until systemd knows this process as the main one, or is not going to.
    pub(in crate::service) async fn wait_for_main(&mut self) {
        let main = async {
            while let Some(message) = self.receiver.receive().await {
                if message == ToSuccessor::Main {
                    return;
                }
            }
        };
        let _ = timeout(MAIN_LIMIT, main).await;
    }

    /// This process answers on the runtime socket.
    pub(in crate::service) async fn answering(&self) {
        self.sender.send(&ToPredecessor::Answering).await;
    }

    /// For [`ProcessBefore::finished`].
    pub(in crate::service) fn process_before(&self) -> ProcessBefore {
        ProcessBefore(self.sender.clone())
    }

    /// Follows the old process to its end: tells it of changed pauses, requests what it has released, and applies what it has
    /// applied.
    pub(in crate::service) async fn follow(
        mut self,
        pauses: PauseRegistry,
        supervisor: SupervisorHandle,
        reloader: Arc<ConfigReloader>,
    ) {
        let mut changes = pauses.changes();
        loop {
            tokio::select! {
                message = self.receiver.receive() => match message {
                    Some(ToSuccessor::Released) => {
                        tracing::info!("upgrade: the process before this one has released its forwards");
                        supervisor.use_released().await;
                    }
                    Some(ToSuccessor::Reload) => {
                        // The outcome is in log and status.
                        let _ = reloader.reload().await;
                    }
                    Some(_) => {}
                    None => break,
                },
                Ok(()) = changes.changed() => self.sender.send(&ToPredecessor::Pauses).await,
            }
        }
        supervisor.use_all_slots().await;
        tracing::info!("upgrade: the process before this one has ended");
    }
}

/// The process before this one, while it finishes its requests.
pub(in crate::service) struct ProcessBefore(LinkSender);

impl ProcessBefore {
    /// This process, asked to stop, has finished its requests.
    pub(in crate::service) async fn finished(&self) {
        self.0.send(&ToPredecessor::Finished).await;
    }
}

/// The old process sends it before it starts this one.
const BEGIN_LIMIT: Duration = Duration::from_secs(5);
/// Between two looks at what is proven.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// Less than the old process waits for the confirmation.
const READ_LIMIT: Duration = Duration::from_secs(3);
/// The old process sends it at once.
const MAIN_LIMIT: Duration = Duration::from_secs(5);

//! Opens the connections of an outlet as channels of a session that answers.

use crate::{
    outlet::SessionWatch,
    supervisor::{LivingSession, SupervisorHandle},
    tunnel::session::OpenDirectError,
    upstream::{ChannelDialError, ChannelDialer, DialedChannel},
};
use futures_util::future::BoxFuture;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

/// Whether a session answers, for outlets that wait for one.
pub(super) struct SupervisedSessions(pub(super) SupervisorHandle);

impl SessionWatch for SupervisedSessions {
    fn is_open(&self) -> bool {
        !self.0.living_sessions().is_empty()
    }

    fn changed(&self) -> BoxFuture<'static, ()> {
        let mut changes = self.0.changes();
        Box::pin(async move {
            if changes.changed().await.is_err() {
                // The supervisor has ended: nothing changes any more.
                std::future::pending::<()>().await;
            }
        })
    }
}

/// Opens channels to one host and port, as a gateway sees them.
pub(super) struct SessionDialer {
    pub(super) supervisor: SupervisorHandle,
    pub(super) host: String,
    pub(super) port: u16,
}

impl ChannelDialer for SessionDialer {
    fn dial(&self, limit: Duration) -> BoxFuture<'_, Result<DialedChannel, ChannelDialError>> {
        Box::pin(self.open(limit))
    }
}

impl SessionDialer {
    /// Waits a moment where the session that it tries is lost: the next one may be about to open.
    async fn open(&self, limit: Duration) -> Result<DialedChannel, ChannelDialError> {
        let begun = Instant::now();
        let (deadline, patience) = (begun + limit, begun + limit.min(SESSION_WAIT));
        loop {
            let sessions = self.sessions(patience).await?;
            match self.open_on(sessions, deadline).await {
                Err(ChannelDialError::NoSession(_)) if Instant::now() < patience => {
                    sleep(POLL).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Tries one session after the other, the one with the fewest channels first.
    async fn open_on(
        &self,
        sessions: Vec<LivingSession>,
        deadline: Instant,
    ) -> Result<DialedChannel, ChannelDialError> {
        let mut last = no_session();
        let count = sessions.len();
        for (index, living) in sessions.into_iter().enumerate() {
            // A silent gateway may use up only its share, so that the next one is tried too.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(count - index).unwrap_or(1);
            let opening = living.session.open_target(&self.host, self.port);
            match timeout(share, opening).await {
                Ok(Ok(stream)) => {
                    let probe = stream.probe();
                    return Ok(DialedChannel {
                        stream: Box::new(stream),
                        is_quiet: Box::new(move || probe.is_quiet() && !living.is_suspect()),
                    });
                }
                Ok(Err(error)) => last = dial_error(&error),
                Err(_) => {
                    let gateway = living.session.gateway();
                    last = ChannelDialError::Failed(format!(
                        "gateway {gateway} has not connected to {}:{} within {} s",
                        self.host,
                        self.port,
                        share.as_secs()
                    ));
                }
            }
        }
        Err(last)
    }

    /// The sessions that answer; waits until then for one.
    async fn sessions(&self, deadline: Instant) -> Result<Vec<LivingSession>, ChannelDialError> {
        loop {
            let mut sessions = self.supervisor.living_sessions();
            if !sessions.is_empty() {
                sessions.sort_by_key(|living| living.session.open_channels());
                return Ok(sessions);
            }
            if Instant::now() >= deadline {
                return Err(no_session());
            }
            sleep(POLL).await;
        }
    }
}

fn no_session() -> ChannelDialError {
    ChannelDialError::NoSession("no session to a gateway is open and answers".to_owned())
}

fn dial_error(error: &OpenDirectError) -> ChannelDialError {
    let text = error.to_string();
    match error {
        OpenDirectError::Prohibited(_) => ChannelDialError::Prohibited(text),
        OpenDirectError::Failed(..) => ChannelDialError::Failed(text),
        OpenDirectError::Busy(_) => ChannelDialError::Busy(text),
        OpenDirectError::NoAnswer(_) | OpenDirectError::Lost(_) => {
            ChannelDialError::NoSession(text)
        }
    }
}

/// A session that was lost is back within this time unless its gateway is down. Jira waits no longer for webhooks.
const SESSION_WAIT: Duration = Duration::from_secs(5);
/// Interval of looks for a session.
const POLL: Duration = Duration::from_millis(100);

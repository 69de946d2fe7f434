//! Renewing while requests pass, one task at a time. It runs in a task of its own, so that a vendor who hangs
//! up does not break it off.

use super::{Grant, renew, scheme::Inner};
use crate::{
    auth::{Unavailable, rotation::Renewal},
    tokens::Record,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

impl Inner {
    /// Starts a renewal or finds one under way, and waits for its end. False: it takes too long.
    pub(super) async fn renewed(self: &Arc<Self>, deadline: Instant) -> bool {
        self.start();
        timeout_at(deadline, self.renewing.lock()).await.is_ok()
    }

    pub(super) fn start(self: &Arc<Self>) {
        // Under way already.
        let Ok(turn) = self.renewing.clone().try_lock_owned() else {
            return;
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = turn;
            this.renewal().await;
        });
    }

    /// One renewal, and what follows from it. Runs alone.
    async fn renewal(&self) {
        let stale = self.lock().tokens.clone();
        let stale = stale.as_ref().and_then(|tokens| tokens.access.as_ref());
        let done = match self.settings.grant {
            Grant::AuthorizationCode => renew(&self.settings, &self.endpoint, stale).await,
            Grant::ClientCredentials => match self.endpoint.client_credentials().await {
                Ok(tokens) => Renewal::Tokens(Record::new(self.settings.owner(), tokens)),
                Err(error) => Renewal::Failed(Unavailable {
                    cause: error.cause,
                    remedy: error.remedy,
                }),
            },
        };
        match done {
            Renewal::Tokens(record) => {
                tracing::info!(
                    forward = self.settings.store.forward(),
                    "the access token was refreshed"
                );
                self.lock().adopt(&record);
            }
            Renewal::Ended(record) => {
                self.lock().adopt(&record);
                tracing::warn!(
                    forward = self.settings.store.forward(),
                    cause = record.ended,
                    remedy = self.settings.login_command(),
                    "the stored OAuth login is no longer valid"
                );
            }
            Renewal::Failed(why) => {
                let mut state = self.lock();
                if state.trouble.as_ref() != Some(&why) {
                    tracing::warn!(
                        forward = self.settings.store.forward(),
                        cause = why.cause,
                        remedy = why.remedy,
                        "the access token could not be refreshed"
                    );
                }
                state.doubtful = false;
                state.failures += 1;
                state.retry_at = Some(Instant::now() + pause(state.failures));
                state.fail(why);
            }
        }
    }

    /// Jira refused the token of this generation. True: there is another one now.
    pub(super) async fn renew_refused(
        self: &Arc<Self>,
        refused: u64,
        proven: bool,
    ) -> Result<bool, Unavailable> {
        {
            let mut state = self.lock();
            if state.generation == refused && state.ended.is_none() {
                // Others may have found out already, and why it cannot be renewed.
                if !state.refused {
                    let lately = |at: Instant| at.elapsed() < IN_VAIN_PAUSE;
                    if !proven && state.renewed_in_vain.is_some_and(lately) {
                        return Ok(false);
                    }
                    if !proven {
                        state.renewed_in_vain = Some(Instant::now());
                    }
                    state.refused = true;
                    state.retry_at = None;
                    state.forget_trouble();
                }
            }
        }
        self.authorization()
            .await
            .map(|credential| credential.generation != refused)
    }
}

/// 1, 2, 4 … 60 seconds.
fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(6);
    (FIRST_PAUSE * (1 << doublings)).min(LAST_PAUSE)
}

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LAST_PAUSE: Duration = Duration::from_secs(60);
/// A user who may not log in gets fresh tokens that are refused all the same: not more often than this.
const IN_VAIN_PAUSE: Duration = Duration::from_secs(300);

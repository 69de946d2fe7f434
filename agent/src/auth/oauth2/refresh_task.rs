//! Renewing while requests pass, one task at a time. It runs in a task of its own, so that a vendor who hangs
//! up does not break it off.

use super::{GrantType, refresh, scheme::OAuth2Inner};
use crate::{
    auth::{CredentialUnavailable, rotation::RefreshOutcome},
    tokens::TokenRecord,
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

impl OAuth2Inner {
    /// Starts a renewal or finds one under way, and waits for its end. False: it takes too long.
    pub(super) async fn wait_for_refresh(self: &Arc<Self>, deadline: Instant) -> bool {
        self.start();
        timeout_at(deadline, self.refresh_lock.lock()).await.is_ok()
    }

    pub(super) fn start(self: &Arc<Self>) {
        // Under way already.
        let Ok(turn) = self.refresh_lock.clone().try_lock_owned() else {
            return;
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _turn = turn;
            this.run_refresh().await;
        });
    }

    /// One renewal, and what follows from it. Runs alone.
    async fn run_refresh(&self) {
        let stale = self.lock().tokens.clone();
        let stale = stale.as_ref().and_then(|tokens| tokens.access.as_ref());
        let done = match self.settings.grant {
            GrantType::AuthorizationCode => refresh(&self.settings, &self.endpoint, stale).await,
            GrantType::ClientCredentials => match self.endpoint.client_credentials().await {
                Ok(tokens) => {
                    RefreshOutcome::Refreshed(TokenRecord::new(self.settings.owner(), tokens))
                }
                Err(error) => RefreshOutcome::Failed(CredentialUnavailable {
                    cause: error.cause,
                    remedy: error.remedy,
                }),
            },
        };
        match done {
            RefreshOutcome::Refreshed(record) => {
                tracing::info!(
                    forward = self.settings.store.forward(),
                    "the access token was refreshed"
                );
                self.lock().apply_record(&record);
            }
            RefreshOutcome::LoginRequired(record) => {
                self.lock().apply_record(&record);
                tracing::warn!(
                    forward = self.settings.store.forward(),
                    cause = record.ended,
                    remedy = self.settings.login_command(),
                    "the stored OAuth login is no longer valid"
                );
            }
            RefreshOutcome::Failed(why) => {
                let mut state = self.lock();
                if state.refresh_error.as_ref() != Some(&why) {
                    tracing::warn!(
                        forward = self.settings.store.forward(),
                        cause = why.cause,
                        remedy = why.remedy,
                        "the access token could not be refreshed"
                    );
                }
                state.refresh_interrupted = false;
                state.failures += 1;
                state.retry_at = Some(Instant::now() + pause(state.failures));
                state.fail(why);
            }
        }
    }

    /// Jira refused the token of this generation. True: there is another one now.
    pub(super) async fn refresh_rejected(
        self: &Arc<Self>,
        refused: u64,
        proven: bool,
    ) -> Result<bool, CredentialUnavailable> {
        {
            let mut state = self.lock();
            if state.generation == refused && state.ended.is_none() {
                // Others may have found out already, and why it cannot be renewed.
                if !state.rejected {
                    let lately = |at: Instant| at.elapsed() < INEFFECTIVE_PAUSE;
                    if !proven && state.ineffective_refresh_at.is_some_and(lately) {
                        return Ok(false);
                    }
                    if !proven {
                        state.ineffective_refresh_at = Some(Instant::now());
                    }
                    state.rejected = true;
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
const INEFFECTIVE_PAUSE: Duration = Duration::from_secs(300);

//! Refreshing while requests pass, in a separate task: a vendor who hangs up does not interrupt it.

use super::{TokenCache, TokenProvider};
use crate::auth::{CredentialUnavailable, RefreshOutcome};
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

impl<P: TokenProvider> TokenCache<P> {
    /// Starts a refresh unless one runs, and waits for its end. False: it takes too long.
    pub(super) async fn wait_for_refresh(self: &Arc<Self>, deadline: Instant) -> bool {
        self.start_refresh();
        timeout_at(deadline, self.refresh_lock.lock()).await.is_ok()
    }

    /// Starts a refresh unless one runs.
    pub(super) fn start_refresh(self: &Arc<Self>) {
        let Ok(guard) = self.refresh_lock.clone().try_lock_owned() else {
            return;
        };
        let this = Arc::clone(self);
        tokio::spawn(async move {
            let _guard = guard;
            this.run_refresh().await;
        });
    }

    /// One refresh and its consequences, while the caller holds the lock.
    async fn run_refresh(&self) {
        let (stale, rejected) = {
            let state = self.state();
            (state.tokens.clone(), state.rejected)
        };
        let outcome = self.provider.refresh(stale.as_deref(), rejected).await;
        let forward = self.provider.forward();
        let mut state = self.state();
        match outcome {
            RefreshOutcome::Refreshed(record) => {
                tracing::info!(forward, "the {} was refreshed", P::TOKEN_NAME);
                state.apply_record(&record, &*self.provider);
            }
            RefreshOutcome::LoginRequired(record) => {
                state.apply_record(&record, &*self.provider);
                tracing::warn!(
                    forward,
                    cause = record.ended,
                    remedy = self.provider.login_command(),
                    "the stored OAuth login is no longer valid"
                );
            }
            RefreshOutcome::Failed(why) => {
                if state.refresh_error.as_ref() != Some(&why) {
                    tracing::warn!(
                        forward,
                        cause = why.cause,
                        remedy = why.remedy,
                        "the {} could not be refreshed",
                        P::TOKEN_NAME
                    );
                }
                state.refresh_interrupted = false;
                state.failures += 1;
                state.retry_at = Some(Instant::now() + P::BACKOFF.after(state.failures));
                state.fail(why);
            }
        }
    }

    /// Jira rejected the token of this generation; `proven` is whether it had accepted it before. True: there is another
    /// one now. An error says why there is none.
    pub(in crate::auth) async fn refresh_rejected(
        self: &Arc<Self>,
        generation: u64,
        proven: bool,
    ) -> Result<bool, CredentialUnavailable> {
        {
            let mut state = self.state();
            // Other requests may have reported it already, and why it cannot be refreshed.
            let is_new = state.generation == generation && state.ended.is_none() && !state.rejected;
            if let Some(tokens) = state.tokens.clone().filter(|_| is_new) {
                let last = state.ineffective_refresh_at;
                // How old the token is says nothing: another agent on the same folder may have got it.
                let is_futile = last.is_some_and(|at| at.elapsed() < P::INEFFECTIVE_PAUSE);
                if self.provider.check_refreshable(&tokens).is_err() || (!proven && is_futile) {
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
        let current = self.current().await?;
        Ok(current.generation != generation)
    }
}

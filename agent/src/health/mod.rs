//! Beside the path: asks Jira itself whether it runs and whether it knows our login, when no traffic
//! has shown that lately. Writes the two layers of the status; on the path nobody waits for it.

pub(crate) mod jira;
pub(crate) mod login;

use crate::{
    auth::Login,
    status::{Layer, State, Witness},
    upstream::{self, ControlClient, ControlError, Target, tcp},
};
use rand::Rng;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The health probes of one forward.
pub struct Health {
    forward: Arc<str>,
    settings: upstream::Settings,
    /// `None` for `tcp://` upstreams, which are only connected to.
    http: Option<Http>,
    jira: Arc<Layer>,
    /// Tells `jira` what the probes see.
    seen: Witness,
}

struct Http {
    client: ControlClient,
    login: Login,
    layer: Arc<Layer>,
    /// As `serverInfo` told it; asked once until Jira fails.
    version: Option<String>,
}

/// Why no probes can be made.
#[derive(Debug, thiserror::Error)]
#[error("the health probes: {0}")]
pub struct HealthError(#[from] ControlError);

impl Health {
    /// `jira` and `login_layer` are the layers of this forward's status. Like
    /// [`Upstream::new`](upstream::Upstream::new) it may read the system's certificates: call it where
    /// blocking is allowed.
    pub fn new(
        forward: Arc<str>,
        settings: upstream::Settings,
        login: Login,
        jira: Arc<Layer>,
        login_layer: Arc<Layer>,
    ) -> Result<Self, HealthError> {
        let http = match &settings.target {
            Target::Tcp { .. } => None,
            Target::Http(target) => Some(Http {
                client: {
                    let cookies = login.clone();
                    ControlClient::as_the_path(&settings, target)?
                        .with_cookies(Box::new(move |head| cookies.add_cookies(head)))
                },
                login,
                layer: login_layer,
                version: None,
            }),
        };
        Ok(Self {
            forward,
            settings,
            http,
            seen: Witness::new(jira.clone()),
            jira,
        })
    }

    /// Probes until `stop`: every half minute while all is well, sooner after a failure.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let healthy = tokio::select! {
                healthy = self.probe() => healthy,
                () = stop.cancelled() => return,
            };
            failures = if healthy { 0 } else { failures + 1 };
            let pause = jittered(pause(failures));
            tokio::select! {
                () = self.rest(pause, healthy) => {}
                () = self.retried() => failures = 0,
                () = stop.cancelled() => return,
            }
        }
    }

    /// Completes when an administrator wants the login tried again: who has mended something looks at the status
    /// next.
    async fn retried(&self) {
        match &self.http {
            Some(http) => http.login.retried().await,
            None => std::future::pending().await,
        }
    }

    /// Sits `pause` out. Where traffic meanwhile finds Jira failing, it ends sooner: whoever mends that
    /// should not have to wait for the next regular probe to see it.
    async fn rest(&self, pause: Duration, healthy: bool) {
        let end = Instant::now() + pause;
        while Instant::now() < end {
            let slice = end.min(Instant::now() + FIRST_PAUSE);
            tokio::time::sleep_until(slice).await;
            if healthy && self.jira.snapshot().state != State::Proven {
                return;
            }
        }
    }

    /// Proves what traffic has not proven lately. Returns whether all layers stand proven.
    async fn probe(&mut self) -> bool {
        if !is_fresh(&self.jira) {
            self.probe_jira().await;
        }
        let Some(http) = &mut self.http else {
            return is_fresh(&self.jira);
        };
        if !http.login.injects() {
            return is_fresh(&self.jira);
        }
        if !is_fresh(&http.layer) {
            // What comes of it stands in the layer.
            let _ = login::ask(&http.client, &http.login).await;
        }
        if is_fresh(&http.layer) {
            login::ask_expiry(&http.client, &http.login).await;
        }
        is_fresh(&self.jira) && is_fresh(&http.layer)
    }

    async fn probe_jira(&mut self) {
        let condition = match &mut self.http {
            Some(http) if self.settings.cloud.is_some() => jira::ask_cloud(&http.client).await,
            Some(http) => jira::ask(&http.client, &mut http.version).await,
            None => tcp::reach(&self.settings)
                .await
                .map(|()| "accepts connections".to_owned())
                .map_err(|error| jira::Trouble {
                    state: State::Failed,
                    cause: error.to_string(),
                    remedy: jira::REACH.to_owned(),
                }),
        };
        match condition {
            Ok(detail) => {
                if self.seen.proven(Some(&detail)) {
                    tracing::info!(
                        forward = &*self.forward,
                        "the probe of Jira succeeded: {detail}"
                    );
                }
            }
            Err(jira::Trouble {
                state,
                cause,
                remedy,
            }) => {
                if self.seen.failed(state, &cause, &remedy) {
                    tracing::warn!(
                        forward = &*self.forward,
                        cause,
                        remedy,
                        "the probe of Jira failed"
                    );
                }
            }
        }
    }
}

fn is_fresh(layer: &Layer) -> bool {
    let snapshot = layer.snapshot();
    snapshot.state == State::Proven && snapshot.proven_at.is_some_and(|at| at.elapsed() < INTERVAL)
}

/// The interval, or after failures 2, 4, 8, 16 seconds and then the interval again.
fn pause(failures: u32) -> Duration {
    match failures {
        0 => INTERVAL,
        _ => (FIRST_PAUSE * (1 << (failures - 1).min(8))).min(INTERVAL),
    }
}

/// Spreads the probes of many agents: 80 to 100 per cent.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.8..=1.0))
}

/// How old a proof may become.
pub const INTERVAL: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests;

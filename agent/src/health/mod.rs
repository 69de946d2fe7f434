//! Beside the path: asks Jira itself whether it runs and whether it knows our login, when no traffic
//! has shown that lately. Writes the two layers of the status; on the path nobody waits for it.

pub(crate) mod jira;
pub(crate) mod login;

use crate::{
    auth::{ProbeNeed, UpstreamAuth},
    backoff::{self, ExponentialBackoff},
    status::{LayerReporter, ProofState, StatusLayer},
    upstream::{self, ControlClient, ControlError, HttpTarget, UpstreamTarget, tcp},
};
use rand::Rng;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The health probes of one forward.
pub struct HealthProber {
    forward: Arc<str>,
    settings: upstream::Settings,
    /// `None` for `tcp://` upstreams, which are only connected to.
    http: Option<HttpProbe>,
    jira: Arc<StatusLayer>,
    /// Tells `jira` what the probes see.
    reporter: LayerReporter,
}

struct HttpProbe {
    client: ControlClient,
    target: HttpTarget,
    login: UpstreamAuth,
    layer: Arc<StatusLayer>,
    /// As `serverInfo` told it; asked once until Jira fails.
    version: Option<String>,
    /// Rounds of probes, one after the other, in which nothing but something else than Jira answered.
    foreign_rounds: u32,
}

/// Why no probes can be made.
#[derive(Debug, thiserror::Error)]
#[error("the health probes: {0}")]
pub struct HealthError(#[from] ControlError);

impl HealthProber {
    /// `jira` and `login_layer` are the layers of this forward's status. Like
    /// [`Upstream::new`](upstream::Upstream::new) it may read the system's certificates: call it where
    /// blocking is allowed.
    pub fn new(
        forward: Arc<str>,
        settings: upstream::Settings,
        login: UpstreamAuth,
        jira: Arc<StatusLayer>,
        login_layer: Arc<StatusLayer>,
    ) -> Result<Self, HealthError> {
        let http = match &settings.target {
            UpstreamTarget::Tcp { .. } => None,
            UpstreamTarget::Http(target) => {
                login.enable_probing();
                let cookies = login.clone();
                let client = ControlClient::like_data_path(&settings, target)?
                    .with_cookies(Box::new(move |head| cookies.add_cookies(head)));
                Some(HttpProbe {
                    client,
                    target: target.clone(),
                    login,
                    layer: login_layer,
                    version: None,
                    foreign_rounds: 0,
                })
            }
        };
        Ok(Self {
            forward,
            settings,
            http,
            reporter: LayerReporter::new(jira.clone()),
            jira,
        })
    }

    /// Probes until `stop`: every half minute while all is well, sooner after a failure, and at once when a request
    /// was refused, the secret has changed, or an administrator wants it.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let healthy = tokio::select! {
                healthy = self.probe() => healthy,
                () = stop.cancelled() => return,
            };
            failures = if healthy { 0 } else { failures + 1 };
            let pause = jittered(probe_interval(failures));
            tokio::select! {
                woken = self.wait_for_next_probe(begun, pause, healthy) => if woken { failures = 0 },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Sits `pause` out, and looks at the secret every second. It ends sooner where something asks for a probe, and
    /// where traffic finds Jira failing or something else in its place: whoever corrects that should not have to
    /// wait for the next regular probe to see it. True: somebody asked.
    async fn wait_for_next_probe(&self, begun: Instant, pause: Duration, healthy: bool) -> bool {
        let rested = Instant::now();
        let end = rested + pause;
        loop {
            let slice = end.min(Instant::now() + LOOK_EVERY);
            let wanted = tokio::select! {
                () = tokio::time::sleep_until(slice) => self.secret_changed().await,
                () = self.probe_requested() => true,
            };
            let now = Instant::now();
            if wanted {
                // One odd path, asked for again and again, costs Jira one probe in this time.
                if self.probe_need() == ProbeNeed::Doubted {
                    tokio::time::sleep_until(begun + DOUBT_PAUSE).await;
                }
                return true;
            }
            if now >= end {
                return false;
            }
            let spoiled = healthy && self.jira.snapshot().state != ProofState::Proven;
            if now >= rested + FIRST_PAUSE && (spoiled || self.jira.is_doubted()) {
                return false;
            }
        }
    }

    async fn secret_changed(&self) -> bool {
        match &self.http {
            Some(http) => http.login.reload_if_changed().await,
            None => false,
        }
    }

    async fn probe_requested(&self) {
        match &self.http {
            Some(http) => http.login.probe_requested().await,
            None => std::future::pending().await,
        }
    }

    fn probe_need(&self) -> ProbeNeed {
        match &self.http {
            Some(http) => http.login.probe_need(),
            None => ProbeNeed::None,
        }
    }

    /// Proves what traffic has not proven lately. Returns whether all layers stand proven.
    async fn probe(&mut self) -> bool {
        let doubted = self.jira.take_doubt();
        let asks_jira = doubted || !is_fresh(&self.jira);
        let Some(http) = &mut self.http else {
            if asks_jira {
                let reached = tcp::probe_connect(&self.settings).await;
                self.report(
                    reached
                        .map(|()| "accepts connections".to_owned())
                        .map_err(|error| jira::ProbeFailure {
                            state: ProofState::Failed,
                            cause: error.to_string(),
                            remedy: jira::REACH.to_owned(),
                            is_foreign: false,
                        }),
                );
            }
            return is_fresh(&self.jira);
        };
        let HttpProbe {
            client,
            target,
            login,
            layer,
            version,
            foreign_rounds,
        } = http;
        login.reload_if_changed().await;
        let asks_login =
            login.injects() && (login.probe_need() != ProbeNeed::None || !is_fresh(layer));
        let cloud = self.settings.cloud.is_some();
        // Side by side: a Jira that does not answer costs the time of one.
        let (mut condition, login_is_foreign) = tokio::join!(
            async {
                match (asks_jira, cloud) {
                    (false, _) => None,
                    (true, true) => Some(jira::ask_cloud(client).await),
                    (true, false) => Some(jira::probe_jira(client, target, version, doubted).await),
                }
            },
            async {
                let mut is_foreign = false;
                if asks_login {
                    // What comes of it stands in the layer.
                    (_, is_foreign) = login::probe_login_and_source(client, login).await;
                }
                if login.injects() && is_fresh(layer) {
                    login::probe_expiry(client, login).await;
                }
                is_foreign
            }
        );
        // The vendor's own credential may pass where our questions without one do not; only `myself` bears ours.
        match &mut condition {
            Some(Err(trouble)) if trouble.is_foreign && login_is_foreign => {
                *foreign_rounds = foreign_rounds.saturating_add(1);
                if *foreign_rounds >= FOREIGN_ROUNDS {
                    // No request can pass: whatever is asked, Jira does not answer.
                    trouble.state = ProofState::Failed;
                }
            }
            _ => *foreign_rounds = 0,
        }
        let login_fine =
            !login.injects() || (is_fresh(layer) && login.probe_need() == ProbeNeed::None);
        if let Some(condition) = condition {
            self.report(condition);
        }
        is_fresh(&self.jira) && login_fine
    }

    fn report(&self, condition: Result<String, jira::ProbeFailure>) {
        match condition {
            Ok(detail) => {
                if self.reporter.proven(Some(&detail)) {
                    tracing::info!(
                        forward = &*self.forward,
                        "the probe of Jira succeeded: {detail}"
                    );
                }
            }
            Err(jira::ProbeFailure {
                state,
                cause,
                remedy,
                is_foreign: _,
            }) => {
                if self.reporter.failed(state, &cause, &remedy) {
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

fn is_fresh(layer: &StatusLayer) -> bool {
    let snapshot = layer.snapshot();
    snapshot.state == ProofState::Proven
        && snapshot.proven_at.is_some_and(|at| at.elapsed() < FRESH)
}

/// The interval, or after failures 2, 4, 8, 16 seconds and then the interval again.
fn probe_interval(failures: u32) -> Duration {
    match failures {
        0 => INTERVAL,
        _ => RETRY.after(failures),
    }
}

/// Spreads the probes of many agents: 80 to 100 per cent.
fn jittered(pause: Duration) -> Duration {
    backoff::jittered(pause, 0.8, rand::rng().random())
}

/// Between two regular probes.
pub const INTERVAL: Duration = Duration::from_secs(30);
/// What traffic has proven within this time is not probed.
const FRESH: Duration = Duration::from_secs(15);
/// How old a proof may become while probes are answered: one interval after it was still fresh, and the time that a
/// probe may take besides.
pub const OLDEST_PROOF: Duration = Duration::from_secs(30 + 15);
/// A changed secret is unproven after this, and probed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two probes that one refused request after the other asks for, where nothing waits for them.
const DOUBT_PAUSE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const RETRY: ExponentialBackoff = ExponentialBackoff::new(FIRST_PAUSE, INTERVAL, 2.0);
/// One odd round, as by something that wants a cookie first, is none that lasts.
const FOREIGN_ROUNDS: u32 = 2;

#[cfg(test)]
mod tests;

//! Probes Jira and the credential when no traffic has proven them lately. It writes two layers of the status; no request
//! waits for it.

pub(crate) mod jira;
mod jira_report;
pub(crate) mod login;
pub(crate) mod service;

use crate::{
    auth::{ProbeNeed, UpstreamAuth},
    backoff::{self, ExponentialBackoff},
    status::{ProofState, StatusLayer},
    upstream::{
        self, ControlClient, ControlError, HttpTarget, ProtectionSnapshot, Upstream,
        UpstreamTarget, tcp,
    },
};
use jira::ProbeReach;
use jira_report::JiraReport;
use rand::Rng;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The health probes of one forward.
pub struct HealthProber {
    settings: upstream::Settings,
    /// `None` for `tcp://` upstreams, which are only connected to.
    http: Option<HttpProbe>,
    jira: Arc<StatusLayer>,
    /// Tells `jira` and the data path what the probes see.
    report: JiraReport,
}

struct HttpProbe {
    client: ControlClient,
    target: HttpTarget,
    login: UpstreamAuth,
    layer: Arc<StatusLayer>,
    /// From `serverInfo`; requested once until Jira fails.
    version: Option<String>,
    /// Consecutive probes that something other than Jira answered.
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
            settings,
            http,
            report: JiraReport::new(forward, jira.clone()),
            jira,
        })
    }

    /// The same probes, which also run as soon as requests on this upstream wait while none is answered, and whose
    /// outcome counts for its breaker.
    pub fn watching(mut self, upstream: Option<Arc<Upstream>>) -> Self {
        self.report.upstream = upstream;
        self
    }

    /// Probes until `stop`: regularly while all layers are proven, after a failure at growing intervals, and at once after a
    /// rejected request, a changed secret, or an administrator's command.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            let healthy = tokio::select! {
                healthy = self.probe() => healthy,
                () = stop.cancelled() => return,
            };
            failures = if healthy { 0 } else { failures + 1 };
            let pause = match failures {
                0 => {
                    let proven_at = self.jira.snapshot().proven_at;
                    let age = proven_at.map_or(Duration::ZERO, |at| at.elapsed());
                    self.cadence().pause(age, rand::rng().random())
                }
                _ => {
                    let pause = self.pause_after(failures);
                    backoff::jittered(pause, LEAST_JITTER, rand::rng().random())
                }
            };
            tokio::select! {
                requested = self.wait_for_next_probe(begun, pause, healthy) => if requested { failures = 0 },
                () = stop.cancelled() => return,
            }
        }
    }

    /// The longest pause after so many failures in a row. A Jira that is down is probed as often as one that is not, and
    /// every few seconds while requests are held back until a probe is answered.
    fn pause_after(&self, failures: u32) -> Duration {
        let pause = RETRY.after(failures);
        if self.report.protection().breaker_open {
            return pause.min(ProbeCadence::JIRA.interval);
        }
        match self.jira.snapshot().state {
            ProofState::Proven => pause,
            ProofState::Unknown | ProofState::Degraded | ProofState::Failed => {
                pause.min(self.cadence().interval)
            }
        }
    }

    /// Whether the health proof costs the service next to nothing.
    fn is_cheap(&self) -> bool {
        let health = self.settings.profile.health.as_ref();
        health.is_some_and(|health| health.frequent)
    }

    /// How often this upstream is probed.
    fn cadence(&self) -> ProbeCadence {
        match (&self.http, &self.settings.cloud) {
            (Some(_), None) if self.is_cheap() => ProbeCadence::JIRA,
            // A connection says nothing about a service that hangs, and Cloud counts requests.
            (None, _) | (Some(_), Some(_) | None) => ProbeCadence::SELDOM,
        }
    }

    /// Waits for `pause` and reads the secret every second. Ends sooner if a probe is requested, and if traffic finds Jira
    /// failing or replaced by something else, so that a repair shows before the next regular probe. True: a probe was
    /// requested.
    async fn wait_for_next_probe(&self, begun: Instant, pause: Duration, healthy: bool) -> bool {
        let started = Instant::now();
        let end = started + pause;
        loop {
            let slice = end.min(Instant::now() + SECRET_CHECK_INTERVAL);
            let requested = tokio::select! {
                () = tokio::time::sleep_until(slice) => self.secret_changed().await,
                () = self.probe_requested() => true,
            };
            let now = Instant::now();
            if requested {
                // One odd path, asked for again and again, costs Jira one probe in this time.
                if self.probe_need() == ProbeNeed::Doubted {
                    tokio::time::sleep_until(begun + DOUBT_PAUSE).await;
                }
                return true;
            }
            if now >= end {
                return false;
            }
            if healthy && self.report.protection().silent.is_some() {
                self.jira.doubt();
                return false;
            }
            let newly_failed = healthy && self.jira.snapshot().state != ProofState::Proven;
            if now >= started + FIRST_PAUSE && (newly_failed || self.jira.is_doubted()) {
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

    /// Proves what traffic has not proven lately. Returns whether all layers are proven.
    async fn probe(&mut self) -> bool {
        let cadence = self.cadence();
        let doubted = self.jira.take_doubt();
        let is_old = doubted || !is_fresh(&self.jira, cadence.jira_fresh);
        let Self {
            settings,
            http,
            jira,
            report,
        } = self;
        let Some(HttpProbe {
            client,
            target,
            login,
            layer,
            version,
            foreign_rounds,
        }) = http
        else {
            if is_old {
                report.found(&tcp_result(settings).await);
            }
            return is_fresh(jira, cadence.jira_fresh);
        };
        login.reload_if_changed().await;
        let asks_login = login.injects()
            && (login.probe_need() != ProbeNeed::None || !is_fresh(layer, cadence.login_fresh));
        // The login may wait for long, and meanwhile nothing else would ask Jira.
        let asks_jira = is_old || asks_login;
        let protection = report.protection();
        let checks_rest = doubted || proves_too_little(&protection);
        let cloud = settings.cloud.is_some();
        let is_jira = settings.profile.is_jira();
        // Concurrently: a Jira that does not answer costs the time of one, and its answer counts before the login has one.
        let (foreign, login_is_foreign) = tokio::join!(
            async {
                if !asks_jira {
                    return None;
                }
                let begun = Instant::now();
                let mut probe = pin!(async {
                    match (cloud, is_jira) {
                        (true, _) => jira::ask_cloud(client).await,
                        (false, true) => {
                            jira::probe_jira(client, target, version, checks_rest).await
                        }
                        (false, false) => service::probe_service(client, target).await,
                    }
                });
                let result = tokio::select! {
                    result = &mut probe => result,
                    () = tokio::time::sleep(PROBE_PATIENCE) => {
                        report.late(protection.silent);
                        probe.await
                    }
                };
                report.inform_protection(&result, begun.elapsed());
                match result {
                    // What it means depends on the login.
                    Err(failure) if failure.is_foreign => Some(failure),
                    result => {
                        report.found(&result);
                        None
                    }
                }
            },
            async {
                let mut is_foreign = false;
                if asks_login {
                    // The layer has the result.
                    (_, is_foreign) = login::probe_login_and_source(client, login).await;
                }
                if login.injects() && is_fresh(layer, cadence.login_fresh) {
                    login::probe_expiry(client, login).await;
                }
                is_foreign
            }
        );
        // The vendor's own credential may pass where our probes without one do not; only `myself` carries ours.
        *foreign_rounds = match foreign.is_some() && login_is_foreign {
            true => foreign_rounds.saturating_add(1),
            false => 0,
        };
        if let Some(mut failure) = foreign {
            if *foreign_rounds >= FOREIGN_ROUNDS {
                // No request can pass: whatever is asked, Jira does not answer.
                failure.state = ProofState::Failed;
            }
            report.found(&Err(failure));
        }
        let login_is_proven = !login.injects()
            || (is_fresh(layer, cadence.login_fresh) && login.probe_need() == ProbeNeed::None);
        // It was fresh or asked; the login may have taken long since.
        jira.snapshot().state == ProofState::Proven && login_is_proven
    }
}

/// What a probe of a `tcp://` upstream finds.
async fn tcp_result(settings: &upstream::Settings) -> Result<String, jira::ProbeFailure> {
    match tcp::probe_connect(settings).await {
        Ok(()) => Ok("accepts connections".to_owned()),
        Err(error) => Err(jira::ProbeFailure {
            state: ProofState::Failed,
            cause: error.to_string(),
            remedy: jira::REACH.to_owned(),
            is_foreign: false,
            reach: ProbeReach::NotConnected,
        }),
    }
}

/// Whether the status page alone would prove too little: requests wait for Jira or are held back, and it may be answered
/// while nothing else is.
fn proves_too_little(protection: &ProtectionSnapshot) -> bool {
    protection.unanswered > 0 || protection.breaker_open || protection.held.is_some()
}

fn is_fresh(layer: &StatusLayer, fresh: Duration) -> bool {
    let snapshot = layer.snapshot();
    snapshot.state == ProofState::Proven
        && snapshot.proven_at.is_some_and(|at| at.elapsed() < fresh)
}

/// How often an upstream is probed while all is well.
struct ProbeCadence {
    /// The age of Jira's proof at which the next probe begins.
    interval: Duration,
    /// Jira is not probed while its proof, perhaps by traffic, is younger.
    jira_fresh: Duration,
    /// The credential is not probed while its proof is younger.
    login_fresh: Duration,
}

impl ProbeCadence {
    /// A Jira that hangs without a request shows within 10 s: this interval, and [`PROBE_PATIENCE`]. Its status page is
    /// answered without the database; the credential's probe is not, and stays as rare as with the other cadence.
    const JIRA: Self = Self {
        interval: Duration::from_secs(5),
        jira_fresh: Duration::from_secs(3),
        login_fresh: Duration::from_secs(22),
    };
    const SELDOM: Self = Self {
        interval: LONGEST_INTERVAL,
        jira_fresh: Duration::from_secs(15),
        login_fresh: Duration::from_secs(15),
    };

    /// The time until a proof of Jira of this age is as old as the interval: traffic may have proven it after the last
    /// probe. `random` is in 0..1.
    fn pause(&self, age: Duration, random: f64) -> Duration {
        let interval = backoff::jittered(self.interval, LEAST_JITTER, random);
        interval.saturating_sub(age).max(SHORTEST_PAUSE)
    }
}

/// Spreads the probes of many agents: 80 to 100 per cent of a pause.
const LEAST_JITTER: f64 = 0.8;
/// Between two regular probes, and after failures.
const LONGEST_INTERVAL: Duration = Duration::from_secs(30);
/// The age that a proof may reach while probes are answered: one interval after it was fresh, plus the time of a probe.
pub const OLDEST_PROOF: Duration = Duration::from_secs(30 + 15);
/// Between two regular probes, however old the proof of Jira is.
const SHORTEST_PAUSE: Duration = Duration::from_secs(1);
/// Between two reads of the secret: a changed one is unproven after this, and probed.
const SECRET_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Between two probes that rejected requests ask for, where nothing waits for them.
const DOUBT_PAUSE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_secs(2);
const RETRY: ExponentialBackoff = ExponentialBackoff::new(FIRST_PAUSE, LONGEST_INTERVAL, 2.0);
/// After this without an answer to the probe, the layer is degraded. The probe itself waits longer.
const PROBE_PATIENCE: Duration = Duration::from_secs(3);
/// One odd round does not count: something may have asked for a cookie first.
const FOREIGN_ROUNDS: u32 = 2;

#[cfg(test)]
mod tests;

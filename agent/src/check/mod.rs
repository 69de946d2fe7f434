//! Tests every hop in order, each with verdict, cause and remedy: what `agent check` prints.
//!
//! Steps run where the credentials are: inside the running agent, else in the command itself, so that no credential is
//! tried outside the circuit that guards it. [`with_token`] tests what can be tested before there is a configuration. `tunnel`
//! and [`check_standalone`] test the gateways, [`forward`] the hops to Jira: `connectivity` reaches it, `jira` asks it
//! about itself, `login` about the credential, `scopes` compares an OAuth login with the rules; `paths` compares the rules
//! with the kind of Jira. `outlet` tests the way out. `host` checks this host, `firewall` lists the outbound rules, `step`
//! is one step and the list of them. A new hop is a file with a function that takes its steps. Uses the code of the data
//! path for each hop, and has no second implementation of one.

mod base_url;
mod clock;
mod connectivity;
mod firewall;
mod host;
mod jira;
mod login;
mod outlet;
mod paths;
mod render;
mod report;
mod scopes;
mod step;
mod tunnel;

pub use firewall::{FirewallEndpoint, FirewallRule, firewall, firewall_to};
pub use host::HostRequirements;
pub use outlet::{QueueUnderTest, outlet, outlet_standalone};
pub use paths::{RunningUpstream, paths};
pub use render::{render, render_firewall};
pub use report::{CheckReport, schema};
pub use scopes::{ScopeGap, scope_gaps};
pub use step::{CheckStep, StepVerdict};
pub use tunnel::{ForwardUnderTest, RunningAgent, TokenGateways};

use crate::{
    auth::{self, UpstreamAuth},
    config::{self, NOT_CONFIGURED},
    expiry::{CredentialExpiry, ExpiryTime, ExpiryUrgency},
    pause::PauseRegistry,
    profile::ServiceProfile,
    tunnel::Settings,
    upstream::{ControlClient, UpstreamTarget},
};
use std::{sync::Arc, time::SystemTime};
use step::{StepRecorder, StepResult};

/// The step `configuration`: one failure for each problem, or ok if there are none.
pub fn configuration(problems: &[String]) -> Vec<CheckStep> {
    let mut steps = StepRecorder::new(None);
    if problems.is_empty() {
        let seen = "valid; all files exist and are private";
        steps.add("configuration", StepResult::ok(seen));
    }
    for problem in problems {
        let remedy = match problem.ends_with(NOT_CONFIGURED) {
            true => {
                "with the vendor's token: agent enroll; to list the firewall rules first: agent check --firewall --token-file FILE"
            }
            false => "correct it; agent config show prints the effective values",
        };
        steps.add("configuration", StepResult::fail(problem.clone(), remedy));
    }
    steps.into_vec()
}

/// The step `configuration` while an agent runs with the configuration that it read before: warnings.
pub fn refused_change(problems: &[String]) -> Vec<CheckStep> {
    let mut steps = StepRecorder::new(None);
    for problem in problems {
        let cause = format!(
            "the configuration files are invalid, and the running agent keeps the previous configuration: {problem}"
        );
        let remedy = "correct it, then: agent reload";
        steps.add("configuration", StepResult::warn(cause, remedy));
    }
    steps.into_vec()
}

/// The steps of this host and the tunnel, inside the agent that runs with these settings.
pub async fn check_running(
    host: &HostRequirements,
    settings: &Settings,
    running: &RunningAgent,
) -> Vec<CheckStep> {
    let mut common = StepRecorder::new(None);
    let certificate = host::check(&mut common, host).await;
    expiry(&mut common, certificate.into_iter());
    let gateways = tunnel::check_running(settings, running).await;
    in_order(common, gateways)
}

/// The steps of this host and the tunnel while no agent runs, so that the key is not in use elsewhere. Each login is the
/// one that the forward's own steps use too.
pub async fn check_standalone(
    host: &HostRequirements,
    settings: &Arc<Settings>,
    forwards: &[(&config::ForwardConfig, &UpstreamAuth)],
    pauses: &PauseRegistry,
) -> Vec<CheckStep> {
    let mut common = StepRecorder::new(None);
    let certificate = host::check(&mut common, host).await;
    expiry(&mut common, certificate.into_iter());
    let gateways = tunnel::check_standalone(settings, forwards, pauses).await;
    in_order(common, gateways)
}

/// The steps before there is a configuration: the token itself, and every hop to its gateways that needs no credential.
/// `ends` is when the token expires.
pub async fn with_token(gateways: TokenGateways, ends: SystemTime) -> Vec<CheckStep> {
    let mut common = StepRecorder::new(None);
    let date = humantime::format_rfc3339_seconds(ends);
    common.add(
        "token",
        match ends > SystemTime::now() {
            true => StepResult::ok(format!("user {}, valid until {date}", gateways.user)),
            false => StepResult::warn(
                format!("this token expired at {date} and can no longer enroll a host"),
                "ask the vendor for a new token; if this host's clock is wrong, correct it",
            ),
        },
    );
    in_order(common, tunnel::token_gateways(gateways).await)
}

fn in_order(common: StepRecorder, gateways: Vec<StepRecorder>) -> Vec<CheckStep> {
    let all = std::iter::once(common).chain(gateways);
    all.flat_map(StepRecorder::into_vec).collect()
}

/// All steps from this host to the Jira of one forward, with its login.
pub async fn forward(config: &config::ForwardConfig, login: &UpstreamAuth) -> Vec<CheckStep> {
    let mut steps = StepRecorder::new(Some(&config.name));
    secrets(&mut steps, &config.auth).await;
    let reached = connectivity::check(&mut steps, &config.upstream).await;
    let UpstreamTarget::Http(target) = &config.upstream.target else {
        let why = "raw bytes are forwarded; there is no Jira to query";
        steps.add("http", StepResult::skipped(why));
        return steps.into_vec();
    };
    let client = match reached {
        true => control_client(config).await,
        false => Err(StepResult::skipped("Jira was not reached")),
    };
    match client {
        Ok(client) => {
            let found = jira::check(&mut steps, &client, config, target).await;
            let user = match found {
                true => login::check(&mut steps, &client, &config.auth, login).await,
                false => {
                    let why = "no Jira answered; the credential is not sent to any other server";
                    steps.add("login", StepResult::skipped(why));
                    false
                }
            };
            if !config.upstream.profile.is_jira() {
                // Its permissions and scopes are not data of the profile.
                return about(&config.upstream.profile, finish(steps, config, login));
            }
            if found {
                scopes::check(&mut steps, config, login).await;
            }
            let ticketing = config.policy.presets.iter().any(|p| p == "ticketing");
            login::permissions(&mut steps, &client, login, user, ticketing).await;
        }
        Err(found) => steps.add("http", found),
    }
    about(&config.upstream.profile, finish(steps, config, login))
}

/// With the steps on what expires.
fn finish(
    mut steps: StepRecorder,
    config: &config::ForwardConfig,
    login: &UpstreamAuth,
) -> Vec<CheckStep> {
    let client_certificate = config.upstream.tls.client_certificate.as_ref();
    let expiries = login.expiries();
    expiry(
        &mut steps,
        expiries
            .into_iter()
            .chain(client_certificate.map(|c| c.expiry())),
    );
    steps.into_vec()
}

/// The steps with sentences about the tool of this profile.
fn about(profile: &ServiceProfile, mut steps: Vec<CheckStep>) -> Vec<CheckStep> {
    for step in &mut steps {
        let texts = [&mut step.detail, &mut step.cause, &mut step.remedy];
        for text in texts.into_iter().flatten() {
            *text = profile.reword(text).into_owned();
        }
    }
    steps
}

async fn control_client(config: &config::ForwardConfig) -> Result<ControlClient, StepResult> {
    let settings = config.upstream.clone();
    let remedy = "run agent config show";
    let made = tokio::task::spawn_blocking(move || match &settings.target {
        UpstreamTarget::Http(target) => {
            ControlClient::like_data_path(&settings, target).map_err(|e| e.to_string())
        }
        UpstreamTarget::Tcp { .. } => Err("no HTTP".to_owned()),
    });
    let made = made
        .await
        .map_err(|e| StepResult::fail(e.to_string(), remedy))?;
    made.map_err(|cause| StepResult::fail(cause, remedy))
}

/// Whether the secret files can be read, as the current user: inside the agent, the agent's own.
async fn secrets(steps: &mut StepRecorder, auth: &auth::Settings) {
    let files = auth.secret_files();
    if files.is_empty() {
        return;
    }
    let work = tokio::task::spawn_blocking(move || {
        let refused = files.iter().find_map(|file| file.check().err());
        refused.map(|error| error.to_string()).ok_or(files.len())
    });
    steps
        .run::<()>("secrets", async {
            let found = match work.await {
                Ok(Err(count)) => StepResult::ok(format!("{count} readable and private")),
                Ok(Ok(cause)) => {
                    StepResult::fail(cause, "a corrected file is picked up within seconds")
                }
                Err(error) => StepResult::fail(error.to_string(), "try again"),
            };
            (found, None)
        })
        .await;
}

fn expiry(steps: &mut StepRecorder, expiries: impl Iterator<Item = CredentialExpiry>) {
    let now = SystemTime::now();
    for expiry in expiries {
        let sentence = expiry.sentence(now);
        let found = match (expiry.urgency(now), &expiry.end) {
            (ExpiryUrgency::None, ExpiryTime::Unknown(_)) => StepResult::skipped(sentence),
            (ExpiryUrgency::None, _) => StepResult::ok(sentence),
            (ExpiryUrgency::Over, _) => StepResult::fail(sentence, expiry.remedy),
            (_, _) => StepResult::warn(sentence, expiry.remedy),
        };
        steps.add("expiry", found);
    }
}

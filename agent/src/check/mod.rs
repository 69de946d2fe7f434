//! Every hop in order, each with verdict, cause and remedy: what `agent check` prints.
//!
//! Steps are taken where the credentials live: inside the running agent, else in the command itself, so that none is
//! tried beside the circuit that guards it. [`invited`] is what can be known before there is a configuration. `tunnel` and
//! [`alone`] go to the gateways and back,
//! [`forward`] to Jira: `reach` is the way there, `jira` asks it about itself, `login` asks it about us. `host` looks at
//! this host, `firewall` says what the network must let out, `step` is one step and the list of them. A new hop is a
//! file with a function that takes its steps.

mod base_url;
mod clock;
mod firewall;
mod host;
mod jira;
mod login;
mod reach;
mod render;
mod report;
mod step;
mod tunnel;

pub use firewall::{Place, Rule, firewall, firewall_to};
pub use host::Host;
pub use render::{render, render_firewall};
pub use report::{Report, schema};
pub use step::{Step, Verdict};
pub use tunnel::{Invited, Lane, Live};

use crate::{
    auth::{self, Login},
    config::{self, NOT_CONFIGURED},
    expiry::{End, Expiry, Urgency},
    pause::Pauses,
    tunnel::Settings,
    upstream::{ControlClient, Target},
};
use std::{sync::Arc, time::SystemTime};
use step::{Found, Steps};

/// The step that stands for a configuration that could be read, or could not.
pub fn configuration(problems: &[String]) -> Vec<Step> {
    let mut steps = Steps::new(None);
    if problems.is_empty() {
        let seen = "readable, every file in place and closed to others";
        steps.add("configuration", Found::ok(seen));
    }
    for problem in problems {
        let remedy = match problem.ends_with(NOT_CONFIGURED) {
            true => {
                "with the vendor's token: agent enroll; what the firewall must let out before that: agent check --firewall --token-file FILE"
            }
            false => "correct it; agent config show prints what is in force",
        };
        steps.add("configuration", Found::fail(problem.clone(), remedy));
    }
    steps.into_vec()
}

/// The same where the agent runs, by the configuration that it has read before.
pub fn refused_change(problems: &[String]) -> Vec<Step> {
    let mut steps = Steps::new(None);
    for problem in problems {
        let cause = format!(
            "the files hold a change that cannot be used, and the running agent keeps the previous configuration: {problem}"
        );
        let remedy = "correct it, then: agent reload";
        steps.add("configuration", Found::warn(cause, remedy));
    }
    steps.into_vec()
}

/// This host and the tunnel, inside the agent that runs with these settings.
pub async fn live(host: &Host, settings: &Settings, live: &Live) -> Vec<Step> {
    let mut common = Steps::new(None);
    let certificate = host::check(&mut common, host).await;
    expiry(&mut common, certificate.into_iter());
    let gateways = tunnel::live(settings, live).await;
    in_order(common, gateways)
}

/// This host and the tunnel, where no agent runs: nobody else uses the key now. Each login is the one that the
/// forward's own steps use too.
pub async fn alone(
    host: &Host,
    settings: &Arc<Settings>,
    forwards: &[(&config::Forward, &Login)],
    pauses: &Pauses,
) -> Vec<Step> {
    let mut common = Steps::new(None);
    let certificate = host::check(&mut common, host).await;
    expiry(&mut common, certificate.into_iter());
    let gateways = tunnel::alone(settings, forwards, pauses).await;
    in_order(common, gateways)
}

/// Before there is a configuration: what the token says of itself, and every hop to its gateways that takes no credential.
/// `ends` is when the token ends.
pub async fn invited(invited: Invited, ends: SystemTime) -> Vec<Step> {
    let mut common = Steps::new(None);
    let date = humantime::format_rfc3339_seconds(ends);
    common.add(
        "token",
        match ends > SystemTime::now() {
            true => Found::ok(format!("user {}, valid until {date}", invited.user)),
            false => Found::warn(
                format!("this token ended at {date}, so that it enrolls no host any more"),
                "ask the vendor for a new one before agent enroll; if this host's clock is wrong, set it",
            ),
        },
    );
    in_order(common, tunnel::invited(invited).await)
}

fn in_order(common: Steps, gateways: Vec<Steps>) -> Vec<Step> {
    let all = std::iter::once(common).chain(gateways);
    all.flat_map(Steps::into_vec).collect()
}

/// All steps of one forward, by its login.
pub async fn forward(config: &config::Forward, login: &Login) -> Vec<Step> {
    let mut steps = Steps::new(Some(&config.name));
    secrets(&mut steps, &config.auth).await;
    let reached = reach::check(&mut steps, &config.upstream).await;
    let Target::Http(target) = &config.upstream.target else {
        let why = "bytes are forwarded as they are: there is no Jira to ask";
        steps.add("http", Found::skipped(why));
        return steps.into_vec();
    };
    let client = match reached {
        true => control_client(config).await,
        false => Err(Found::skipped("Jira was not reached")),
    };
    match client {
        Ok(client) => {
            let found = jira::check(&mut steps, &client, config, target).await;
            let user = match found {
                true => login::check(&mut steps, &client, &config.auth, login).await,
                false => {
                    let why =
                        "there is no Jira to log in to: the credential is sent to nobody else";
                    steps.add("login", Found::skipped(why));
                    false
                }
            };
            let ticketing = config.policy.presets.iter().any(|p| p == "ticketing");
            login::permissions(&mut steps, &client, login, user, ticketing).await;
        }
        Err(found) => steps.add("http", found),
    }
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

async fn control_client(config: &config::Forward) -> Result<ControlClient, Found> {
    let settings = config.upstream.clone();
    let remedy = "agent config show names what is wrong";
    let made = tokio::task::spawn_blocking(move || match &settings.target {
        Target::Http(target) => {
            ControlClient::as_the_path(&settings, target).map_err(|e| e.to_string())
        }
        Target::Tcp { .. } => Err("no HTTP".to_owned()),
    });
    let made = made.await.map_err(|e| Found::fail(e.to_string(), remedy))?;
    made.map_err(|cause| Found::fail(cause, remedy))
}

/// As the user who runs this: inside the agent that is the agent's own.
async fn secrets(steps: &mut Steps, auth: &auth::Settings) {
    let files = auth.secret_files();
    if files.is_empty() {
        return;
    }
    let work = tokio::task::spawn_blocking(move || {
        let refused = files.iter().find_map(|file| file.check().err());
        refused.map(|error| error.to_string()).ok_or(files.len())
    });
    steps
        .take::<()>("secrets", async {
            let found = match work.await {
                Ok(Err(count)) => Found::ok(format!("{count} readable, closed to others")),
                Ok(Ok(cause)) => Found::fail(cause, "a corrected file is picked up within seconds"),
                Err(error) => Found::fail(error.to_string(), "try again"),
            };
            (found, None)
        })
        .await;
}

fn expiry(steps: &mut Steps, expiries: impl Iterator<Item = Expiry>) {
    let now = SystemTime::now();
    for expiry in expiries {
        let sentence = expiry.sentence(now);
        let found = match (expiry.urgency(now), &expiry.end) {
            (Urgency::None, End::Unknown(_)) => Found::skipped(sentence),
            (Urgency::None, _) => Found::ok(sentence),
            (Urgency::Over, _) => Found::fail(sentence, expiry.remedy),
            (_, _) => Found::warn(sentence, expiry.remedy),
        };
        steps.add("expiry", found);
    }
}

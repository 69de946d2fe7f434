//! What a person is told.

use super::service::{AnsweringAgent, ServiceStart};
use crate::{
    config::Config,
    enroll::{self, ActiveEnrollment, EnrollmentToken, RegistrationError},
    tunnel::BindAddress,
    upstream::UpstreamTarget,
};
use anyhow::anyhow;
use russh::keys::{HashAlg, PublicKey};
use std::path::PathBuf;

/// What the token says, before anything is asked.
pub fn invitation(token: &EnrollmentToken) -> String {
    let mut trusted = token.host_keys.clone();
    if !token.known_hosts.is_empty() {
        trusted.push(format!("{} known_hosts lines", token.known_hosts.len()));
    }
    format!(
        "The vendor's token:\n  gateway   {}\n  host key  {}\n  user      {}\n  forward   {}, on the gateway at {}\n  valid     until {}{}\n\n",
        gateways(token),
        trusted.join(", "),
        token.user,
        token.forward.name,
        token.forward.bind,
        humantime::format_rfc3339_seconds(token.expires),
        match token.secret {
            Some(_) => ", single use",
            None => "; the vendor must be given the key by hand",
        }
    )
}

/// `SHA256:…` of an authorized_keys line.
pub fn fingerprint(public: &str) -> Option<String> {
    let key = PublicKey::from_openssh(public).ok()?;
    Some(key.fingerprint(HashAlg::Sha256).to_string())
}

/// The key could not be registered.
pub fn not_registered(error: RegistrationError) -> anyhow::Error {
    match error {
        RegistrationError::LoginRefused { gateway } => anyhow!(
            "{gateway} does not take the token's one-time secret: it was used already, has ended or was withdrawn; ask the vendor for a new token. Nothing is changed"
        ),
        RegistrationError::Unknown { .. } => anyhow!(
            "{error}; run agent enroll again with the same token, which finds out. Nothing is configured yet"
        ),
        RegistrationError::Refused {
            permanent: true, ..
        } => {
            anyhow!("{error}; ask the vendor. Nothing is changed")
        }
        RegistrationError::Refused { .. } => anyhow!(
            "{error}; tell the vendor, then run agent enroll again with the same token: the key is kept for it. Nothing is configured yet"
        ),
        error => anyhow!("{error}\nNothing is changed"),
    }
}

/// The key was registered and does not work.
pub fn not_proven(error: RegistrationError) -> anyhow::Error {
    anyhow!(
        "the gateway has registered the key, but a login with it failed: {error}; run agent enroll again with the same token, and if it stays so, ask the vendor. Nothing is configured yet"
    )
}

/// A new key in place of one that works: not before the vendor knows it.
pub fn key_not_known_yet(
    token: &EnrollmentToken,
    public: &str,
    error: &RegistrationError,
) -> String {
    format!(
        "\nThe new key is made, and the old one stays in use: {error} with the new one yet. Give the vendor this line for the\nauthorized_keys of the user {}:\n\n{}\n\nThen run the same command again, with the same token.\n",
        token.user,
        enroll::authorized_line(&token.forward.bind, public)
    )
}

/// What the last words depend on.
pub struct NextSteps<'a> {
    pub start: &'a ServiceStart,
    /// The public key that counts now, and its file.
    pub public: Option<(&'a str, PathBuf)>,
    /// What counted before, where it had another key.
    pub before: Option<&'a ActiveEnrollment>,
    /// The check found something that does not work.
    pub failed: bool,
}

/// What is left to do, and for whom.
pub fn next_steps(token: &EnrollmentToken, config: &Config, state: &NextSteps<'_>) -> String {
    let forward = config
        .forwards
        .iter()
        .find(|forward| *forward.name == *token.forward.name);
    let path = match forward.map(|forward| &forward.upstream.target) {
        Some(UpstreamTarget::Http(http)) => http.context_path.as_str(),
        _ => "",
    };
    let reached = match &token.forward.bind {
        BindAddress::Socket(socket) => format!("the socket {socket}, path {path}/rest/api/2/…"),
        bind => format!("http://{bind}{path}/rest/api/2/…"),
    };
    let mut steps = Vec::new();
    if state.failed {
        // Else the first thing that a newcomer reads is a fault that is none.
        let except = match (&token.secret, &state.public) {
            (None, Some(_)) => {
                ", but for the login at the gateway, which fails until the vendor has your key (below)"
            }
            _ => "",
        };
        steps.push(format!(
            "Correct what FAILs in the check above{except}. Wrong answers are corrected by the same command again: agent enroll"
        ));
    }
    match state.start.agent {
        AnsweringAgent::Current => {}
        AnsweringAgent::Outdated => {
            steps.push("The agent that runs is to be restarted; how is said above.".to_owned())
        }
        AnsweringAgent::None => steps.push("Start the agent; how is said above.".to_owned()),
    }
    if let (None, Some((public, file))) = (&token.secret, &state.public) {
        steps.push(format!(
            "Give the vendor this line for the authorized_keys of the user {}; the agent connects within a minute of its\nbeing there. The key alone is in {}:\n\n{}\n",
            token.user,
            file.display(),
            enroll::authorized_line(&token.forward.bind, public)
        ));
    }
    if let Some(forward) = forward
        && forward.auth.stores_tokens()
    {
        steps.push(format!("Log in to Jira: agent login {}", forward.name));
    }
    steps.push(format!(
        "Tell the vendor: on the gateway, Jira is at {reached}"
    ));
    let old = state.before.and_then(|before| before.public.as_deref());
    if let Some(old) = old.and_then(fingerprint) {
        steps.push(format!("Ask the vendor to remove the old key: {old}"));
    }
    let count = match steps.len() {
        1 => "One thing is".to_owned(),
        count => format!("{count} things are"),
    };
    let mut text = format!(
        "\nEnrolled as {} at {}. {count} left to do:\n",
        token.user,
        gateways(token)
    );
    for (index, one) in steps.iter().enumerate() {
        text += &format!("{}. {one}\n", index + 1);
    }
    text
}

fn gateways(token: &EnrollmentToken) -> String {
    let each: Vec<_> = token.gateways.iter().map(ToString::to_string).collect();
    each.join(", ")
}

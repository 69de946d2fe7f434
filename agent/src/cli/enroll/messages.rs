//! The longer texts of `agent enroll`.

use super::service::{AnsweringAgent, ServiceStart};
use crate::{
    config::Config,
    enroll::{self, ActiveEnrollment, EnrollmentToken, RegistrationError},
    upstream::UpstreamTarget,
};
use anyhow::anyhow;
use russh::keys::{HashAlg, PublicKey};
use std::path::PathBuf;

/// Contents of the token, shown before the first question.
pub(super) fn invitation(token: &EnrollmentToken) -> String {
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
            None => "; send the key to the vendor yourself",
        }
    )
}

/// The `SHA256:…` fingerprint of an authorized_keys line.
pub(super) fn fingerprint(public: &str) -> Option<String> {
    let key = PublicKey::from_openssh(public).ok()?;
    Some(key.fingerprint(HashAlg::Sha256).to_string())
}

/// Error if the key could not be registered.
pub(super) fn not_registered(error: RegistrationError) -> anyhow::Error {
    match error {
        RegistrationError::LoginRefused { gateway } => anyhow!(
            "{gateway} rejects the token's one-time secret: it was used already, has expired or was revoked; ask the vendor for a new token. Nothing was changed"
        ),
        RegistrationError::Unknown { .. } => anyhow!(
            "{error}; to find out, run agent enroll again with the same token. Nothing is configured yet"
        ),
        RegistrationError::Refused {
            permanent: true, ..
        } => {
            anyhow!("{error}; ask the vendor. Nothing was changed")
        }
        RegistrationError::Refused { .. } => anyhow!(
            "{error}; tell the vendor, then run agent enroll again with the same token, which uses the same key. Nothing is configured yet"
        ),
        error @ (RegistrationError::NoSecret | RegistrationError::Unreachable(_)) => {
            anyhow!("{error}\nNothing was changed")
        }
    }
}

/// Error if the key was registered but the login with it fails.
pub(super) fn not_proven(error: RegistrationError) -> anyhow::Error {
    anyhow!(
        "the gateway registered the key, but the login with it failed: {error}; run agent enroll again with the same token. If it fails again, ask the vendor. Nothing is configured yet"
    )
}

/// Text for a replacement key that the vendor does not know yet.
pub(super) fn key_not_known_yet(
    token: &EnrollmentToken,
    public: &str,
    error: &RegistrationError,
) -> String {
    format!(
        "\nThe new key is ready; the old one stays in use, because {error} for now. Send the vendor this line for the\nauthorized_keys file of the user {}:\n\n{}\n\nThen run the same command again with the same token.\n",
        token.user,
        enroll::authorized_line(&token.forward.bind, token.forward.slots(), public)
    )
}

/// State on which the list of next steps depends.
pub(super) struct NextSteps<'a> {
    pub start: &'a ServiceStart,
    /// The active public key, and its file.
    pub public: Option<(&'a str, PathBuf)>,
    /// The previous enrollment, if it had another key.
    pub before: Option<&'a ActiveEnrollment>,
    /// Whether the check failed.
    pub failed: bool,
}

/// The list of next steps.
pub(super) fn next_steps(
    token: &EnrollmentToken,
    config: &Config,
    state: &NextSteps<'_>,
) -> String {
    let forward = config
        .forwards
        .iter()
        .find(|forward| *forward.name == *token.forward.name);
    let path = match forward.map(|forward| &forward.upstream.target) {
        Some(UpstreamTarget::Http(http)) => http.context_path.as_str(),
        _ => "",
    };
    let reached = match &token.forward.bind {
        bind if bind.is_socket() => format!("the socket {bind}, path {path}/rest/api/2/…"),
        bind => format!("http://{bind}{path}/rest/api/2/…"),
    };
    let mut steps = Vec::new();
    if state.failed {
        // Otherwise the first result for a new user would look like a fault.
        let except = match (&token.secret, &state.public) {
            (None, Some(_)) => {
                ", except the login at the gateway, which fails until the vendor has your key (below)"
            }
            _ => "",
        };
        steps.push(format!(
            "Correct what FAILs in the check above{except}. To correct an answer, run the same command again: agent enroll"
        ));
    }
    match state.start.agent {
        AnsweringAgent::Current => {}
        AnsweringAgent::Outdated => {
            steps.push("Restart the running agent, as described above.".to_owned())
        }
        AnsweringAgent::None => steps.push("Start the agent, as described above.".to_owned()),
    }
    if let (None, Some((public, file))) = (&token.secret, &state.public) {
        steps.push(format!(
            "Send the vendor this line for the authorized_keys file of the user {}. The agent connects within a minute\nafter it is added. The key alone is in {}:\n\n{}\n",
            token.user,
            file.display(),
            enroll::authorized_line(&token.forward.bind, token.forward.slots(), public)
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

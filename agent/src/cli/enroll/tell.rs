//! What a person is told.

use super::service::{Agent, Start};
use crate::{
    config::Config,
    enroll::{self, Enrolment, RegisterError, Token},
    tunnel::Bind,
    upstream::Target,
};
use anyhow::anyhow;
use russh::keys::{HashAlg, PublicKey};

/// What the token says, before anything is asked.
pub fn invitation(token: &Token) -> String {
    let mut trusted = token.host_keys.clone();
    if !token.known_hosts.is_empty() {
        trusted.push(format!("{} known_hosts lines", token.known_hosts.len()));
    }
    format!(
        "The vendor's token:\n  gateway   {}\n  host key  {}\n  user      {}\n  forward   {}, on the gateway at {}\n  holds     until {}{}\n\n",
        gateways(token),
        trusted.join(", "),
        token.user,
        token.forward.name,
        token.forward.bind,
        humantime::format_rfc3339_seconds(token.expires),
        match token.secret {
            Some(_) => ", once",
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
pub fn not_registered(error: RegisterError) -> anyhow::Error {
    match error {
        RegisterError::LoginRefused { gateway } => anyhow!(
            "{gateway} does not take the token's one-time secret: it was used already, has ended or was withdrawn; ask the vendor for a new token. Nothing is changed"
        ),
        RegisterError::Unknown { .. } => anyhow!(
            "{error}; run agent enroll again with the same token, which finds out. Nothing is configured yet"
        ),
        RegisterError::Refused { for_good: true, .. } => {
            anyhow!("{error}; ask the vendor. Nothing is changed")
        }
        RegisterError::Refused { .. } => anyhow!(
            "{error}; tell the vendor, then run agent enroll again with the same token: the key is kept for it. Nothing is configured yet"
        ),
        error => anyhow!("{error}\nNothing is changed"),
    }
}

/// The key was registered and does not work.
pub fn not_proven(error: RegisterError) -> anyhow::Error {
    anyhow!(
        "the gateway has registered the key, but a login with it failed: {error}; run agent enroll again with the same token, and if it stays so, ask the vendor. Nothing is configured yet"
    )
}

/// A new key in place of one that works: not before the vendor knows it.
pub fn first_the_vendor(token: &Token, public: &str, error: &RegisterError) -> String {
    format!(
        "\nThe new key is made, and the old one stays in use: {error} with the new one yet. Give the vendor this line for the\nauthorized_keys of the user {}:\n\n{}\n\nThen run the same command again, with the same token.\n",
        token.user,
        enroll::authorized_line(&token.forward.bind, public)
    )
}

/// What is left to do, and for whom.
pub fn last_words(
    token: &Token,
    config: &Config,
    public: Option<&str>,
    before: Option<&Enrolment>,
    start: &Start,
) -> String {
    let mut text = format!("\nEnrolled as {} at {}.\n", token.user, gateways(token));
    let forward = config
        .forwards
        .iter()
        .find(|forward| *forward.name == *token.forward.name);
    if let Some(forward) = forward
        && forward.auth.stores_tokens()
    {
        text += &format!("Now log in to Jira: agent login {}\n", forward.name);
    }
    text += match start.agent {
        Agent::Current => "",
        Agent::Former => "The agent that runs is to be restarted; how is said above.\n",
        Agent::None => "The agent does not run yet; how to start it is said above.\n",
    };
    let path = match forward.map(|forward| &forward.upstream.target) {
        Some(Target::Http(http)) => http.context_path.as_str(),
        _ => "",
    };
    let reached = match &token.forward.bind {
        Bind::Socket(socket) => format!("the socket {socket}, path {path}/rest/api/2/…"),
        bind => format!("http://{bind}{path}/rest/api/2/…"),
    };
    match (&token.secret, public) {
        (None, Some(public)) => {
            text += &format!(
                "Give the vendor this line for the authorized_keys of the user {}; the agent connects within a minute of its\nbeing there:\n\n{}\n\nThe vendor's services then reach Jira on the gateway at {reached}\n",
                token.user,
                enroll::authorized_line(&token.forward.bind, public)
            );
        }
        _ => text += &format!("Tell the vendor: on the gateway, Jira is at {reached}\n"),
    }
    if let Some(old) = before
        .and_then(|before| before.public.as_deref())
        .and_then(fingerprint)
    {
        text += &format!("And ask the vendor to remove the old key: {old}\n");
    }
    text
}

fn gateways(token: &Token) -> String {
    let each: Vec<_> = token.gateways.iter().map(ToString::to_string).collect();
    each.join(", ")
}

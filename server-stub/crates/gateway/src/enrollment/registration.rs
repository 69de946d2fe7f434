//! The SSH side of one enrollment: the command, the public key on its standard input, the reply.

use super::{Invitation, InvitationError, InvitationState, InvitationStore};
use agent_enrollment::REGISTER_COMMAND;
use russh::{ChannelId, keys::PublicKey};
use std::time::SystemTime;

/// Serves one connection whose login was a one-time key.
pub(crate) struct RegistrationSession {
    store: InvitationStore,
    invitation: Invitation,
    /// The only channel, once it is open.
    channel: Option<ChannelId>,
    command_received: bool,
    input: Vec<u8>,
}

/// Text and exit status of the command, sent to the agent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RegistrationReply {
    pub text: String,
    pub status: u32,
}

impl RegistrationSession {
    pub(crate) fn new(store: InvitationStore, invitation: Invitation) -> Self {
        Self {
            store,
            invitation,
            channel: None,
            command_received: false,
            input: Vec::new(),
        }
    }

    pub(crate) fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// Whether this channel may open: only the first one may.
    pub(crate) fn open(&mut self, channel: ChannelId) -> bool {
        let first = self.channel.is_none();
        self.channel.get_or_insert(channel);
        first
    }

    /// Whether this command may run: only the registration command, once.
    pub(crate) fn exec(&mut self, channel: ChannelId, command: &[u8]) -> bool {
        let right = self.channel == Some(channel)
            && !self.command_received
            && command == REGISTER_COMMAND.as_bytes();
        self.command_received |= right;
        right
    }

    /// Collects the public key; input beyond the limit is dropped.
    pub(crate) fn data(&mut self, channel: ChannelId, data: &[u8]) {
        if self.command_received && self.channel == Some(channel) && self.input.len() <= MAX_INPUT {
            self.input
                .extend_from_slice(data.get(..MAX_INPUT + 1).unwrap_or(data));
        }
    }

    /// Registers the key once the input has ended. `None` without a command.
    pub(crate) async fn finish(&mut self, channel: ChannelId) -> Option<RegistrationReply> {
        if !self.command_received || self.channel != Some(channel) {
            return None;
        }
        let input = std::mem::take(&mut self.input);
        let (store, invitation) = (self.store.clone(), self.invitation.clone());
        let answered =
            tokio::task::spawn_blocking(move || register(&store, &invitation, &input)).await;
        Some(answered.unwrap_or_else(|_| RegistrationReply {
            text: "the gateway failed".to_owned(),
            status: FAILED,
        }))
    }
}

fn register(store: &InvitationStore, invitation: &Invitation, input: &[u8]) -> RegistrationReply {
    let agent = &invitation.agent;
    let Some(key) = public_key(input) else {
        return RegistrationReply {
            text: "expected one Ed25519 public key, as in an authorized_keys line without options"
                .to_owned(),
            status: REFUSED,
        };
    };
    match store.redeem(invitation, &key, SystemTime::now()) {
        Ok(()) => {
            tracing::info!(%agent, invitation = invitation.id, key = %key.fingerprint(Default::default()), "key registered");
            RegistrationReply {
                text: "registered".to_owned(),
                status: 0,
            }
        }
        Err(
            error @ (InvitationError::Used { .. }
            | InvitationError::Expired(_)
            | InvitationError::Unknown(_)),
        ) => {
            tracing::warn!(%agent, invitation = invitation.id, %error, "enrollment refused");
            RegistrationReply {
                text: error.to_string(),
                status: REFUSED,
            }
        }
        // The agent must not see the gateway's paths.
        Err(error) => {
            tracing::error!(%agent, invitation = invitation.id, %error, "enrollment failed");
            RegistrationReply {
                text: "the gateway could not write the key; the reason is in its log".to_owned(),
                status: FAILED,
            }
        }
    }
}

/// One line with a key and nothing that could be read as options.
fn public_key(input: &[u8]) -> Option<PublicKey> {
    if input.len() > MAX_INPUT {
        return None;
    }
    let text = std::str::from_utf8(input).ok()?.trim();
    if text.contains(char::is_control) || !text.starts_with("ssh-ed25519 ") {
        return None;
    }
    PublicKey::from_openssh(text).ok()
}

impl InvitationState {
    /// The state in a few words, for `server-stub token list`.
    pub fn text(&self) -> String {
        match self {
            Self::Open => "open".to_owned(),
            Self::Expired => "expired".to_owned(),
            Self::Used { key, at } => format!("used {at} by {key}"),
        }
    }
}

/// In bytes. A line with an Ed25519 key and a comment has about 100.
const MAX_INPUT: usize = 1024;
/// Exit status for an invitation or a key that is not accepted.
const REFUSED: u32 = 2;
/// Exit status for a failure of the gateway.
const FAILED: u32 = 1;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use agent_enrollment::OneTimeSecret;

    #[test]
    fn only_one_plain_ed25519_key_is_taken() {
        let key = OneTimeSecret::generate().key();
        let line = key.public_key().to_openssh().unwrap();
        assert!(public_key(format!("{line} comment\n").as_bytes()).is_some());
        for bad in [
            String::new(),
            format!("{line}\n{line}"),
            format!("command=\"x\" {line}"),
            line.replace("ssh-ed25519", "ssh-rsa"),
            format!("{line} {}", "x".repeat(MAX_INPUT)),
        ] {
            assert!(public_key(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

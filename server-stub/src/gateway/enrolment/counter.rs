//! The SSH side of one enrolment: the command, the public key on its standard input, the answer.

use super::{Book, BookError, Invitation, State};
use agent::enroll::COMMAND;
use russh::{ChannelId, keys::PublicKey};
use std::time::SystemTime;

/// Serves one connection whose login was a one-time key.
pub(in crate::gateway) struct Counter {
    book: Book,
    invitation: Invitation,
    /// The one channel, once it is open.
    channel: Option<ChannelId>,
    asked: bool,
    input: Vec<u8>,
}

/// What the agent is told: text and exit status.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::gateway) struct Answer {
    pub text: String,
    pub status: u32,
}

impl Counter {
    pub(in crate::gateway) fn new(book: Book, invitation: Invitation) -> Self {
        Self {
            book,
            invitation,
            channel: None,
            asked: false,
            input: Vec::new(),
        }
    }

    pub(in crate::gateway) fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// One channel, no more.
    pub(in crate::gateway) fn open(&mut self, channel: ChannelId) -> bool {
        let first = self.channel.is_none();
        self.channel.get_or_insert(channel);
        first
    }

    /// One command, and only this one.
    pub(in crate::gateway) fn exec(&mut self, channel: ChannelId, command: &[u8]) -> bool {
        let right = self.channel == Some(channel) && !self.asked && command == COMMAND.as_bytes();
        self.asked |= right;
        right
    }

    /// Part of the public key; what is too long is not kept.
    pub(in crate::gateway) fn data(&mut self, channel: ChannelId, data: &[u8]) {
        if self.asked && self.channel == Some(channel) && self.input.len() <= MAX_INPUT {
            self.input
                .extend_from_slice(data.get(..MAX_INPUT + 1).unwrap_or(data));
        }
    }

    /// The input is whole. `None` where nothing was asked.
    pub(in crate::gateway) async fn answer(&mut self, channel: ChannelId) -> Option<Answer> {
        if !self.asked || self.channel != Some(channel) {
            return None;
        }
        let input = std::mem::take(&mut self.input);
        let (book, invitation) = (self.book.clone(), self.invitation.clone());
        let answered =
            tokio::task::spawn_blocking(move || register(&book, &invitation, &input)).await;
        Some(answered.unwrap_or_else(|_| Answer {
            text: "the gateway failed".to_owned(),
            status: FAILED,
        }))
    }
}

fn register(book: &Book, invitation: &Invitation, input: &[u8]) -> Answer {
    let agent = &invitation.agent;
    let Some(key) = public_key(input) else {
        return Answer {
            text: "expected one Ed25519 public key, as in an authorized_keys line without options"
                .to_owned(),
            status: REFUSED,
        };
    };
    match book.redeem(invitation, &key, SystemTime::now()) {
        Ok(()) => {
            tracing::info!(%agent, invitation = invitation.id, key = %key.fingerprint(Default::default()), "key registered");
            Answer {
                text: "registered".to_owned(),
                status: 0,
            }
        }
        Err(error @ (BookError::Used { .. } | BookError::Expired(_) | BookError::Unknown(_))) => {
            tracing::warn!(%agent, invitation = invitation.id, %error, "enrolment refused");
            Answer {
                text: error.to_string(),
                status: REFUSED,
            }
        }
        // Its paths are nobody's business.
        Err(error) => {
            tracing::error!(%agent, invitation = invitation.id, %error, "enrolment failed");
            Answer {
                text: "the gateway could not write the key; its log says why".to_owned(),
                status: FAILED,
            }
        }
    }
}

/// One line, and nothing that could be read as options.
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

impl State {
    /// In a word or two.
    pub fn text(&self) -> String {
        match self {
            Self::Open => "open".to_owned(),
            Self::Expired => "expired".to_owned(),
            Self::Used { key, at } => format!("used {at} by {key}"),
        }
    }
}

/// Bytes. A line with an Ed25519 key and a comment has about 100.
const MAX_INPUT: usize = 1024;
/// The invitation does not do.
const REFUSED: u32 = 2;
/// The gateway's own fault.
const FAILED: u32 = 1;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use agent::enroll::OneTimeSecret;

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

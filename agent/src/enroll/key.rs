//! The agent's key.

use russh::keys::{
    PrivateKey,
    ssh_key::{self, LineEnding, private::Ed25519Keypair},
};
use zeroize::Zeroizing;

/// A new Ed25519 key in OpenSSH format: the private and the public key.
pub(super) fn generate(comment: &str) -> Result<(Zeroizing<String>, String), ssh_key::Error> {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(rand::random());
    let mut key = PrivateKey::from(Ed25519Keypair::from_seed(&seed));
    key.set_comment(comment);
    let private = key.to_openssh(LineEnding::LF)?;
    Ok((private, key.public_key().to_openssh()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn a_key_is_read_back_with_its_comment_and_no_two_are_alike() {
        let (private, public) = generate("jira-tunnel-agent acme").unwrap();
        let read = PrivateKey::from_openssh(&*private).unwrap();
        assert_eq!(read.public_key().to_openssh().unwrap(), public);
        assert!(public.ends_with(" jira-tunnel-agent acme"), "{public}");
        assert_ne!(generate("").unwrap().1, generate("").unwrap().1);
    }
}

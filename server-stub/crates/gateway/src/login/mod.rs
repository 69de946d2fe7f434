//! Who may log in as which agent: authorized keys, and certificates of a user CA. It knows keys, no
//! sessions.

mod authorized_keys;
mod certificate;

use super::{AgentName, Settings};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

/// The rights of a successful login.
#[derive(Clone, Debug)]
pub(super) struct LoginGrant {
    /// Key fingerprint or certificate id, for logs and status.
    pub by: String,
    /// Binds that the agent may request; `None` permits any.
    pub binds: Option<Vec<PermittedBind>>,
}

/// One `permitlisten` entry, `[host:]port` (sshd(8)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PermittedBind {
    /// Host exactly as the agent must request it, as with OpenSSH; `None` permits any.
    pub host: Option<String>,
    /// Permitted port; `None` permits any port.
    pub port: Option<u16>,
}

impl LoginGrant {
    /// Whether the agent may request this host and port; port 0 requests any port.
    pub(super) fn permits(&self, host: &str, port: u16) -> bool {
        let fits = |bind: &PermittedBind| {
            bind.port.is_none_or(|own| own == port)
                && bind
                    .host
                    .as_ref()
                    .is_none_or(|own| own.eq_ignore_ascii_case(host))
        };
        self.binds
            .as_ref()
            .is_none_or(|binds| binds.iter().any(fits))
    }
}

/// Reads the files again at each login, so that changes take effect at once.
pub(super) struct LoginVerifier {
    agents_folder: PathBuf,
    extra_keys: HashMap<AgentName, Vec<PathBuf>>,
    user_ca: PathBuf,
    revoked: PathBuf,
}

impl LoginVerifier {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut extra_keys: HashMap<_, Vec<_>> = HashMap::new();
        for (name, path) in &settings.authorized_keys {
            extra_keys
                .entry(name.clone())
                .or_default()
                .push(path.clone());
        }
        Self {
            agents_folder: settings.data.join("agents"),
            extra_keys,
            user_ca: settings.data.join("user_ca.pub"),
            revoked: settings.data.join("revoked_keys"),
        }
    }

    /// Whether an agent of this name could log in at all.
    pub(super) async fn is_known_agent(&self, agent: &AgentName) -> bool {
        self.extra_keys.contains_key(agent)
            || tokio::fs::try_exists(self.agents_folder.join(agent.as_str()))
                .await
                .unwrap_or(false)
    }

    /// Whether to ask for a signature by an offered key. The offer of a certificate shows only its key, so
    /// with a user CA every key is accepted here, and [`LoginVerifier::check_key`] decides after the signature.
    pub(super) async fn accepts_offer(
        &self,
        agent: &AgentName,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Result<(), LoginRefusal> {
        match self.check_key(agent, key, algorithm).await {
            Ok(_) => Ok(()),
            Err(LoginRefusal::UnknownKey(_)) if !self.authorities().await?.is_empty() => Ok(()),
            Err(refusal) => Err(refusal),
        }
    }

    /// Decides on a plain key whose holder has signed.
    pub(super) async fn check_key(
        &self,
        agent: &AgentName,
        key: &PublicKey,
        algorithm: &Algorithm,
    ) -> Result<LoginGrant, LoginRefusal> {
        if matches!(algorithm, Algorithm::Rsa { hash: None }) {
            return Err(LoginRefusal::Sha1);
        }
        self.not_revoked(key).await?;
        let own = self
            .agents_folder
            .join(agent.as_str())
            .join("authorized_keys");
        let extra_keys = self.extra_keys.get(agent).into_iter().flatten();
        for path in std::iter::once(&own).chain(extra_keys) {
            if let Some(text) = read_bounded(path).await?
                && let Some(grant) = authorized_keys::find(&text, key)
            {
                return grant;
            }
        }
        Err(LoginRefusal::UnknownKey(
            key.fingerprint(HashAlg::Sha256).to_string(),
        ))
    }

    /// Decides on a certificate whose holder has signed.
    pub(super) async fn check_certificate(
        &self,
        agent: &AgentName,
        certificate: &Certificate,
    ) -> Result<LoginGrant, LoginRefusal> {
        for key in [certificate.public_key(), certificate.signature_key()] {
            self.not_revoked(&PublicKey::new(key.clone(), "")).await?;
        }
        certificate::check(agent, certificate, &self.authorities().await?)
    }

    async fn authorities(&self) -> Result<Vec<PublicKey>, LoginRefusal> {
        Ok(read_bounded(&self.user_ca)
            .await?
            .map(|text| authorized_keys::plain(&text))
            .unwrap_or_default())
    }

    /// `revoked_keys` contains public keys or `SHA256:` fingerprints, one per line.
    async fn not_revoked(&self, key: &PublicKey) -> Result<(), LoginRefusal> {
        let Some(text) = read_bounded(&self.revoked).await? else {
            return Ok(());
        };
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let by_print = text.lines().any(|line| line.trim() == fingerprint);
        let by_key = authorized_keys::plain(&text)
            .iter()
            .any(|revoked| revoked.key_data() == key.key_data());
        if by_print || by_key {
            return Err(LoginRefusal::Revoked(fingerprint));
        }
        Ok(())
    }
}

/// Why a login was refused, for the gateway's log. The client does not learn the reason.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoginRefusal {
    #[error("key {0} is not in the agent's authorized_keys")]
    UnknownKey(String),
    #[error("an RSA key must sign with SHA-2")]
    Sha1,
    #[error("key {0} is in revoked_keys")]
    Revoked(String),
    #[error("the key's line has the option {0:?}, which this gateway does not support")]
    Option(String),
    #[error("the key's line does not permit port forwarding")]
    NoForwarding,
    #[error("certificate: {0}")]
    Certificate(&'static str),
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A missing file is `None`; anything else that cannot be read refuses the login.
pub(crate) async fn read_bounded(path: &Path) -> Result<Option<String>, LoginRefusal> {
    use tokio::io::AsyncReadExt;
    let failed = |source| LoginRefusal::Io {
        path: path.to_owned(),
        source,
    };
    let file = match tokio::fs::File::open(path).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    let read = file
        .take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .await
        .map_err(failed)?;
    if read as u64 > MAX_FILE {
        return Err(failed(io::Error::other("larger than 1 MiB")));
    }
    Ok(Some(text))
}

/// In bytes, about ten thousand keys. Bounded, because the file is read at each login.
const MAX_FILE: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;
    use russh::keys::{PrivateKey, ssh_key::private::Ed25519Keypair};

    fn key(seed: u8) -> PublicKey {
        PrivateKey::from(Ed25519Keypair::from_seed(&[seed; 32]))
            .public_key()
            .clone()
    }

    #[tokio::test]
    async fn a_key_counts_as_soon_as_it_is_added_and_until_it_is_revoked() {
        let dir = tempfile::tempdir().unwrap();
        let logins = LoginVerifier::new(&Settings::new(dir.path()));
        let agent: AgentName = "acme".parse().unwrap();
        let key = key(1);
        assert!(!logins.is_known_agent(&agent).await);
        assert!(
            logins
                .check_key(&agent, &key, &Algorithm::Ed25519)
                .await
                .is_err()
        );

        let folder = dir.path().join("agents/acme");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("authorized_keys"), key.to_openssh().unwrap()).unwrap();
        assert!(logins.is_known_agent(&agent).await);
        assert!(
            logins
                .check_key(&agent, &key, &Algorithm::Ed25519)
                .await
                .is_ok()
        );
        let other: AgentName = "globex".parse().unwrap();
        assert!(
            logins
                .check_key(&other, &key, &Algorithm::Ed25519)
                .await
                .is_err()
        );

        let print = key.fingerprint(HashAlg::Sha256).to_string();
        std::fs::write(dir.path().join("revoked_keys"), print).unwrap();
        assert!(matches!(
            logins.check_key(&agent, &key, &Algorithm::Ed25519).await,
            Err(LoginRefusal::Revoked(_))
        ));
    }

    #[tokio::test]
    async fn an_unknown_key_is_not_even_worth_a_signature_without_an_authority() {
        let dir = tempfile::tempdir().unwrap();
        let logins = LoginVerifier::new(&Settings::new(dir.path()));
        let agent: AgentName = "acme".parse().unwrap();
        let offer = logins
            .accepts_offer(&agent, &key(1), &Algorithm::Ed25519)
            .await;
        assert!(offer.is_err());
        std::fs::write(dir.path().join("user_ca.pub"), key(9).to_openssh().unwrap()).unwrap();
        let offer = logins
            .accepts_offer(&agent, &key(1), &Algorithm::Ed25519)
            .await;
        assert!(offer.is_ok());
        let signed = logins.check_key(&agent, &key(1), &Algorithm::Ed25519).await;
        assert!(signed.is_err());
    }

    #[tokio::test]
    async fn a_sha1_signature_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let logins = LoginVerifier::new(&Settings::new(dir.path()));
        let refused = logins
            .check_key(
                &"acme".parse().unwrap(),
                &key(1),
                &Algorithm::Rsa { hash: None },
            )
            .await;
        assert!(matches!(refused, Err(LoginRefusal::Sha1)));
    }
}

//! Public key login, with the user certificate first where there is one.

use super::{
    Ended, Shared,
    error::{OpenError, Step},
    handler::{Failure, SessionHandler},
    identity::describe,
};
use russh::{
    Error, MethodKind, SendError, Signer,
    client::{AuthResult, Handle},
    keys::{
        Algorithm, HashAlg, PrivateKey, PrivateKeyWithHashAlg, agent::AgentIdentity, signature,
        ssh_encoding::Encode, ssh_key,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Logs in, or says in words what the gateway did not like.
pub(super) async fn login(
    handle: &mut Handle<SessionHandler>,
    shared: &Shared,
) -> Result<(), OpenError> {
    let identity = &shared.settings.identity;
    let user = shared.settings.user.as_str();
    let key = identity.key();
    let mut credential = format!("key {}", identity.fingerprint());
    let hash = match rsa_hash(handle, &key).await {
        Ok(hash) => hash,
        Err(problem) => return Err(refused(shared, credential, problem)),
    };
    if let Some(certificate) = identity.certificate().await {
        credential = format!("{credential} and {}", describe(&certificate));
        let mut signer = KeySigner(Arc::clone(&key));
        let result = handle
            .authenticate_certificate_with(user, certificate, hash, &mut signer)
            .await
            .map_err(|error| lost(shared, error.to_string()))?;
        match result {
            AuthResult::Success => return Ok(()),
            // As OpenSSH does: the key may be authorised by itself.
            AuthResult::Failure {
                ref remaining_methods,
                partial_success: false,
            } if remaining_methods.contains(&MethodKind::PublicKey) => {}
            failure => return Err(failed(shared, credential, failure).await),
        }
    }
    let key = PrivateKeyWithHashAlg::new(key, hash);
    let result = handle
        .authenticate_publickey(user, key)
        .await
        .map_err(|error| lost(shared, error.to_string()))?;
    match result {
        AuthResult::Success => Ok(()),
        failure => Err(failed(shared, credential, failure).await),
    }
}

/// SHA-2 for RSA keys, whatever the gateway says; nothing for other keys.
async fn rsa_hash(
    handle: &Handle<SessionHandler>,
    key: &PrivateKey,
) -> Result<Option<HashAlg>, String> {
    if !matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        return Ok(None);
    }
    match handle.best_supported_rsa_hash().await {
        Ok(Some(Some(hash))) => Ok(Some(hash)),
        Ok(Some(None)) => Err(
            "it takes RSA signatures with SHA-1 only, which are not safe; use an Ed25519 key"
                .to_owned(),
        ),
        // It has not said, or the session is gone, which the next step finds out.
        Ok(None) | Err(_) => Ok(Some(HashAlg::Sha512)),
    }
}

/// A failure is either a refusal or, with no method left, a session that died meanwhile.
async fn failed(shared: &Shared, credential: String, result: AuthResult) -> OpenError {
    let AuthResult::Failure {
        remaining_methods,
        partial_success,
    } = result
    else {
        return lost(shared, "unexpected answer".to_owned());
    };
    let methods: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
    let methods = methods.join(", ");
    if partial_success {
        let problem = format!("it accepted the key and wants more: {methods}");
        return refused(shared, credential, problem);
    }
    if !methods.is_empty() {
        let problem = format!("it was not accepted; the gateway offers {methods}");
        return refused(shared, credential, problem);
    }
    match timeout(ENDING, shared.ended()).await {
        // russh ends the session by itself where no method is left.
        Ok(Ended::Protocol(text)) if text == Error::NoAuthMethod.to_string() => {
            let problem = "it was not accepted; the gateway offers nothing else".to_owned();
            refused(shared, credential, problem)
        }
        Ok(ended) => lost(shared, ended.to_string()),
        Err(_) => lost(shared, "no answer".to_owned()),
    }
}

fn refused(shared: &Shared, credential: String, problem: String) -> OpenError {
    OpenError::LoginRefused {
        gateway: shared.gateway.to_string(),
        user: shared.settings.user.clone(),
        credential,
        problem,
    }
}

fn lost(shared: &Shared, problem: String) -> OpenError {
    OpenError::Lost {
        gateway: shared.place(),
        step: Step::Login,
        problem,
    }
}

/// Signs with a key in memory. russh's own way with certificates knows no hash for RSA, and would
/// announce SHA-1.
struct KeySigner(Arc<PrivateKey>);

impl Signer for KeySigner {
    type Error = Failure;

    async fn auth_sign(
        &mut self,
        _identity: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let signature: ssh_key::Signature = match self.0.key_data() {
            ssh_key::private::KeypairData::Rsa(pair) => {
                let hash = hash.or(Some(HashAlg::Sha512));
                signature::Signer::try_sign(&(pair, hash), &to_sign).map_err(Error::from)?
            }
            _ => signature::Signer::try_sign(&*self.0, &to_sign).map_err(Error::from)?,
        };
        let blob = Vec::<u8>::try_from(signature).map_err(Error::from)?;
        blob.encode(&mut to_sign).map_err(Error::from)?;
        Ok(to_sign)
    }
}

impl From<SendError> for Failure {
    fn from(_: SendError) -> Self {
        Self::Ssh(Error::SendError)
    }
}

/// How long the session task may take to say why it ended.
const ENDING: Duration = Duration::from_secs(5);

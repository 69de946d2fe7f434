//! Public key login, with the user certificate first where there is one.

use super::{
    LoginFault, SessionEnd, SessionShared,
    error::{SessionOpenError, SessionOpenStep},
    faults::refuses_all_logins,
    handler::{HandlerError, SessionHandler},
    identity::{certificate_problem, describe},
};
use russh::{
    Error, MethodKind, SendError, Signer,
    client::{AuthResult, Handle},
    keys::{
        Algorithm, Certificate, HashAlg, PrivateKey, PrivateKeyWithHashAlg, agent::AgentIdentity,
        signature, ssh_encoding::Encode, ssh_key,
    },
};
use std::{sync::Arc, time::Duration};
use tokio::time::timeout;

/// Logs in, or returns why the gateway refused.
pub(super) async fn login(
    handle: &mut Handle<SessionHandler>,
    shared: &SessionShared,
) -> Result<(), SessionOpenError> {
    let identity = &shared.settings.identity;
    let user = shared.settings.user.as_str();
    let key = identity.key();
    let mut offer = KeyOffer {
        shared,
        credential: format!("key {}", identity.fingerprint()),
        certificate: None,
    };
    let Some(hash) = rsa_hash(handle, &key).await else {
        let problem = "it accepts RSA signatures with SHA-1 only, which are not secure".to_owned();
        return Err(offer.refused(LoginFault::Sha1Only, problem));
    };
    if let Some(certificate) = identity.certificate().await {
        offer.credential = format!("{} and {}", offer.credential, describe(&certificate));
        offer.certificate = Some(certificate.clone());
        let mut signer = KeySigner(Arc::clone(&key));
        let result = handle
            .authenticate_certificate_with(user, certificate, hash, &mut signer)
            .await;
        match result {
            Ok(AuthResult::Success) => {
                if let Some(certificate) = offer.certificate {
                    let _ = shared.certificate.set(certificate);
                }
                return Ok(());
            }
            // As OpenSSH does: the key itself may be authorized.
            Ok(AuthResult::Failure {
                ref remaining_methods,
                partial_success: false,
            }) if remaining_methods.contains(&MethodKind::PublicKey) => {}
            Ok(failure) => return Err(offer.failed(failure).await),
            Err(_) => return Err(offer.ended().await),
        }
    }
    let key = PrivateKeyWithHashAlg::new(key, hash);
    match handle.authenticate_publickey(user, key).await {
        Ok(AuthResult::Success) => Ok(()),
        Ok(failure) => Err(offer.failed(failure).await),
        Err(_) => Err(offer.ended().await),
    }
}

/// SHA-2 for RSA keys, whatever the gateway offers; nothing for other keys.
async fn rsa_hash(handle: &Handle<SessionHandler>, key: &PrivateKey) -> Option<Option<HashAlg>> {
    if !matches!(key.algorithm(), Algorithm::Rsa { .. }) {
        return Some(None);
    }
    match handle.best_supported_rsa_hash().await {
        Ok(Some(Some(hash))) => Some(Some(hash)),
        Ok(Some(None)) => None,
        // The gateway has not sent the list, or the session has ended, which the next step finds out.
        Ok(None) | Err(_) => Some(Some(HashAlg::Sha512)),
    }
}

/// What was offered to the gateway.
struct KeyOffer<'a> {
    shared: &'a SessionShared,
    /// Key and certificate as text, for errors.
    credential: String,
    certificate: Option<Certificate>,
}

impl KeyOffer<'_> {
    /// The error of a failed login: a refusal or, with no method left, the end of the session.
    async fn failed(&self, result: AuthResult) -> SessionOpenError {
        let AuthResult::Failure {
            remaining_methods,
            partial_success,
        } = result
        else {
            return self
                .shared
                .lost(SessionOpenStep::Login, "unexpected answer".to_owned());
        };
        let methods: Vec<&str> = remaining_methods.iter().map(Into::into).collect();
        let offered = methods.join(", ");
        if partial_success {
            let problem = format!("it accepted the key and requires more: {offered}");
            return self.refused(LoginFault::PartialSuccess(offered), problem);
        }
        if methods.is_empty() {
            return self.ended().await;
        }
        let problem = format!("it was not accepted; the gateway offers {offered}");
        match remaining_methods.contains(&MethodKind::PublicKey) {
            true => self.refused(self.not_accepted(), problem),
            false => self.refused(LoginFault::NoPublicKeys(offered), problem),
        }
    }

    /// The error of a session that has ended, or is about to: mostly the gateway's answer to the offered key.
    async fn ended(&self) -> SessionOpenError {
        let Ok(ended) = timeout(ENDING, self.shared.ended()).await else {
            return self
                .shared
                .lost(SessionOpenStep::Login, "no answer".to_owned());
        };
        if self.shared.budget.transport().is_silent() {
            return self.shared.lost(SessionOpenStep::Login, ended.to_string());
        }
        match ended {
            // russh ends the session when no method is left.
            SessionEnd::Protocol(text) if text == Error::NoAuthMethod.to_string() => {
                let problem = "it was not accepted; the gateway offers nothing else".to_owned();
                self.refused(self.not_accepted(), problem)
            }
            SessionEnd::ByGateway(text) if text.contains(TOO_MANY) => {
                self.refused(LoginFault::TooManyFailures, text)
            }
            SessionEnd::ByGateway(text) => {
                let fault = match refuses_all_logins(&text) {
                    true => LoginFault::TemporarilyRefused,
                    false => self.closed(),
                };
                self.refused(fault, format!("it ended the connection: {text}"))
            }
            SessionEnd::Closed => {
                let problem = "it closed the connection once the key was offered".to_owned();
                self.refused(self.closed(), problem)
            }
            SessionEnd::Broken(how) => {
                let problem = format!("it cut the connection once the key was offered ({how})");
                self.refused(self.closed(), problem)
            }
            SessionEnd::TextNotUtf8 => SessionOpenError::TextNotUtf8 {
                gateway: self.shared.describe_gateway(),
                step: SessionOpenStep::Login,
            },
            ended @ (SessionEnd::ByUs
            | SessionEnd::KeepAlive
            | SessionEnd::Protocol(_)
            | SessionEnd::Panicked) => self.shared.lost(SessionOpenStep::Login, ended.to_string()),
        }
    }

    /// A visible problem of our certificate is the most likely reason.
    fn not_accepted(&self) -> LoginFault {
        let certificate = self.certificate.as_ref();
        let doubts = certificate.and_then(|c| certificate_problem(c, &self.shared.settings.user));
        doubts.map_or(LoginFault::NotAccepted, LoginFault::Certificate)
    }

    fn closed(&self) -> LoginFault {
        match self.shared.banner_text() {
            Some(text) if refuses_all_logins(&text) => LoginFault::TemporarilyRefused,
            _ => LoginFault::ClosedAfterKey,
        }
    }

    fn refused(&self, fault: LoginFault, problem: String) -> SessionOpenError {
        let text = self.shared.banner_text();
        let text = text.map(|text| format!("; the gateway says: {text:?}"));
        SessionOpenError::LoginRefused {
            gateway: self.shared.describe_gateway(),
            user: self.shared.settings.user.clone(),
            credential: self.credential.clone(),
            problem: format!("{problem}{}", text.unwrap_or_default()),
            fault,
        }
    }
}

/// Signs with a key in memory. russh's own signer for certificates has no hash for RSA, and would announce SHA-1.
struct KeySigner(Arc<PrivateKey>);

impl Signer for KeySigner {
    type Error = HandlerError;

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the crate adds types of keys; RSA alone needs a choice"
    )]
    async fn auth_sign(
        &mut self,
        _identity: &AgentIdentity,
        hash: Option<HashAlg>,
        mut to_sign: Vec<u8>,
    ) -> Result<Vec<u8>, HandlerError> {
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

impl From<SendError> for HandlerError {
    fn from(_: SendError) -> Self {
        Self::Ssh(Error::SendError)
    }
}

/// How long the session task may take to report why it ended.
const ENDING: Duration = Duration::from_secs(5);
/// sshd's text when MaxAuthTries is reached.
const TOO_MANY: &str = "Too many authentication failures";

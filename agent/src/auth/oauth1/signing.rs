//! Signing off the asynchronous workers, and not on all cores at once.

use super::{OAuthParameter, ProtocolParameters, RequestSigner, SignedParts};
use crate::auth::CredentialUnavailable;
use rand::Rng;
use std::{
    sync::LazyLock,
    thread::available_parallelism,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{sync::Semaphore, time::timeout};
use zeroize::Zeroizing;

/// A request to be signed.
pub(super) struct UnsignedRequest {
    pub(super) method: String,
    /// The base string URI.
    pub(super) uri: String,
    /// Of query and form, decoded.
    pub(super) parameters: Vec<OAuthParameter>,
    pub(super) token: Option<Zeroizing<String>>,
    pub(super) extra: Vec<(&'static str, Zeroizing<String>)>,
}

/// The `Authorization` value with the time of now and a fresh nonce.
pub(super) async fn sign(
    signer: RequestSigner,
    request: UnsignedRequest,
) -> Result<Zeroizing<String>, CredentialUnavailable> {
    // The permit is taken on the way in, so that no more threads than cores are ever busy with RSA.
    let permit = timeout(LONGEST, SIGNERS.acquire()).await;
    let Ok(Ok(_permit)) = permit else {
        return Err(overloaded());
    };
    let signed = tokio::task::spawn_blocking(move || {
        let nonce = format!("{:032x}", rand::rng().random::<u128>());
        let extra: Vec<_> = request
            .extra
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let protocol = ProtocolParameters {
            token: request.token.as_ref().map(|token| token.as_str()),
            timestamp: seconds(SystemTime::now()),
            nonce: &nonce,
            extra: &extra,
        };
        let signed = SignedParts {
            method: &request.method,
            uri: &request.uri,
            parameters: &request.parameters,
        };
        signer.authorization(&signed, &protocol)
    });
    match signed.await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(CredentialUnavailable {
            cause: format!("the request could not be signed: {error}"),
            remedy: "make a new key with agent login --new-key and put its public half into Jira's application link".to_owned(),
        }),
        // The runtime ends.
        Err(_) => Err(overloaded()),
    }
}

fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

fn overloaded() -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!("no processor was free to sign the request within {LONGEST:?}"),
        remedy:
            "check this host's load, or use mode = \"oauth2\" or \"pat\", which need no signatures"
                .to_owned(),
    }
}

/// An RSA signature is one to several milliseconds of computing: on a worker it would hold up every channel of
/// that worker, and on more threads than there are cores it would only be slower.
static SIGNERS: LazyLock<Semaphore> =
    LazyLock::new(|| Semaphore::new(available_parallelism().map_or(1, |cores| cores.get())));
/// A queue of thousands of signatures.
const LONGEST: Duration = Duration::from_secs(10);

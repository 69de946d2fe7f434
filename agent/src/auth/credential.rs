//! A credential in a file, rendered into the `Authorization` value.

use super::{Concern, CredentialUnavailable, RequestCredential, cached_file::CachedFile};
use crate::secret::{Secret, SecretFile};
use http::HeaderValue;

/// The `Authorization` value made of what is in a secret file.
pub(super) struct FileCredential(CachedFile<Secret>);

impl FileCredential {
    /// `render` makes the whole header value, or explains what is wrong with the secret without repeating it.
    pub(super) fn new(
        file: SecretFile,
        render: impl Fn(&Secret) -> Result<Secret, String> + Send + Sync + 'static,
    ) -> Self {
        Self(CachedFile::new(file, render))
    }

    pub(super) fn file(&self) -> &SecretFile {
        self.0.file()
    }

    /// The number of the last known credential; rises with each other one.
    pub(super) fn generation(&self) -> u64 {
        self.0.generation()
    }

    /// Why the last known value is used although the file may hold another one.
    pub(super) fn concern(&self) -> Option<Concern> {
        self.0.concern()
    }

    /// Reads the file now.
    pub(super) async fn reload(&self) -> Result<(), CredentialUnavailable> {
        self.0.reload().await.map(drop)
    }

    /// The value as of a second ago at the latest.
    pub(super) async fn current(&self) -> Result<RequestCredential, CredentialUnavailable> {
        let current = self.0.current().await?;
        let value = sensitive(current.value.expose())?;
        Ok(RequestCredential::authorization(value, current.generation))
    }
}

/// A header value that hyper and the logs treat as a secret.
pub(super) fn sensitive(value: &[u8]) -> Result<HeaderValue, CredentialUnavailable> {
    let mut value = HeaderValue::from_bytes(value).map_err(|_| CredentialUnavailable {
        cause: "the credential does not fit into an HTTP header".to_owned(),
        remedy: "check the secret's file for stray control characters".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A bearer token's `Authorization` value. Exactly this case and one space: Jira compares the prefix as it is.
pub(crate) fn bearer(token: &Secret) -> Secret {
    let token = token.expose();
    let mut value = Vec::with_capacity(BEARER.len() + token.len());
    value.extend_from_slice(BEARER);
    value.extend_from_slice(token);
    Secret::new(value)
}

const BEARER: &[u8] = b"Bearer ";

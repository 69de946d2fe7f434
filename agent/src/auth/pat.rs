//! `pat`: a Jira personal access token (8.14 and later), held by the agent.

use super::{Credential, Scheme, Unavailable, credential::FileCredential};
use crate::secret::{Secret, SecretFile};
use futures_util::future::BoxFuture;
use http::request;

pub(super) struct Pat(FileCredential);

impl Pat {
    pub(super) fn new(token_file: SecretFile) -> Self {
        Self(FileCredential::new(token_file, |token| {
            render(token.expose())
        }))
    }
}

impl Scheme for Pat {
    fn mode(&self) -> &'static str {
        "pat"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<Credential, Unavailable>> {
        Box::pin(self.0.current())
    }

    /// Jira counts no failed logins for tokens.
    fn locks_out(&self) -> bool {
        false
    }

    fn remedy(&self) -> String {
        format!(
            "look in Jira under Profile, Personal Access Tokens, whether the token expired or was revoked; write a new one into {}",
            self.0.file().path().display()
        )
    }
}

fn render(token: &[u8]) -> Result<Secret, String> {
    if !token.iter().all(u8::is_ascii_graphic) {
        return Err(
            "holds a space, a control character or a letter outside ASCII, which no token has; write the token alone, as one line"
                .to_owned(),
        );
    }
    let mut value = Vec::with_capacity(7 + token.len());
    // Exactly this case and one space: Jira compares the prefix as it is.
    value.extend_from_slice(b"Bearer ");
    value.extend_from_slice(token);
    Ok(Secret::new(value))
}

//! `basic`: user name and password (RFC 7617).

use super::{
    AuthScheme, Concern, CredentialUnavailable, RequestCredential, credential::FileCredential,
};
use crate::secret::{Secret, SecretFile};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::future::BoxFuture;
use http::request;
use zeroize::Zeroizing;

pub(super) struct BasicScheme {
    username: String,
    credential: FileCredential,
}

impl BasicScheme {
    pub(super) fn new(username: String, password_file: SecretFile) -> Self {
        let name = username.clone();
        let credential = FileCredential::new(password_file, move |password| {
            render(&name, password.expose())
        });
        Self {
            username,
            credential,
        }
    }
}

impl AuthScheme for BasicScheme {
    fn mode(&self) -> &'static str {
        "basic"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<RequestCredential, CredentialUnavailable>> {
        Box::pin(self.credential.current())
    }

    fn expected_user(&self) -> Option<&str> {
        Some(&self.username)
    }

    fn locks_out(&self) -> bool {
        true
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>> {
        Box::pin(self.credential.reload())
    }

    fn version(&self) -> u64 {
        self.credential.generation()
    }

    fn concern(&self) -> Option<Concern> {
        self.credential.concern()
    }

    fn remedy(&self) -> String {
        format!(
            "check in a browser that {} can log in (solve the CAPTCHA there if Jira shows one), then write the right password into {}; another password in the file is tried at once; where the one in it is right, agent login-retry has it tried again",
            self.username,
            self.credential.file().path().display()
        )
    }
}

pub(super) fn render(username: &str, password: &[u8]) -> Result<Secret, String> {
    if password.iter().any(u8::is_ascii_control) {
        return Err(
            "holds a control character, which no password can have (RFC 7617 §2); write it as one line"
                .to_owned(),
        );
    }
    let mut pair = Zeroizing::new(Vec::with_capacity(username.len() + 1 + password.len()));
    pair.extend_from_slice(username.as_bytes());
    pair.push(b':');
    pair.extend_from_slice(password);
    let encoded = Zeroizing::new(STANDARD.encode(&*pair));
    let mut value = Vec::with_capacity(6 + encoded.len());
    value.extend_from_slice(b"Basic ");
    value.extend_from_slice(encoded.as_bytes());
    Ok(Secret::new(value))
}

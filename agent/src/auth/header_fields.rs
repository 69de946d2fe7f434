//! `header`: header fields of the tool's own, like `X-ApiKeys` or `PRIVATE-TOKEN`, each with a value from a file.

use super::{
    AuthScheme, Concern, CredentialUnavailable, HeaderField, RequestCredential,
    cached_file::CachedFile, credential::sensitive, vendor_headers,
};
use crate::{
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime},
    profile::ServiceProfile,
    secret::Secret,
};
use futures_util::future::BoxFuture;
use http::{HeaderName, header, request};
use std::{sync::Arc, time::SystemTime};

pub(super) struct HeaderScheme {
    fields: Vec<(HeaderName, CachedFile<Secret>)>,
    /// From the configuration.
    configured_expiry: Option<SystemTime>,
    profile: Arc<ServiceProfile>,
}

impl HeaderScheme {
    pub(super) fn new(
        fields: Vec<HeaderField>,
        stated: Option<SystemTime>,
        profile: Arc<ServiceProfile>,
    ) -> Self {
        let cached = |field: HeaderField| (field.name, CachedFile::new(field.value_file, value));
        Self {
            fields: fields.into_iter().map(cached).collect(),
            configured_expiry: stated,
            profile,
        }
    }

    fn files(&self) -> String {
        let files = self.fields.iter();
        let files = files.map(|(_, file)| file.file().path().display().to_string());
        files.collect::<Vec<_>>().join(" and ")
    }

    async fn credential(&self) -> Result<RequestCredential, CredentialUnavailable> {
        let mut fields = Vec::with_capacity(self.fields.len());
        let mut generation = 0;
        for (name, file) in &self.fields {
            let current = file.current().await?;
            fields.push((name.clone(), sensitive(current.value.expose())?));
            // None ever falls, so the sum rises with each of them.
            generation += current.generation;
        }
        Ok(RequestCredential { fields, generation })
    }

    async fn read_again(&self) -> Result<(), CredentialUnavailable> {
        for (_, file) in &self.fields {
            file.reload().await?;
        }
        Ok(())
    }
}

impl AuthScheme for HeaderScheme {
    fn mode(&self) -> &'static str {
        "header"
    }

    fn authorization<'a>(
        &'a self,
        _head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<RequestCredential, CredentialUnavailable>> {
        Box::pin(self.credential())
    }

    /// It is a key, which no person mistypes.
    fn locks_out(&self) -> bool {
        false
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>> {
        Box::pin(self.read_again())
    }

    fn version(&self) -> u64 {
        self.fields.iter().map(|(_, file)| file.generation()).sum()
    }

    fn concern(&self) -> Option<Concern> {
        self.fields.iter().find_map(|(_, file)| file.concern())
    }

    fn remedy(&self) -> String {
        format!(
            "check in {} whether the key expired, was revoked or replaced; write the whole value of the header into {}; see {}",
            self.profile.title,
            self.files(),
            self.profile.documentation
        )
    }

    fn expiries(&self) -> Vec<CredentialExpiry> {
        let end = match self.configured_expiry {
            Some(stated) => ExpiryTime::At(stated),
            None => ExpiryTime::Unknown(format!(
                "{} does not report it; set expires in [forward.auth]",
                self.profile.title
            )),
        };
        let remedy = format!(
            "make a new key in {}, write the whole value of the header into {}, then revoke the old one; no restart is needed",
            self.profile.title,
            self.files()
        );
        vec![CredentialExpiry::new(
            CredentialKind::HeaderField,
            end,
            remedy,
        )]
    }
}

/// Whether a header of this name may carry the credential of a forward. The error says why not.
pub fn may_carry_credential(name: &HeaderName) -> Result<(), &'static str> {
    if *name == header::COOKIE {
        return Err("a session ends by itself; use the tool's API key or token");
    }
    match vendor_headers::is_needed_by_requests(name) {
        true => Err(
            "requests and connections need it for themselves; name the header of the tool's API key",
        ),
        false => Ok(()),
    }
}

fn value(secret: &Secret) -> Result<Secret, String> {
    let fits = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    match secret.expose().iter().all(fits) {
        true => Ok(Secret::new(secret.expose().to_vec())),
        false => Err(
            "holds a control character or a letter outside ASCII, which no key has; write the value of the header alone, as one line"
                .to_owned(),
        ),
    }
}

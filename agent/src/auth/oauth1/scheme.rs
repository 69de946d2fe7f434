//! `mode = "oauth1"`: signs each request with the current key and token.

use super::{
    AccessTokenSource, FormDecodeError, OAuth1Problem, OAuthParameter, RequestSigner, Settings,
    SignedUrl, SigningKey, SigningKeyError, encode,
    endpoint::text,
    signing::{UnsignedRequest, sign},
    token_provider::OAuth1TokenProvider,
};
use crate::{
    auth::{
        AuthRefusal, AuthRejection, AuthScheme, Concern, CredentialUnavailable, FormBody,
        RequestCredential, cached_file::CachedFile, credential::sensitive, token_cache::TokenCache,
    },
    expiry::{CredentialExpiry, CredentialKind, ExpiryTime},
    secret::Secret,
    tokens::{TokenSet, TokenStore},
};
use futures_util::future::BoxFuture;
use http::{Method, request, response};
use std::{sync::Arc, time::SystemTime};
use zeroize::Zeroizing;

pub(in crate::auth) struct OAuth1Scheme {
    settings: Settings,
    signed_url: SignedUrl,
    key: Arc<CachedFile<SigningKey>>,
    token: TokenSource,
}

enum TokenSource {
    Stored(Arc<TokenCache<OAuth1TokenProvider>>),
    File(Box<CachedFile<Secret>>),
    TwoLegged,
}

impl OAuth1Scheme {
    pub(in crate::auth) fn new(settings: Settings) -> Self {
        let key = Arc::new(CachedFile::new(settings.private_key_file.clone(), |pem| {
            SigningKey::from_pem(pem.expose())
                .map_err(|error: SigningKeyError| format!("holds no usable key: {error}"))
        }));
        let token = match &settings.token {
            AccessTokenSource::Login(store) => {
                TokenSource::Stored(TokenCache::new(OAuth1TokenProvider {
                    settings: settings.clone(),
                    store: store.clone(),
                    key: Arc::clone(&key),
                }))
            }
            AccessTokenSource::File(file) => {
                TokenSource::File(Box::new(CachedFile::new(file.clone(), token)))
            }
            AccessTokenSource::TwoLegged => TokenSource::TwoLegged,
        };
        Self {
            signed_url: settings.signed_url(),
            settings,
            key,
            token,
        }
    }

    async fn credential(
        &self,
        head: &request::Parts,
    ) -> Result<RequestCredential, CredentialUnavailable> {
        let key = self.key.current().await?;
        let (token, generation) = match &self.token {
            TokenSource::TwoLegged => (Zeroizing::new(String::new()), 0),
            TokenSource::File(file) => {
                let current = file.current().await?;
                (text(&current.value), current.generation)
            }
            TokenSource::Stored(stored) => {
                let current = stored.current().await?;
                let access = current.tokens.access.as_ref().map(text);
                (access.unwrap_or_default(), current.generation)
            }
        };
        let request = UnsignedRequest {
            method: head.method.to_string(),
            uri: self.signed_url.of(head.uri.path()),
            // What cannot be read was refused before; here it would only fail to verify.
            parameters: parameters(head).unwrap_or_default(),
            token: Some(token),
            extra: Vec::new(),
        };
        let signer = RequestSigner::new(&self.settings.consumer_key, key.value);
        let value = sign(signer, request).await?;
        let value = sensitive(value.as_bytes())?;
        // Neither ever falls, so the sum rises with each of them.
        let generation = key.generation + generation;
        Ok(RequestCredential::authorization(value, generation))
    }
}

impl OAuth1Scheme {
    async fn refresh_rejected(
        &self,
        refused: u64,
        proven: bool,
    ) -> Result<bool, CredentialUnavailable> {
        let TokenSource::Stored(stored) = &self.token else {
            return Ok(false);
        };
        let key = self.key.current().await?;
        match refused.checked_sub(key.generation) {
            Some(refused) => stored.refresh_rejected(refused, proven).await,
            None => Ok(false),
        }
    }
}

impl AuthScheme for OAuth1Scheme {
    fn mode(&self) -> &'static str {
        "oauth1"
    }

    fn authorization<'a>(
        &'a self,
        head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<RequestCredential, CredentialUnavailable>> {
        Box::pin(self.credential(head))
    }

    /// A request that Jira reads differently would not verify, and look like a wrong key.
    fn check_request(&self, head: &request::Parts) -> Result<(), AuthRefusal> {
        check_query(head)?;
        match head.extensions.get::<FormBody>() {
            Some(_) if head.method != Method::POST => Err(AuthRefusal::FormBody(
                "with a method other than POST, servers differ on whether its parameters are signed",
            )),
            Some(FormBody(body)) => encode::parse(body)
                .map(drop)
                .map_err(|misread| AuthRefusal::FormBody(misread.why())),
            None => Ok(()),
        }
    }

    /// Jira counts no failed logins for OAuth.
    fn locks_out(&self) -> bool {
        false
    }

    fn remedy(&self) -> String {
        match self.settings.new_token() {
            Some(source) => format!(
                "check in Jira, under Profile, Authorized Applications of the user, whether the access was revoked; then get a new access token: {source}"
            ),
            None => "check in Jira, Administration, Applications, Application links, whether the link still allows 2-legged OAuth and names an active user to execute as".to_owned(),
        }
    }

    fn classify_rejection(&self, head: &response::Parts, body: &[u8]) -> Option<AuthRejection> {
        let problem = OAuth1Problem::read(&head.headers, body, SystemTime::now())?;
        Some(AuthRejection {
            why: self.settings.explain(&problem),
            rejected: problem.rejected_part(),
        })
    }

    /// By its session, where there is one.
    fn can_refresh(&self) -> bool {
        matches!(self.token, TokenSource::Stored(_))
    }

    fn refresh(
        &self,
        refused: u64,
        proven: bool,
    ) -> BoxFuture<'_, Result<bool, CredentialUnavailable>> {
        Box::pin(self.refresh_rejected(refused, proven))
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), CredentialUnavailable>> {
        Box::pin(async {
            self.key.reload().await?;
            match &self.token {
                TokenSource::Stored(stored) => stored.reload().await,
                TokenSource::File(file) => file.reload().await.map(drop),
                TokenSource::TwoLegged => Ok(()),
            }
        })
    }

    fn version(&self) -> u64 {
        let token = match &self.token {
            TokenSource::Stored(stored) => stored.version(),
            TokenSource::File(file) => file.generation(),
            TokenSource::TwoLegged => 0,
        };
        self.key.generation() + token
    }

    fn concern(&self) -> Option<Concern> {
        let of_token = match &self.token {
            TokenSource::Stored(stored) => stored.concern(),
            TokenSource::File(file) => file.concern(),
            TokenSource::TwoLegged => None,
        };
        self.key.concern().or(of_token)
    }

    fn invalidate(&self) {
        if let TokenSource::Stored(stored) = &self.token {
            stored.invalidate();
        }
    }

    fn wait_idle(&self) -> BoxFuture<'_, ()> {
        match &self.token {
            TokenSource::Stored(stored) => Box::pin(stored.wait_idle()),
            TokenSource::File(_) | TokenSource::TwoLegged => Box::pin(std::future::ready(())),
        }
    }

    fn expiries(&self) -> Vec<CredentialExpiry> {
        match &self.token {
            TokenSource::Stored(stored) => match stored.peek() {
                Some((tokens, false)) => stored_expiries(&tokens, &stored.provider().store),
                _ => Vec::new(),
            },
            TokenSource::File(file) => {
                let remedy = format!("write a new one into {}", file.file().path().display());
                let end = ExpiryTime::Unknown("the file does not contain it".to_owned());
                vec![CredentialExpiry::new(
                    CredentialKind::Oauth1Token,
                    end,
                    remedy,
                )]
            }
            TokenSource::TwoLegged => Vec::new(),
        }
    }
}

fn stored_expiries(tokens: &TokenSet, store: &TokenStore) -> Vec<CredentialExpiry> {
    let expiry = |kind, at: Option<SystemTime>| {
        let end = match at {
            Some(at) => ExpiryTime::At(at),
            None => ExpiryTime::Unknown("Jira did not report it".to_owned()),
        };
        let remedy = format!("run agent login {}", store.forward());
        CredentialExpiry::new(kind, end, remedy).issued(Some(tokens.obtained))
    };
    let access = expiry(CredentialKind::Oauth1Token, tokens.access_expires);
    match &tokens.refresh {
        None => vec![access],
        Some(_) => vec![
            access.auto_refreshed(),
            expiry(CredentialKind::Oauth1Session, tokens.refresh_expires),
        ],
    }
}

/// All of query and form.
fn parameters(head: &request::Parts) -> Result<Vec<OAuthParameter>, FormDecodeError> {
    let mut all = query(head)?;
    if let Some(FormBody(body)) = head.extensions.get::<FormBody>() {
        all.extend(encode::parse(body)?);
    }
    Ok(all)
}

/// Refuses a query that Jira could read differently from us.
pub(crate) fn check_query(head: &request::Parts) -> Result<(), AuthRefusal> {
    let read = query(head).map(drop);
    read.map_err(|misread| AuthRefusal::AmbiguousQuery(misread.why()))
}

fn query(head: &request::Parts) -> Result<Vec<OAuthParameter>, FormDecodeError> {
    encode::parse(head.uri.query().unwrap_or_default().as_bytes())
}

fn token(secret: &Secret) -> Result<Secret, String> {
    if !secret.expose().iter().all(u8::is_ascii_graphic) {
        return Err(
            "holds a space, a control character or a letter outside ASCII, which no token has; write the access token alone, as one line".to_owned(),
        );
    }
    Ok(Secret::new(secret.expose().to_vec()))
}

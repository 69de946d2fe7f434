//! The login itself: signs each request with the current key and token.

use super::{
    KeyError, Misread, Parameter, Problem, Settings, SignedUrl, Signer, SigningKey, TokenFrom,
    encode,
    endpoint::text,
    signing::{ToSign, sign},
    stored::Stored,
};
use crate::{
    auth::{
        Concern, Credential, FormBody, Refusal, Scheme, Told, Unavailable, credential::sensitive,
        watched::Watched,
    },
    expiry::{End, Expiry, Kind},
    secret::Secret,
};
use futures_util::future::BoxFuture;
use http::{Method, request, response};
use std::{sync::Arc, time::SystemTime};
use zeroize::Zeroizing;

pub(in crate::auth) struct OAuth1 {
    settings: Settings,
    signed_url: SignedUrl,
    key: Watched<SigningKey>,
    token: Token,
}

enum Token {
    Stored(Arc<Stored>),
    File(Box<Watched<Secret>>),
    TwoLegged,
}

impl OAuth1 {
    pub(in crate::auth) fn new(settings: Settings) -> Self {
        let key = Watched::new(settings.private_key_file.clone(), |pem| {
            SigningKey::from_pem(pem.expose())
                .map_err(|error: KeyError| format!("holds no usable key: {error}"))
        });
        let token = match &settings.token {
            TokenFrom::Login(store) => {
                Token::Stored(Arc::new(Stored::new(settings.clone(), store.clone())))
            }
            TokenFrom::File(file) => Token::File(Box::new(Watched::new(file.clone(), token))),
            TokenFrom::TwoLegged => Token::TwoLegged,
        };
        Self {
            signed_url: settings.signed_url(),
            settings,
            key,
            token,
        }
    }

    async fn credential(&self, head: &request::Parts) -> Result<Credential, Unavailable> {
        let key = self.key.current().await?;
        let (token, generation) = match &self.token {
            Token::TwoLegged => (Zeroizing::new(String::new()), 0),
            Token::File(file) => {
                let current = file.current().await?;
                (text(&current.value), current.generation)
            }
            Token::Stored(stored) => {
                let (tokens, generation) = stored.current(&key.value).await?;
                let access = tokens.access.as_ref().map(text);
                (access.unwrap_or_default(), generation)
            }
        };
        let request = ToSign {
            method: head.method.to_string(),
            uri: self.signed_url.of(head.uri.path()),
            // What cannot be read was refused before; here it would only fail to verify.
            parameters: parameters(head).unwrap_or_default(),
            token: Some(token),
            extra: Vec::new(),
        };
        let signer = Signer::new(&self.settings.consumer_key, key.value);
        let value = sign(signer, request).await?;
        Ok(Credential {
            authorization: sensitive(value.as_bytes())?,
            // Neither ever falls, so the sum rises with each of them.
            generation: key.generation + generation,
        })
    }
}

impl OAuth1 {
    async fn renew_refused(&self, refused: u64, proven: bool) -> Result<bool, Unavailable> {
        let Token::Stored(stored) = &self.token else {
            return Ok(false);
        };
        let key = self.key.current().await?;
        match refused.checked_sub(key.generation) {
            Some(refused) => stored.renew_refused(&key.value, refused, proven).await,
            None => Ok(false),
        }
    }
}

impl Scheme for OAuth1 {
    fn mode(&self) -> &'static str {
        "oauth1"
    }

    fn authorization<'a>(
        &'a self,
        head: &'a request::Parts,
    ) -> BoxFuture<'a, Result<Credential, Unavailable>> {
        Box::pin(self.credential(head))
    }

    /// What Jira would read differently from us would not verify, and look like a wrong key.
    fn accept(&self, head: &request::Parts) -> Result<(), Refusal> {
        judge_query(head)?;
        match head.extensions.get::<FormBody>() {
            Some(_) if head.method != Method::POST => Err(Refusal::FormBody(
                "with a method other than POST, servers differ on whether its parameters are signed",
            )),
            Some(FormBody(body)) => encode::parse(body)
                .map(drop)
                .map_err(|misread| Refusal::FormBody(misread.why())),
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
                "look in Jira, under Profile, Authorized Applications of the user, whether the access was revoked; then get a new access token: {source}"
            ),
            None => "look in Jira, Administration, Applications, Application links, whether the link still allows 2-legged OAuth and names an active user to execute as".to_owned(),
        }
    }

    fn told(&self, head: &response::Parts, body: &[u8]) -> Option<Told> {
        let problem = Problem::read(&head.headers, body, SystemTime::now())?;
        Some(Told {
            why: self.settings.explain(&problem),
            blame: problem.blame(),
        })
    }

    /// By its session, where there is one.
    fn renews(&self) -> bool {
        matches!(self.token, Token::Stored(_))
    }

    fn renew(&self, refused: u64, proven: bool) -> BoxFuture<'_, Result<bool, Unavailable>> {
        Box::pin(self.renew_refused(refused, proven))
    }

    fn look(&self) -> BoxFuture<'_, Result<(), Unavailable>> {
        Box::pin(async {
            self.key.look_now().await?;
            match &self.token {
                Token::Stored(stored) => stored.look_now().await.map(drop),
                Token::File(file) => file.look_now().await.map(drop),
                Token::TwoLegged => Ok(()),
            }
        })
    }

    fn version(&self) -> u64 {
        let token = match &self.token {
            Token::Stored(stored) => stored.version(),
            Token::File(file) => file.generation(),
            Token::TwoLegged => 0,
        };
        self.key.generation() + token
    }

    fn concern(&self) -> Option<Concern> {
        let of_token = match &self.token {
            Token::Stored(stored) => stored.concern(),
            Token::File(file) => file.concern(),
            Token::TwoLegged => None,
        };
        self.key.concern().or(of_token)
    }

    fn look_again(&self) {
        if let Token::Stored(stored) = &self.token {
            stored.look_again();
        }
    }

    fn settle(&self) -> BoxFuture<'_, ()> {
        match &self.token {
            Token::Stored(stored) => Box::pin(stored.settle()),
            _ => Box::pin(std::future::ready(())),
        }
    }

    fn expiries(&self) -> Vec<Expiry> {
        match &self.token {
            Token::Stored(stored) => stored.expiries(),
            Token::File(file) => {
                let remedy = format!("write a new one into {}", file.file().path().display());
                let end = End::Unknown("the file does not tell".to_owned());
                vec![Expiry::new(Kind::Oauth1Token, end, remedy)]
            }
            Token::TwoLegged => Vec::new(),
        }
    }
}

/// All of query and form.
fn parameters(head: &request::Parts) -> Result<Vec<Parameter>, Misread> {
    let mut all = query(head)?;
    if let Some(FormBody(body)) = head.extensions.get::<FormBody>() {
        all.extend(encode::parse(body)?);
    }
    Ok(all)
}

/// Refuses a query that Jira could read differently from us.
pub fn judge_query(head: &request::Parts) -> Result<(), Refusal> {
    let read = query(head).map(drop);
    read.map_err(|misread| Refusal::AmbiguousQuery(misread.why()))
}

fn query(head: &request::Parts) -> Result<Vec<Parameter>, Misread> {
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

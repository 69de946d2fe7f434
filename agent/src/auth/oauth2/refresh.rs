//! Refreshes stored tokens by their refresh token, the first of which may come from a file.

use super::{OAuth2Endpoints, OAuth2Error, Settings};
use crate::{
    auth::{
        CredentialUnavailable,
        rotation::{LOCK_PATIENCE, RefreshError, RefreshOutcome, rotate},
    },
    printable::hex,
    secret::{Secret, SecretFile, SecretFileError},
    tokens::{TokenRecord, TokenSet, TokenStoreError},
};
use sha2::{Digest, Sha256};
use std::time::SystemTime;

/// Refreshes the tokens, unless the stored access token is another one than `stale` already.
pub async fn refresh(
    settings: &Settings,
    endpoint: &OAuth2Endpoints,
    stale: Option<&Secret>,
) -> RefreshOutcome {
    match try_refresh(settings, endpoint, stale).await {
        Ok(outcome) => outcome,
        Err(why) => RefreshOutcome::Failed(why),
    }
}

async fn try_refresh(
    settings: &Settings,
    endpoint: &OAuth2Endpoints,
    stale: Option<&Secret>,
) -> Result<RefreshOutcome, CredentialUnavailable> {
    let disk = |error: TokenStoreError| unavailable(error, DISK);
    let locked = settings.store.lock(LOCK_PATIENCE).await.map_err(disk)?;
    let stored = locked.load().await.map_err(disk)?;
    let file = settings.refresh_token_file.clone();
    let seed = settings
        .store
        .disk()
        .run(move || read_first_token(file))
        .await;
    let seed = seed.map_err(|error| unavailable(error, SEED))?;
    let Some(mut record) = with_first_token(settings, stored, seed)? else {
        return Err(logged_out(settings));
    };
    if record.ended.is_some() {
        return Ok(RefreshOutcome::LoginRequired(record));
    }
    let Some(tokens) = record.tokens.clone() else {
        return Err(logged_out(settings));
    };
    let is_newer = |access: &Secret| stale.is_none_or(|stale| stale.expose() != access.expose());
    if record.pending.is_none() && tokens.access.as_ref().is_some_and(is_newer) {
        return Ok(RefreshOutcome::Refreshed(record));
    }
    let Some(refresh) = &tokens.refresh else {
        record.ended = Some(
            "the access token has ended, and no refresh token was issued with it (Cloud: the scope lacks offline_access)"
                .to_owned(),
        );
        locked.save(&record).await.map_err(disk)?;
        return Ok(RefreshOutcome::LoginRequired(record));
    };
    let ask = async { Ok(endpoint.refresh(refresh).await?) };
    let rotated = rotate(&locked, record.clone(), &tokens, ask, LIKELY_CAUSE).await;
    rotated.map_err(disk)
}

/// The stored record, or a new one where the file with a first refresh token holds another one than
/// has been taken up already.
pub(super) fn with_first_token(
    settings: &Settings,
    stored: Option<TokenRecord>,
    seed: Option<Result<Secret, SecretFileError>>,
) -> Result<Option<TokenRecord>, CredentialUnavailable> {
    let stored_seed = stored.as_ref().and_then(|record| record.seed.clone());
    // Tokens of another client or site are not ours to use.
    let ours = stored.filter(|record| record.owner == settings.owner());
    let token = match seed {
        None => return Ok(ours),
        Some(Ok(token)) => token,
        // It has been used, and may be deleted.
        Some(Err(SecretFileError::Missing(_))) if ours.is_some() => return Ok(ours),
        Some(Err(error)) => return Err(unavailable(error, SEED)),
    };
    let now = SystemTime::now();
    let seed = fingerprint(&token);
    if stored_seed.as_ref() == Some(&seed) {
        return Ok(ours);
    }
    let tokens = TokenSet {
        access: None,
        access_secret: None,
        access_expires: None,
        refresh: Some(token),
        // At the latest: nothing says when the person consented.
        refresh_expires: settings.provider.login_life().map(|life| now + life),
        obtained: now,
        user: None,
        scope: None,
    };
    Ok(Some(TokenRecord {
        seed: Some(seed),
        ..TokenRecord::new(settings.owner(), tokens)
    }))
}

impl From<OAuth2Error> for RefreshError {
    fn from(error: OAuth2Error) -> Self {
        Self {
            why: CredentialUnavailable {
                cause: error.cause,
                remedy: error.remedy,
            },
            old_token: error.old_token,
        }
    }
}

/// Tokens of another client or site must not be shown to the server that is configured now, not even to
/// revoke them: the text for an administrator instead. `None` if they are ours, or there are none.
pub fn other_owner(settings: &Settings, record: &TokenRecord) -> Option<String> {
    record.tokens.as_ref()?;
    let owner = &record.owner;
    (*owner != settings.owner()).then(|| {
        format!(
            "the tokens are deleted here, but not revoked: they were issued to client {:?} at {}, which is not what \
             is configured now; revoke them there\n",
            owner.client, owner.issuer
        )
    })
}

/// What is in the file with a first refresh token, where there is to be one. Blocks.
pub(super) fn read_first_token(
    file: Option<SecretFile>,
) -> Option<Result<Secret, SecretFileError>> {
    file.map(|file| file.read())
}

/// The record after a person has logged in, in place of `before`. The current first refresh token in a file counts as
/// used: only another one that is written later is taken up.
pub async fn logged_in(
    settings: &Settings,
    tokens: TokenSet,
    before: Option<TokenRecord>,
) -> TokenRecord {
    let file = settings.refresh_token_file.clone();
    let now = settings
        .store
        .disk()
        .run(move || read_first_token(file))
        .await;
    TokenRecord {
        seed: match now.ok().flatten() {
            Some(Ok(token)) => Some(fingerprint(&token)),
            _ => before.and_then(|before| before.seed),
        },
        ..TokenRecord::new(settings.owner(), tokens)
    }
}

/// Tells one refresh token from the next without keeping it.
fn fingerprint(token: &Secret) -> String {
    hex(&Sha256::digest(token.expose()))
}

/// Why there is nothing to refresh.
pub(super) fn logged_out(settings: &Settings) -> CredentialUnavailable {
    CredentialUnavailable {
        cause: format!(
            "no login is stored for client {:?} at {}",
            settings.client_id, settings.token_url
        ),
        remedy: format!("log in: {}", settings.login_command()),
    }
}

fn unavailable(error: impl std::fmt::Display, remedy: &str) -> CredentialUnavailable {
    CredentialUnavailable {
        cause: error.to_string(),
        remedy: remedy.to_owned(),
    }
}

const DISK: &str = "repair the state folder; the agent retries by itself";
const SEED: &str = "write a refresh token into refresh_token_file, or remove the key and log in";
const LIKELY_CAUSE: &str =
    "the login was revoked, was not used for too long, or another agent refreshed the same tokens";

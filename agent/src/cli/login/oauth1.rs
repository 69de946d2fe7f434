//! The three-legged flow of OAuth 1.0a for a command line on a server (RFC 5849 §2).

use super::redirect::{AuthorizationResponse, RedirectListener};
use crate::{
    auth::{
        RefreshOutcome,
        oauth1::{self, AccessTokenSource, OAuth1Endpoints, RequestToken, Settings, SigningKey},
    },
    cli::{exit::UsageError, output::print},
    tokens::{TokenRecord, TokenSet, TokenStore},
};
use anyhow::{Context, bail};
use std::{process::ExitCode, sync::Arc, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// Lets a person allow the access, proves the token, stores it.
pub(super) async fn login(settings: &Settings, callback: &str) -> anyhow::Result<ExitCode> {
    let store = store(settings)?;
    let callback = OAuth1Callback::parse(callback)?;
    // First checks that tokens can be stored, then frees the lock: the running agent may have to refresh while the person
    // reads.
    drop(store.lock(PATIENCE).await?);
    let endpoint = endpoint(settings)?;
    let token = endpoint.request_token(callback.sent()).await?;
    let (receiver, failure) = RedirectListener::bind(callback.sent().unwrap_or_default()).await;
    print(&instructions(
        &endpoint, &token, &callback, &receiver, failure,
    ))?;
    let verifier = receiver
        .receive(|answer| verify_redirect(answer, &token))
        .await?;
    let verifier = verifier.as_ref().map(|text| text.as_str());
    let mut tokens = endpoint.access_token(&token, verifier).await?;
    let user = prove(&endpoint, &tokens).await?;
    tokens.user = Some(user.clone());
    let text = expiry_lines(&tokens);
    let locked = store.lock(PATIENCE).await?;
    locked
        .save(&TokenRecord::new(settings.owner(), tokens))
        .await?;
    print(&format!(
        "logged in as {user}\n{text}the token is in {}; a running agent takes it up within seconds\n",
        store.path().display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Refreshes the stored token now by its session, whether it is due or not.
pub(super) async fn refresh(settings: &Settings) -> anyhow::Result<ExitCode> {
    let store = store(settings)?;
    let endpoint = endpoint(settings)?;
    let stored = store.load().await?.and_then(|record| record.tokens);
    let stale = stored.as_ref().and_then(|tokens| tokens.access.as_ref());
    match oauth1::refresh(settings, store, &endpoint, stale, false).await {
        RefreshOutcome::Refreshed(record) => {
            let Some(tokens) = record.tokens else {
                bail!("there is no token; run agent login {}", store.forward());
            };
            let user = prove(&endpoint, &tokens).await?;
            print(&format!(
                "refreshed; logged in as {user}\n{}",
                expiry_lines(&tokens)
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        RefreshOutcome::LoginRequired(record) => bail!(
            "the login for Jira has ended: {}; log in again: agent login {}",
            record.ended.unwrap_or_default(),
            store.forward()
        ),
        RefreshOutcome::Failed(why) => bail!("{}; {}", why.cause, why.remedy),
    }
}

/// Deletes the token. Jira has no way to revoke one over the wire.
pub(super) async fn logout(settings: &Settings) -> anyhow::Result<ExitCode> {
    let store = store(settings)?;
    let locked = store.lock(PATIENCE).await?;
    let was_stored = !matches!(locked.load().await, Ok(None));
    locked.remove().await?;
    if !was_stored {
        print("there was no token; nothing is stored now\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    bail!(
        "the token is deleted here, but OAuth 1.0a has no way to revoke it; in Jira, logged in as the user: Profile, Tools, View OAuth Access Tokens, Revoke"
    );
}

/// Where Jira sends the browser (§2.1).
enum OAuth1Callback {
    /// Jira shows the verifier.
    OutOfBand,
    /// OAuth 1.0: there is no verifier.
    None,
    To(String),
}

impl OAuth1Callback {
    fn parse(text: &str) -> Result<Self, UsageError> {
        match text {
            "oob" => Ok(Self::OutOfBand),
            "none" => Ok(Self::None),
            url => match Url::parse(url) {
                Ok(parsed) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() => {
                    Ok(Self::To(url.to_owned()))
                }
                _ => Err(UsageError(format!(
                    "--callback {url}: expected oob, none, or an address like http://127.0.0.1:8400/"
                ))),
            },
        }
    }

    fn sent(&self) -> Option<&str> {
        match self {
            Self::OutOfBand => Some("oob"),
            Self::None => None,
            Self::To(url) => Some(url),
        }
    }
}

fn store(settings: &Settings) -> Result<&TokenStore, UsageError> {
    match &settings.token {
        AccessTokenSource::Login(store) => Ok(store),
        AccessTokenSource::File(file) => Err(UsageError(format!(
            "access_token_file is set, so that the token is the one in {}; remove that key to log in here",
            file.path().display()
        ))),
        AccessTokenSource::TwoLegged => Err(UsageError(
            "two_legged = true needs no login by a person; see: agent status".to_owned(),
        )),
    }
}

fn endpoint(settings: &Settings) -> anyhow::Result<OAuth1Endpoints> {
    let pem = settings.private_key_file.read()?;
    let key = SigningKey::from_pem(pem.expose())?;
    Ok(OAuth1Endpoints::new(settings.clone(), Arc::new(key)))
}

async fn prove(endpoint: &OAuth1Endpoints, tokens: &TokenSet) -> anyhow::Result<String> {
    let access = tokens
        .access
        .as_ref()
        .context("no access token was issued")?;
    Ok(endpoint.user(access).await?)
}

fn instructions(
    endpoint: &OAuth1Endpoints,
    token: &RequestToken,
    callback: &OAuth1Callback,
    receiver: &RedirectListener,
    failure: Option<String>,
) -> String {
    let mut text = format!(
        "Open this address in a browser that reaches Jira, log in as the user that the agent acts as, and allow the access:\n\n  {}\n\n",
        endpoint.authorize_url(token)
    );
    if let Some(failure) = failure {
        text += &format!("(Cannot listen for the browser's answer: {failure})\n");
    }
    text += &match callback {
        OAuth1Callback::To(url) if receiver.listens() => format!(
            "Then the browser comes back to {url} on this host (from another one: through ssh -L). Or copy its address line and paste it here:\n"
        ),
        OAuth1Callback::To(url) => format!(
            "Then the browser is sent to {url}, where an error page is fine. Copy the whole address and paste it here:\n"
        ),
        _ if token.needs_verifier => {
            "Then Jira shows a verification code. Paste it here:\n".to_owned()
        }
        OAuth1Callback::OutOfBand | OAuth1Callback::None => "Jira gives no verification code to this link. When you have allowed the access, type done here:\n"
            .to_owned(),
    };
    text
}

/// The verifier, if the answer is the one to our request token (§2.2).
fn verify_redirect(
    answer: &AuthorizationResponse,
    token: &RequestToken,
) -> anyhow::Result<Option<Zeroizing<String>>> {
    let verifier = match answer {
        AuthorizationResponse::Code(text) => Some(text.as_str()),
        AuthorizationResponse::Query(_) => {
            if answer.parameter("oauth_token") != Some(token.token.as_str()) {
                bail!(
                    "the token in this address is not that of this login: it belongs to another login, or was tampered with; start again"
                );
            }
            answer.parameter("oauth_verifier")
        }
    };
    if !token.needs_verifier {
        return Ok(None);
    }
    match verifier.map(str::trim) {
        Some("denied") => bail!("the access was denied; start again, and allow it"),
        Some(text) if !text.is_empty() => Ok(Some(Zeroizing::new(text.to_owned()))),
        _ => bail!("the address holds no verification code; paste the whole address line"),
    }
}

/// When token and session expire, one line each.
fn expiry_lines(tokens: &TokenSet) -> String {
    let at = |time| humantime::format_rfc3339_seconds(time).to_string();
    let mut text = match tokens.access_expires {
        Some(end) => format!("access token: until {}\n", at(end)),
        None => "access token: until it is revoked in Jira, or expires at a time that Jira does not report\n"
            .to_owned(),
    };
    text += &match (&tokens.refresh, tokens.refresh_expires) {
        (Some(_), Some(end)) => {
            format!(
                "session, by which the agent refreshes it: until {}\n",
                at(end)
            )
        }
        (Some(_), None) => "session, by which the agent refreshes it: end unknown\n".to_owned(),
        (None, _) => {
            "no session was issued: log in again before the access token expires\n".to_owned()
        }
    };
    text
}

/// As long as a refresh by the running agent may take.
const PATIENCE: Duration = Duration::from_secs(30);

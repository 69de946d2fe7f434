//! The authorization-code flow for a command line on a server (RFC 6749 §4.1, RFC 7636).

use super::{
    myself,
    redirect::{AuthorizationResponse, RedirectListener},
};
use crate::printable::printable;
use crate::{
    auth::{
        RefreshOutcome, bearer,
        oauth2::{
            self, AuthorizationRequest, GrantType, OAuth2Endpoints, Settings, SiteAccessError,
        },
    },
    check,
    cli::output::print,
    config::ForwardConfig,
    tokens::{TokenRecord, TokenSet},
};
use anyhow::{anyhow, bail};
use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};
use zeroize::Zeroizing;

/// Lets a person consent, proves the tokens, stores them.
pub(super) async fn login(
    forward: &ForwardConfig,
    settings: &Settings,
) -> anyhow::Result<ExitCode> {
    if settings.grant == GrantType::ClientCredentials {
        return service_account(forward, settings).await;
    }
    // First checks that tokens can be stored, then frees the lock: the running agent may have to refresh while the person
    // reads.
    drop(settings.store.lock(PATIENCE).await?);
    let request = AuthorizationRequest::new(settings)?;
    let (receiver, failure) = RedirectListener::bind(&settings.redirect_uri).await;
    print(&instructions(settings, &request, &receiver, failure))?;
    let code = receiver
        .receive(|answer| verify_redirect(answer, &request.state))
        .await?;
    let tokens = OAuth2Endpoints::new(settings.clone())
        .redeem(&code, request.verifier.as_ref())
        .await
        .map_err(printable_answer)?;
    let user = prove(forward, settings, &tokens).await?;
    let locked = settings.store.lock(PATIENCE).await?;
    let tokens = TokenSet {
        user: Some(user.clone()),
        ..tokens
    };
    // A record that cannot be read is replaced.
    let before = locked.load().await.ok().flatten();
    let record = oauth2::logged_in(settings, tokens, before).await;
    locked.save(&record).await?;
    print(&format!(
        "logged in as {user}\n{}{}the tokens are in {}; a running agent takes them up within seconds\n",
        expiry_lines(record.tokens.as_deref()),
        scope_lines(forward, record.tokens.as_deref()),
        settings.store.path().display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// Refreshes the stored tokens now, whether they are due or not.
pub(super) async fn refresh(
    forward: &ForwardConfig,
    settings: &Settings,
) -> anyhow::Result<ExitCode> {
    if settings.grant == GrantType::ClientCredentials {
        return service_account(forward, settings).await;
    }
    let stored = settings.store.load().await?;
    let tokens = stored.and_then(|record| record.tokens);
    let stale = tokens.as_ref().and_then(|tokens| tokens.access.as_ref());
    let endpoint = OAuth2Endpoints::new(settings.clone());
    match oauth2::refresh(settings, &endpoint, stale).await {
        RefreshOutcome::Refreshed(record) => {
            let Some(tokens) = record.tokens else {
                bail!("there are no tokens; log in: {}", settings.login_command());
            };
            let user = prove(forward, settings, &tokens).await?;
            print(&format!(
                "refreshed; logged in as {user}\n{}",
                expiry_lines(Some(&tokens))
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        RefreshOutcome::LoginRequired(record) => bail!(
            "the login for Jira has ended: {}; log in again: {}",
            record.ended.unwrap_or_default(),
            settings.login_command()
        ),
        RefreshOutcome::Failed(why) => bail!("{}; {}", why.cause, why.remedy),
    }
}

/// Revokes the stored tokens, then deletes them.
pub(super) async fn logout(settings: &Settings) -> anyhow::Result<ExitCode> {
    let locked = settings.store.lock(PATIENCE).await?;
    let stored = locked.load().await;
    let foreign = stored.as_ref().ok().and_then(Option::as_ref);
    let foreign = foreign.and_then(|record| oauth2::other_owner(settings, record));
    let tokens = match &stored {
        Ok(Some(record)) if foreign.is_none() => record.tokens.clone(),
        _ => None,
    };
    let endpoint = OAuth2Endpoints::new(settings.clone());
    let revoked = match tokens.as_deref() {
        Some(tokens) => match tokens.refresh.as_ref().or(tokens.access.as_ref()) {
            Some(token) => Some(endpoint.revoke(token).await),
            None => None,
        },
        None => None,
    };
    // A first refresh token that has been used must not be taken for a new one.
    match stored {
        Ok(Some(record)) if record.seed.is_some() => {
            let bare = TokenRecord {
                tokens: None,
                pending: None,
                ended: None,
                ..record
            };
            locked.save(&bare).await?;
        }
        _ => locked.remove().await?,
    }
    match revoked {
        None if foreign.is_some() => print(&foreign.unwrap_or_default())?,
        None => print("there were no tokens to revoke; nothing is stored now\n")?,
        Some(Ok(())) => print("revoked, and deleted here\n")?,
        Some(Err(error)) => bail!(
            "the tokens are deleted here, but not revoked: {}; {}",
            error.cause,
            match settings.revoke_url {
                None => error.remedy,
                Some(_) => STILL_GOOD.to_owned(),
            }
        ),
    }
    Ok(ExitCode::SUCCESS)
}

/// Proves that the service account works; there is nothing to store.
async fn service_account(forward: &ForwardConfig, settings: &Settings) -> anyhow::Result<ExitCode> {
    let endpoint = OAuth2Endpoints::new(settings.clone());
    let tokens = endpoint
        .client_credentials()
        .await
        .map_err(printable_answer)?;
    let user = prove(forward, settings, &tokens).await?;
    print(&format!(
        "grant = \"client_credentials\" needs no login by a person, and it works: the service account is {user}; \
         nothing is stored\n"
    ))?;
    Ok(ExitCode::SUCCESS)
}

async fn prove(
    forward: &ForwardConfig,
    settings: &Settings,
    tokens: &TokenSet,
) -> anyhow::Result<String> {
    let Some(access) = &tokens.access else {
        bail!("no access token was issued");
    };
    match oauth2::check_site_access(settings, access).await {
        Ok(()) => {}
        Err(SiteAccessError::OtherSites(why)) => bail!("{}; {}", why.cause, why.remedy),
        Err(SiteAccessError::Unknown(why)) => {
            bail!(
                "cannot determine the sites of this login: {why}; check api_url, then start again"
            )
        }
    }
    myself::ask(forward, &bearer(access)).await
}

fn instructions(
    settings: &Settings,
    request: &AuthorizationRequest,
    receiver: &RedirectListener,
    failure: Option<String>,
) -> String {
    let mut text = format!(
        "Open this address in a browser that reaches Jira, and log in as the user that the agent acts as:\n\n  {}\n\n",
        request.url
    );
    if let Some(failure) = failure {
        text += &format!("(Cannot listen for the browser's answer: {failure})\n");
    }
    text += &match receiver.listens() {
        true => format!(
            "After consent the browser comes back to {} on this host (from another one: through ssh -L). \
             Or copy its address line and paste it here:\n",
            settings.redirect_uri
        ),
        false => format!(
            "After consent the browser is sent to {}, where an error page is fine. Copy the whole address \
             and paste it here:\n",
            settings.redirect_uri
        ),
    };
    text
}

/// The code, if the answer is the one to our request (RFC 6749 §4.1.2, §10.12).
fn verify_redirect(
    answer: &AuthorizationResponse,
    state: &str,
) -> anyhow::Result<Zeroizing<String>> {
    if let AuthorizationResponse::Code(_) = answer {
        bail!(
            "that is no address; paste the whole address line, which begins with the redirect_uri"
        );
    }
    if answer.parameter("state") != Some(state) {
        bail!(
            "the state in this address is not that of this login: it belongs to another login, or was tampered with; start again"
        );
    }
    if let Some(error) = answer.parameter("error") {
        let description = answer.parameter("error_description").unwrap_or_default();
        let shown = printable(&format!("{error} {description}"), MAX_TEXT);
        bail!(
            "consent was not given ({}); start again, and allow it",
            shown.trim()
        );
    }
    match answer.parameter("code") {
        Some(code) if !code.is_empty() => Ok(Zeroizing::new(code.to_owned())),
        _ => bail!("the address holds no code; paste the whole address line"),
    }
}

/// When each token expires, one line each.
fn expiry_lines(tokens: Option<&TokenSet>) -> String {
    let Some(tokens) = tokens else {
        return String::new();
    };
    let mut text = match tokens.access_expires {
        Some(at) => format!(
            "access token: until {}; the agent refreshes it before that\n",
            humantime::format_rfc3339_seconds(at)
        ),
        None => "access token: until Jira rejects it; then the agent refreshes it\n".to_owned(),
    };
    text += &match (&tokens.refresh, tokens.refresh_expires) {
        (Some(_), Some(at)) => format!(
            "refresh token: until {} at the latest; then log in again\n",
            humantime::format_rfc3339_seconds(at)
        ),
        (Some(_), None) => format!(
            "refresh token: replaced with each refresh; expires about {} if the agent does not run until then\n",
            humantime::format_rfc3339_seconds(SystemTime::now() + UNUSED_LIFE)
        ),
        (None, _) => {
            "no refresh token was issued: log in again when the access token has expired\n"
                .to_owned()
        }
    };
    text
}

/// What the login lacks for the rules of the forward, a line each.
fn scope_lines(forward: &ForwardConfig, tokens: Option<&TokenSet>) -> String {
    let scope = tokens.and_then(|tokens| tokens.scope.as_deref());
    let granted: Vec<String> = scope
        .unwrap_or_default()
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    // Nothing is known of them: nothing is lacking as far as anyone can tell.
    if granted.is_empty() {
        return String::new();
    }
    let gaps = check::scope_gaps(forward, &granted).into_iter();
    gaps.map(|gap| format!("warning: {}; {}\n", gap.cause, gap.remedy))
        .collect()
}

fn printable_answer(error: oauth2::OAuth2Error) -> anyhow::Error {
    anyhow!("{}; {}", error.cause, error.remedy)
}

const STILL_GOOD: &str = "anyone with a copy can use them until they expire, the refresh token after 90 days without use; to be sure, delete the link in Jira (Administration, Applications, Application links)";
/// As long as a refresh by the running agent may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Jira's and Atlassian's default.
const UNUSED_LIFE: Duration = Duration::from_secs(90 * 86_400);
/// Characters of a foreign text shown.
const MAX_TEXT: usize = 200;

//! The login layer: asks Jira for our user, with the credential of requests and through the same circuit, so that a
//! rejected password is not tried again here either. The answer decides about the credential, and defines the user that
//! every later answer must name.

use crate::{
    auth::{self, AuthRefusal, AuthVerdict, CredentialUnavailable, UpstreamAuth, UserDisplayName},
    printable::printable,
    profile::{LoginProof, ServiceProfile},
    upstream::{AnswerSource, ControlAnswer, ControlClient},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;
use serde_json::Value;

/// The result of a login probe.
pub(crate) enum LoginProbeResult {
    /// Jira accepted the credential; the name of its user, if the answer has one.
    Known(Option<String>),
    /// Jira rejected the credential, or named another user.
    Refused(CredentialUnavailable),
    /// Nothing was sent: no credential, or Jira has rejected it before.
    NotTried(CredentialUnavailable),
    /// Nothing was sent: a request of the vendor tests the credential.
    Busy,
    /// The answer proves nothing, or there was none.
    Undecided(CredentialUnavailable),
}

/// Asks once, if the circuit admits it, and once more if the credential could be refreshed in between. The login layer has
/// the result, too.
pub(crate) async fn probe_login(client: &ControlClient, login: &UpstreamAuth) -> LoginProbeResult {
    probe_login_and_source(client, login).await.0
}

/// Like [`probe_login`], and whether something answered that is not Jira.
pub(super) async fn probe_login_and_source(
    client: &ControlClient,
    login: &UpstreamAuth,
) -> (LoginProbeResult, bool) {
    let mut is_foreign = false;
    let result = run_probe(client, login, &mut is_foreign).await;
    (result, is_foreign)
}

async fn run_probe(
    client: &ControlClient,
    login: &UpstreamAuth,
    is_foreign: &mut bool,
) -> LoginProbeResult {
    let mut may_retry = true;
    loop {
        let profile = client.profile();
        let proof = profile.login.as_ref();
        let mut head = client.head(proof.map_or("/rest/api/2/myself", |proof| &proof.path));
        let mut attempt = match login.prepare_probe(&mut head).await {
            Ok(Some(attempt)) => attempt,
            Ok(None) => return LoginProbeResult::Busy,
            Err(AuthRefusal::Unavailable(why)) => return LoginProbeResult::NotTried(why),
            // A probe has neither query nor body.
            Err(refusal) => return inconclusive(login, refusal.to_string(), JIRA_FIRST),
        };
        let mut answer = match client.send(head, Bytes::new()).await {
            Ok(answer) => answer,
            Err(failure) => {
                let cause = format!("Jira did not answer the login probe: {}", failure.detail);
                return inconclusive(login, cause, JIRA_FIRST);
            }
        };
        match (profile.is_jira(), proof) {
            (false, Some(proof)) => name_user_of(proof, &mut answer),
            _ => name_user(&mut answer),
        }
        if AnswerSource::is_from_a_cache(&answer.head.headers) {
            drop(attempt);
            return inconclusive(login, ANSWERED_BY_CACHE.to_owned(), NO_CACHE);
        }
        let names_nobody = match profile.is_jira() {
            true => names_nobody(&answer),
            false => proves_nobody(profile, &answer),
        };
        if names_nobody {
            *is_foreign = super::jira::is_foreign(&answer);
            // Dropped without a response, it decides nothing.
            drop(attempt);
            let cause = format!(
                "the answer to the login probe ({}) names no user, although Jira's always does",
                answer.head.status
            );
            let remedy = match profile.is_jira() {
                true => NOT_MYSELF,
                false => {
                    "find out what answers (curl -i with the path of the login proof from this host)"
                }
            };
            return inconclusive(login, cause, remedy);
        }
        if std::mem::take(&mut may_retry)
            && attempt
                .refresh_if_rejected(&answer.head, &answer.body)
                .await
        {
            continue;
        }
        let (status, source) = (answer.head.status, AnswerSource::noted(&answer.head));
        let name = shown_name(&answer);
        *is_foreign =
            name.is_none() && source.intermediary().is_some() && super::jira::is_foreign(&answer);
        return match attempt.on_response_with_body(&mut answer.head, &answer.body) {
            AuthVerdict::LoginFailed { cause, remedy } => {
                tracing::debug!(cause, "the login probe failed");
                LoginProbeResult::Refused(CredentialUnavailable { cause, remedy })
            }
            AuthVerdict::Accepted if name.is_some() => LoginProbeResult::Known(name),
            AuthVerdict::Accepted if status == StatusCode::OK && is_from_jira(&source) => {
                LoginProbeResult::Known(None)
            }
            AuthVerdict::Accepted if auth::lacks_scope(status, &answer.body) => {
                inconclusive(login, LACKS_SCOPE.to_owned(), ADD_SCOPE)
            }
            AuthVerdict::Accepted => match source.intermediary() {
                Some(intermediary) => {
                    let diagnosis = intermediary.diagnosis();
                    inconclusive(login, diagnosis.cause, diagnosis.remedy)
                }
                None => inconclusive(
                    login,
                    format!(
                        "the login probe was answered with {status}, which proves nothing about the credential"
                    ),
                    match is_from_jira(&source) {
                        true => "check Jira's log; see also the jira layer",
                        false => {
                            "find out what answers (curl -i from this host): the answer has no header of Jira's"
                        }
                    },
                ),
            },
        };
    }
}

fn is_from_jira(source: &AnswerSource) -> bool {
    matches!(source, AnswerSource::Jira | AnswerSource::LikeJira)
}

/// Records it in the layer, too.
fn inconclusive(login: &UpstreamAuth, cause: String, remedy: &str) -> LoginProbeResult {
    login.probe_inconclusive(&cause, remedy);
    let remedy = remedy.to_owned();
    LoginProbeResult::Undecided(CredentialUnavailable { cause, remedy })
}

/// A proxy may have removed the header, and Cloud has none; the body names the user as well.
fn name_user(answer: &mut ControlAnswer) {
    if answer.head.status != StatusCode::OK {
        return;
    }
    let Ok(names) = serde_json::from_slice::<MyselfNames>(&answer.body) else {
        return;
    };
    for (header, name) in [
        ("x-ausername", &names.name),
        ("x-aaccountid", &names.account_id),
    ] {
        let value = name
            .as_ref()
            .and_then(|name| HeaderValue::from_bytes(name.as_bytes()).ok());
        if let (Some(value), false) = (value, answer.head.headers.contains_key(header)) {
            answer.head.headers.insert(header, value);
        }
    }
    if names.name.is_none()
        && let Some(shown) = names.display_name
    {
        answer.head.extensions.insert(UserDisplayName(shown));
    }
}

/// The user's name where the profile says that it is.
fn name_user_of(proof: &LoginProof, answer: &mut ControlAnswer) {
    if !answer.head.status.is_success() {
        return;
    }
    let body: Option<Value> = serde_json::from_slice(&answer.body).ok();
    let at = proof.user.as_deref();
    let name = at.and_then(|at| body.as_ref()?.pointer(at)?.as_str());
    let header = proof.user_header.as_ref();
    let header = header.and_then(|name| answer.head.headers.get(name)?.to_str().ok());
    if let Some(name) = name.or(header).filter(|name| !name.trim().is_empty()) {
        let shown = UserDisplayName(printable(name, MAX_USER));
        answer.head.extensions.insert(shown);
    }
}

/// Whether it looks like a success but shows no user, and not that the tool itself answered.
fn proves_nobody(profile: &ServiceProfile, answer: &ControlAnswer) -> bool {
    let head = &answer.head;
    let source = AnswerSource::noted(head);
    let may_be_nameless = match source {
        AnswerSource::Jira => true,
        AnswerSource::LikeJira => {
            let proof = profile.login.as_ref();
            proof.is_some_and(|proof| proof.user.is_none() && proof.user_header.is_none())
        }
        AnswerSource::Intermediary(_) | AnswerSource::Unclear => false,
    };
    head.status.is_success()
        && head.extensions.get::<UserDisplayName>().is_none()
        && source.intermediary().is_none()
        && !may_be_nameless
}

/// Whether it looks like a success but is not Jira's answer to `myself`: JSON of a firewall, an empty page, a page of
/// single sign-on inside Jira. Known intermediaries are reported by their name instead.
fn names_nobody(answer: &ControlAnswer) -> bool {
    let head = &answer.head;
    let headers = ["x-ausername", "x-aaccountid", "x-seraph-loginreason"];
    head.status.is_success()
        && !headers.iter().any(|name| head.headers.contains_key(*name))
        && head.extensions.get::<UserDisplayName>().is_none()
        && AnswerSource::noted(head).intermediary().is_none()
}

fn shown_name(answer: &ControlAnswer) -> Option<String> {
    let head = &answer.head;
    if let Some(UserDisplayName(shown)) = head.extensions.get() {
        return Some(shown.clone());
    }
    let headers = ["x-ausername", "x-aaccountid"].into_iter();
    let name = headers.filter_map(|header| head.headers.get(header)).next();
    name.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned())
}

/// Asks when the credential ends, if Jira can report it and it is time to ask.
pub(crate) async fn probe_expiry(client: &ControlClient, login: &UpstreamAuth) {
    let Some(path) = login.expiry_probe_path() else {
        return;
    };
    let mut head = client.head(path);
    let Ok(Some(attempt)) = login.prepare_auxiliary(&mut head).await else {
        return;
    };
    match client.send(head, Bytes::new()).await {
        Ok(answer) => attempt.on_expiry_response(answer.head.status, &answer.body),
        Err(error) => tracing::debug!(%error, "the expiry of the credential could not be read"),
    }
}

/// Server and Data Center have a name, Cloud the other two.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MyselfNames {
    name: Option<String>,
    display_name: Option<String>,
    account_id: Option<String>,
}

/// Characters of a user's name that are shown.
const MAX_USER: usize = 255;
const ANSWERED_BY_CACHE: &str =
    "a cache in front of Jira answered the login probe, so the credential is unproven";
const NO_CACHE: &str =
    "configure the proxy in front of Jira not to cache /rest: some answers are for one user only";
const NOT_MYSELF: &str = "find out what answers (curl -i with the path /rest/api/2/myself from this host): something replaces or changes Jira's answers";
const LACKS_SCOPE: &str = "Jira Cloud accepts the token, but its scopes do not cover the login probe (GET /rest/api/2/myself), so its user is not known";
const ADD_SCOPE: &str = "give it the classic scope read:jira-user, or the granular scopes that agent check names: in the developer console (Permissions), then agent login; for an API token, make a new one";
const JIRA_FIRST: &str = "check the jira layer first";

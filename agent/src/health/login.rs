//! The login layer: asks Jira who we are, with the credential that requests get, through the same
//! circuit: a refused password is not tried again here either.

use crate::{
    auth::{Login, Refusal, Unavailable, Verdict},
    upstream::{ControlAnswer, ControlClient},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

/// What came of asking.
pub(crate) enum Asked {
    /// Jira knows us, by this name where it told one.
    Known(Option<String>),
    /// Jira does not, or took us for somebody else.
    Refused(Unavailable),
    /// Nothing was sent: no credential, or Jira has refused it before.
    NotTried(Unavailable),
    /// Nothing was sent: a request of the vendor is just finding out.
    Busy,
    /// Jira gave no answer that says anything; one clause.
    Undecided(String),
}

/// Asks once, if the circuit lets us, and once more where the credential could be renewed in between.
/// What comes of it stands in the login layer, too.
pub(crate) async fn ask(client: &ControlClient, login: &Login) -> Asked {
    let mut again = true;
    loop {
        let mut head = client.head("/rest/api/2/myself");
        let mut attempt = match login.prepare_probe(&mut head).await {
            Ok(Some(attempt)) => attempt,
            Ok(None) => return Asked::Busy,
            Err(Refusal::Unavailable(why)) => return Asked::NotTried(why),
            // A probe has neither query nor body.
            Err(refusal) => return Asked::Undecided(refusal.to_string()),
        };
        // Where Jira does not answer, the attempt ends undecided, and the Jira layer tells.
        let mut answer = match client.send(head, Bytes::new()).await {
            Ok(answer) => answer,
            Err(failure) => return Asked::Undecided(failure.detail),
        };
        name_user(&mut answer);
        if std::mem::take(&mut again) && attempt.renewed(&answer.head, &answer.body).await {
            continue;
        }
        let status = answer.head.status;
        let name = answer.head.headers.get("x-ausername");
        let name = name.map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned());
        return match attempt.observe_with(&mut answer.head, &answer.body) {
            Verdict::LoginFailed { cause, remedy } => {
                tracing::debug!(cause, "the login probe failed");
                Asked::Refused(Unavailable { cause, remedy })
            }
            Verdict::Fine if name.is_some() || status == StatusCode::OK => Asked::Known(name),
            Verdict::Fine => {
                Asked::Undecided(format!("Jira answered {status}, which says nothing"))
            }
        };
    }
}

/// A proxy may have taken the header away, and Cloud has none; the body names the user as well.
fn name_user(answer: &mut ControlAnswer) {
    if answer.head.status == StatusCode::OK && !answer.head.headers.contains_key("x-ausername") {
        let told: Option<Myself> = serde_json::from_slice(&answer.body).ok();
        let name = told.and_then(|told| told.name.or(told.display_name).or(told.account_id));
        let name = name.and_then(|name| HeaderValue::from_bytes(name.as_bytes()).ok());
        if let Some(name) = name {
            answer.head.headers.insert("x-ausername", name);
        }
    }
}

/// Asks when the credential ends, where Jira can tell and it is time to.
pub(crate) async fn ask_expiry(client: &ControlClient, login: &Login) {
    let Some(path) = login.expiry_question() else {
        return;
    };
    let mut head = client.head(path);
    let Ok(Some(attempt)) = login.prepare_probe(&mut head).await else {
        return;
    };
    match client.send(head, Bytes::new()).await {
        Ok(answer) => attempt.learn(answer.head.status, &answer.body),
        Err(error) => tracing::debug!(%error, "when the credential ends was not told"),
    }
}

/// Server and Data Center have a name, Cloud the other two.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Myself {
    name: Option<String>,
    display_name: Option<String>,
    account_id: Option<String>,
}

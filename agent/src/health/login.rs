//! The login layer: asks Jira who we are, with the credential that requests get, through the same
//! circuit: a refused password is not tried again here either.

use crate::{
    auth::{Login, Verdict},
    upstream::{ControlAnswer, ControlClient},
};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde::Deserialize;

/// Asks once, if the circuit lets us, and once more where the credential could be renewed in between.
/// What comes of it stands in the login layer.
pub(super) async fn probe(client: &ControlClient, login: &Login) {
    for again in [true, false] {
        let mut head = client.head("/rest/api/2/myself");
        let mut attempt = match login.prepare_probe(&mut head).await {
            Ok(Some(attempt)) => attempt,
            // A request of the vendor is just finding out, or the circuit is open; the layer says so.
            Ok(None) | Err(_) => return,
        };
        // Where Jira does not answer, the attempt ends undecided, and the Jira layer tells.
        let Ok(mut answer) = client.send(head, Bytes::new()).await else {
            return;
        };
        name_user(&mut answer);
        if again && attempt.renewed(&answer.head, &answer.body).await {
            continue;
        }
        let verdict = attempt.observe_with(&mut answer.head, &answer.body);
        if let Verdict::LoginFailed { cause, .. } = verdict {
            tracing::debug!(cause, "the login probe failed");
        }
        return;
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
pub(super) async fn ask_expiry(client: &ControlClient, login: &Login) {
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

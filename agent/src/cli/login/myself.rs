//! Proves a new login by asking Jira for its user.

use crate::printable::printable;
use crate::{
    auth,
    config::ForwardConfig,
    secret::Secret,
    upstream::{ControlClient, UpstreamTarget},
};
use anyhow::{Context, bail};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde::Deserialize;

/// The name of the user that this `Authorization` belongs to.
pub(super) async fn ask(forward: &ForwardConfig, authorization: &Secret) -> anyhow::Result<String> {
    let UpstreamTarget::Http(target) = &forward.upstream.target else {
        bail!("forward {:?} leads to no Jira", &*forward.name);
    };
    let client = ControlClient::like_data_path(&forward.upstream, target)?;
    let mut head = client.head("/rest/api/2/myself");
    let mut value = HeaderValue::from_bytes(authorization.expose())
        .context("the token does not fit into an HTTP header")?;
    value.set_sensitive(true);
    head.headers.insert(header::AUTHORIZATION, value);
    let answer = client
        .send(head, Bytes::new())
        .await
        .with_context(|| format!("cannot ask {target} whose token it is"))?;
    let user: Option<LoggedInUser> = serde_json::from_slice(&answer.body).ok();
    let name = user.and_then(|user| user.name.or(user.email_address).or(user.display_name));
    match (answer.head.status, name) {
        (StatusCode::OK, Some(name)) if !name.eq_ignore_ascii_case("anonymous") => {
            Ok(printable(&name, MAX_NAME))
        }
        (status, _) if auth::lacks_scope(status, &answer.body) => bail!(
            "the scopes of this login do not cover GET /rest/api/2/myself, with which the agent proves it; add read:jira-user (granular: read:application-role:jira read:avatar:jira read:group:jira read:user:jira) to the app in the developer console (Permissions) and to scope in [forward.auth]; nothing was stored"
        ),
        (status, _) => bail!(
            "Jira issued a token but rejects it ({status} for /rest/api/2/myself); compare upstream with Jira's base URL, and check whether the user may log in; nothing was stored"
        ),
    }
}

/// Server and Data Center have a name, Cloud the other two.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedInUser {
    name: Option<String>,
    email_address: Option<String>,
    display_name: Option<String>,
}

/// Characters of a user name shown; Jira allows 255.
const MAX_NAME: usize = 255;

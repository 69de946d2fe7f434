//! Jira about us: whom it takes us for, and what that user may do. Through the forward's own circuit, so
//! that a credential that Jira has refused is not tried again.

use super::step::{Found, Steps};
use crate::{
    auth::{self, Login},
    health::login::{Asked, ask},
    upstream::ControlClient,
};
use bytes::Bytes;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Whether Jira knows us.
pub(super) async fn check(
    steps: &mut Steps,
    client: &ControlClient,
    auth: &auth::Settings,
    login: &Login,
) -> bool {
    if !login.injects() {
        let why = "the vendor's own login passes through: the agent has none to try";
        steps.add("login", Found::skipped(why));
        return false;
    }
    if let Some(why) = login.refused() {
        let cause = format!("{}; it was not tried again", why.cause);
        steps.add("login", Found::fail(cause, why.remedy));
        return false;
    }
    let mode = auth.mode();
    let asked = steps.take("login", async {
        match ask(client, login).await {
            Asked::Known(Some(user)) => (Found::ok(format!("{mode}, user {user}")), Some(())),
            Asked::Known(None) => (Found::ok(format!("{mode}, accepted")), Some(())),
            Asked::Refused(why) => (Found::fail(why.cause, why.remedy), None),
            Asked::NotTried(why) => (
                Found::fail(why.cause, why.remedy).seen("nothing was sent"),
                None,
            ),
            Asked::Busy => (
                Found::skipped("a request is just finding out; agent status tells"),
                None,
            ),
            Asked::Undecided(why) => (
                Found::warn(why, "try again when the steps before this one are ok"),
                None,
            ),
        }
    });
    asked.await.is_some()
}

/// What the user may do, against what the preset `ticketing` lets the vendor ask for.
pub(super) async fn permissions(
    steps: &mut Steps,
    client: &ControlClient,
    login: &Login,
    known: bool,
    ticketing: bool,
) {
    if !known {
        steps.add("permissions", Found::skipped("Jira does not know us"));
        return;
    }
    let work = async {
        let held = match held(client, login).await {
            Ok(held) => held,
            Err(why) => return (Found::skipped(why), None),
        };
        let has = |key: &str| held.get(key).is_some_and(|p| p.have_permission);
        let lacking: Vec<_> = NEEDED
            .iter()
            .filter(|(key, _)| ticketing && !has(key))
            .map(|(_, for_what)| *for_what)
            .collect();
        let found = if !lacking.is_empty() {
            Found::warn(
                format!("the user may not {} in any project", lacking.join(", ")),
                "give the service account's group these permissions in the permission scheme of the projects that are meant",
            )
        } else if ADMIN.iter().any(|key| has(key)) {
            Found::warn(
                "the user administers Jira: whoever gets past the policy could do anything",
                "use a service account that only has what ticketing needs (docs/authentication.md)",
            )
        } else {
            Found::ok("what the policy lets through, and no administration")
        };
        (found, None)
    };
    steps.take::<()>("permissions", work).await;
}

async fn held(
    client: &ControlClient,
    login: &Login,
) -> Result<BTreeMap<String, Permission>, String> {
    let mut head = client.head("/rest/api/2/mypermissions");
    let attempt = match login.prepare_probe(&mut head).await {
        Ok(Some(attempt)) => attempt,
        _ => return Err("the login is being tried by a request".to_owned()),
    };
    let mut answer = client
        .send(head, Bytes::new())
        .await
        .map_err(|failure| failure.detail)?;
    if let auth::Verdict::LoginFailed { cause, .. } =
        attempt.observe_with(&mut answer.head, &answer.body)
    {
        return Err(cause);
    }
    let told: Permissions = serde_json::from_slice(&answer.body)
        .map_err(|_| "Jira's list of permissions cannot be read".to_owned())?;
    Ok(told.permissions)
}

#[derive(Deserialize)]
struct Permissions {
    permissions: BTreeMap<String, Permission>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Permission {
    have_permission: bool,
}

/// Of the preset `ticketing`: key, and what for.
const NEEDED: [(&str, &str); 8] = [
    ("BROWSE_PROJECTS", "see issues"),
    ("CREATE_ISSUES", "create issues"),
    ("EDIT_ISSUES", "edit issues"),
    ("ADD_COMMENTS", "comment"),
    ("TRANSITION_ISSUES", "move issues through their workflow"),
    ("ASSIGN_ISSUES", "assign issues"),
    ("CREATE_ATTACHMENTS", "attach files"),
    ("LINK_ISSUES", "link issues"),
];
const ADMIN: [&str; 2] = ["ADMINISTER", "SYSTEM_ADMIN"];

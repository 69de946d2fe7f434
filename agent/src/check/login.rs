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
            Asked::Undecided(why) => (Found::warn(why.cause, why.remedy), None),
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
        let named = |has_it: bool| {
            let found = NEEDED.iter().filter(|(key, ..)| has(key) == has_it);
            found.collect::<Vec<_>>()
        };
        let list = |found: Vec<&(&str, &str, &str)>| {
            let each: Vec<_> = found.iter().map(|(_, name, _)| *name).collect();
            each.join(", ")
        };
        let lacking = named(false);
        let found = if ticketing && !lacking.is_empty() {
            let each: Vec<_> = lacking
                .iter()
                .map(|(_, name, for_what)| format!("{name} (to {for_what})"))
                .collect();
            let found = Found::warn(
                format!("in no project has the user {}", each.join(", ")),
                "give the service account's group these permissions in the permission scheme of the projects that are meant",
            );
            found.seen(match list(named(true)) {
                held if held.is_empty() => "has none of what the preset ticketing needs".to_owned(),
                held => format!("has {held}"),
            })
        } else if ADMIN.iter().any(|key| has(key)) {
            Found::warn(
                "the user administers Jira: whoever gets past the policy could do anything",
                "use a service account that only has what ticketing needs (docs/authentication.md)",
            )
        } else if ticketing {
            Found::ok(format!("{}; no administration", list(named(true))))
        } else {
            Found::ok(
                "no administration; what else it may is not judged without the preset ticketing",
            )
        };
        (found, None)
    };
    steps.take::<()>("permissions", work).await;
}

async fn held(
    client: &ControlClient,
    login: &Login,
) -> Result<BTreeMap<String, Permission>, String> {
    let mut head = client.head(&format!(
        "/rest/api/2/mypermissions?permissions={}",
        asked()
    ));
    let attempt = match login.prepare_question(&mut head).await {
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

/// What Jira Cloud must be asked for by name; a Jira of one's own tells everything, whatever is asked.
fn asked() -> String {
    let keys = NEEDED.iter().map(|(key, ..)| *key).chain(ADMIN);
    keys.collect::<Vec<_>>().join(",")
}

/// Of the preset `ticketing`: key, name in Jira's screens, and what for.
const NEEDED: [(&str, &str, &str); 9] = [
    ("BROWSE_PROJECTS", "Browse Projects", "see issues"),
    ("CREATE_ISSUES", "Create Issues", "create issues"),
    ("EDIT_ISSUES", "Edit Issues", "edit issues"),
    ("ADD_COMMENTS", "Add Comments", "comment"),
    (
        "EDIT_OWN_COMMENTS",
        "Edit Own Comments",
        "change its own comments",
    ),
    (
        "TRANSITION_ISSUES",
        "Transition Issues",
        "move issues through their workflow",
    ),
    ("ASSIGN_ISSUES", "Assign Issues", "assign issues"),
    ("CREATE_ATTACHMENTS", "Create Attachments", "attach files"),
    ("LINK_ISSUES", "Link Issues", "link issues"),
];
const ADMIN: [&str; 2] = ["ADMINISTER", "SYSTEM_ADMIN"];

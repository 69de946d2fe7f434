//! Jira about us: whom it takes us for, and what that user may do. Through the forward's own circuit, so
//! that a credential that Jira has refused is not tried again.

use super::step::{StepRecorder, StepResult};
use crate::{
    auth::{self, UpstreamAuth},
    health::login::{LoginProbeResult, probe_login},
    upstream::ControlClient,
};
use bytes::Bytes;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Whether Jira knows us.
pub(super) async fn check(
    steps: &mut StepRecorder,
    client: &ControlClient,
    auth: &auth::Settings,
    login: &UpstreamAuth,
) -> bool {
    if !login.injects() {
        let why = "the vendor's own login passes through: the agent has none to try";
        steps.add("login", StepResult::skipped(why));
        return false;
    }
    if let Some(why) = login.refused() {
        let cause = format!("{}; it was not tried again", why.cause);
        steps.add("login", StepResult::fail(cause, why.remedy));
        return false;
    }
    let mode = auth.mode();
    let asked = steps.run("login", async {
        match probe_login(client, login).await {
            LoginProbeResult::Known(Some(user)) => {
                (StepResult::ok(format!("{mode}, user {user}")), Some(()))
            }
            LoginProbeResult::Known(None) => {
                (StepResult::ok(format!("{mode}, accepted")), Some(()))
            }
            LoginProbeResult::Refused(why) => (StepResult::fail(why.cause, why.remedy), None),
            LoginProbeResult::NotTried(why) => (
                StepResult::fail(why.cause, why.remedy).with_detail("nothing was sent"),
                None,
            ),
            LoginProbeResult::Busy => (
                StepResult::skipped("a request is just finding out; agent status tells"),
                None,
            ),
            LoginProbeResult::Undecided(why) => (StepResult::warn(why.cause, why.remedy), None),
        }
    });
    asked.await.is_some()
}

/// What the user may do, against what the preset `ticketing` lets the vendor ask for.
pub(super) async fn permissions(
    steps: &mut StepRecorder,
    client: &ControlClient,
    login: &UpstreamAuth,
    known: bool,
    ticketing: bool,
) {
    if !known {
        steps.add("permissions", StepResult::skipped("Jira does not know us"));
        return;
    }
    let work = async {
        let held = match fetch_permissions(client, login).await {
            Ok(held) => held,
            Err(why) => return (StepResult::skipped(why), None),
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
            let found = StepResult::warn(
                format!("in no project has the user {}", each.join(", ")),
                "give the service account's group these permissions in the permission scheme of the projects that are meant",
            );
            found.with_detail(match list(named(true)) {
                held if held.is_empty() => "has none of what the preset ticketing needs".to_owned(),
                held => format!("has {held}"),
            })
        } else if ADMIN.iter().any(|key| has(key)) {
            StepResult::warn(
                "the user administers Jira: whoever gets past the policy could do anything",
                "use a service account that only has what ticketing needs (docs/authentication.md)",
            )
        } else if ticketing {
            StepResult::ok(format!("{}; no administration", list(named(true))))
        } else {
            StepResult::ok(
                "no administration; what else it may is not judged without the preset ticketing",
            )
        };
        (found, None)
    };
    steps.run::<()>("permissions", work).await;
}

async fn fetch_permissions(
    client: &ControlClient,
    login: &UpstreamAuth,
) -> Result<BTreeMap<String, PermissionEntry>, String> {
    let mut head = client.head(&format!(
        "/rest/api/2/mypermissions?permissions={}",
        permission_keys()
    ));
    let attempt = match login.prepare_auxiliary(&mut head).await {
        Ok(Some(attempt)) => attempt,
        _ => return Err("the login is being tried by a request".to_owned()),
    };
    let mut answer = client
        .send(head, Bytes::new())
        .await
        .map_err(|failure| failure.detail)?;
    if let auth::AuthVerdict::LoginFailed { cause, .. } =
        attempt.on_response_with_body(&mut answer.head, &answer.body)
    {
        return Err(cause);
    }
    let told: MyPermissions = serde_json::from_slice(&answer.body)
        .map_err(|_| "Jira's list of permissions cannot be read".to_owned())?;
    Ok(told.permissions)
}

#[derive(Deserialize)]
struct MyPermissions {
    permissions: BTreeMap<String, PermissionEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PermissionEntry {
    have_permission: bool,
}

/// What Jira Cloud must be asked for by name; a Jira of one's own tells everything, whatever is asked.
fn permission_keys() -> String {
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

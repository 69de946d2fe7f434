//! What Jira says about the agent's login: which user it is, and what that user may do. Goes through the forward's own
//! circuit, so that a credential that Jira rejected is not tried again.

use super::step::{StepRecorder, StepResult};
use crate::{
    auth::{self, UpstreamAuth},
    health::login::{LoginProbeResult, probe_login},
    upstream::ControlClient,
};
use bytes::Bytes;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Takes the step. Returns whether Jira accepts the credential.
pub(super) async fn check(
    steps: &mut StepRecorder,
    client: &ControlClient,
    auth: &auth::Settings,
    login: &UpstreamAuth,
) -> bool {
    if !login.injects() {
        let why = "the vendor's own credential passes through; the agent has none to test";
        steps.add("login", StepResult::skipped(why));
        return false;
    }
    if let Some(why) = login.refused() {
        let cause = format!("{}; not tried again", why.cause);
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
                StepResult::skipped("a request is testing it right now; see agent status"),
                None,
            ),
            LoginProbeResult::Undecided(why) => (StepResult::warn(why.cause, why.remedy), None),
        }
    });
    asked.await.is_some()
}

/// Compares what the user may do with what the preset `ticketing` lets the vendor do.
pub(super) async fn permissions(
    steps: &mut StepRecorder,
    client: &ControlClient,
    login: &UpstreamAuth,
    known: bool,
    ticketing: bool,
) {
    if !known {
        steps.add(
            "permissions",
            StepResult::skipped("Jira has not accepted the credential"),
        );
        return;
    }
    let work = async {
        let permissions_held = match fetch_permissions(client, login).await {
            Ok(permissions_held) => permissions_held,
            Err(why) => return (StepResult::skipped(why), None),
        };
        let has = |key: &str| permissions_held.get(key).is_some_and(|p| p.have_permission);
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
                format!(
                    "the user lacks these permissions in every project: {}",
                    each.join(", ")
                ),
                "grant them to the service account's group in the permission scheme of the intended projects",
            );
            found.with_detail(match list(named(true)) {
                permissions_held if permissions_held.is_empty() => {
                    "has none of the permissions that the preset ticketing needs".to_owned()
                }
                permissions_held => format!("has {permissions_held}"),
            })
        } else if ADMIN.iter().any(|key| has(key)) {
            StepResult::warn(
                "the user is a Jira administrator: any request that passes the policy could do anything",
                "use a service account that only has what ticketing needs (docs/authentication.md)",
            )
        } else if ticketing {
            StepResult::ok(format!("{}; not an administrator", list(named(true))))
        } else {
            StepResult::ok(
                "not an administrator; other permissions are checked only with the preset ticketing",
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
    let Ok(Some(attempt)) = login.prepare_auxiliary(&mut head).await else {
        return Err("a request is testing the credential right now".to_owned());
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
    let answer: MyPermissions = serde_json::from_slice(&answer.body)
        .map_err(|_| "Jira's list of permissions cannot be read".to_owned())?;
    Ok(answer.permissions)
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

/// Jira Cloud must be asked for each by name; Jira Data Center returns all of them anyway.
fn permission_keys() -> String {
    let keys = NEEDED.iter().map(|(key, ..)| *key).chain(ADMIN);
    keys.collect::<Vec<_>>().join(",")
}

/// What the preset `ticketing` needs: key, name in Jira's screens, and purpose.
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

//! The default users, tokens and projects.

use super::model::JiraPermission;
use super::settings::{
    PermissionGrant, PermissionHolder, ProjectSettings, TokenSettings, UserSettings,
};

/// `admin`, `acme-bot` (works in DEMO and OPS), `reader` (reads DEMO).
pub(super) fn users() -> Vec<UserSettings> {
    let user = |name: &str, password: &str, display_name: &str, groups: &[&str]| UserSettings {
        name: name.into(),
        password: password.into(),
        email: String::new(),
        display_name: display_name.into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
    };
    vec![
        user(
            "admin",
            "admin-password",
            "Ada Administrator",
            &["jira-administrators", USERS],
        ),
        user("acme-bot", "acme-password", "Acme Bot", &[USERS]),
        user("reader", "reader-password", "Rita Reader", &[READERS]),
    ]
}

/// One token each for `acme-bot`, `reader` and `admin`, and one that has expired.
pub(super) fn tokens() -> Vec<TokenSettings> {
    let token = |user: &str, token: &str, expires_in| TokenSettings {
        user: user.into(),
        token: token.into(),
        name: format!("{user} integration"),
        expires_in,
    };
    vec![
        token("acme-bot", "acme-bot-token", None),
        token("acme-bot", "acme-bot-expired-token", Some(-86_400)),
        token("reader", "reader-token", Some(90 * 86_400)),
        token("admin", "admin-token", None),
    ]
}

/// DEMO and OPS for all users, HR for administrators only.
pub(super) fn projects() -> Vec<ProjectSettings> {
    let work = || PermissionGrant {
        to: PermissionHolder::Group(USERS.into()),
        permissions: JiraPermission::WORK.to_vec(),
    };
    let read = || PermissionGrant {
        to: PermissionHolder::Group(READERS.into()),
        permissions: vec![JiraPermission::BrowseProjects],
    };
    let project =
        |key: &str, name: &str, components: &[&str], versions: &[&str], grants| ProjectSettings {
            key: key.into(),
            name: name.into(),
            lead: "admin".into(),
            components: components.iter().map(|c| (*c).into()).collect(),
            versions: versions.iter().map(|v| (*v).into()).collect(),
            grants,
        };
    vec![
        project(
            "DEMO",
            "Demo",
            &["API", "Web"],
            &["1.0", "2.0"],
            vec![work(), read()],
        ),
        project("OPS", "Operations", &["Network"], &["2025"], vec![work()]),
        project("HR", "People", &[], &[], Vec::new()),
    ]
}

const USERS: &str = "jira-software-users";
const READERS: &str = "jira-readers";

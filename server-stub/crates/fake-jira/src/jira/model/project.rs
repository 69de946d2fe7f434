//! Projects and their permission schemes.

use super::JiraPermission;
use super::users::DirectoryUser;
use crate::jira::settings::{self, PermissionHolder};

/// A project with its components, versions and permission scheme.
pub(in crate::jira) struct Project {
    pub id: u64,
    pub key: String,
    pub name: String,
    pub lead: String,
    pub components: Vec<ProjectPart>,
    pub versions: Vec<ProjectPart>,
    grants: Vec<settings::PermissionGrant>,
    /// The number in the key of the next issue.
    pub next_number: u64,
}

/// A component or a version: an id and a name.
pub(in crate::jira) struct ProjectPart {
    pub id: u64,
    pub name: String,
}

impl Project {
    pub(crate) fn new(id: u64, settings: &settings::ProjectSettings) -> Self {
        let parts = |names: &[String], kind: u64| {
            names
                .iter()
                .zip(0..)
                .map(|(name, n)| ProjectPart {
                    id: id * 10 + kind + n,
                    name: name.clone(),
                })
                .collect()
        };
        Self {
            id,
            key: settings.key.clone(),
            name: settings.name.clone(),
            lead: settings.lead.clone(),
            components: parts(&settings.components, 0),
            versions: parts(&settings.versions, VERSIONS_FROM),
            grants: settings.grants.clone(),
            next_number: 1,
        }
    }

    /// Whether the permission scheme grants this to `who` (`None` for anonymous).
    pub(crate) fn grants(&self, who: Option<&DirectoryUser>, permission: JiraPermission) -> bool {
        self.grants.iter().any(|grant| {
            grant.permissions.contains(&permission)
                && match (&grant.to, who) {
                    (PermissionHolder::Anyone, _) => true,
                    (_, None) => false,
                    (PermissionHolder::LoggedIn, Some(_)) => true,
                    (PermissionHolder::Group(group), Some(user)) => user.groups.contains(group),
                    (PermissionHolder::User(name), Some(user)) => user.name == *name,
                }
        })
    }
}

/// Offset of the ids of a project's versions, after those of its components.
const VERSIONS_FROM: u64 = 10_000;

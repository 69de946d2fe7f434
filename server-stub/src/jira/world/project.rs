//! Projects and who may do what in them.

use super::Permission;
use super::people::Person;
use crate::jira::settings::{self, Holder};

/// A project.
pub(in crate::jira) struct Project {
    pub id: u64,
    pub key: String,
    pub name: String,
    pub lead: String,
    pub components: Vec<Part>,
    pub versions: Vec<Part>,
    grants: Vec<settings::Grant>,
    /// The number in the key of the next issue.
    pub next_number: u64,
}

/// A component or a version: an id and a name.
pub(in crate::jira) struct Part {
    pub id: u64,
    pub name: String,
}

impl Project {
    pub fn new(id: u64, settings: &settings::Project) -> Self {
        let parts = |names: &[String], kind: u64| {
            names
                .iter()
                .zip(0..)
                .map(|(name, n)| Part {
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

    /// Whether the permission scheme lets `who` (nobody: anonymous) do this.
    pub fn grants(&self, who: Option<&Person>, permission: Permission) -> bool {
        self.grants.iter().any(|grant| {
            grant.permissions.contains(&permission)
                && match (&grant.to, who) {
                    (Holder::Anyone, _) => true,
                    (_, None) => false,
                    (Holder::LoggedIn, Some(_)) => true,
                    (Holder::Group(group), Some(person)) => person.groups.contains(group),
                    (Holder::User(name), Some(person)) => person.name == *name,
                }
        })
    }
}

/// Ids of a project's versions start here, after its components'.
const VERSIONS_FROM: u64 = 10_000;

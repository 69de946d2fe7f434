//! The data of this Jira, in memory and bounded: users, projects, issues. It knows permissions, but
//! neither HTTP nor JSON.

pub(in crate::jira) mod catalogue;
pub(in crate::jira) mod fields;
mod issue;
mod permission;
mod project;
mod users;

use std::collections::{BTreeMap, HashMap};

use time::OffsetDateTime;

pub(in crate::jira) use issue::{Attachment, Comment, Issue, IssueLink, RemoteLink};
pub use permission::JiraPermission;
pub(in crate::jira) use project::{Project, ProjectPart};
pub(in crate::jira) use users::{DirectoryUser, PersonalAccessToken, UserDirectory};

use super::settings::Settings;

/// The users, projects, issues, links and attachments of this Jira.
pub(super) struct JiraModel {
    /// Whether users appear as in Cloud: by account id, without name and key.
    pub cloud: bool,
    pub users: UserDirectory,
    pub projects: Vec<Project>,
    issues: BTreeMap<u64, Issue>,
    keys: HashMap<String, u64>,
    subtasks: HashMap<u64, Vec<u64>>,
    links: BTreeMap<u64, IssueLink>,
    attachments: BTreeMap<u64, Attachment>,
    next_id: u64,
}

/// A collection has reached its limit.
#[derive(Debug, thiserror::Error)]
#[error("this imitation of Jira holds at most {limit} {what}; restart it to empty it")]
pub(super) struct CollectionFull {
    what: &'static str,
    limit: usize,
}

/// Why an issue is not available.
pub(super) enum IssueUnavailable {
    /// The issue does not exist.
    Missing,
    /// The viewer may not see the issue.
    Forbidden,
}

impl JiraModel {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            cloud: false,
            users: UserDirectory::new(&settings.users, &settings.tokens),
            projects: settings
                .projects
                .iter()
                .zip(FIRST_PROJECT..)
                .map(|(project, id)| Project::new(id, project))
                .collect(),
            issues: BTreeMap::new(),
            keys: HashMap::new(),
            subtasks: HashMap::new(),
            links: BTreeMap::new(),
            attachments: BTreeMap::new(),
            next_id: FIRST_ID,
        }
    }

    /// Whether `viewer` (`None` for anonymous) has this permission in this project.
    pub(super) fn may(
        &self,
        viewer: Option<&str>,
        project: usize,
        permission: JiraPermission,
    ) -> bool {
        let user = viewer.and_then(|name| self.users.find(name));
        let Some(project) = self.projects.get(project) else {
            return false;
        };
        user.is_some_and(DirectoryUser::is_administrator)
            || (!permission.is_global() && project.grants(user, permission))
    }

    /// Whether `viewer` has this permission in any project.
    pub(super) fn may_anywhere(&self, viewer: Option<&str>, permission: JiraPermission) -> bool {
        (0..self.projects.len()).any(|project| self.may(viewer, project, permission))
    }

    /// A project by key or id that `viewer` may browse.
    pub(super) fn project(&self, viewer: Option<&str>, key_or_id: &str) -> Option<usize> {
        self.projects
            .iter()
            .position(|project| {
                project.key == key_or_id || key_or_id.parse().is_ok_and(|id: u64| id == project.id)
            })
            .filter(|&index| self.may(viewer, index, JiraPermission::BrowseProjects))
    }

    /// The projects that `viewer` may browse.
    pub(super) fn visible_projects(&self, viewer: Option<&str>) -> Vec<usize> {
        (0..self.projects.len())
            .filter(|&index| self.may(viewer, index, JiraPermission::BrowseProjects))
            .collect()
    }

    /// The id of an issue by key or id, if `viewer` may browse it.
    pub(super) fn visible_issue(
        &self,
        viewer: Option<&str>,
        key_or_id: &str,
    ) -> Result<u64, IssueUnavailable> {
        let id = match key_or_id.parse() {
            Ok(id) => id,
            Err(_) => *self
                .keys
                .get(&key_or_id.to_ascii_uppercase())
                .ok_or(IssueUnavailable::Missing)?,
        };
        let issue = self.issues.get(&id).ok_or(IssueUnavailable::Missing)?;
        if self.may(viewer, issue.project, JiraPermission::BrowseProjects) {
            Ok(id)
        } else {
            Err(IssueUnavailable::Forbidden)
        }
    }

    pub(super) fn issue(&self, id: u64) -> Option<&Issue> {
        self.issues.get(&id)
    }

    pub(super) fn issue_mut(&mut self, id: u64) -> Option<&mut Issue> {
        self.issues.get_mut(&id)
    }

    pub(super) fn issues(&self) -> impl Iterator<Item = &Issue> {
        self.issues.values()
    }

    /// A new id, unique in this Jira.
    pub(super) fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Stores a new issue and sets its id, key and times.
    pub(super) fn add_issue(&mut self, mut issue: Issue) -> Result<u64, CollectionFull> {
        bounded(self.issues.len(), MAX_ISSUES, "issues")?;
        let id = self.fresh_id();
        let project = &mut self.projects[issue.project];
        issue.id = id;
        issue.key = format!("{}-{}", project.key, project.next_number);
        project.next_number += 1;
        issue.created = OffsetDateTime::now_utc();
        issue.updated = issue.created;
        self.keys.insert(issue.key.clone(), id);
        if let Some(parent) = issue.parent {
            self.subtasks.entry(parent).or_default().push(id);
        }
        self.issues.insert(id, issue);
        Ok(id)
    }

    /// Removes an issue. Returns the ids of its attachments, whose files the caller must remove.
    pub(super) fn remove_issue(&mut self, id: u64) -> Vec<u64> {
        let Some(issue) = self.issues.remove(&id) else {
            return Vec::new();
        };
        self.keys.remove(&issue.key);
        self.subtasks.remove(&id);
        if let Some(siblings) = issue
            .parent
            .and_then(|parent| self.subtasks.get_mut(&parent))
        {
            siblings.retain(|&sibling| sibling != id);
        }
        self.links
            .retain(|_, link| link.from != id && link.to != id);
        for attachment in &issue.attachments {
            self.attachments.remove(attachment);
        }
        issue.attachments
    }

    /// Adds a comment and updates the issue's time.
    pub(super) fn add_comment(
        &mut self,
        issue: u64,
        mut comment: Comment,
    ) -> Result<u64, CollectionFull> {
        let id = self.fresh_id();
        if let Some(issue) = self.issues.get_mut(&issue) {
            bounded(
                issue.comments.len(),
                MAX_ON_ONE_ISSUE,
                "comments on one issue",
            )?;
            comment.id = id;
            issue.updated = comment.created;
            issue.comments.push(comment);
        }
        Ok(id)
    }

    /// Adds a remote link, or replaces the one with the same global id. `true` if it is new.
    pub(super) fn put_remote_link(
        &mut self,
        issue: u64,
        mut link: RemoteLink,
    ) -> Result<(u64, bool), CollectionFull> {
        let id = self.fresh_id();
        let Some(issue) = self.issues.get_mut(&issue) else {
            return Ok((id, true));
        };
        let same = issue
            .remote_links
            .iter_mut()
            .find(|known| known.global_id.is_some() && known.global_id == link.global_id);
        if let Some(known) = same {
            link.id = known.id;
            *known = link;
            return Ok((known.id, false));
        }
        bounded(
            issue.remote_links.len(),
            MAX_ON_ONE_ISSUE,
            "remote links on one issue",
        )?;
        link.id = id;
        issue.remote_links.push(link);
        Ok((id, true))
    }

    /// The ids of the sub-tasks of an issue.
    pub(super) fn subtasks_of(&self, parent: u64) -> impl Iterator<Item = u64> {
        self.subtasks.get(&parent).into_iter().flatten().copied()
    }

    pub(super) fn add_link(&mut self, mut link: IssueLink) -> Result<u64, CollectionFull> {
        bounded(self.links.len(), MAX_LINKS, "issue links")?;
        link.id = self.fresh_id();
        let id = link.id;
        self.links.insert(id, link);
        Ok(id)
    }

    pub(super) fn links_of(&self, issue: u64) -> impl Iterator<Item = &IssueLink> {
        self.links
            .values()
            .filter(move |link| link.from == issue || link.to == issue)
    }

    /// Stores an attachment whose file is already written under `attachment.id`.
    pub(super) fn add_attachment(&mut self, attachment: Attachment) -> Result<(), CollectionFull> {
        bounded(self.attachments.len(), MAX_ATTACHMENTS, "attachments")?;
        if let Some(issue) = self.issues.get_mut(&attachment.issue) {
            issue.attachments.push(attachment.id);
            issue.updated = attachment.created;
            self.attachments.insert(attachment.id, attachment);
        }
        Ok(())
    }

    pub(super) fn attachment(&self, id: u64) -> Option<&Attachment> {
        self.attachments.get(&id)
    }

    pub(super) fn remove_attachment(&mut self, id: u64) {
        if let Some(attachment) = self.attachments.remove(&id)
            && let Some(issue) = self.issues.get_mut(&attachment.issue)
        {
            issue.attachments.retain(|&other| other != id);
        }
    }
}

fn bounded(held: usize, limit: usize, what: &'static str) -> Result<(), CollectionFull> {
    if held < limit {
        Ok(())
    } else {
        Err(CollectionFull { what, limit })
    }
}

/// Enough for a load test of an hour; a few hundred MiB at most.
const MAX_ISSUES: usize = 100_000;
/// Comments, and remote links, of one issue.
const MAX_ON_ONE_ISSUE: usize = 5_000;
const MAX_LINKS: usize = 100_000;
/// Files on disk.
const MAX_ATTACHMENTS: usize = 10_000;
/// Ids of a fresh Jira start here.
const FIRST_ID: u64 = 10_000;
const FIRST_PROJECT: u64 = 10_000;

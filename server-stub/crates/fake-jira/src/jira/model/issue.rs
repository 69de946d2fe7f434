//! Issues, comments, links and attachments as stored. `rest::issue_bean` has their JSON.

use std::collections::BTreeMap;

use serde_json::Value;
use time::OffsetDateTime;

use super::catalogue::{IssueLinkType, IssueStatus, IssueType, Priority, Resolution};

/// An issue and its comments, remote links and attachments.
#[derive(Clone)]
pub(in crate::jira) struct Issue {
    pub id: u64,
    pub key: String,
    /// Index in the model's projects.
    pub project: usize,
    pub kind: &'static IssueType,
    pub summary: String,
    pub status: &'static IssueStatus,
    pub priority: &'static Priority,
    pub resolution: Option<&'static Resolution>,
    pub assignee: Option<String>,
    pub reporter: Option<String>,
    pub creator: Option<String>,
    pub parent: Option<u64>,
    pub labels: Vec<String>,
    /// Ids of the project's components.
    pub components: Vec<u64>,
    /// Ids of the project's versions.
    pub versions: Vec<u64>,
    /// Ids of the project's versions.
    pub fix_versions: Vec<u64>,
    /// Fields stored as received: description, environment, due date, custom fields.
    pub plain: BTreeMap<&'static str, Value>,
    pub created: OffsetDateTime,
    pub updated: OffsetDateTime,
    pub resolved: Option<OffsetDateTime>,
    pub comments: Vec<Comment>,
    pub remote_links: Vec<RemoteLink>,
    pub attachments: Vec<u64>,
}

impl Issue {
    /// The text of a plain field; empty if unset or not a string.
    pub(crate) fn text(&self, field: &str) -> &str {
        self.plain
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Moves to `status`. Sets the resolution for a done status and clears it otherwise.
    pub(crate) fn set_status(
        &mut self,
        status: &'static IssueStatus,
        resolution: Option<&'static Resolution>,
    ) {
        self.status = status;
        if status.category.key == "done" {
            self.resolution = resolution;
            self.resolved = Some(OffsetDateTime::now_utc());
        } else {
            self.resolution = None;
            self.resolved = None;
        }
    }
}

/// A comment on an issue.
#[derive(Clone)]
pub(in crate::jira) struct Comment {
    pub id: u64,
    pub author: Option<String>,
    pub update_author: Option<String>,
    pub body: String,
    pub created: OffsetDateTime,
    pub updated: OffsetDateTime,
}

/// A link from an issue to a URL outside Jira.
#[derive(Clone)]
pub(in crate::jira) struct RemoteLink {
    pub id: u64,
    pub global_id: Option<String>,
    /// `application`, `relationship` and `object` as received.
    pub content: serde_json::Map<String, Value>,
}

/// A link between two issues.
#[derive(Clone)]
pub(in crate::jira) struct IssueLink {
    pub id: u64,
    pub kind: &'static IssueLinkType,
    /// The source issue, which the outward words describe ("blocks").
    pub from: u64,
    /// The target issue, which the inward words describe ("is blocked by").
    pub to: u64,
}

/// A file attached to an issue. Its bytes are on disk under its id.
#[derive(Clone)]
pub(in crate::jira) struct Attachment {
    pub id: u64,
    pub issue: u64,
    pub name: String,
    pub mime: String,
    pub size: u64,
    pub author: Option<String>,
    pub created: OffsetDateTime,
}

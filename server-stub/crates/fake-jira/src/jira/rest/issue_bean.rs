//! The JSON of issues, comments, links and attachments, for one viewer.

use serde_json::{Map, Value, json};

use super::view::RestView;
use crate::jira::model::catalogue::{CatalogueItem, Priority, WorkflowTransition};
use crate::jira::model::fields::{FIELDS, FieldDefinition};
use crate::jira::model::{
    Attachment, Comment, Issue, IssueLink, JiraPermission, Project, ProjectPart, RemoteLink,
};
use crate::jira::oauth1::escape;
use crate::jira::response::timestamp;

/// The requested fields of an issue.
pub(super) struct FieldSelection {
    with: Vec<String>,
    without: Vec<String>,
}

impl FieldSelection {
    /// From the elements of a `fields` parameter; `default` if it includes none.
    pub(super) fn new(elements: &[String], default: &str) -> Self {
        let without: Vec<String> = elements
            .iter()
            .filter_map(|element| element.strip_prefix('-').map(str::to_owned))
            .collect();
        let mut with: Vec<String> = elements
            .iter()
            .filter(|element| !element.starts_with('-'))
            .cloned()
            .collect();
        if with.is_empty() {
            with.push(default.to_owned());
        }
        Self { with, without }
    }

    fn includes(&self, field: &str) -> bool {
        let listed = |list: &[String]| {
            list.iter().any(|one| {
                one == field || one == ALL || (one == NAVIGABLE && !NOT_NAVIGABLE.contains(&field))
            })
        };
        listed(&self.with) && !listed(&self.without)
    }
}

impl RestView<'_> {
    pub(super) fn comment_bean(&self, issue: &Issue, comment: &Comment) -> Value {
        json!({
            "self": self.url(&format!("issue/{}/comment/{}", issue.id, comment.id)),
            "id": comment.id.to_string(),
            "author": self.user_bean(comment.author.as_deref()),
            "body": comment.body,
            "updateAuthor": self.user_bean(comment.update_author.as_deref()),
            "created": timestamp(comment.created),
            "updated": timestamp(comment.updated),
        })
    }

    pub(super) fn attachment_bean(&self, attachment: &Attachment) -> Value {
        json!({
            "self": self.url(&format!("attachment/{}", attachment.id)),
            "id": attachment.id.to_string(),
            "filename": attachment.name,
            "author": self.user_bean(attachment.author.as_deref()),
            "created": timestamp(attachment.created),
            "size": attachment.size,
            "mimeType": attachment.mime,
            "content": format!("{}/secure/attachment/{}/{}", self.base, attachment.id, escaped(&attachment.name)),
        })
    }

    pub(super) fn remote_link_bean(&self, issue: &Issue, link: &RemoteLink) -> Value {
        let mut bean = json!({
            "id": link.id,
            "self": self.url(&format!("issue/{}/remotelink/{}", issue.key, link.id)),
        });
        if let Some(global_id) = &link.global_id {
            bean["globalId"] = global_id.as_str().into();
        }
        for (key, value) in &link.content {
            bean[key] = value.clone();
        }
        bean
    }

    /// A link as seen from the issue `here`.
    pub(super) fn link_bean(&self, here: u64, link: &IssueLink) -> Value {
        let (side, other) = if link.from == here {
            ("outwardIssue", link.to)
        } else {
            ("inwardIssue", link.from)
        };
        json!({
            "id": link.id.to_string(),
            "self": self.url(&format!("issueLink/{}", link.id)),
            "type": self.link_type_bean(link.kind),
            side: self.issue_summary_bean(other),
        })
    }

    /// The short form of an issue in links; `null` if the viewer may not see it.
    pub(super) fn issue_summary_bean(&self, id: u64) -> Value {
        let Some(issue) = self.model.issue(id) else {
            return Value::Null;
        };
        if !self
            .model
            .may(self.viewer, issue.project, JiraPermission::BrowseProjects)
        {
            return Value::Null;
        }
        let short = ["summary", "status", "priority", "issuetype"].map(str::to_owned);
        let mut bean = self.issue_bean(issue, &FieldSelection::new(&short, ALL));
        if let Some(bean) = bean.as_object_mut() {
            bean.remove("expand");
        }
        bean
    }

    pub(super) fn issue_bean(&self, issue: &Issue, wanted: &FieldSelection) -> Value {
        let fields: Map<String, Value> = FIELDS
            .iter()
            .filter(|field| wanted.includes(field.id))
            .filter_map(|field| Some((field.id.to_owned(), self.field_of(issue, field)?)))
            .collect();
        json!({
            "expand": "renderedFields,names,schema,operations,editmeta,changelog,versionedRepresentations",
            "id": issue.id.to_string(),
            "self": self.url(&format!("issue/{}", issue.id)),
            "key": issue.key,
            "fields": fields,
        })
    }

    pub(super) fn transition_bean(&self, transition: &WorkflowTransition) -> Value {
        json!({
            "id": transition.id,
            "name": transition.name,
            "to": self.status_bean(transition.target()),
        })
    }

    /// `{"required":…,"schema":…,…}` of createmeta and editmeta.
    pub(super) fn field_meta(
        &self,
        project: &Project,
        field: &FieldDefinition,
    ) -> Map<String, Value> {
        let mut meta = Map::new();
        meta.insert("required".into(), field.required.into());
        meta.insert("schema".into(), schema(field));
        meta.insert("name".into(), field.name.into());
        meta.insert("fieldId".into(), field.id.into());
        meta.insert("hasDefaultValue".into(), (field.id == "priority").into());
        meta.insert("operations".into(), field.operations().into());
        let allowed: Option<Value> = match field.id {
            "project" => Some(vec![self.project_bean(project)].into()),
            "priority" => Some(
                Priority::ALL
                    .iter()
                    .map(|p| self.priority_bean(p))
                    .collect(),
            ),
            "components" => Some(
                project
                    .components
                    .iter()
                    .map(|c| self.component_bean(project, c))
                    .collect(),
            ),
            "versions" | "fixVersions" => Some(
                project
                    .versions
                    .iter()
                    .map(|v| self.version_bean(project, v))
                    .collect(),
            ),
            _ => None,
        };
        if let Some(allowed) = allowed {
            meta.insert("allowedValues".into(), allowed);
        }
        if field.id == "assignee" {
            meta.insert(
                "autoCompleteUrl".into(),
                self.url(&format!(
                    "user/assignable/search?project={}&username=",
                    project.key
                ))
                .into(),
            );
        }
        meta
    }

    /// The value of a field; `None` if the issue cannot have it.
    fn field_of(&self, issue: &Issue, field: &FieldDefinition) -> Option<Value> {
        let project = self.model.projects.get(issue.project)?;
        let parts = |ids: &[u64], parts: &[ProjectPart], draw: &dyn Fn(&ProjectPart) -> Value| {
            parts
                .iter()
                .filter(|part| ids.contains(&part.id))
                .map(draw)
                .collect::<Value>()
        };
        let component = |part: &ProjectPart| self.component_bean(project, part);
        let version = |part: &ProjectPart| self.version_bean(project, part);
        Some(match field.id {
            "project" => self.project_bean(project),
            "issuetype" => self.issue_type_bean(issue.kind),
            "summary" => issue.summary.as_str().into(),
            "priority" => self.priority_bean(issue.priority),
            "status" => self.status_bean(issue.status),
            "resolution" => issue
                .resolution
                .map_or(Value::Null, |r| self.resolution_bean(r)),
            "assignee" => self.user_bean(issue.assignee.as_deref()),
            "reporter" => self.user_bean(issue.reporter.as_deref()),
            "creator" => self.user_bean(issue.creator.as_deref()),
            "labels" => issue.labels.clone().into(),
            "components" => parts(&issue.components, &project.components, &component),
            "versions" => parts(&issue.versions, &project.versions, &version),
            "fixVersions" => parts(&issue.fix_versions, &project.versions, &version),
            "created" => timestamp(issue.created).into(),
            "updated" => timestamp(issue.updated).into(),
            "resolutiondate" => issue
                .resolved
                .map_or(Value::Null, |at| timestamp(at).into()),
            "comment" => {
                let comments: Value = issue
                    .comments
                    .iter()
                    .map(|comment| self.comment_bean(issue, comment))
                    .collect();
                let total = issue.comments.len();
                json!({ "comments": comments, "maxResults": total, "total": total, "startAt": 0 })
            }
            "attachment" => issue
                .attachments
                .iter()
                .filter_map(|&id| self.model.attachment(id))
                .map(|attachment| self.attachment_bean(attachment))
                .collect(),
            "issuelinks" => self
                .model
                .links_of(issue.id)
                .map(|link| self.link_bean(issue.id, link))
                .collect(),
            "subtasks" => self
                .model
                .subtasks_of(issue.id)
                .map(|subtask| self.issue_summary_bean(subtask))
                .collect(),
            "parent" => return issue.parent.map(|parent| self.issue_summary_bean(parent)),
            other => issue.plain.get(other).cloned().unwrap_or(Value::Null),
        })
    }
}

/// `schema` of a field, as in `field` and `createmeta`.
pub(super) fn schema(field: &FieldDefinition) -> Value {
    let (kind, items) = field.schema();
    let mut schema = json!({ "type": kind });
    if let Some(items) = items {
        schema["items"] = items.into();
    }
    match field.custom_id() {
        Some(id) => {
            let custom = if kind == "number" {
                "float"
            } else {
                "textfield"
            };
            schema["custom"] =
                format!("com.atlassian.jira.plugin.system.customfieldtypes:{custom}").into();
            schema["customId"] = id.into();
        }
        None => schema["system"] = field.id.into(),
    }
    schema
}

/// A file name as a path segment, with `+` for spaces.
fn escaped(name: &str) -> String {
    escape(name).replace("%20", "+")
}

/// Selects every field of an issue.
pub(super) const ALL: &str = "*all";
/// Selects the fields of search results.
pub(super) const NAVIGABLE: &str = "*navigable";
const NOT_NAVIGABLE: &[&str] = &["comment", "attachment"];

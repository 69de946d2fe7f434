//! The JSON of users, projects and the catalogue ("beans"). Every link has Jira's base URL. Issues are in `issue_bean`.

use serde_json::{Value, json};

use super::view::RestView;
use crate::jira::model::catalogue::{
    ISSUE_TYPES, IssueLinkType, IssueStatus, IssueType, Priority, Resolution,
};
use crate::jira::model::{Project, ProjectPart};

impl RestView<'_> {
    pub(super) fn url(&self, rest: &str) -> String {
        format!("{}/rest/api/2/{rest}", self.base)
    }

    /// A user; `null` without one.
    pub(super) fn user_bean(&self, name: Option<&str>) -> Value {
        let Some(name) = name else {
            return Value::Null;
        };
        let user = self.model.users.find(name);
        if self.model.cloud {
            return json!({
                "self": self.url(&format!("user?accountId={name}")),
                "accountId": name,
                "accountType": "atlassian",
                "avatarUrls": self.avatars("useravatar?avatarId=10122"),
                "displayName": user.map_or(name, |user| &user.display_name),
                "active": user.is_some(),
                "timeZone": "Etc/UTC",
            });
        }
        json!({
            "self": self.url(&format!("user?username={name}")),
            "name": name,
            "key": self.user_key(name),
            "emailAddress": user.map(|user| &user.email),
            "avatarUrls": self.avatars("useravatar?avatarId=10122"),
            "displayName": user.map_or(name, |user| &user.display_name),
            "active": user.is_some(),
            "timeZone": "Etc/UTC",
        })
    }

    /// The user's key; since 8.4 keys are numbered.
    pub(super) fn user_key(&self, name: &str) -> String {
        let number = self.model.users.all().position(|user| user.name == name);
        format!("JIRAUSER{}", 10_000 + number.unwrap_or(0))
    }

    pub(super) fn issue_type_bean(&self, kind: &IssueType) -> Value {
        json!({
            "self": self.url(&format!("issuetype/{}", kind.id)),
            "id": kind.id,
            "description": kind.description,
            "iconUrl": format!("{}/secure/viewavatar?size=xsmall&avatarId=10318&avatarType=issuetype", self.base),
            "name": kind.name,
            "subtask": kind.subtask,
            "avatarId": 10318,
        })
    }

    pub(super) fn status_bean(&self, status: &IssueStatus) -> Value {
        let category = status.category;
        json!({
            "self": self.url(&format!("status/{}", status.id)),
            "description": "",
            "iconUrl": format!("{}/images/icons/statuses/open.png", self.base),
            "name": status.name,
            "id": status.id,
            "statusCategory": {
                "self": self.url(&format!("statuscategory/{}", category.id)),
                "id": category.id,
                "key": category.key,
                "colorName": category.color,
                "name": category.name,
            },
        })
    }

    pub(super) fn priority_bean(&self, priority: &Priority) -> Value {
        json!({
            "self": self.url(&format!("priority/{}", priority.id)),
            "statusColor": priority.color,
            "iconUrl": format!("{}/images/icons/priorities/{}.svg", self.base, priority.name.to_lowercase()),
            "name": priority.name,
            "id": priority.id,
        })
    }

    pub(super) fn resolution_bean(&self, resolution: &Resolution) -> Value {
        json!({
            "self": self.url(&format!("resolution/{}", resolution.id)),
            "id": resolution.id,
            "description": "",
            "name": resolution.name,
        })
    }

    pub(super) fn link_type_bean(&self, kind: &IssueLinkType) -> Value {
        json!({
            "id": kind.id,
            "name": kind.name,
            "inward": kind.inward,
            "outward": kind.outward,
            "self": self.url(&format!("issueLinkType/{}", kind.id)),
        })
    }

    pub(super) fn component_bean(&self, project: &Project, part: &ProjectPart) -> Value {
        json!({
            "self": self.url(&format!("component/{}", part.id)),
            "id": part.id.to_string(),
            "name": part.name,
            "assigneeType": "PROJECT_DEFAULT",
            "realAssigneeType": "PROJECT_DEFAULT",
            "isAssigneeTypeValid": false,
            "project": project.key,
            "projectId": project.id,
            "archived": false,
            "deleted": false,
        })
    }

    pub(super) fn version_bean(&self, project: &Project, part: &ProjectPart) -> Value {
        json!({
            "self": self.url(&format!("version/{}", part.id)),
            "id": part.id.to_string(),
            "name": part.name,
            "archived": false,
            "released": false,
            "projectId": project.id,
        })
    }

    pub(super) fn project_bean(&self, project: &Project) -> Value {
        json!({
            "self": self.url(&format!("project/{}", project.id)),
            "id": project.id.to_string(),
            "key": project.key,
            "name": project.name,
            "avatarUrls": self.avatars("projectavatar?avatarId=10324"),
            "projectTypeKey": "software",
        })
    }

    pub(super) fn whole_project_bean(&self, project: &Project) -> Value {
        let mut bean = self.project_bean(project);
        bean["expand"] = "description,lead,url,projectKeys".into();
        bean["description"] = "".into();
        bean["lead"] = self.user_bean(Some(&project.lead));
        bean["components"] = project
            .components
            .iter()
            .map(|part| self.component_bean(project, part))
            .collect();
        bean["versions"] = project
            .versions
            .iter()
            .map(|part| self.version_bean(project, part))
            .collect();
        bean["issueTypes"] = ISSUE_TYPES
            .iter()
            .map(|kind| self.issue_type_bean(kind))
            .collect();
        bean["assigneeType"] = "UNASSIGNED".into();
        bean["archived"] = false.into();
        bean["roles"] = json!({
            "Administrators": self.url(&format!("project/{}/role/10002", project.id)),
        });
        bean
    }

    fn avatars(&self, path: &str) -> Value {
        let url = |size: &str| format!("{}/secure/{path}&size={size}", self.base);
        json!({
            "48x48": format!("{}/secure/{path}", self.base),
            "24x24": url("small"),
            "16x16": url("xsmall"),
            "32x32": url("medium"),
        })
    }
}

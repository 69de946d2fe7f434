//! Reports changes to the webhooks, in the shape of Jira's payloads. Called while the model is locked, so that a payload
//! shows the issue right after its change, and events enter the queues in the order of the changes.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::changelog::ChangelogItem;
use super::issue_bean::{ALL, FieldSelection};
use super::view::RestView;
use crate::jira::jql;
use crate::jira::model::{Attachment, Comment, Issue, IssueLink, JiraPermission};
use crate::jira::webhooks::{
    OutgoingEvent, RegisteredWebhook, VariableStyle, WebhookEvent, WebhookFlow, WebhookOwner,
    WebhookVariables,
};

/// Value of `issue_event_type_name`: the event of the workflow or the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IssueEventType {
    Created,
    Updated,
    Assigned,
    Commented,
    /// A transition without an event of its own.
    Generic,
    Deleted,
}

/// What is reported: the members of the payload beside those of every event.
struct EventPayload<'a> {
    event: WebhookEvent,
    flow: WebhookFlow,
    /// The issue that filters and variables are about.
    issue: Option<&'a Issue>,
    /// Ids of the fields that changed.
    changed: Vec<&'static str>,
    members: Map<String, Value>,
}

impl IssueEventType {
    fn name(self) -> &'static str {
        match self {
            Self::Created => "issue_created",
            Self::Updated => "issue_updated",
            Self::Assigned => "issue_assigned",
            Self::Commented => "issue_commented",
            Self::Generic => "issue_generic",
            Self::Deleted => "issue_deleted",
        }
    }
}

impl RestView<'_> {
    /// A new issue.
    pub(super) fn report_created(&self, id: u64) {
        if let Some(issue) = self.model.issue(id) {
            let members = self.issue_members(issue, IssueEventType::Created);
            self.report(EventPayload {
                event: WebhookEvent::IssueCreated,
                flow: WebhookFlow::Primary,
                issue: Some(issue),
                changed: Vec::new(),
                members,
            });
        }
    }

    /// A changed issue, beside the issue as it was. Data Center includes the comment that came with the change.
    pub(super) fn report_updated(
        &self,
        before: &Issue,
        kind: IssueEventType,
        comment: Option<u64>,
    ) {
        let Some(issue) = self.model.issue(before.id) else {
            return;
        };
        let items = ChangelogItem::between(self, before, issue);
        self.report_update(issue, kind, &items, comment);
    }

    fn report_update(
        &self,
        issue: &Issue,
        kind: IssueEventType,
        items: &[ChangelogItem],
        comment: Option<u64>,
    ) {
        let mut members = self.issue_members(issue, kind);
        if !items.is_empty() {
            members.insert("changelog".into(), self.changelog(items));
        }
        let comment = comment.and_then(|id| issue.comments.iter().find(|one| one.id == id));
        if let (Some(comment), false) = (comment, self.state.cloud) {
            members.insert("comment".into(), self.comment_bean(issue, comment));
        }
        self.report(EventPayload {
            event: WebhookEvent::IssueUpdated,
            flow: WebhookFlow::Primary,
            issue: Some(issue),
            changed: items.iter().map(|item| item.field_id).collect(),
            members,
        });
    }

    /// An issue that is about to be removed; `cascaded` if its parent is removed too.
    pub(super) fn report_deleted(&self, id: u64, cascaded: bool) {
        let Some(issue) = self.model.issue(id) else {
            return;
        };
        let members = self.issue_members(issue, IssueEventType::Deleted);
        self.report(EventPayload {
            event: WebhookEvent::IssueDeleted,
            flow: flow(cascaded),
            issue: Some(issue),
            changed: Vec::new(),
            members,
        });
        // Documented for Cloud only.
        if self.state.cloud {
            for comment in &issue.comments {
                self.report_one_comment(WebhookEvent::CommentDeleted, issue, comment, true);
            }
            for attachment in &issue.attachments {
                if let Some(attachment) = self.model.attachment(*attachment) {
                    self.report_attachment(WebhookEvent::AttachmentDeleted, attachment, true);
                }
            }
        }
    }

    /// A new comment. Data Center reports it a second time, as an update of the issue.
    pub(super) fn report_comment_added(&self, issue: u64, comment: u64) {
        self.report_comment(WebhookEvent::CommentCreated, issue, comment);
        if !self.state.cloud
            && let Some(issue) = self.model.issue(issue)
        {
            self.report_update(issue, IssueEventType::Commented, &[], Some(comment));
        }
    }

    /// A comment that was added, changed, or is about to be removed.
    pub(super) fn report_comment(&self, event: WebhookEvent, issue: u64, comment: u64) {
        let Some(issue) = self.model.issue(issue) else {
            return;
        };
        if let Some(comment) = issue.comments.iter().find(|one| one.id == comment) {
            self.report_one_comment(event, issue, comment, false);
        }
    }

    fn report_one_comment(
        &self,
        event: WebhookEvent,
        issue: &Issue,
        comment: &Comment,
        cascaded: bool,
    ) {
        let mut members = Map::new();
        members.insert("comment".into(), self.comment_bean(issue, comment));
        // Captures of Jira 7.3 and 8.13 have no issue; the comment's `self` link contains its id.
        if self.state.cloud {
            let short = IN_COMMENT_EVENTS.map(str::to_owned);
            let issue = self.issue_bean(issue, &FieldSelection::new(&short, ALL));
            members.insert("issue".into(), issue);
        }
        self.report(EventPayload {
            event,
            flow: flow(cascaded),
            issue: Some(issue),
            changed: Vec::new(),
            members,
        });
    }

    /// A new attachment, which is also an update of the issue.
    pub(super) fn report_attachment_added(&self, attachment: &Attachment) {
        self.report_attachment(WebhookEvent::AttachmentCreated, attachment, false);
        if let Some(issue) = self.model.issue(attachment.issue) {
            let item = ChangelogItem::attached(attachment);
            self.report_update(issue, IssueEventType::Updated, &[item], None);
        }
    }

    /// An attachment that was added or is about to be removed.
    pub(super) fn report_attachment(
        &self,
        event: WebhookEvent,
        attachment: &Attachment,
        cascaded: bool,
    ) {
        let mut members = Map::new();
        members.insert("attachment".into(), self.attachment_bean(attachment));
        self.report(EventPayload {
            event,
            flow: flow(cascaded),
            issue: self.model.issue(attachment.issue),
            changed: Vec::new(),
            members,
        });
    }

    /// A new link between issues.
    pub(super) fn report_link(&self, id: u64, link: &IssueLink) {
        let kind = json!({
            "id": link.kind.id,
            "name": link.kind.name,
            "inwardName": link.kind.inward,
            "outwardName": link.kind.outward,
            "isSubTaskLinkType": false,
            "isSystemLinkType": false,
        });
        let mut members = Map::new();
        members.insert(
            "issueLink".into(),
            json!({
                "id": id,
                "sourceIssueId": link.from,
                "destinationIssueId": link.to,
                "issueLinkType": kind,
                "systemLink": false,
            }),
        );
        self.report(EventPayload {
            event: WebhookEvent::IssueLinkCreated,
            flow: WebhookFlow::Primary,
            issue: None,
            changed: Vec::new(),
            members,
        });
    }

    fn issue_members(&self, issue: &Issue, kind: IssueEventType) -> Map<String, Value> {
        let all = FieldSelection::new(&[], ALL);
        let mut members = Map::new();
        members.insert("issue_event_type_name".into(), kind.name().into());
        members.insert("user".into(), self.user_bean(self.viewer));
        members.insert("issue".into(), self.issue_bean(issue, &all));
        members
    }

    fn changelog(&self, items: &[ChangelogItem]) -> Value {
        let number = self.state.next_change();
        let items: Value = items
            .iter()
            .map(|item| item.bean(self.state.cloud))
            .collect();
        json!({ "id": number.to_string(), "items": items })
    }

    fn report(&self, payload: EventPayload<'_>) {
        let now = self.state.now();
        let mut webhooks = self.state.webhooks.wanting(payload.event, now);
        webhooks.retain(|webhook| self.passes(webhook, &payload));
        if webhooks.is_empty() {
            return;
        }
        let mut members = payload.members;
        let milliseconds = now.unix_timestamp_nanos() / 1_000_000;
        members.insert(
            "timestamp".into(),
            i64::try_from(milliseconds).unwrap_or(i64::MAX).into(),
        );
        members.insert("webhookEvent".into(), payload.event.name().into());
        let body = Bytes::from(Value::Object(members).to_string());
        let variables = self.variables(payload.issue);
        let query = self.added_query(&variables);
        let outgoing = OutgoingEvent {
            event: payload.event,
            flow: payload.flow,
            body: &body,
            variables: &variables,
            style: self.state.variable_style(),
            query: &query,
        };
        for webhook in webhooks {
            self.state.webhooks.enqueue(&webhook, &outgoing);
        }
    }

    /// Whether the filters of a webhook let this event through.
    fn passes(&self, webhook: &RegisteredWebhook, payload: &EventPayload<'_>) -> bool {
        let draft = &webhook.draft;
        if payload.event == WebhookEvent::IssueUpdated
            && !draft.field_ids.is_empty()
            && !payload
                .changed
                .iter()
                .any(|changed| draft.field_ids.iter().any(|id| id == changed))
        {
            return false;
        }
        let Some(issue) = payload.issue else {
            return true;
        };
        let viewer = match &webhook.owner {
            WebhookOwner::Administrator => webhook.updated_by.as_deref(),
            // An app gets what its account may see.
            WebhookOwner::App { account, .. } => {
                let seen = JiraPermission::BrowseProjects;
                if !self.model.may(Some(account), issue.project, seen) {
                    return false;
                }
                Some(account.as_str())
            }
        };
        draft.jql.trim().is_empty()
            || !payload.event.has_jql()
            || jql::filter::selects(&self.model, viewer, &draft.jql, issue)
    }

    fn variables(&self, issue: Option<&Issue>) -> WebhookVariables {
        let project = issue.and_then(|issue| self.model.projects.get(issue.project));
        WebhookVariables {
            issue_id: issue.map(|issue| issue.id.to_string()),
            issue_key: issue.map(|issue| issue.key.clone()),
            project_id: project.map(|project| project.id.to_string()),
            project_key: project.map(|project| project.key.clone()),
            user_key: self.viewer.map(|name| self.user_key(name)),
            user_name: self.viewer.map(str::to_owned),
        }
    }

    /// Jira before 10 adds the user who caused the event.
    fn added_query(&self, variables: &WebhookVariables) -> Vec<(&'static str, String)> {
        if self.state.cloud || self.state.variable_style() == VariableStyle::Braces {
            return Vec::new();
        }
        let pairs = [
            ("user_id", &variables.user_name),
            ("user_key", &variables.user_key),
        ];
        pairs
            .into_iter()
            .filter_map(|(name, value)| Some((name, value.clone()?)))
            .collect()
    }
}

fn flow(cascaded: bool) -> WebhookFlow {
    match cascaded {
        true => WebhookFlow::Secondary,
        false => WebhookFlow::Primary,
    }
}

/// The fields of the issue in Cloud's events about comments.
const IN_COMMENT_EVENTS: [&str; 6] = [
    "summary",
    "issuetype",
    "project",
    "assignee",
    "priority",
    "status",
];

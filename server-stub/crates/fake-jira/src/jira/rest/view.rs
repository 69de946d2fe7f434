//! What every resource begins with: who sends the request, and the model under its lock as that user sees it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use parking_lot::MutexGuard;
use time::OffsetDateTime;

use super::create::new_comment;
use super::project::no_project;
use super::webhook_events::IssueEventType;
use crate::jira::login::Caller;
use crate::jira::model::{Issue, JiraModel, JiraPermission};
use crate::jira::response::RestError;
use crate::jira::state::JiraState;
use crate::jira::webhooks::WebhookEvent;

/// The Jira and the user of one request.
pub(super) struct RestContext {
    pub state: Arc<JiraState>,
    pub caller: Caller,
}

impl FromRequestParts<Arc<JiraState>> for RestContext {
    type Rejection = Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &Arc<JiraState>,
    ) -> Result<Self, Infallible> {
        Ok(Self {
            state: state.clone(),
            caller: Caller::from_request_parts(parts, state).await?,
        })
    }
}

impl RestContext {
    /// Locks the model; the compiler refuses to hold it across an await.
    pub(super) fn view(&self) -> RestView<'_> {
        RestView {
            state: &self.state,
            base: &self.state.base_url,
            model: self.state.model.lock(),
            viewer: self.caller.name(),
        }
    }
}

/// The locked model as one user sees it. How things look in JSON is in `bean` and `issue_bean`.
pub(super) struct RestView<'a> {
    pub state: &'a JiraState,
    pub base: &'a str,
    pub model: MutexGuard<'a, JiraModel>,
    /// Login name of the user; `None` for an anonymous request.
    pub viewer: Option<&'a str>,
}

impl RestView<'_> {
    /// The id of an issue that the viewer may browse, by key or id.
    pub(super) fn find_issue(&self, key_or_id: &str) -> Result<u64, RestError> {
        self.model
            .visible_issue(self.viewer, key_or_id)
            .map_err(|why| RestError::issue(why, self.viewer))
    }

    /// The issue itself, by key or id.
    pub(super) fn issue(&self, key_or_id: &str) -> Result<&Issue, RestError> {
        let id = self.find_issue(key_or_id)?;
        self.model
            .issue(id)
            .ok_or_else(|| RestError::missing("Issue Does Not Exist"))
    }

    /// The index of the project of an issue; one that no project has if the issue is gone.
    pub(super) fn project_of(&self, issue: u64) -> usize {
        self.model
            .issue(issue)
            .map_or(usize::MAX, |issue| issue.project)
    }

    /// The index of a project that the viewer may browse, by key or id.
    pub(super) fn find_project(&self, key_or_id: &str) -> Result<usize, RestError> {
        self.model
            .project(self.viewer, key_or_id)
            .ok_or_else(|| no_project(key_or_id))
    }

    /// Stores a changed issue, then adds comments of the viewer to it, and reports both.
    pub(super) fn save_issue(
        &mut self,
        mut issue: Issue,
        comments: Vec<String>,
        kind: IssueEventType,
    ) -> Result<(), RestError> {
        let id = issue.id;
        issue.updated = OffsetDateTime::now_utc();
        let before = match self.model.issue_mut(id) {
            Some(stored) => std::mem::replace(stored, issue),
            None => return Ok(()),
        };
        let mut added = Vec::new();
        for body in comments {
            added.push(self.model.add_comment(id, new_comment(self.viewer, body))?);
        }
        self.report_updated(&before, kind, added.first().copied());
        for comment in added {
            self.report_comment(WebhookEvent::CommentCreated, id, comment);
        }
        Ok(())
    }

    /// Whether the viewer has this permission in the project of this index.
    pub(super) fn may(&self, project: usize, permission: JiraPermission) -> bool {
        self.model.may(self.viewer, project, permission)
    }

    /// 403 with `refusal` unless the viewer has this permission on the issue.
    pub(super) fn require(
        &self,
        issue: u64,
        permission: JiraPermission,
        refusal: &str,
    ) -> Result<(), RestError> {
        match self.may(self.project_of(issue), permission) {
            true => Ok(()),
            false => Err(RestError::forbidden(refusal)),
        }
    }
}

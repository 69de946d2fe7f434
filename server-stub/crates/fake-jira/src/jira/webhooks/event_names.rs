//! The names that a registration may list. Those of [`WebhookEvent`](super::WebhookEvent) fire; the others belong to
//! features that this imitation does not have.

/// Whether an administrator may register for events of this name.
pub(in crate::jira) fn is_known_event(name: &str) -> bool {
    OF_ADMINISTRATORS.contains(&name)
}

/// Whether an app of Cloud may register for events of this name.
pub(in crate::jira) fn is_known_to_apps(name: &str) -> bool {
    OF_APPS.contains(&name)
}

const OF_ADMINISTRATORS: &[&str] = &[
    "jira:issue_created",
    "jira:issue_updated",
    "jira:issue_deleted",
    "jira:worklog_updated",
    "issuelink_created",
    "issuelink_deleted",
    "worklog_created",
    "worklog_updated",
    "worklog_deleted",
    "comment_created",
    "comment_updated",
    "comment_deleted",
    "attachment_created",
    "attachment_deleted",
    "project_created",
    "project_updated",
    "project_deleted",
    "project_archived",
    "project_restored",
    "jira:version_released",
    "jira:version_unreleased",
    "jira:version_created",
    "jira:version_moved",
    "jira:version_updated",
    "jira:version_deleted",
    "user_created",
    "user_updated",
    "user_deleted",
    "option_voting_changed",
    "option_watching_changed",
    "option_unassigned_issues_changed",
    "option_subtasks_changed",
    "option_attachments_changed",
    "option_issuelinks_changed",
    "option_timetracking_changed",
    "sprint_created",
    "sprint_deleted",
    "sprint_updated",
    "sprint_started",
    "sprint_closed",
    "board_created",
    "board_updated",
    "board_deleted",
    "board_configuration_changed",
];

const OF_APPS: &[&str] = &[
    "jira:issue_created",
    "jira:issue_updated",
    "jira:issue_deleted",
    "comment_created",
    "comment_updated",
    "comment_deleted",
    "issue_property_set",
    "issue_property_deleted",
    "sprint_created",
    "sprint_deleted",
    "sprint_updated",
    "sprint_started",
    "sprint_closed",
    "jira:version_released",
    "jira:version_unreleased",
    "jira:version_created",
    "jira:version_moved",
    "jira:version_updated",
    "jira:version_deleted",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jira::webhooks::WebhookEvent;

    #[test]
    fn every_event_that_fires_can_be_registered() {
        for event in [
            WebhookEvent::IssueCreated,
            WebhookEvent::IssueUpdated,
            WebhookEvent::IssueDeleted,
            WebhookEvent::CommentCreated,
            WebhookEvent::CommentUpdated,
            WebhookEvent::CommentDeleted,
            WebhookEvent::AttachmentCreated,
            WebhookEvent::AttachmentDeleted,
            WebhookEvent::IssueLinkCreated,
        ] {
            assert!(is_known_event(event.name()), "{event:?}");
        }
        assert!(!is_known_event("jira:issue_exploded"));
        assert!(is_known_to_apps("comment_created") && !is_known_to_apps("user_created"));
    }
}

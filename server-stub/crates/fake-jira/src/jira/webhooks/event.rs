//! What this imitation reports to webhooks.

/// A change that fires webhooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jira) enum WebhookEvent {
    IssueCreated,
    IssueUpdated,
    IssueDeleted,
    CommentCreated,
    CommentUpdated,
    CommentDeleted,
    AttachmentCreated,
    AttachmentDeleted,
    IssueLinkCreated,
}

/// Value of `X-Atlassian-Webhook-Flow`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jira) enum WebhookFlow {
    /// The event itself.
    Primary,
    /// A consequence, such as the comments of a deleted issue.
    Secondary,
}

impl WebhookEvent {
    /// The value of `webhookEvent`.
    pub(in crate::jira) fn name(self) -> &'static str {
        match self {
            Self::IssueCreated => "jira:issue_created",
            Self::IssueUpdated => "jira:issue_updated",
            Self::IssueDeleted => "jira:issue_deleted",
            Self::CommentCreated => "comment_created",
            Self::CommentUpdated => "comment_updated",
            Self::CommentDeleted => "comment_deleted",
            Self::AttachmentCreated => "attachment_created",
            Self::AttachmentDeleted => "attachment_deleted",
            Self::IssueLinkCreated => "issuelink_created",
        }
    }

    /// Whether a JQL filter applies to it. Events without a filter fire every webhook that names them.
    pub(in crate::jira) fn has_jql(self) -> bool {
        match self {
            Self::IssueCreated
            | Self::IssueUpdated
            | Self::IssueDeleted
            | Self::CommentCreated
            | Self::CommentUpdated
            | Self::CommentDeleted
            | Self::AttachmentCreated
            | Self::AttachmentDeleted => true,
            Self::IssueLinkCreated => false,
        }
    }
}

impl WebhookFlow {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Primary => "Primary",
            Self::Secondary => "Secondary",
        }
    }
}

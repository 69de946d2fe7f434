//! Permissions and their names in the REST API.

use serde::Deserialize;

/// A project permission, or the global one to administer. The serialized name is the key in
/// `mypermissions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[expect(missing_docs, reason = "each is named as in Jira's own documentation")]
pub enum JiraPermission {
    BrowseProjects,
    CreateIssues,
    EditIssues,
    DeleteIssues,
    TransitionIssues,
    AssignIssues,
    AssignableUser,
    LinkIssues,
    AddComments,
    EditAllComments,
    EditOwnComments,
    DeleteAllComments,
    CreateAttachments,
    DeleteAllAttachments,
    AdministerProjects,
    Administer,
}

impl JiraPermission {
    /// All permissions that this imitation knows.
    pub const ALL: &[Self] = &[
        Self::BrowseProjects,
        Self::CreateIssues,
        Self::EditIssues,
        Self::DeleteIssues,
        Self::TransitionIssues,
        Self::AssignIssues,
        Self::AssignableUser,
        Self::LinkIssues,
        Self::AddComments,
        Self::EditAllComments,
        Self::EditOwnComments,
        Self::DeleteAllComments,
        Self::CreateAttachments,
        Self::DeleteAllAttachments,
        Self::AdministerProjects,
        Self::Administer,
    ];

    /// The permissions to create and change issues, without deleting any.
    pub const WORK: &[Self] = &[
        Self::BrowseProjects,
        Self::CreateIssues,
        Self::EditIssues,
        Self::TransitionIssues,
        Self::AssignIssues,
        Self::AssignableUser,
        Self::LinkIssues,
        Self::AddComments,
        Self::EditOwnComments,
        Self::CreateAttachments,
    ];

    pub(in crate::jira) fn id(self) -> u32 {
        match self {
            Self::Administer => 0,
            Self::BrowseProjects => 10,
            Self::CreateIssues => 11,
            Self::EditIssues => 12,
            Self::AssignIssues => 13,
            Self::AddComments => 15,
            Self::DeleteIssues => 16,
            Self::AssignableUser => 17,
            Self::CreateAttachments => 19,
            Self::LinkIssues => 21,
            Self::AdministerProjects => 23,
            Self::EditAllComments => 34,
            Self::EditOwnComments => 35,
            Self::DeleteAllComments => 36,
            Self::DeleteAllAttachments => 38,
            Self::TransitionIssues => 46,
        }
    }

    pub(in crate::jira) fn key(self) -> &'static str {
        match self {
            Self::BrowseProjects => "BROWSE_PROJECTS",
            Self::CreateIssues => "CREATE_ISSUES",
            Self::EditIssues => "EDIT_ISSUES",
            Self::DeleteIssues => "DELETE_ISSUES",
            Self::TransitionIssues => "TRANSITION_ISSUES",
            Self::AssignIssues => "ASSIGN_ISSUES",
            Self::AssignableUser => "ASSIGNABLE_USER",
            Self::LinkIssues => "LINK_ISSUES",
            Self::AddComments => "ADD_COMMENTS",
            Self::EditAllComments => "EDIT_ALL_COMMENTS",
            Self::EditOwnComments => "EDIT_OWN_COMMENTS",
            Self::DeleteAllComments => "DELETE_ALL_COMMENTS",
            Self::CreateAttachments => "CREATE_ATTACHMENTS",
            Self::DeleteAllAttachments => "DELETE_ALL_ATTACHMENTS",
            Self::AdministerProjects => "ADMINISTER_PROJECTS",
            Self::Administer => "ADMINISTER",
        }
    }

    pub(in crate::jira) fn label(self) -> &'static str {
        match self {
            Self::BrowseProjects => "Browse Projects",
            Self::CreateIssues => "Create Issues",
            Self::EditIssues => "Edit Issues",
            Self::DeleteIssues => "Delete Issues",
            Self::TransitionIssues => "Transition Issues",
            Self::AssignIssues => "Assign Issues",
            Self::AssignableUser => "Assignable User",
            Self::LinkIssues => "Link Issues",
            Self::AddComments => "Add Comments",
            Self::EditAllComments => "Edit All Comments",
            Self::EditOwnComments => "Edit Own Comments",
            Self::DeleteAllComments => "Delete All Comments",
            Self::CreateAttachments => "Create Attachments",
            Self::DeleteAllAttachments => "Delete All Attachments",
            Self::AdministerProjects => "Administer Projects",
            Self::Administer => "Jira Administrators",
        }
    }

    pub(in crate::jira) fn is_global(self) -> bool {
        self == Self::Administer
    }
}

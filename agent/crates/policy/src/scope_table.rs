//! The scopes that Jira Cloud requires for each request that a preset opens, as Atlassian's references state them: the OpenAPI
//! documents of the Jira platform (December 2025) and of Jira Software (July 2022; `board` as of 2026), and the pages of Jira
//! Service Management.
//!
//! Cloud answers a request if the token has all classic scopes of it, or all granular ones. It refuses one that lacks a
//! single granular scope, although the reference calls the granular sets "Beta". Jira Software has no classic scopes.

/// Requests that need the same scopes.
pub(super) struct ScopeRow {
    /// Method and path. `A` is `/rest/api/(2|3|latest)`, `G` is `/rest/agile/(1.0|latest)`, `S` is
    /// `/rest/servicedeskapi`.
    pub(super) requests: &'static [&'static str],
    /// The classic scopes, separated by spaces. Empty: there are none.
    pub(super) classic: &'static str,
    /// The granular scopes, in parts separated by spaces. Empty: no reference that we could read states them.
    pub(super) granular: &'static [&'static str],
}

const fn row(
    requests: &'static [&'static str],
    classic: &'static str,
    granular: &'static [&'static str],
) -> ScopeRow {
    ScopeRow {
        requests,
        classic,
        granular,
    }
}

const READ: &str = "read:jira-work";
const WRITE: &str = "write:jira-work";
const USERS: &str = "read:jira-user";
const DESK_READ: &str = "read:servicedesk-request";
const DESK_WRITE: &str = "write:servicedesk-request";

/// A user in an answer.
const PERSON: &str = "read:application-role:jira read:avatar:jira read:group:jira read:user:jira";
/// A project in an answer.
const PROJECT: &str = "read:issue-type-hierarchy:jira read:issue-type:jira read:project-category:jira \
     read:project-version:jira read:project.component:jira read:project.property:jira read:project:jira";
/// A comment in an answer.
const COMMENT: &str = "read:avatar:jira read:comment.property:jira read:comment:jira read:group:jira \
     read:project-role:jira read:project:jira read:user:jira";
/// A worklog in an answer.
const WORKLOG: &str = "read:avatar:jira read:group:jira read:issue-worklog.property:jira read:issue-worklog:jira \
     read:project-role:jira read:user:jira";
/// A new issue, with all that can be created with it.
const NEW_ISSUE: &str = "read:issue:jira write:attachment:jira write:comment.property:jira write:comment:jira \
     write:issue:jira";
/// An issue that a link leads to.
const LINKED_ISSUE: &str = "read:avatar:jira read:field:jira read:issue-link-type:jira read:issue-type:jira \
     read:issue.time-tracking:jira read:issue:jira read:priority:jira read:project-category:jira read:project:jira \
     read:status:jira read:user:jira";

pub(super) static SCOPE_TABLE: &[ScopeRow] = &[
    // Of the ticketing kind, reading.
    row(
        &["GET A/myself", "GET A/user", "GET A/user/bulk"],
        USERS,
        &[PERSON],
    ),
    row(&["GET A/mypermissions"], READ, &["read:permission:jira"]),
    row(
        &["GET A/field"],
        READ,
        &[
            "read:avatar:jira read:field-configuration:jira read:field:jira read:project-category:jira read:project:jira",
        ],
    ),
    row(
        &["GET A/priority", "GET A/priority/{number}"],
        READ,
        &["read:priority:jira"],
    ),
    row(
        &["GET A/status", "GET A/status/{number}"],
        READ,
        &["read:status:jira"],
    ),
    row(
        &["GET A/resolution", "GET A/resolution/{number}"],
        READ,
        &["read:resolution:jira"],
    ),
    row(
        &["GET A/issueLinkType", "GET A/issueLinkType/{number}"],
        READ,
        &["read:issue-link-type:jira"],
    ),
    row(
        &[
            "GET A/project",
            "GET A/project/search",
            "GET A/project/{project}",
        ],
        READ,
        &[PERSON, PROJECT],
    ),
    row(
        &[
            "GET A/project/{project}/components",
            "GET A/project/{project}/component",
            "GET A/component/{number}",
        ],
        READ,
        &[PERSON, "read:project.component:jira read:project:jira"],
    ),
    row(
        &[
            "GET A/project/{project}/versions",
            "GET A/project/{project}/version",
            "GET A/version/{number}",
        ],
        READ,
        &["read:project-version:jira"],
    ),
    row(
        &["GET A/project/{project}/statuses"],
        READ,
        &["read:issue-status:jira read:issue-type:jira read:status:jira"],
    ),
    row(
        &["GET A/issuetype", "GET A/issuetype/{number}"],
        READ,
        &["read:avatar:jira read:issue-type:jira read:project-category:jira read:project:jira"],
    ),
    row(
        &[
            "GET A/issue/createmeta",
            "GET A/issue/createmeta/{project}/issuetypes",
            "GET A/issue/createmeta/{project}/issuetypes/{number}",
        ],
        READ,
        &["read:avatar:jira read:field-configuration:jira read:issue-meta:jira"],
    ),
    row(
        &[
            "GET A/user/assignable/search",
            "GET A/user/viewissue/search",
        ],
        USERS,
        &[PERSON, "read:issue:jira read:project:jira"],
    ),
    row(
        &["GET A/search", "GET A/search/jql"],
        READ,
        &[
            "read:audit-log:jira read:avatar:jira read:field-configuration:jira read:issue-details:jira read:issue-meta:jira",
        ],
    ),
    row(
        &[
            "POST A/search",
            "POST A/search/jql",
            "POST A/search/approximate-count",
        ],
        READ,
        &[
            "read:field.default-value:jira read:field.option:jira read:field:jira read:group:jira read:issue-details:jira",
        ],
    ),
    row(
        &["GET A/issue/{issue}"],
        READ,
        &[
            "read:avatar:jira read:field-configuration:jira read:issue-meta:jira read:issue-security-level:jira \
             read:issue.changelog:jira read:issue.vote:jira read:issue:jira read:status:jira read:user:jira",
        ],
    ),
    row(
        &["GET A/issue/{issue}/editmeta"],
        READ,
        &["read:field-configuration:jira read:issue-meta:jira"],
    ),
    row(
        &["GET A/issue/{issue}/transitions"],
        READ,
        &["read:field-configuration:jira read:issue.transition:jira read:status:jira"],
    ),
    row(
        &[
            "GET A/issue/{issue}/comment",
            "GET A/issue/{issue}/comment/{number}",
        ],
        READ,
        &[COMMENT],
    ),
    row(
        &[
            "GET A/issue/{issue}/remotelink",
            "GET A/issue/{issue}/remotelink/{number}",
        ],
        READ,
        &["read:issue.remote-link:jira read:status:jira"],
    ),
    row(
        &["GET A/attachment/meta"],
        READ,
        &["read:instance-configuration:jira"],
    ),
    row(
        &["GET A/attachment/{number}"],
        READ,
        &[PERSON, "read:attachment:jira"],
    ),
    row(
        &[
            "GET A/attachment/content/{number}",
            "GET A/attachment/thumbnail/{number}",
        ],
        READ,
        &["read:attachment:jira"],
    ),
    // Of the ticketing kind, writing.
    row(&["POST A/issue", "POST A/issue/bulk"], WRITE, &[NEW_ISSUE]),
    row(
        &["POST A/issueLink"],
        WRITE,
        &["write:comment:jira write:issue-link:jira write:issue:jira"],
    ),
    row(
        &["PUT A/issue/{issue}", "PUT A/issue/{issue}/assignee"],
        WRITE,
        &["write:issue:jira"],
    ),
    row(
        &["POST A/issue/{issue}/transitions"],
        WRITE,
        &["write:issue.property:jira write:issue:jira"],
    ),
    row(
        &[
            "POST A/issue/{issue}/comment",
            "PUT A/issue/{issue}/comment/{number}",
        ],
        WRITE,
        &[COMMENT, "write:comment:jira"],
    ),
    row(
        &["POST A/issue/{issue}/remotelink"],
        WRITE,
        &["read:issue.remote-link:jira write:issue.remote-link:jira write:issue:jira"],
    ),
    row(
        &["PUT A/issue/{issue}/remotelink/{number}"],
        WRITE,
        &["write:issue.remote-link:jira write:issue:jira"],
    ),
    row(
        &["POST A/issue/{issue}/attachments"],
        WRITE,
        &["read:attachment:jira read:avatar:jira read:user:jira write:attachment:jira"],
    ),
    // Two trackers in sync.
    row(
        &["GET A/issue/{issue}/watchers"],
        READ,
        &["read:avatar:jira read:issue.watcher:jira read:user:jira"],
    ),
    row(
        &["GET A/issue/{issue}/votes"],
        READ,
        &[PERSON, "read:issue.vote:jira"],
    ),
    row(
        &[
            "POST A/issue/{issue}/watchers",
            "DELETE A/issue/{issue}/watchers",
        ],
        WRITE,
        &["write:issue.watcher:jira"],
    ),
    row(
        &["POST A/issue/{issue}/votes", "DELETE A/issue/{issue}/votes"],
        WRITE,
        &["write:issue.vote:jira"],
    ),
    row(&["GET A/issue/{issue}/worklog"], READ, &[WORKLOG]),
    row(
        &[
            "GET A/issue/{issue}/worklog/{number}",
            "POST A/worklog/list",
        ],
        READ,
        &[WORKLOG, "read:comment:jira"],
    ),
    row(
        &["POST A/issue/{issue}/worklog"],
        WRITE,
        &[
            WORKLOG,
            "write:issue-worklog.property:jira write:issue-worklog:jira",
        ],
    ),
    row(
        &["PUT A/issue/{issue}/worklog/{number}"],
        WRITE,
        &[
            WORKLOG,
            "read:comment:jira write:comment:jira write:issue-worklog.property:jira write:issue-worklog:jira",
        ],
    ),
    row(
        &["GET A/worklog/updated", "GET A/worklog/deleted"],
        READ,
        &["read:issue-worklog.property:jira read:issue-worklog:jira"],
    ),
    row(
        &["GET A/issue/{issue}/changelog"],
        READ,
        &["read:avatar:jira read:issue-meta:jira read:issue.changelog:jira"],
    ),
    row(
        &[
            "GET A/issue/{issue}/properties",
            "GET A/issue/{issue}/properties/*",
        ],
        READ,
        &["read:issue.property:jira"],
    ),
    row(
        &["PUT A/issue/{issue}/properties/*"],
        WRITE,
        &["write:issue.property:jira"],
    ),
    row(
        &[
            "GET A/comment/{number}/properties",
            "GET A/comment/{number}/properties/*",
        ],
        READ,
        &["read:comment.property:jira"],
    ),
    row(
        &["PUT A/comment/{number}/properties/*"],
        WRITE,
        &["write:comment.property:jira"],
    ),
    row(&["GET A/issueLink/{number}"], READ, &[LINKED_ISSUE]),
    row(
        &["GET A/user/search"],
        USERS,
        &[PERSON, "read:user.property:jira"],
    ),
    row(&["GET A/user/picker"], USERS, &["read:user:jira"]),
    row(
        &["GET A/user/assignable/multiProjectSearch"],
        USERS,
        &[PERSON, "read:project:jira"],
    ),
    row(
        &["GET A/customFieldOption/{number}"],
        READ,
        &["read:field.option:jira read:field:jira"],
    ),
    row(
        &["GET A/securitylevel/{number}"],
        "manage:jira-configuration",
        &["read:field:jira read:issue-security-level:jira read:project-role:jira read:user:jira"],
    ),
    row(&["GET A/project/type"], READ, &["read:project-type:jira"]),
    row(
        &["GET A/projectCategory"],
        READ,
        &["read:project-category:jira"],
    ),
    // Deleting.
    row(&["DELETE A/issue/{issue}"], WRITE, &["delete:issue:jira"]),
    row(
        &["DELETE A/issue/{issue}/comment/{number}"],
        WRITE,
        &["delete:comment.property:jira delete:comment:jira"],
    ),
    row(
        &[
            "DELETE A/issue/{issue}/remotelink",
            "DELETE A/issue/{issue}/remotelink/{number}",
        ],
        WRITE,
        &["delete:issue.remote-link:jira write:issue:jira"],
    ),
    row(
        &["DELETE A/issueLink/{number}"],
        WRITE,
        &["delete:issue-link:jira"],
    ),
    row(
        &["DELETE A/attachment/{number}"],
        WRITE,
        &["delete:attachment:jira"],
    ),
    // Webhooks of an app. Those of an administrator (`/rest/webhooks`) are open to no app.
    row(
        &["GET A/webhook"],
        "manage:jira-webhook read:jira-work",
        &["read:jql:jira read:webhook:jira"],
    ),
    row(
        &["POST A/webhook"],
        "manage:jira-webhook read:jira-work",
        &["read:field:jira read:project:jira write:webhook:jira"],
    ),
    row(
        &["DELETE A/webhook"],
        "manage:jira-webhook read:jira-work",
        &["delete:webhook:jira"],
    ),
    row(
        &["PUT A/webhook/refresh"],
        "manage:jira-webhook read:jira-work",
        &["read:webhook:jira write:webhook:jira"],
    ),
    // Jira Software.
    row(
        &["GET G/board"],
        "",
        &["read:board-scope:jira-software read:project:jira"],
    ),
    row(
        &[
            "GET G/board/{number}",
            "GET G/board/{number}/backlog",
            "GET G/board/{number}/issue",
        ],
        "",
        &["read:board-scope:jira-software read:issue-details:jira"],
    ),
    row(
        &["GET G/board/{number}/configuration"],
        "",
        &["read:board-scope.admin:jira-software read:project:jira"],
    ),
    row(
        &["GET G/board/{number}/sprint", "GET G/sprint/{number}"],
        "",
        &["read:sprint:jira-software"],
    ),
    row(
        &[
            "GET G/board/{number}/sprint/{number}/issue",
            "GET G/sprint/{number}/issue",
        ],
        "",
        &["read:issue-details:jira read:jql:jira read:sprint:jira-software"],
    ),
    row(
        &["POST G/sprint/{number}/issue"],
        "",
        &["write:sprint:jira-software"],
    ),
    row(
        &["POST G/backlog/issue"],
        "",
        &["write:board-scope:jira-software"],
    ),
    row(&["GET G/issue/{issue}"], "", &["read:issue:jira-software"]),
    row(&["PUT G/issue/rank"], "", &["write:issue:jira-software"]),
    row(
        &["GET G/epic/{issue}", "GET G/board/{number}/epic"],
        "",
        &["read:epic:jira-software"],
    ),
    row(
        &["GET G/epic/{issue}/issue", "GET G/epic/none/issue"],
        "",
        &["read:epic:jira-software read:issue-details:jira read:jql:jira"],
    ),
    row(
        &[
            "POST G/epic/{issue}",
            "POST G/epic/{issue}/issue",
            "POST G/epic/none/issue",
            "PUT G/epic/{issue}/rank",
        ],
        "",
        &["write:epic:jira-software"],
    ),
    // Jira Service Management.
    row(
        &["GET S/servicedesk", "GET S/servicedesk/{number}"],
        DESK_READ,
        &["read:servicedesk:jira-service-management"],
    ),
    row(
        &[
            "GET S/servicedesk/{number}/requesttype",
            "GET S/servicedesk/{number}/requesttype/{number}",
            "GET S/servicedesk/{number}/requesttype/{number}/field",
        ],
        DESK_READ,
        &["read:requesttype:jira-service-management"],
    ),
    row(
        &["GET S/servicedesk/{number}/queue"],
        READ,
        &["read:jql:jira read:queue:jira-service-management read:user:jira"],
    ),
    row(
        &["GET S/servicedesk/{number}/queue/{number}/issue"],
        READ,
        &[],
    ),
    row(
        &["POST S/servicedesk/{number}/attachTemporaryFile"],
        DESK_WRITE,
        &[
            "read:request.attachment:jira-service-management write:request.attachment:jira-service-management",
        ],
    ),
    row(
        &["GET S/request", "GET S/request/{issue}"],
        DESK_READ,
        &["read:request:jira-service-management read:user:jira"],
    ),
    row(
        &["POST S/request"],
        DESK_WRITE,
        &[
            "read:request:jira-service-management read:user:jira write:request:jira-service-management",
        ],
    ),
    row(
        &[
            "GET S/request/{issue}/status",
            "GET S/request/{issue}/sla",
            "GET S/request/{issue}/participant",
            "GET S/request/{issue}/comment",
            "GET S/request/{issue}/comment/{number}",
            "GET S/request/{issue}/transition",
            "GET S/request/{issue}/attachment",
        ],
        DESK_READ,
        &[],
    ),
    row(
        &[
            "POST S/request/{issue}/comment",
            "POST S/request/{issue}/transition",
            "POST S/request/{issue}/attachment",
        ],
        DESK_WRITE,
        &[],
    ),
];

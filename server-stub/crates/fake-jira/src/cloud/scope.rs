//! The scopes that a request to Jira behind the API gateway requires. A token needs all of the classic ones, or all of
//! the granular ones; a single granular scope that is lacking makes the gateway refuse.

use http::Method;

/// The scopes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequiredScopes {
    /// Classic scopes. Empty: there are none.
    pub classic: Vec<&'static str>,
    /// Granular scopes. Empty: there are none, or they are not imitated.
    pub granular: Vec<&'static str>,
    /// Whether every token will do.
    pub any_token: bool,
}

impl RequiredScopes {
    /// The scopes for a path as the site has it, below its root.
    pub fn of(method: &Method, path: &str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        let segments: Vec<&str> = path.split('/').collect();
        let method = match *method {
            Method::HEAD => "GET",
            _ => method.as_str(),
        };
        let found = match &segments[..] {
            ["rest", "api", "2" | "3" | "latest", resource @ ..] => platform(method, resource),
            ["rest", "agile", "1.0" | "latest", resource @ ..] => software(method, resource),
            ["rest", "servicedeskapi", resource @ ..] => service_management(method, resource),
            _ => None,
        };
        // The gateway knows no route that ends in a slash, and refuses it like a lacking scope.
        let is_route = segments.last().is_some_and(|last| !last.is_empty());
        let (classic, granular) = found
            .filter(|_| is_route)
            .unwrap_or_else(|| (if method == "GET" { READ } else { WRITE }, &[]));
        let mut granular: Vec<_> = granular.iter().flat_map(|s| s.split_whitespace()).collect();
        granular.sort_unstable();
        granular.dedup();
        Self {
            classic: match is_route {
                true => classic.split_whitespace().collect(),
                false => Vec::new(),
            },
            granular,
            any_token: is_route && matches!(segments[..], ["rest", "api", _, "serverInfo"]),
        }
    }

    /// Whether a token with these scopes may send the request.
    pub(super) fn are_met_by(&self, scopes: &[String]) -> bool {
        let has = |wanted: &[&str]| {
            let is_granted = |scope: &&str| scopes.iter().any(|granted| granted == scope);
            !wanted.is_empty() && wanted.iter().all(is_granted)
        };
        self.any_token || has(&self.classic) || has(&self.granular)
    }
}

/// Classic scopes separated by spaces, and granular ones in parts.
type ScopePair = (&'static str, &'static [&'static str]);

const READ: &str = "read:jira-work";
const WRITE: &str = "write:jira-work";
const USERS: &str = "read:jira-user";
const WEBHOOKS: &str = "manage:jira-webhook read:jira-work";
const DESK_READ: &str = "read:servicedesk-request";
const DESK_WRITE: &str = "write:servicedesk-request";
/// Jira Software has no classic scopes.
const NONE: &str = "";

const USER: &str = "read:application-role:jira read:avatar:jira read:group:jira read:user:jira";
const PROJECT: &str = "read:issue-type-hierarchy:jira read:issue-type:jira read:project-category:jira \
     read:project-version:jira read:project.component:jira read:project.property:jira read:project:jira";
const COMMENT: &str = "read:avatar:jira read:comment.property:jira read:comment:jira read:group:jira \
     read:project-role:jira read:project:jira read:user:jira";
const WORKLOG: &str = "read:avatar:jira read:group:jira read:issue-worklog.property:jira \
     read:issue-worklog:jira read:project-role:jira read:user:jira";
const WORKLOG_WRITE: &str = "write:issue-worklog.property:jira write:issue-worklog:jira";

/// `/rest/api`.
fn platform(method: &str, resource: &[&str]) -> Option<ScopePair> {
    Some(match (method, resource) {
        ("GET", ["myself" | "user"] | ["user", "bulk"]) => (USERS, &[USER]),
        ("GET", ["user", "search"]) => (USERS, &[USER, "read:user.property:jira"]),
        ("GET", ["user", "picker"]) => (USERS, &["read:user:jira"]),
        ("GET", ["user", "assignable", "multiProjectSearch"]) => {
            (USERS, &[USER, "read:project:jira"])
        }
        ("GET", ["user", "assignable" | "viewissue", "search"]) => {
            (USERS, &[USER, "read:project:jira read:issue:jira"])
        }
        ("GET", ["mypermissions"]) => (READ, &["read:permission:jira"]),
        ("GET", ["field"]) => (
            READ,
            &[
                "read:field:jira read:avatar:jira read:project-category:jira read:project:jira read:field-configuration:jira",
            ],
        ),
        ("GET", ["priority"] | ["priority", _]) => (READ, &["read:priority:jira"]),
        ("GET", ["status"] | ["status", _]) => (READ, &["read:status:jira"]),
        ("GET", ["resolution"] | ["resolution", _]) => (READ, &["read:resolution:jira"]),
        ("GET", ["issueLinkType"] | ["issueLinkType", _]) => (READ, &["read:issue-link-type:jira"]),
        ("GET", ["project", "type"]) => (READ, &["read:project-type:jira"]),
        ("GET", ["project"] | ["project", _]) => (READ, &[USER, PROJECT]),
        ("GET", ["project", _, "component" | "components"] | ["component", _]) => (
            READ,
            &[USER, "read:project:jira read:project.component:jira"],
        ),
        ("GET", ["project", _, "version" | "versions"] | ["version", _]) => {
            (READ, &["read:project-version:jira"])
        }
        ("GET", ["project", _, "statuses"]) => (
            READ,
            &["read:issue-status:jira read:issue-type:jira read:status:jira"],
        ),
        ("GET", ["projectCategory"]) => (READ, &["read:project-category:jira"]),
        ("GET", ["issuetype"] | ["issuetype", _]) => (
            READ,
            &["read:issue-type:jira read:avatar:jira read:project-category:jira read:project:jira"],
        ),
        ("GET", ["customFieldOption", _]) => (READ, &["read:field:jira read:field.option:jira"]),
        ("GET", ["securitylevel", _]) => (
            "manage:jira-configuration",
            &[
                "read:field:jira read:issue-security-level:jira read:project-role:jira read:user:jira",
            ],
        ),
        ("GET", ["search"] | ["search", "jql"]) => (
            READ,
            &[
                "read:issue-details:jira read:audit-log:jira read:avatar:jira read:field-configuration:jira read:issue-meta:jira",
            ],
        ),
        ("POST", ["search"] | ["search", "jql" | "approximate-count"]) => (
            READ,
            &[
                "read:issue-details:jira read:field.default-value:jira read:field.option:jira read:field:jira read:group:jira",
            ],
        ),
        ("GET", ["attachment", "meta"]) => (READ, &["read:instance-configuration:jira"]),
        ("GET", ["attachment", "content" | "thumbnail", _]) => (READ, &["read:attachment:jira"]),
        ("GET", ["attachment", _]) => (READ, &[USER, "read:attachment:jira"]),
        ("DELETE", ["attachment", _]) => (WRITE, &["delete:attachment:jira"]),
        ("POST", ["issueLink"]) => (
            WRITE,
            &["write:comment:jira write:issue:jira write:issue-link:jira"],
        ),
        ("GET", ["issueLink", _]) => (
            READ,
            &[
                "read:field:jira read:issue-link-type:jira read:issue:jira read:issue-type:jira read:priority:jira \
               read:status:jira read:avatar:jira read:issue.time-tracking:jira read:project-category:jira \
               read:project:jira read:user:jira",
            ],
        ),
        ("DELETE", ["issueLink", _]) => (WRITE, &["delete:issue-link:jira"]),
        ("GET", ["comment", _, "properties"] | ["comment", _, "properties", _]) => {
            (READ, &["read:comment.property:jira"])
        }
        ("PUT", ["comment", _, "properties", _]) => (WRITE, &["write:comment.property:jira"]),
        ("GET", ["worklog", "updated" | "deleted"]) => (
            READ,
            &["read:issue-worklog:jira read:issue-worklog.property:jira"],
        ),
        ("POST", ["worklog", "list"]) => (READ, &[WORKLOG, "read:comment:jira"]),
        ("GET", ["webhook"]) => (WEBHOOKS, &["read:webhook:jira read:jql:jira"]),
        ("POST", ["webhook"]) => (
            WEBHOOKS,
            &["read:field:jira read:project:jira write:webhook:jira"],
        ),
        ("DELETE", ["webhook"]) => (WEBHOOKS, &["delete:webhook:jira"]),
        ("PUT", ["webhook", "refresh"]) => (WEBHOOKS, &["write:webhook:jira read:webhook:jira"]),
        (_, ["issue", rest @ ..]) => issue(method, rest)?,
        _ => return None,
    })
}

/// `/rest/api/…/issue`.
fn issue(method: &str, resource: &[&str]) -> Option<ScopePair> {
    Some(match (method, resource) {
        ("POST", [] | ["bulk"]) => (
            WRITE,
            &[
                "write:issue:jira write:comment:jira write:comment.property:jira write:attachment:jira read:issue:jira",
            ],
        ),
        (
            "GET",
            ["createmeta"] | ["createmeta", _, "issuetypes"] | ["createmeta", _, "issuetypes", _],
        ) => (
            READ,
            &["read:issue-meta:jira read:avatar:jira read:field-configuration:jira"],
        ),
        ("GET", [_]) => (
            READ,
            &[
                "read:issue-meta:jira read:issue-security-level:jira read:issue.vote:jira read:issue.changelog:jira \
               read:avatar:jira read:issue:jira read:status:jira read:user:jira read:field-configuration:jira",
            ],
        ),
        ("PUT", [_] | [_, "assignee"]) => (WRITE, &["write:issue:jira"]),
        ("DELETE", [_]) => (WRITE, &["delete:issue:jira"]),
        ("GET", [_, "editmeta"]) => (
            READ,
            &["read:issue-meta:jira read:field-configuration:jira"],
        ),
        ("GET", [_, "changelog"]) => (
            READ,
            &["read:issue-meta:jira read:avatar:jira read:issue.changelog:jira"],
        ),
        ("GET", [_, "transitions"]) => (
            READ,
            &["read:issue.transition:jira read:status:jira read:field-configuration:jira"],
        ),
        ("POST", [_, "transitions"]) => (WRITE, &["write:issue:jira write:issue.property:jira"]),
        ("GET", [_, "comment"] | [_, "comment", _]) => (READ, &[COMMENT]),
        ("POST", [_, "comment"]) | ("PUT", [_, "comment", _]) => {
            (WRITE, &[COMMENT, "write:comment:jira"])
        }
        ("DELETE", [_, "comment", _]) => {
            (WRITE, &["delete:comment:jira delete:comment.property:jira"])
        }
        ("GET", [_, "remotelink"] | [_, "remotelink", _]) => {
            (READ, &["read:issue.remote-link:jira read:status:jira"])
        }
        ("POST", [_, "remotelink"]) => (
            WRITE,
            &["write:issue:jira write:issue.remote-link:jira read:issue.remote-link:jira"],
        ),
        ("PUT", [_, "remotelink", _]) => {
            (WRITE, &["write:issue:jira write:issue.remote-link:jira"])
        }
        ("DELETE", [_, "remotelink"] | [_, "remotelink", _]) => {
            (WRITE, &["delete:issue.remote-link:jira write:issue:jira"])
        }
        ("POST", [_, "attachments"]) => (
            WRITE,
            &["read:user:jira write:attachment:jira read:attachment:jira read:avatar:jira"],
        ),
        ("GET", [_, "watchers"]) => (
            READ,
            &["read:issue.watcher:jira read:user:jira read:avatar:jira"],
        ),
        ("POST" | "DELETE", [_, "watchers"]) => (WRITE, &["write:issue.watcher:jira"]),
        ("GET", [_, "votes"]) => (READ, &[USER, "read:issue.vote:jira"]),
        ("POST" | "DELETE", [_, "votes"]) => (WRITE, &["write:issue.vote:jira"]),
        ("GET", [_, "worklog"]) => (READ, &[WORKLOG]),
        ("GET", [_, "worklog", _]) => (READ, &[WORKLOG, "read:comment:jira"]),
        ("POST", [_, "worklog"]) => (WRITE, &[WORKLOG, WORKLOG_WRITE]),
        ("PUT", [_, "worklog", _]) => (
            WRITE,
            &[
                WORKLOG,
                WORKLOG_WRITE,
                "read:comment:jira write:comment:jira",
            ],
        ),
        ("GET", [_, "properties"] | [_, "properties", _]) => (READ, &["read:issue.property:jira"]),
        ("PUT", [_, "properties", _]) => (WRITE, &["write:issue.property:jira"]),
        _ => return None,
    })
}

/// `/rest/agile`.
fn software(method: &str, resource: &[&str]) -> Option<ScopePair> {
    const ISSUES: &str = "read:issue-details:jira read:jql:jira";
    Some(match (method, resource) {
        ("GET", ["board"]) => (NONE, &["read:board-scope:jira-software read:project:jira"]),
        ("GET", ["board", _] | ["board", _, "backlog" | "issue"]) => (
            NONE,
            &["read:board-scope:jira-software read:issue-details:jira"],
        ),
        ("GET", ["board", _, "configuration"]) => (
            NONE,
            &["read:board-scope.admin:jira-software read:project:jira"],
        ),
        ("GET", ["board", _, "sprint"] | ["sprint", _]) => (NONE, &["read:sprint:jira-software"]),
        ("GET", ["board", _, "sprint", _, "issue"] | ["sprint", _, "issue"]) => {
            (NONE, &["read:sprint:jira-software", ISSUES])
        }
        ("POST", ["sprint", _, "issue"]) => (NONE, &["write:sprint:jira-software"]),
        ("POST", ["backlog", "issue"]) => (NONE, &["write:board-scope:jira-software"]),
        ("GET", ["issue", _]) => (NONE, &["read:issue:jira-software"]),
        ("PUT", ["issue", "rank"]) => (NONE, &["write:issue:jira-software"]),
        ("GET", ["epic", _] | ["board", _, "epic"]) => (NONE, &["read:epic:jira-software"]),
        ("GET", ["epic", _, "issue"]) => (NONE, &["read:epic:jira-software", ISSUES]),
        ("POST", ["epic", _] | ["epic", _, "issue"]) | ("PUT", ["epic", _, "rank"]) => {
            (NONE, &["write:epic:jira-software"])
        }
        _ => return None,
    })
}

/// `/rest/servicedeskapi`.
fn service_management(method: &str, resource: &[&str]) -> Option<ScopePair> {
    Some(match (method, resource) {
        ("GET", ["servicedesk"] | ["servicedesk", _]) => {
            (DESK_READ, &["read:servicedesk:jira-service-management"])
        }
        ("GET", ["servicedesk", _, "requesttype", ..]) => {
            (DESK_READ, &["read:requesttype:jira-service-management"])
        }
        ("GET", ["servicedesk", _, "queue"]) => (
            READ,
            &["read:queue:jira-service-management read:user:jira read:jql:jira"],
        ),
        ("GET", ["servicedesk", _, "queue", ..]) => (READ, &[]),
        ("POST", ["servicedesk", _, "attachTemporaryFile"]) => (
            DESK_WRITE,
            &[
                "read:request.attachment:jira-service-management write:request.attachment:jira-service-management",
            ],
        ),
        ("GET", ["request"] | ["request", _]) => (
            DESK_READ,
            &["read:request:jira-service-management read:user:jira"],
        ),
        ("POST", ["request"]) => (
            DESK_WRITE,
            &[
                "read:request:jira-service-management write:request:jira-service-management read:user:jira",
            ],
        ),
        ("GET", ["request", ..]) => (DESK_READ, &[]),
        ("POST", ["request", ..]) => (DESK_WRITE, &[]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn met(method: Method, path: &str, scopes: &str) -> bool {
        let scopes: Vec<_> = scopes.split(' ').map(str::to_owned).collect();
        RequiredScopes::of(&method, path).are_met_by(&scopes)
    }

    #[test]
    fn people_work_and_changes_have_classic_scopes_of_their_own() {
        for (method, path, scope) in [
            (Method::GET, "/rest/api/3/myself", "read:jira-user"),
            (Method::GET, "/rest/api/2/issue/A-1", "read:jira-work"),
            (Method::POST, "/rest/api/3/search/jql", "read:jira-work"),
            (Method::POST, "/rest/api/2/issue", "write:jira-work"),
            (Method::GET, "/secure/attachment/1/a", "read:jira-work"),
            (
                Method::GET,
                "/rest/servicedeskapi/request/A-1/sla",
                DESK_READ,
            ),
        ] {
            assert!(met(method.clone(), path, scope), "{path}");
            assert!(!met(method, path, "read:me offline_access"), "{path}");
        }
    }

    #[test]
    fn granular_scopes_count_only_together() {
        let comment = "/rest/api/3/issue/A-1/comment";
        let write = format!("{COMMENT} write:comment:jira");
        assert!(met(Method::GET, comment, COMMENT) && !met(Method::POST, comment, COMMENT));
        assert!(met(Method::POST, comment, &write));
        for lacking in write.split(' ') {
            let rest: Vec<_> = write.split(' ').filter(|scope| *scope != lacking).collect();
            assert!(!met(Method::POST, comment, &rest.join(" ")), "{lacking}");
        }
    }

    #[test]
    fn boards_have_no_classic_scope_and_server_info_needs_none() {
        let classic = "read:jira-work write:jira-work read:jira-user";
        assert!(!met(Method::GET, "/rest/agile/1.0/board", classic));
        let granular = "read:board-scope:jira-software read:project:jira";
        assert!(met(Method::GET, "/rest/agile/1.0/board", granular));
        assert!(met(Method::GET, "/rest/api/3/serverInfo", "read:me"));
    }

    /// Atlassian's changelog, CHANGE-1320.
    #[test]
    fn a_slash_at_the_end_is_refused_like_a_lacking_scope() {
        assert!(!met(Method::POST, "/rest/api/2/issue/", WRITE));
        assert!(!met(Method::GET, "/rest/api/2/serverInfo/", READ));
    }
}

//! The classic scope that a request to Jira requires.

use http::Method;

/// The scope without which the request is refused.
pub(super) fn required_scope(method: &Method, path: &str) -> &'static str {
    let resource = ["/rest/api/2/", "/rest/api/3/", "/rest/api/latest/"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
        .unwrap_or_default();
    let first = resource.split('/').next().unwrap_or_default();
    let reads = matches!(*method, Method::GET | Method::HEAD) || first == "search";
    match (first, reads) {
        ("webhook", _) => "manage:jira-webhook",
        ("myself" | "user" | "users" | "group" | "groups", true) => "read:jira-user",
        (_, true) => "read:jira-work",
        (_, false) => "write:jira-work",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_work_and_changes_have_scopes_of_their_own() {
        for (method, path, scope) in [
            (Method::GET, "/rest/api/3/myself", "read:jira-user"),
            (Method::GET, "/rest/api/2/issue/A-1", "read:jira-work"),
            (Method::POST, "/rest/api/3/search/jql", "read:jira-work"),
            (Method::POST, "/rest/api/2/issue", "write:jira-work"),
            (Method::GET, "/secure/attachment/1/a", "read:jira-work"),
            (Method::GET, "/rest/api/3/webhook", "manage:jira-webhook"),
        ] {
            assert_eq!(required_scope(&method, path), scope, "{path}");
        }
    }
}

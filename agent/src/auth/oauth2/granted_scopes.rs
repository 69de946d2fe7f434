//! The scopes of a token (RFC 6749 §3.3), as its issuer reports them.

use serde_json::Value;

/// The list in an answer, as it is stored; `None` if it holds no scope. Cloud's lists and Data Center's are texts; anything
/// else must not cost the tokens beside it.
pub(super) fn reported(list: Option<&Value>) -> Option<String> {
    let scopes = split(list?.as_str()?);
    (!scopes.is_empty()).then(|| scopes.join(" "))
}

/// The scopes of a list.
pub(super) fn split(list: &str) -> Vec<String> {
    usable(list.split_ascii_whitespace())
}

/// Those that can be shown and stored, each once, in order.
pub(super) fn usable<'a>(scopes: impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_scope = |scope: &&str| {
        (1..=MAX_SCOPE).contains(&scope.len())
            && scope
                .bytes()
                .all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    };
    let mut found: Vec<String> = scopes
        .filter(is_scope)
        .take(MAX_SCOPES)
        .map(str::to_owned)
        .collect();
    found.sort_unstable();
    found.dedup();
    found
}

/// Bytes; the longest of Atlassian's has 60.
const MAX_SCOPE: usize = 100;
/// Jira has fewer than 200, and Atlassian advises an app to have less than 50. Together 20 KiB at most in the token file.
const MAX_SCOPES: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_list_is_kept_in_order_without_what_is_no_scope() {
        let of = |list: Value| reported(Some(&list));
        assert_eq!(
            of(json!("write:jira-work  read:jira-work read:jira-work")).as_deref(),
            Some("read:jira-work write:jira-work")
        );
        assert_eq!(of(json!("READ \u{202e}x \"y\"")).as_deref(), Some("READ"));
        for none in [json!(""), json!(["READ"]), json!(7), json!("x".repeat(101))] {
            assert_eq!(of(none), None);
        }
        let many = (0..1000).map(|n| format!("s{n}")).collect::<Vec<_>>();
        assert_eq!(split(&many.join(" ")).len(), MAX_SCOPES);
    }
}

//! Queries as filters of webhooks: one issue instead of all, and the subset of JQL that apps of Cloud may use.

use super::evaluate::QueryEvaluator;
use super::{JqlClause, JqlOperator, parser};
use crate::jira::model::{Issue, JiraModel};

/// Whether the query selects this issue; `false` for an invalid query. Permissions do not matter.
pub(in crate::jira) fn selects(
    model: &JiraModel,
    viewer: Option<&str>,
    text: &str,
    issue: &Issue,
) -> bool {
    let Ok(query) = parser::parse(text) else {
        return false;
    };
    let evaluator = QueryEvaluator { model, viewer };
    query
        .clause
        .is_none_or(|clause| evaluator.matches(&clause, issue))
}

/// Checks a query and the values in it.
///
/// # Errors
/// Jira's error messages.
pub(in crate::jira) fn check(
    model: &JiraModel,
    viewer: Option<&str>,
    text: &str,
) -> Result<(), Vec<String>> {
    let query = parser::parse(text).map_err(|error| vec![error])?;
    let mut errors = Vec::new();
    if let Some(clause) = &query.clause {
        QueryEvaluator { model, viewer }.check(clause, &mut errors);
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(errors),
    }
}

/// What of a query an app's webhook cannot have, in Jira's words.
///
/// # Errors
/// When the query does not parse.
pub(in crate::jira) fn unsupported_for_apps(text: &str) -> Result<Vec<String>, String> {
    let query = parser::parse(text)?;
    let mut found = Vec::new();
    if let Some(clause) = &query.clause {
        collect_unsupported(clause, &mut found);
    }
    if !query.order.is_empty() {
        found.push("The clause ORDER BY is unsupported".into());
    }
    Ok(found)
}

fn collect_unsupported(clause: &JqlClause, found: &mut Vec<String>) {
    match clause {
        JqlClause::And(clauses) | JqlClause::Or(clauses) => clauses
            .iter()
            .for_each(|clause| collect_unsupported(clause, found)),
        JqlClause::Not(clause) => collect_unsupported(clause, found),
        JqlClause::Comparison {
            field, operator, ..
        } => {
            let known = FIELDS_OF_APPS
                .iter()
                .any(|known| known.eq_ignore_ascii_case(field))
                || field.starts_with("cf[");
            if !known {
                found.push(format!("The clause {field} is unsupported"));
            } else if !OPERATORS_OF_APPS.contains(operator) {
                found.push(format!("The operator {} is unsupported", operator.text()));
            }
        }
    }
}

const FIELDS_OF_APPS: &[&str] = &[
    "issueKey",
    "project",
    "issuetype",
    "status",
    "priority",
    "assignee",
    "reporter",
];
const OPERATORS_OF_APPS: &[JqlOperator] = &[
    JqlOperator::Equals,
    JqlOperator::NotEquals,
    JqlOperator::In,
    JqlOperator::NotIn,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn apps_may_use_few_fields_and_operators() {
        for (query, unsupported) in [
            ("project = DEMO AND status != Done", None),
            ("issueKey in (A-1, A-2) or assignee = bob", None),
            ("", None),
            ("labels = red", Some("The clause labels is unsupported")),
            ("project is empty", Some("The operator is is unsupported")),
            (
                "project = A order by key",
                Some("The clause ORDER BY is unsupported"),
            ),
        ] {
            let found = unsupported_for_apps(query).unwrap();
            assert_eq!(found.first().map(String::as_str), unsupported, "{query}");
        }
        assert!(unsupported_for_apps("project = = DEMO").is_err());
    }
}

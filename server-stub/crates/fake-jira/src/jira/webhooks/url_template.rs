//! Variables in the URL of a webhook, such as `${issue.key}`.

use crate::jira::oauth1::escape;

/// How a variable is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::jira) enum VariableStyle {
    /// `${issue.key}`, before Jira 10 and in Cloud.
    Dollar,
    /// `{issue.key}`, since Jira 10.
    Braces,
}

/// The values of the variables for one event; an absent one is replaced by nothing.
#[derive(Clone, Debug, Default)]
pub(in crate::jira) struct WebhookVariables {
    pub issue_id: Option<String>,
    pub issue_key: Option<String>,
    pub project_id: Option<String>,
    pub project_key: Option<String>,
    pub user_key: Option<String>,
    pub user_name: Option<String>,
}

impl VariableStyle {
    fn opening(self) -> &'static str {
        match self {
            Self::Dollar => "${",
            Self::Braces => "{",
        }
    }
}

impl WebhookVariables {
    /// The URL with each known variable replaced by its value, percent-encoded. Anything else stays as it is.
    pub(super) fn fill(&self, template: &str, style: VariableStyle) -> String {
        let mut filled = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(at) = rest.find(style.opening()) {
            let (before, from) = rest.split_at(at);
            filled.push_str(before);
            let inside = &from[style.opening().len()..];
            match inside.split_once('}') {
                Some((name, after)) if NAMES.contains(&name) => {
                    filled.push_str(&escape(self.value(name)));
                    rest = after;
                }
                _ => {
                    filled.push_str(style.opening());
                    rest = inside;
                }
            }
        }
        filled + rest
    }

    /// The template with a harmless value for each variable, to see whether it is a URL.
    pub(in crate::jira) fn placeholder(template: &str, style: VariableStyle) -> String {
        Self::default().fill(template, style)
    }

    fn value(&self, name: &str) -> &str {
        let value = match name {
            "issue.id" => &self.issue_id,
            "issue.key" => &self.issue_key,
            "project.id" => &self.project_id,
            "project.key" => &self.project_key,
            "modifiedUser.key" => &self.user_key,
            "modifiedUser.name" => &self.user_name,
            // Of boards, sprints and versions, which this imitation does not have.
            _ => &None,
        };
        value.as_deref().unwrap_or_default()
    }
}

const NAMES: &[&str] = &[
    "issue.id",
    "issue.key",
    "project.id",
    "project.key",
    "modifiedUser.key",
    "modifiedUser.name",
    "board.id",
    "sprint.id",
    "version.id",
    "mergedVersion.id",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_and_everything_else_stays() {
        let values = WebhookVariables {
            issue_key: Some("DEMO-1".into()),
            project_key: Some("a/b c".into()),
            ..WebhookVariables::default()
        };
        for (template, style, filled) in [
            (
                "/x/${issue.key}?p=${project.key}",
                VariableStyle::Dollar,
                "/x/DEMO-1?p=a%2Fb%20c",
            ),
            (
                "/x/{issue.key}/{sprint.id}",
                VariableStyle::Braces,
                "/x/DEMO-1/",
            ),
            ("/x/{issue.key}", VariableStyle::Dollar, "/x/{issue.key}"),
            (
                "/x/${unknown}/${issue.key",
                VariableStyle::Dollar,
                "/x/${unknown}/${issue.key",
            ),
            ("", VariableStyle::Braces, ""),
        ] {
            assert_eq!(values.fill(template, style), filled, "{template}");
        }
    }
}

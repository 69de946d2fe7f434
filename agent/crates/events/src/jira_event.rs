//! What an event says about itself. Nothing here is trusted: it decides about the order and, where configured, the scope.

mod payload;

/// What could be read from a body. Each member is absent where the body does not say it without doubt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JiraEvent {
    /// `webhookEvent`, such as `jira:issue_updated`.
    pub event_type: Option<String>,
    /// Number of the issue.
    pub issue_id: Option<String>,
    /// Key of the issue, such as `SEC-7`.
    pub issue_key: Option<String>,
    /// Key of the project of the issue, or of an event about a project. Absent where the body names two.
    pub project_key: Option<String>,
}

impl JiraEvent {
    /// Reads a JSON body. Unknown members are ignored. A body that is no JSON, or names one of these members twice, says
    /// nothing: another reader could take the other one.
    pub fn parse(body: &[u8]) -> Self {
        payload::read(body).unwrap_or_default()
    }

    /// Events of one lane are delivered in order: those of one issue, else of one project, else all others together.
    pub fn lane(&self) -> String {
        match (&self.issue_id, &self.project_key) {
            (Some(issue), _) => format!("issue:{issue}"),
            (None, Some(project)) => format!("project:{project}"),
            (None, None) => String::new(),
        }
    }
}

#[cfg(test)]
mod tests;
